"""Bytes of weights of a Core ML package that holds some of a model's layers: what its file of weights will have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from functools import reduce
from typing import TYPE_CHECKING

from s2search.block import Stream
from s2search.exporters.chain import Span
from s2search.exporters.quantised import GridConstants, grid_constants, matrices, rest_bytes_by_name
from s2search.precision.part import PartPrecision, part_of

if TYPE_CHECKING:
    from s2search.exporters.step import StepShape
    from s2search.network.network import S2DiT


class LinkBytes:
    """Tells the bytes of a package by the layers in it. Switches are in every package that switches.

    Args:
        model: The whole.
        shape: Grid, frames and window.
        twins: Numbers of layers with channels before tokens.
        parts: Precision of every part.
    """

    def __init__(
        self, model: S2DiT, shape: StepShape, twins: Container[int], parts: Mapping[str, PartPrecision]
    ) -> None:
        self._streams, self._constants = model.streams, grid_constants(model, shape, twins)
        self._bytes = Counter[str]()
        for name, count in rest_bytes_by_name(model, shape.frames).items():
            self._bytes[_holder(name)] += count
        for name, linear in matrices(model).items():
            self._bytes[_holder(name)] += parts[part_of(name)].matrix_bytes(*linear.weight.shape)

    def __call__(self, span: Span) -> int:
        """Return the bytes of a package of the layers from one up to another."""
        first, after = span
        held = {f"layers.{layer}" for layer in range(first, after)}
        before = self._streams[first - 1] if first else Stream.HIGH
        for stream in self._streams[first:after]:
            held |= set() if stream is before else {"down" if stream is Stream.LOW else "up"}
            before = stream
        held |= {"stem", "text"} if first == 0 else set()
        if after == len(self._streams):
            held |= {"head"} if before is Stream.HIGH else {"head", "up"}
        constants = reduce(GridConstants.joined, self._constants[first:after], GridConstants())
        return sum(self._bytes[name] for name in held) + constants.bytes


def _holder(name: str) -> str:
    """Return the layer or the other part of a model that a parameter is in."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] == "layers" else words[0]
