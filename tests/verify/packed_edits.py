"""Ways to break the graph of a Core ML package whose state the host keeps; see `exporters/host.py`.

The model is `L2S2`: rows of the packed inputs are those of layers 0 and 1 (tails, sums) and of 2 and 3 (keys, values).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.verify.mil_edits import Edit, key_of
from tests.verify.mil_graph import MilGraph, name_of, names_of

Change = Callable[[MilGraph], None]


def reader(g: MilGraph, name: str) -> Any:
    """Return the first operation that reads a value."""
    return next(one for one in g.operations if name in names_of(one))


def rows_of(g: MilGraph, given: str) -> Any:
    """Return what takes an input's rows apart."""
    (split,) = [one for one in g.operations if one.type == "split" and given in reached(g, one)]
    return split


def reached(g: MilGraph, operation: Any) -> set[str]:
    """Return what a chain of slices in front of an operation reads."""
    found = set(names_of(operation))
    for maker in g.makers(operation):
        if maker.type == "slice_by_index":
            found |= reached(g, maker)
    return found


def swapped_rows(given: str) -> Change:
    def change(g: MilGraph) -> None:
        one, other = rows_of(g, given).outputs
        one.name, other.name = other.name, one.name

    return change


def row_for_both(given: str) -> Change:
    """Every layer reads the first layer's row."""

    def change(g: MilGraph) -> None:
        one, other = rows_of(g, given).outputs
        rename(g, other.name, one.name)

    return change


def rename(g: MilGraph, name: str, other: str) -> None:
    for operation in g.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name == name:
                    binding.name = other


def swapped_outputs(output: str) -> Change:
    """What is new of two layers comes in the other order."""

    def change(g: MilGraph) -> None:
        joined = g.maker[output]
        joined = joined if joined.type == "concat" else g.maker[name_of(joined, "x")]
        reverse(joined.inputs["values"].arguments)

    return change


def reverse(values: Any) -> None:
    copies = [copy.deepcopy(one) for one in values]
    del values[:]
    values.extend(reversed(copies))


def ring_turned(nth: int, block: str) -> Change:
    """The chunk's own keys (0) or values (1) stand before those of the ring."""

    def change(g: MilGraph) -> None:
        joined = [
            one
            for one, place in zip(g.operations, g.blocks, strict=True)
            if one.type == "concat" and place == block and {"reshape"} <= {maker.type for maker in g.makers(one)}
        ]
        reverse(joined[nth].inputs["values"].arguments)

    return change


def moved(given: str, by: int, nth: int = 0) -> Change:
    """A row is read some numbers along its last axis earlier: those at its front come last."""

    def change(g: MilGraph) -> None:
        row = rows_of(g, given).outputs[nth] if given in ("keys", "values") else reader(g, given).outputs[0]
        size = row.type.tensorType.dimensions[3].constant.size
        parts = [sliced(g, row, 3, by, size), sliced(g, row, 3, 0, by)]
        joined = concat(parts, row, 3)
        after(g, row.name, [*parts, joined])

    return change


def sliced(g: MilGraph, value: Any, axis: int, begin: int, end: int) -> Any:
    """Return an operation that cuts a value along an axis."""
    kind = next(one for one in g.operations if one.type == "slice_by_index")
    new, rank = type(kind)(type="slice_by_index"), len(value.type.tensorType.dimensions)
    new.inputs["x"].arguments.add().name = value.name
    sizes = [one.constant.size for one in value.type.tensorType.dimensions]
    for key, at in (("begin", begin), ("end", end)):
        tensor = new.inputs[key].arguments.add().value
        tensor.type.tensorType.dataType = 23  # int32
        tensor.type.tensorType.rank = 1
        tensor.type.tensorType.dimensions.add().constant.size = rank
        whole = [0] * rank if key == "begin" else sizes
        tensor.immediateValue.tensor.ints.values.extend([at if i == axis else whole[i] for i in range(rank)])
    new.outputs.add().CopyFrom(value)
    new.outputs[0].name = f"{value.name}_{begin}_{end}"
    new.outputs[0].type.tensorType.dimensions[axis].constant.size = end - begin
    return new


def concat(parts: list[Any], value: Any, axis: int) -> Any:
    """Return an operation that joins what others give."""
    new = type(parts[0])(type="concat")
    for part in parts:
        new.inputs["values"].arguments.add().name = part.outputs[0].name
    for key, number in (("axis", axis), ("interleave", False)):
        tensor = new.inputs[key].arguments.add().value
        tensor.type.tensorType.dataType = 23 if key == "axis" else 1
        field = tensor.immediateValue.tensor.ints if key == "axis" else tensor.immediateValue.tensor.bools
        field.values.append(number)
    new.outputs.add().CopyFrom(value)
    new.outputs[0].name = f"{value.name}_joined"
    return new


def after(g: MilGraph, name: str, operations: list[Any]) -> None:
    """Let everything that read a value read what the last of some operations makes of it."""
    rename(g, name, operations[-1].outputs[0].name)
    place = g.operations.index(g.maker[name]) + 1 if name in g.maker else 0
    g.operations[place:place] = operations


def bias(to: Callable[[MilGraph, Any], None]) -> Change:
    return lambda g: to(g, next(one for one in g.operations if one.type == "softmax" and is_biased(g, one)))


def is_biased(g: MilGraph, softmax: Any) -> bool:
    maker = g.maker[name_of(softmax, "x")]
    return maker.type == "add" and "matmul" in {one.type for one in g.makers(maker)}


def bias_dropped(g: MilGraph, softmax: Any) -> None:
    add = g.maker[name_of(softmax, "x")]
    g.bypass(add, key_of(g, add, "matmul"))


def bias_negated(g: MilGraph, softmax: Any) -> None:
    add = g.maker[name_of(softmax, "x")]
    g.multiply(add, "y" if key_of(g, add, "matmul") == "x" else "x", -1.0)


def shares(g: MilGraph, nth: int = 0) -> Any:
    """Return what takes the share of every head from its sums: S and z, then the share."""
    return [one for one in g.operations if one.type == "split" and axis_of(one) == (13, 1)][nth]


def axis_of(split: Any) -> tuple[int, ...]:
    return tuple(
        one.type.tensorType.dimensions[2].constant.size if len(one.type.tensorType.dimensions) > 2 else 0
        for one in split.outputs
    )


def share_dropped(g: MilGraph) -> None:
    """The chunk's own sums are added as they are."""
    (own,) = g_readers(g, shares(g).outputs[1].name)
    g.bypass(own, key_of(g, own, "matmul"))


def g_readers(g: MilGraph, name: str) -> list[Any]:
    return [one for one in g.operations if name in names_of(one)]


def share_times(factor: float) -> Change:
    def change(g: MilGraph) -> None:
        (own,) = g_readers(g, shares(g).outputs[1].name)
        g.multiply(own, key_of(g, own, "split"), factor)

    return change


def past_times(factor: float) -> Change:
    """S and z of what is remembered are multiplied."""

    def change(g: MilGraph) -> None:
        (add,) = g_readers(g, shares(g).outputs[0].name)
        g.multiply(add, key_of(g, add, "split"), factor)

    return change


def part_of_next_head(which: int) -> Change:
    """S and z (0), or the share (1), are those of the next head."""

    def change(g: MilGraph) -> None:
        value = shares(g).outputs[which]
        parts = [sliced(g, value, 1, 1, 4), sliced(g, value, 1, 0, 1)]
        after(g, value.name, [*parts, concat(parts, value, 1)])

    return change


def share_of_other_layer(g: MilGraph) -> None:
    one, other = shares(g).outputs[1], shares(g, 1).outputs[1]
    rename(g, other.name, one.name)


def leaking(given: str, nth: int = 0) -> Change:
    """The last of an input's own numbers is the first of its padding: the slice is one number off."""

    def change(g: MilGraph) -> None:
        cut = reader(g, given)
        assert cut.type == "slice_by_index", cut.type
        # Masked axes are read whole; so the axis that is cut is the last, and both of its ends move.
        g.set(cut, "begin", lambda old: np.array([*np.ravel(old)[:-1], np.ravel(old)[-1] + 1], np.int32))
        g.set(cut, "end", lambda old: np.array([*np.ravel(old)[:-1], np.ravel(old)[-1] + 1], np.int32))

    return change


def padding_added(given: str, factor: float = 1.0) -> Change:
    """The first numbers of an input have those of its padding added: zeros, of a host."""

    def change(g: MilGraph) -> None:
        cut = reader(g, given)
        own, whole = cut.outputs[0], g.inputs[given]
        used, size = (one.type.tensorType.dimensions[3].constant.size for one in (own, whole))
        count = min(size - used, used)
        lengths = [sliced(g, whole, 3, used, used + count)]
        if count < used:
            lengths.append(sliced(g, own, 3, count, used))
        first = sliced(g, own, 3, 0, count)
        total = type(cut)(type="add")
        for key, part in (("x", first), ("y", lengths[0])):
            total.inputs[key].arguments.add().name = part.outputs[0].name
        total.outputs.add().CopyFrom(first.outputs[0])
        total.outputs[0].name = f"{given}_with_padding"
        if len(lengths) == 1:
            after(g, own.name, [lengths[0], first, total])
        else:
            after(g, own.name, [*lengths, first, total, concat([total, lengths[1]], own, 3)])

    return change


def nothing(g: MilGraph) -> None:
    """Multiply by one where the past comes in: an edit that is none."""
    g.multiply(reader(g, "past_bias"), "x", 1.0)


def layers_blend(g: MilGraph) -> None:
    """Rows are read twice in the other order: as they were."""
    swapped_rows("keys")(g)
    swapped_rows("keys")(g)


FRAME_TOKENS = 4  # of a ring of the model's lower grid

EDITS = [
    Edit(name=name, function=function, block="", change=change)  # type: ignore[arg-type]
    for name, function, change in (
        # Rings.
        ("the chunk's keys before the ring's", "denoise", ring_turned(0, "layers.2")),
        ("the chunk's values before the ring's", "advance", ring_turned(1, "layers.3")),
        ("keys one frame later", "advance", moved("keys", FRAME_TOKENS)),
        ("values one frame later", "denoise", moved("values", FRAME_TOKENS, 1)),
        ("values one token later", "denoise", moved("values", 1)),
        # What hides frames that are not there.
        ("past_bias ignored", "denoise", bias(bias_dropped)),
        ("past_bias negated", "advance", bias(bias_negated)),
        ("past_bias one frame off", "denoise", moved("past_bias", FRAME_TOKENS)),
        ("past_bias one token off", "advance", moved("past_bias", 1)),
        ("past_bias a ten-thousandth", "denoise", lambda g: g.multiply(reader(g, "past_bias"), "x", 1e-4)),
        # The share of every head.
        ("the share of the next head", "denoise", part_of_next_head(1)),
        ("sums of the next head", "advance", part_of_next_head(0)),
        ("the share of another layer", "advance", share_of_other_layer),
        ("no share of the chunk's own sums", "denoise", share_dropped),
        ("twice the share of the chunk's own sums", "advance", share_times(2.0)),
        ("the share a hundredth too large", "denoise", share_times(1.01)),
        ("half of the sums that are remembered", "denoise", past_times(0.5)),
        # Padding.
        *((f"padding of {name} leaks", "denoise", padding_added(name)) for name in ("latents", "text", "past_bias")),
        *((f"padding of {name} leaks", "advance", padding_added(name)) for name in ("keys", "values", "tails", "sums")),
        ("padding of latents leaks", "first", padding_added("latents")),
        ("padding of text leaks", "commit", padding_added("text")),
        *((f"{name} cut one number late", "denoise", leaking(name)) for name in ("latents", "text", "keys")),
        *((f"{name} cut one number late", "advance", leaking(name)) for name in ("past_bias", "tails", "sums")),
        # Rows.
        *((f"rows of {name} swapped", "denoise", swapped_rows(name)) for name in ("keys", "sums")),
        *((f"rows of {name} swapped", "advance", swapped_rows(name)) for name in ("values", "tails")),
        ("the first layer's tail for both", "denoise", row_for_both("tails")),
        ("new keys in the other order", "commit", swapped_outputs("new_keys")),
        ("new values in the other order", "advance", swapped_outputs("new_values")),
        ("new tails in the other order", "commit", swapped_outputs("new_tails")),
        ("new sums in the other order", "advance", swapped_outputs("new_sums")),
        ("values for new keys", "advance", lambda g: rename_output(g)),
    )
]

UNHARMFUL = [
    Edit(name=name, function="advance", block="", change=change)
    for name, change in (("a product with one", nothing), ("rows swapped twice", layers_blend))
]


def rename_output(g: MilGraph) -> None:
    one, other = (g.maker[name].outputs[0] for name in ("new_keys", "new_values"))
    one.name, other.name = other.name, one.name


# What one package of a chain hands over to the next ones.


def returned_through(name: str, made_of: Callable[[MilGraph, Any], list[Any]]) -> Change:
    """A link returns what some operations make of the value that it would return."""

    def change(g: MilGraph) -> None:
        maker = g.maker[name]
        (output,) = [one for one in maker.outputs if one.name == name]
        rename(g, name, f"{name}_whole")
        output.name = f"{name}_whole"
        new = made_of(g, output)
        new[-1].outputs[0].name = name
        g.operations += new

    return change


def times(factor: float) -> Callable[[MilGraph, Any], list[Any]]:
    def made(g: MilGraph, value: Any) -> list[Any]:
        new = type(g.operations[0])(type="mul")
        new.inputs["x"].arguments.add().name = value.name
        number = new.inputs["y"].arguments.add().value
        number.type.tensorType.dataType = 10
        number.immediateValue.tensor.bytes.values = np.float16(factor).tobytes()
        new.outputs.add().CopyFrom(value)
        return [new]

    return made


def turned(axis: int, by: int, used: int) -> Callable[[MilGraph, Any], list[Any]]:
    """The first numbers of those in use come last, along an axis."""

    def made(g: MilGraph, value: Any) -> list[Any]:
        size = value.type.tensorType.dimensions[axis].constant.size
        places = [(by, used), (0, by), *([(used, size)] if used < size else [])]
        parts = [sliced(g, value, axis, begin, end) for begin, end in places]
        return [*parts, concat(parts, value, axis)]

    return made


def taken_times(name: str, factor: float) -> Change:
    def change(g: MilGraph) -> None:
        read = reader(g, name)
        g.multiply(read, next(key for key in read.inputs if name_of(read, key) == name), factor)

    return change


def skip_dropped(g: MilGraph) -> None:
    """The low stream comes up alone."""
    (add,) = [one for one in g.operations if one.type == "add" and reads_trimmed(g, one, "hidden_01")]
    g.bypass(add, "y" if reads_trimmed_at(g, add, "x", "hidden_01") else "x")


def reads_trimmed(g: MilGraph, operation: Any, name: str) -> bool:
    return any(reads_trimmed_at(g, operation, key, name) for key in ("x", "y"))


def reads_trimmed_at(g: MilGraph, operation: Any, key: str, name: str) -> bool:
    read = name_of(operation, key)
    return read == name or (read in g.maker and name in names_of(g.maker[read]))


def link(number: int) -> str:
    return f"model-{number}.mlpackage"


_CHANNELS, _HIGH_TOKENS, _LOW_TOKENS = 48, 36, 12  # of the model and its grid, chunks of three frames

#: Of `L1S2L1` cut before its third layer: the long skip goes along.
IN_TWO = [
    Edit(name=name, function=function, block="", change=change, file=link(number))  # type: ignore[arg-type]
    for name, function, number, change in (
        ("the stream at half its scale", "denoise", 1, returned_through("hidden_02", times(0.5))),
        ("the stream a thousandth too large", "advance", 1, returned_through("hidden_02", times(1.001))),
        ("the stream negated where it is taken", "denoise", 2, taken_times("hidden_02", -1.0)),
        ("the skip twice as large", "first", 1, returned_through("hidden_01", times(2.0))),
        ("no skip", "denoise", 2, skip_dropped),
        ("no skip of the first chunk", "first", 2, skip_dropped),
        ("channels in another order", "advance", 1, returned_through("hidden_02", turned(1, 16, _CHANNELS))),
        ("channels of the skip in another order", "denoise", 1, returned_through("hidden_01", turned(1, 1, _CHANNELS))),
        ("tokens one later", "denoise", 1, returned_through("hidden_02", turned(3, 1, _LOW_TOKENS))),
        ("frames in another order", "commit", 1, returned_through("hidden_02", turned(3, 4, _LOW_TOKENS))),
        ("tokens of the skip one later", "advance", 1, returned_through("hidden_01", turned(3, 1, _HIGH_TOKENS))),
        ("the stream cut one number late", "denoise", 2, leaking("hidden_02")),
        ("the skip cut one number late", "advance", 2, leaking("hidden_01")),
        ("parts of the modulation in another order", "denoise", 1, returned_through("modulation", turned(3, 48, 288))),
        ("no modulation", "advance", 2, taken_times("modulation", 0.0)),
        ("the noise level a hundredth too large", "denoise", 1, returned_through("embedding", times(1.01))),
        ("channels of the noise level in another order", "first", 1, returned_through("embedding", turned(3, 1, 48))),
        ("padding of text leaks", "denoise", 2, padding_added("text")),
        ("keys one frame later", "advance", 2, lambda g: moved_only_row(g, "keys")),
    )
]

#: Of the same model cut before its second and its fourth layer.
IN_THREE = [
    Edit(name=name, function=function, block="", change=change, file=link(number))  # type: ignore[arg-type]
    for name, function, number, change in (
        ("the skip at half its scale, the stream whole", "denoise", 3, taken_times("hidden_01", 0.5)),
        ("the stream at half its scale", "commit", 2, returned_through("hidden_03", times(0.5))),
        ("no skip", "advance", 3, skip_dropped),
        ("modulation negated in the middle", "denoise", 2, taken_times("modulation", -1.0)),
        ("frames in another order", "first", 2, returned_through("hidden_03", turned(3, 4, _LOW_TOKENS))),
    )
]

CHAIN_UNHARMFUL = [
    Edit(
        name="a product with one",
        function="advance",
        block="",
        change=returned_through("hidden_02", times(1.0)),
        file=link(1),
    ),
    Edit(name="padding of the stream", function="denoise", block="", change=padding_added("hidden_02"), file=link(2)),
]


def moved_only_row(g: MilGraph, given: str) -> None:
    """The only row of an input is read a frame earlier."""
    value = g.inputs[given] if reader(g, given).type != "slice_by_index" else reader(g, given).outputs[0]
    size = value.type.tensorType.dimensions[3].constant.size
    parts = [sliced(g, value, 3, FRAME_TOKENS, size), sliced(g, value, 3, 0, FRAME_TOKENS)]
    after(g, value.name, [*parts, concat(parts, value, 3)])
