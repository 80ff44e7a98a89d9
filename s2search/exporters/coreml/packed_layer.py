"""A layer as `packed.py` calls it: its twin, or itself between transpositions, reading what the host gives.

Axes: D channels  S tokens  E text channels  W text tokens  M modulation (6 D)  B T H W: batch, frames, rows, columns
      R frames of a ring or tail  G tokens of a frame  K channels per head  A heads
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from s2search.block import Block, Kept, KeptRing, KeptTail, LinearState, RingState, Window
from s2search.errors import InputError
from s2search.exporters.coreml.channels_first_layer import rows
from s2search.exporters.past import StepShape, Tensors, layer_past


class PackedTwinLayer:
    """A layer that has a twin of this form."""

    own_layout = False

    def __init__(self, twin: Any, number: int) -> None:
        self.module = self._twin = twin
        self.kept: tuple[Kept, ...] = tuple(replace(one, layer=number) for one in twin.kept)

    def read(
        self, x_1D1S: Tensor, modulation_1M11: Tensor, text_1WE: Tensor, text_1E1W: Tensor, given: Tensors | None
    ) -> Tensor:
        """Return the stream after this layer."""
        y_1D1S: Tensor = self._twin.read(x_1D1S, modulation_1M11, text_1E1W, given)
        return y_1D1S

    def new(self, x_1D1S: Tensor, modulation_1M11: Tensor) -> Tensors:
        """Return what the host shall keep of this chunk."""
        new: Tensors = self._twin.new(x_1D1S, modulation_1M11)
        return new


class PackedOwnLayoutLayer:
    """A layer without a twin: tokens come before channels inside it. It remembers a ring or a tail.

    Raises:
        InputError: It keeps sums, whose share only a twin knows to take.
    """

    own_layout = True

    def __init__(self, layer: nn.Module, state: Any, number: int, shape: StepShape, grid: tuple[int, int]) -> None:
        layer_past(number, state, shape)  # refuses what it does not know
        if isinstance(state, LinearState) and state.sum_BCAKK is not None:
            raise InputError(
                f"layer {number} keeps sums, and has no form with channels first that takes them in float16",
                allowed="blocks whose form with channels first has kept, read and new",
                remedy="export with state=plain",
            )
        self.module = self._layer = layer
        self._state, self._shape, self._size = state, shape, (shape.frames, *grid)
        self.kept = _kept(state, number)

    def read(
        self, x_1D1S: Tensor, modulation_1M11: Tensor, text_1WE: Tensor, text_1E1W: Tensor, given: Tensors | None
    ) -> Tensor:
        """Return the stream after this layer."""
        state = None if given is None else self._given(given)
        y_BTHWD = self._layer(self._turned(x_1D1S), rows(modulation_1M11), text_1WE, state)
        return y_BTHWD.permute(0, 4, 1, 2, 3).reshape(x_1D1S.shape)  # type: ignore[no-any-return]

    def new(self, x_1D1S: Tensor, modulation_1M11: Tensor) -> Tensors:
        """Return what the host shall keep of this chunk: what it would be all that is remembered of."""
        commit: Any = self._layer.commit
        state = self._state
        if isinstance(state, RingState):
            # A frame of zeros before it, which is left out again: Core ML has no tensor without numbers.
            empty = state.keys_BTHWAK.new_zeros(1, 1, *state.keys_BTHWAK.shape[2:])
            state = replace(state, keys_BTHWAK=empty, values_BTHWAK=empty, window=Window(frames=None))
        new = commit(self._turned(x_1D1S), rows(modulation_1M11), state)
        if isinstance(new, RingState):
            pair = (("keys", new.keys_BTHWAK), ("values", new.values_BTHWAK))
            return {name: _channels_first(x.flatten(4), self._shape.frames) for name, x in pair}
        return {} if new.tail_BTHWD is None else {"tail": _channels_first(new.tail_BTHWD, self._shape.frames)}

    def _given(self, given: Mapping[str, Tensor]) -> Any:
        state, shape = self._state, self._shape
        if isinstance(state, RingState):
            size = (1, shape.slots, *state.keys_BTHWAK.shape[2:])
            keys, values = (_tokens_first(given[name], size) for name in ("keys", "values"))
            tokens = size[2] * size[3]
            bias_T = given["bias"].flatten()[: shape.slots * tokens : tokens]
            return replace(state, keys_BTHWAK=keys, values_BTHWAK=values, bias_T=bias_T)
        tail = state.tail_BTHWD
        return state if tail is None else replace(state, tail_BTHWD=_tokens_first(given["tail"], tail.shape))

    def _turned(self, x_1D1S: Tensor) -> Tensor:
        return x_1D1S.reshape(1, x_1D1S.shape[1], *self._size).permute(0, 2, 3, 4, 1)


def packed_layer(
    block: Block, layer: nn.Module, state: Any, number: int, shape: StepShape, grid: tuple[int, int]
) -> PackedTwinLayer | PackedOwnLayoutLayer:
    """Return a layer that reads what the host gives: by its twin where its block makes one. See `packed.py`."""
    twin = block.channels_first(layer, shape.frames, grid, shape.window)
    if twin is None or getattr(twin, "kept", None) is None:
        return PackedOwnLayoutLayer(layer, state, number, shape, grid)
    return PackedTwinLayer(twin, number)


def _kept(state: Any, number: int) -> tuple[Kept, ...]:
    if isinstance(state, RingState):
        height, width = state.keys_BTHWAK.shape[2:4]
        return (KeptRing(layer=number, frame_tokens=height * width),)
    tail = state.tail_BTHWD
    if tail is None or not tail.shape[1]:
        return ()
    return (KeptTail(layer=number, frames=tail.shape[1], frame_tokens=tail.shape[2] * tail.shape[3]),)


def _channels_first(x_BTHWD: Tensor, frames: int) -> Tensor:
    """Return the last frames, at most as many as a chunk has, as (1, D, 1, R G)."""
    x_BTHWD = x_BTHWD[:, -frames:]
    return x_BTHWD.flatten(1, 3).transpose(1, 2)[:, :, None]


def _tokens_first(x_1D1M: Tensor, size: tuple[int, ...]) -> Tensor:
    return x_1D1M[:, :, 0].transpose(1, 2).reshape(size)
