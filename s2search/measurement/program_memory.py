"""Bytes of activations in a Core ML program, as if the result of every operation were written out whole.

That is the most that they can take: Core ML may fuse operations or work in tiles, and does not tell. A block's own
formula (`peak_bytes`) has attention fused, which holds in the layout of the blocks alone: with channels before tokens
it is written out, scores and all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

_VIEWS = ("reshape", "expand_dims", "squeeze", "identity")
_STORED = ("const", "read_state")
_NUMBER_BYTES = {"FLOAT16": 2, "FLOAT32": 4, "INT32": 4, "BOOL": 1}


def written_out_bytes(specification: Any, state: Collection[str]) -> int:
    """Return the bytes alive at the worst moment of one call, inputs and outputs included, weights and state not.

    Args:
        specification: The protobuf of a package with one function.
        state: Inputs that are state.
    """
    (function,) = specification.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    given = [value for value in function.inputs if value.type.WhichOneof("type") == "tensorType"]
    inputs_bytes = sum(_bytes(value) for value in given if value.name not in state)
    last = {name: number for number, operation in enumerate(block.operations) for name in _read(operation)}
    last |= dict.fromkeys(block.outputs, len(block.operations))
    owner: dict[str, str] = {}
    size: dict[str, int] = {}
    until: dict[str, int] = {}
    for number, operation in enumerate(block.operations):
        if operation.type in _STORED or operation.type.startswith("constexpr_"):
            continue
        for output in operation.outputs:
            if operation.type in _VIEWS and (source := next(_bound(operation, "x"), None)) is not None:
                owner[output.name] = owner.get(source, source)
            else:
                owner[output.name], size[output.name] = output.name, _bytes(output)
            root, end = owner[output.name], last.get(output.name, number)
            until[root] = max(until.get(root, 0), end)
    alive = peak = 0
    ends: dict[int, list[str]] = {}
    for number, operation in enumerate(block.operations):
        for output in operation.outputs:
            if output.name in size:
                alive += size[output.name]
                ends.setdefault(until[output.name], []).append(output.name)
        peak = max(peak, alive)
        alive -= sum(size[name] for name in ends.pop(number, ()))
    return inputs_bytes + peak


def _read(operation: Any) -> Iterator[str]:
    """Yield the names of what an operation reads."""
    for name in operation.inputs:
        yield from _bound(operation, name)


def _bound(operation: Any, name: str) -> Iterator[str]:
    for binding in operation.inputs[name].arguments:
        if binding.WhichOneof("binding") == "name":
            yield binding.name


def _bytes(value: Any) -> int:
    from coremltools.proto import MIL_pb2

    tensor = value.type.tensorType
    numbers: int = math.prod(axis.constant.size for axis in tensor.dimensions)
    return numbers * _NUMBER_BYTES[MIL_pb2.DataType.Name(tensor.dataType)]
