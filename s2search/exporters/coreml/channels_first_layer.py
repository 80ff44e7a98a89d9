"""A layer with channels before tokens as exporters and profilers call it: its twin, or itself between transpositions.

Axes: D channels  S tokens  E text channels  W text tokens  M modulation (6 D)  B T H W: batch, frames, rows, columns
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from s2search.block import Block, Part
from s2search.errors import InputError
from s2search.exporters.host import MASKED
from s2search.exporters.past import PAST_BIAS, StepShape, Tensors, layer_past

#: Tensors of a state that have tokens before channels in the layout of the blocks, and after them in a twin's.
TURNED = ("keys_", "values_", "tail_")


class TwinLayer:
    """A layer that has a twin. No module: the twin's weights have their names from the list of layers."""

    own_layout = False

    def __init__(self, twin: Any, number: int) -> None:
        self.module, self.reads_bias = twin, bool(twin.reads_bias)
        self._twin, self._number = twin, number

    def empty(self) -> Tensors:
        """Return what the layer remembers of nothing, by the names of a step's inputs."""
        return {self._name(name): tensor for name, tensor in self._twin.state.items()}

    def read(
        self, x_1D1S: Tensor, modulation_1M11: Tensor, text_1WE: Tensor, text_1E1W: Tensor, past: Tensors | None
    ) -> Tensor:
        """Return the stream after this layer."""
        y_1D1S: Tensor = self._twin(x_1D1S, modulation_1M11, text_1E1W, None if past is None else self._own(past))
        return y_1D1S

    def commit(self, x_1D1S: Tensor, modulation_1M11: Tensor, past: Tensors) -> Tensors:
        """Return what the layer remembers with this chunk added."""
        new = self._twin.commit(x_1D1S, modulation_1M11, self._own(past))
        return {self._name(name): tensor for name, tensor in new.items()}

    def _own(self, past: Mapping[str, Tensor]) -> Tensors:
        own = {name: past[self._name(name)] for name in self._twin.state}
        if self._twin.reads_bias:
            own |= {"bias": past[PAST_BIAS], "full": 1 - past[PAST_BIAS][0] / MASKED}
        return own

    def _name(self, name: str) -> str:
        return f"{name}_{self._number:02}"


class OwnLayoutLayer:
    """A layer without a twin: tokens come before channels inside it, and in its state."""

    own_layout = True

    def __init__(self, layer: nn.Module, state: Any, number: int, shape: StepShape, grid: tuple[int, int]) -> None:
        self.module = self._layer = layer
        self._past = layer_past(number, state, shape)
        self.reads_bias = self._past.reads_bias
        self._size = (shape.frames, *grid)

    def empty(self) -> Tensors:
        """Return what the layer remembers of nothing, by the names of a step's inputs."""
        return self._past.empty()

    def read(
        self, x_1D1S: Tensor, modulation_1M11: Tensor, text_1WE: Tensor, text_1E1W: Tensor, past: Tensors | None
    ) -> Tensor:
        """Return the stream after this layer."""
        state = None if past is None else self._past.read(past)
        y_BTHWD = self._layer(self._turned(x_1D1S), rows(modulation_1M11), text_1WE, state)
        return y_BTHWD.permute(0, 4, 1, 2, 3).reshape(x_1D1S.shape)  # type: ignore[no-any-return]

    def commit(self, x_1D1S: Tensor, modulation_1M11: Tensor, past: Tensors) -> Tensors:
        """Return what the layer remembers with this chunk added."""
        commit: Any = self._layer.commit
        new = commit(self._turned(x_1D1S), rows(modulation_1M11), self._past.read(past))
        return self._past.write(past, new)

    def _turned(self, x_1D1S: Tensor) -> Tensor:
        return x_1D1S.reshape(1, x_1D1S.shape[1], *self._size).permute(0, 2, 3, 4, 1)


def channels_first_layer(
    block: Block, layer: nn.Module, state: Any, number: int, shape: StepShape, grid: tuple[int, int]
) -> TwinLayer | OwnLayoutLayer:
    """Return a layer with channels before tokens: by its twin where its block makes one.

    Args:
        block: Its specification.
        layer: What the block builds.
        state: What it remembers, empty.
        number: Of the layer; its tensors are named by it.
        shape: Chunk length and window.
        grid: Rows and columns of the layer's own stream.
    """
    twin = block.channels_first(layer, shape.frames, grid, shape.window)
    return OwnLayoutLayer(layer, state, number, shape, grid) if twin is None else TwinLayer(twin, number)


def channels_first_part(part: Part, module: nn.Module, shape: StepShape) -> nn.Module:
    """Return the twin of the stem, the head or a switch.

    Raises:
        InputError: It has none.
    """
    twin = part.channels_first(module, shape.frames, shape.grid, shape.window)
    if twin is None:
        raise InputError(
            f"the part {part.label!r} has no layout with channels first",
            allowed="parts with the method channels_first",
            remedy="export with layout=blocks,state=plain",
        )
    return twin


def rows(modulation_1M11: Tensor) -> Tensor:
    """Return modulation as blocks take it: (1, 1, 6, D)."""
    return modulation_1M11.reshape(1, 1, 6, -1)
