"""Ways to break the graph of a Core ML package without touching a weight, and where each must be found.

Between two blocks operations count as those of the first; the graph's own blocks are told from weights alone, and the
head's norm reads none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2search.exporters.step import FunctionName
from tests.verify.mil_graph import ONE_PACKAGE, MilGraph, name_of, names_of


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A change of one function.

    Attributes:
        name: What is wrong after it.
        function: The only one that is changed.
        block: Where it must be found.
        change: Of the graph.
        file: That holds it: of a chain, that of a link.
        exempt: Whether the broken graph gives what the whole one gives, within 90 dB, for every past and after 300
            chunks.
    """

    name: str
    function: FunctionName
    block: str
    change: Callable[[Any], None]
    file: str = ONE_PACKAGE
    exempt: bool = False

    def __str__(self) -> str:
        return f"{self.function}, {self.block}: {self.name}"


def kinds(g: MilGraph, operation: Any) -> set[str]:
    return {maker.type for maker in g.makers(operation)}


def key_of(g: MilGraph, operation: Any, kind: str) -> str:
    """Return the input that an operation of a kind makes."""
    return next(key for key in ("x", "y") if kind in [g.maker[name].type for name in names_at(g, operation, key)])


def names_at(g: MilGraph, operation: Any, key: str) -> list[str]:
    return [one.name for one in operation.inputs[key].arguments if one.name in g.maker]


def modulated(g: MilGraph, block: str, nth: int) -> Any:
    return g.find("mul", block, reads="layer_norm", nth=nth)


def scale_dropped(block: str, nth: int = 0) -> Callable[[MilGraph], None]:
    def change(g: MilGraph) -> None:
        operation = modulated(g, block, nth)
        g.bypass(operation, key_of(g, operation, "layer_norm"))

    return change


def one_dropped(block: str, nth: int = 0) -> Callable[[MilGraph], None]:
    def change(g: MilGraph) -> None:
        operation = modulated(g, block, nth)
        g.set(g.maker[name_of(operation, key_of(g, operation, "add"))], "y", lambda one: np.float16(0.9))

    return change


def shift_dropped(block: str, nth: int = 0) -> Callable[[MilGraph], None]:
    def change(g: MilGraph) -> None:
        (add,) = g.readers(modulated(g, block, nth))
        g.bypass(add, key_of(g, add, "mul"))

    return change


def shift_for_scale(block: str, nth: int = 0) -> Callable[[MilGraph], None]:
    def change(g: MilGraph) -> None:
        operation = modulated(g, block, nth)
        scale, (shift,) = g.maker[name_of(operation, key_of(g, operation, "add"))], g.readers(operation)
        key = key_of(g, shift, "split")
        a, b = name_of(scale, "x"), name_of(shift, key)
        g.read(scale, "x", b)
        g.read(shift, key, a)

    return change


def gated(g: MilGraph, block: str, nth: int) -> Any:
    return g.find("mul", block, nth=nth, where=lambda one: kinds(g, one) == {"conv", "split"})


def gate_of_layer_dropped(block: str, nth: int) -> Callable[[MilGraph], None]:
    return lambda g: g.bypass(gated(g, block, nth), key_of(g, gated(g, block, nth), "conv"))


def path_dropped(block: str, nth: int) -> Callable[[MilGraph], None]:
    """The residual goes on without the attention or the feed-forward layer."""

    def change(g: MilGraph) -> None:
        (add,) = g.readers(gated(g, block, nth))
        g.multiply(add, key_of(g, add, "mul"), 0.0)

    return change


def residual_dropped(block: str, nth: int) -> Callable[[MilGraph], None]:
    def change(g: MilGraph) -> None:
        (add,) = g.readers(gated(g, block, nth))
        g.bypass(add, key_of(g, add, "mul"))

    return change


def cross_attention_dropped(block: str) -> Callable[[MilGraph], None]:
    return lambda g: g.bypass(g.find("add", block, where=lambda one: kinds(g, one) == {"conv", "add"}), "x")


def retyped(kind: str, other: str, block: str, nth: int = 0, **picked: Any) -> Callable[[MilGraph], None]:
    def change(g: MilGraph) -> None:
        g.find(kind, block, nth=nth, **picked).type = other

    return change


def constant(
    kind: str, block: str, key: str, to: Callable[[Any], Any], nth: int = 0, **picked: Any
) -> Callable[[MilGraph], None]:
    return lambda g: g.set(g.find(kind, block, nth=nth, **picked), key, to)


def multiplied(
    kind: str, block: str, key: str, factor: float, nth: int = 0, **picked: Any
) -> Callable[[MilGraph], None]:
    return lambda g: g.multiply(g.find(kind, block, nth=nth, **picked), key, factor)


def swapped(kind: str, block: str, nth: int = 0, **picked: Any) -> Callable[[MilGraph], None]:
    return lambda g: g.swap(g.find(kind, block, nth=nth, **picked))


def turned_round(kind: str, block: str, nth: int = 0, **picked: Any) -> Callable[[MilGraph], None]:
    """The values that are joined come in the other order."""

    def change(g: MilGraph) -> None:
        values = g.find(kind, block, nth=nth, **picked).inputs["values"].arguments
        copies = [type(one).FromString(one.SerializeToString()) for one in values]
        del values[:]
        values.extend(reversed(copies))

    return change


def bias_ignored(block: str) -> Callable[[MilGraph], None]:
    def change(g: MilGraph) -> None:
        add = g.find("add", block, read_by="softmax")
        g.bypass(add, key_of(g, add, "matmul"))

    return change


def leaking(output: str, factor: float, key: str = "x") -> Callable[[MilGraph], None]:
    return lambda g: g.multiply(g.maker[output], key, factor)


def reads_other(block: str, name: str, other: str) -> Callable[[MilGraph], None]:
    def change(g: MilGraph) -> None:
        for one in g.operations:
            for argument in one.inputs.values():
                for binding in argument.arguments:
                    if binding.name == name:
                        binding.name = other

    return change


def rows(g: MilGraph, one: Any, key: str = "y") -> tuple[int, ...]:
    """Return the shape of a constant input; empty where it is none."""
    argument = one.inputs[key].arguments[0]
    if argument.WhichOneof("binding") == "name" and argument.name not in g.constants:
        return ()
    return tuple(np.shape(g.constant(one, key)))


def table(block: str, to: Callable[[Any], Any], nth: int = 0) -> Callable[[MilGraph], None]:
    """Change a table of rotary embeddings."""

    def is_table(g: MilGraph, one: Any) -> bool:
        return len(rows(g, one)) == 2 and min(rows(g, one)) > 1

    return lambda g: g.set(g.find("mul", block, nth=nth, where=lambda one: is_table(g, one)), "y", to)


def norm_weight_dropped(block: str, nth: int = 0) -> Callable[[MilGraph], None]:
    return lambda g: g.bypass(
        g.find("mul", block, nth=nth, where=lambda one: len(rows(g, one)) == 2 and rows(g, one)[1] == 1), "x"
    )


def gate_inverted(g: MilGraph) -> None:
    (mul,) = g.readers(g.find("sub", "layers.0", nth=-1))
    g.set(mul, "x", lambda gate: (1 - gate.astype(np.float32)).astype(np.float16))


def text_keys_for_values(block: str) -> Callable[[MilGraph], None]:
    """The values of the text are its keys."""

    def change(g: MilGraph) -> None:
        weights = g.find("softmax", block, nth=-1)
        (after,) = g.readers(weights)
        key = next(one for one in ("x", "y") if name_of(after, one) != weights.outputs[0].name)
        wanted = g.maker[name_of(after, key)].outputs[0].type
        scores = g.maker[name_of(weights, "x")]
        read = [name for one in ("x", "y") for name in names_at(g, scores, one)]
        keys = [name for name in read if g.maker[name].outputs[0].type == wanted]
        g.read(after, key, keys[0])

    return change


def tail_too_early(g: MilGraph) -> None:
    cut = g.maker["new_tail_00"]
    g.set(cut, "begin", lambda old: np.array([0, 0, 2, 0], np.int32))
    g.set(cut, "end", lambda old: np.array([*np.ravel(old)[:2], 4, np.ravel(old)[3]], np.int32))
    g.set(cut, "end_mask", lambda old: np.array([True, True, False, True]))


def oldest_kept(output: str) -> Callable[[MilGraph], None]:
    """A ring keeps its oldest frames."""

    def change(g: MilGraph) -> None:
        cut = g.maker[output]
        g.set(cut, "begin", lambda old: np.array([0, 0, 0, 0], np.int32))
        g.set(cut, "end", lambda old: np.array([*np.ravel(old)[:2], 6, np.ravel(old)[3]], np.int32))
        g.set(cut, "end_mask", lambda old: np.array([True, True, False, True]))

    return change


def one_row_off(g: MilGraph) -> None:
    convolutions = [
        one for one, place in zip(g.operations, g.blocks, strict=True) if (one.type, place) == ("conv", "layers.0")
    ]
    padded = next(one for one in convolutions if g.constant(one, "pad_type") == "custom")
    g.set(padded, "pad", lambda old: np.array([2, 0, 1, 1], np.int32))


def half(factor: float) -> Callable[[Any], Any]:
    return lambda old: (np.asarray(old, np.float32) * factor).astype(np.float16)


EDITS = [
    Edit(name=name, function=function, block=block, change=change)  # type: ignore[arg-type]
    for name, function, block, change in (
        # What hides frames that are not there.
        ("past_bias ignored", "advance", "layers.1", bias_ignored("layers.1")),
        ("past_bias ignored", "denoise", "layers.2", bias_ignored("layers.2")),
        (
            "past_bias a ten-thousandth",
            "denoise",
            "layers.1",
            lambda g: g.multiply(g.find("pad", "layers.1"), "x", 1e-4),
        ),
        (
            "past_bias of the chunk itself",
            "advance",
            "layers.1",
            constant("pad", "layers.1", "pad", lambda old: np.roll(old, -1).astype(np.int32)),
        ),
        # Gates, scales, shifts.
        ("gate inverted", "denoise", "layers.0", gate_inverted),
        ("the paths of the gate swapped", "first", "layers.0", swapped("sub", "layers.0", -1)),
        ("adaLN scale dropped", "advance", "layers.0", scale_dropped("layers.0")),
        ("adaLN scale dropped", "first", "layers.1", scale_dropped("layers.1", 1)),
        ("adaLN scale from 0.9", "denoise", "layers.2", one_dropped("layers.2")),
        ("adaLN scale dropped", "commit", "layers.1", scale_dropped("layers.1")),
        ("adaLN shift dropped", "first", "layers.0", shift_dropped("layers.0", 1)),
        ("adaLN shift dropped", "commit", "layers.2", shift_dropped("layers.2")),
        ("adaLN shift for scale", "advance", "layers.1", shift_for_scale("layers.1")),
        ("gate of attention dropped", "denoise", "layers.1", gate_of_layer_dropped("layers.1", 0)),
        ("gate of feed forward dropped", "first", "layers.2", gate_of_layer_dropped("layers.2", 1)),
        ("attention dropped", "first", "layers.0", path_dropped("layers.0", 0)),
        ("feed forward dropped", "commit", "layers.0", path_dropped("layers.0", 1)),
        ("residual dropped", "advance", "layers.2", residual_dropped("layers.2", 0)),
        ("cross attention dropped", "denoise", "layers.0", cross_attention_dropped("layers.0")),
        ("head's scale dropped", "denoise", "head", scale_dropped("up")),
        ("head's shift dropped", "first", "head", shift_dropped("up")),
        # Other operations.
        (
            "relu for softplus of keys",
            "advance",
            "layers.0",
            lambda g: g.bypass(g.find("add", "layers.0", reads="log"), "x"),
        ),
        (
            "relu for softplus of queries",
            "denoise",
            "layers.0",
            lambda g: g.bypass(g.find("add", "layers.0", reads="log", nth=-1), "x"),
        ),
        (
            "log(2 + x) in softplus",
            "commit",
            "layers.0",
            constant("log", "layers.0", "epsilon", lambda old: np.float32(2)),
        ),
        ("exp2 for exp", "first", "layers.0", retyped("exp", "exp2", "layers.0")),
        ("GELU of erf", "denoise", "layers.1", constant("gelu", "layers.1", "mode", lambda old: "EXACT")),
        (
            "GELU by a sigmoid",
            "advance",
            "layers.0",
            constant("gelu", "layers.0", "mode", lambda old: "SIGMOID_APPROXIMATION"),
        ),
        ("sigmoid for silu", "first", "stem", retyped("silu", "sigmoid", "stem")),
        ("tanh for silu", "advance", "stem", retyped("silu", "tanh", "stem", 1)),
        ("cos for sin", "denoise", "stem", retyped("sin", "cos", "stem")),
        ("sin before cos", "commit", "stem", turned_round("concat", "stem", reads="cos")),
        (
            "time a thousandth later",
            "denoise",
            "stem",
            constant("mul", "stem", "y", lambda old: np.float32(999), where=lambda one: name_of(one, "x") == "s"),
        ),
        ("minimum for maximum", "denoise", "layers.0", retyped("maximum", "minimum", "layers.0", -1)),
        ("a sum for a mean in the norm", "advance", "layers.2", retyped("reduce_mean", "reduce_sum", "layers.2")),
        (
            "the rotation's sines negated",
            "denoise",
            "layers.1",
            table("layers.1", lambda old: -old, 1),
        ),
        (
            "softmax over queries",
            "first",
            "layers.1",
            constant("softmax", "layers.1", "axis", lambda old: np.int32(-2)),
        ),
        # Constants.
        (
            "epsilon of layer norm a thousand times larger",
            "denoise",
            "layers.0",
            constant("layer_norm", "layers.0", "epsilon", half(1000)),
        ),
        (
            "epsilon of layer norm a thousand times larger",
            "first",
            "head",
            constant("layer_norm", "up", "epsilon", half(1000)),
        ),
        (
            "epsilon of RMS norm a thousand times larger",
            "advance",
            "layers.1",
            constant("add", "layers.1", "y", half(1000), reads="reduce_mean"),
        ),
        (
            "epsilon of rsqrt 0.001",
            "denoise",
            "layers.2",
            constant("rsqrt", "layers.2", "epsilon", lambda old: np.float32(1e-3)),
        ),
        ("scores 0.5 % larger", "advance", "layers.2", multiplied("softmax", "layers.2", "x", 1.005)),
        ("keys' table one token late", "denoise", "layers.2", table("layers.2", lambda old: np.roll(old, 1, axis=1))),
        ("tables of cos a thousandth larger", "advance", "layers.1", table("layers.1", half(1.001))),
        ("norm's weight dropped", "commit", "layers.1", norm_weight_dropped("layers.1")),
        ("norm's weight dropped", "first", "layers.0", norm_weight_dropped("layers.0", 1)),
        ("the bias of a product 1 % larger", "first", "layers.2", constant("conv", "layers.2", "bias", half(1.01), 1)),
        ("local neighbours one row off", "advance", "layers.0", one_row_off),
        ("the row that pads a grid before it", "denoise", "down", turned_round("concat", "layers.0", -1)),
        ("a switch 0.1 % too weak", "advance", "up", multiplied("pixel_shuffle", "up", "x", 0.999)),
        ("velocity 0.1 % too small", "denoise", "head", multiplied("pixel_shuffle", "head", "x", 0.999)),
        # State.
        ("S loses 5 % a chunk", "advance", "layers.0", leaking("new_sum_00", 0.95)),
        ("S loses 0.9 % a chunk", "commit", "layers.0", leaking("new_sum_00", 0.991)),
        ("S loses a hundred-thousandth a chunk", "advance", "layers.0", leaking("new_sum_00", 0.99999)),
        ("z loses a thousandth a chunk", "commit", "layers.0", leaking("new_norm_00", 0.999)),
        ("a chunk counts twice in z", "advance", "layers.0", leaking("new_norm_00", 2.0, "y")),
        ("the tail ends a frame early", "commit", "layers.0", tail_too_early),
        (
            "the tail behind the chunk",
            "denoise",
            "layers.0",
            turned_round("concat", "layers.0", where=lambda one: "tail_00" in names_of(one)),
        ),
        ("a ring keeps its oldest keys", "advance", "layers.1", oldest_kept("new_keys_01")),
        ("a ring keeps its oldest values", "commit", "layers.2", oldest_kept("new_values_02")),
        ("keys of another layer", "denoise", "layers.2", reads_other("layers.2", "keys_02", "keys_01")),
        ("values for keys", "advance", "layers.1", reads_other("layers.1", "keys_01", "values_01")),
        ("keys for values of the text", "first", "layers.1", text_keys_for_values("layers.1")),
    )
] + [
    Edit(name=name, function="denoise", block=block, change=change, exempt=True)
    for name, block, change in (
        # Tokens below sqrt(32768 / channels) are divided by 1, whatever is the largest number.
        (
            "the smallest number for the largest before a norm",
            "layers.0",
            retyped("reduce_max", "reduce_min", "layers.0"),
        ),
        # Sums that a chunk makes are far above the least denominator.
        (
            "the least denominator ten times larger",
            "layers.0",
            constant("maximum", "layers.0", "y", lambda old: np.asarray(old) * np.float32(10)),
        ),
    )
]
