"""The functions of a step by name, and what a layer remembers as tensors of fixed shapes, in the layout of the blocks.

Frames stand at the end of a ring, the newest last; `past_bias` hides those that are not there yet. See `step.py`.

Axes: B batch (1)  T frames  R slots of frames or chunks  D channels  H W rows, columns  A heads  K channels per head
      C chunks whose sums are kept apart, or 1

Why a bias: docs/decisions/export.md, "Packages of a streaming step".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from s2search.block import LinearState, RingState, Window
from s2search.errors import InputError
from s2search.exporters.host import MASKED

FunctionName = Literal["first", "denoise", "commit", "advance"]
FUNCTIONS: tuple[FunctionName, ...] = get_args(FunctionName)
PAST_BIAS = "past_bias"

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """What a step is made for: token rows and columns, latent frames of a chunk, and the past that it sees."""

    grid: tuple[int, int]
    frames: int
    window: Window

    def __post_init__(self) -> None:
        latest, first = self.window.frames, self.window.sink_frames
        if not latest:
            raise InputError(
                f"a step has fixed shapes, and the window is {'unlimited' if latest is None else 'empty'}",
                allowed="at least 1 frame",
            )
        if latest % self.frames * first or first % self.frames:
            raise InputError(
                f"a sink of {first} frames beside a window of {latest} and chunks of {self.frames}",
                allowed="where there is a sink, both are whole chunks",
            )

    @property
    def slots(self) -> int:
        """Frames that a full ring holds."""
        return (self.window.frames or 0) + self.window.sink_frames

    @property
    def chunk_slots(self) -> int:
        """Chunks that sums of a window hold."""
        return -(-(self.window.frames or 0) // self.frames) - (-self.window.sink_frames // self.frames)


@dataclass(frozen=True, kw_only=True)
class _RingPast:
    """The ring of a softmax layer as tensors: frames of N tokens of D channels."""

    layer: int
    state: RingState
    shape: StepShape
    reads_bias: ClassVar[bool] = True

    @property
    def names(self) -> tuple[str, str]:
        return f"keys_{self.layer:02}", f"values_{self.layer:02}"

    def empty(self) -> Tensors:
        _, _, height, width, heads, channels = self.state.keys_BTHWAK.shape
        size = (1, self.shape.slots, height * width, heads * channels)
        return {name: self.state.keys_BTHWAK.new_zeros(size) for name in self.names}

    def read(self, past: Mapping[str, Tensor]) -> RingState:
        size = (1, self.shape.slots, *self.state.keys_BTHWAK.shape[2:])
        keys, values = (past[name].view(size) for name in self.names)
        return replace(self.state, keys_BTHWAK=keys, values_BTHWAK=values, bias_T=past[PAST_BIAS])

    def write(self, past: Mapping[str, Tensor], new: RingState) -> Tensors:
        pairs = zip(self.names, (new.keys_BTHWAK, new.values_BTHWAK), strict=True)
        shape = self.shape
        return {
            name: _kept(past, past[name], tensor.reshape(past[name].shape), shape.frames, shape.window.sink_frames)
            for name, tensor in pairs
        }


@dataclass(frozen=True, kw_only=True)
class _LinearPast:
    """The sums and the tail of an LCHA layer as tensors. Sums kept per chunk stand side by side, as more heads."""

    layer: int
    state: LinearState
    shape: StepShape

    @property
    def slots(self) -> int:
        """Chunks whose sums are kept: 1 where they are added up."""
        apart = self.state.sum_BCAKK is not None and self.state.sum_BCAKK.shape[1] == 0
        return self.shape.chunk_slots if apart else 1

    @property
    def reads_bias(self) -> bool:
        """Whether it must know that the window is full."""
        return self.slots > 1 and self.shape.window.sink_frames > 0

    def empty(self) -> Tensors:
        tensors = Tensors()
        if self.state.sum_BCAKK is not None and self.state.norm_BCAK is not None:
            heads, channels = self.state.norm_BCAK.shape[2:]
            tensors[f"sum_{self.layer:02}"] = self.state.sum_BCAKK.new_zeros(1, self.slots * heads, channels, channels)
            tensors[f"norm_{self.layer:02}"] = self.state.norm_BCAK.new_zeros(1, self.slots * heads, channels)
        if self.state.tail_BTHWD is not None:
            tensors[f"tail_{self.layer:02}"] = self.state.tail_BTHWD.flatten(2, 3)
        return tensors

    def read(self, past: Mapping[str, Tensor]) -> LinearState:
        state, tail = self.state, past.get(f"tail_{self.layer:02}")
        if state.sum_BCAKK is not None and state.norm_BCAK is not None:
            sums, norms = past[f"sum_{self.layer:02}"], past[f"norm_{self.layer:02}"]
            state = replace(
                state,
                sum_BCAKK=sums.view(1, self.slots, *state.sum_BCAKK.shape[2:]),
                norm_BCAK=norms.view(1, self.slots, *state.norm_BCAK.shape[2:]),
            )
        return state if tail is None else replace(state, tail_BTHWD=tail.view(self.state.tail_BTHWD.shape))  # type: ignore[union-attr]

    def write(self, past: Mapping[str, Tensor], new: LinearState) -> Tensors:
        tensors = Tensors()
        for name, sums_BC in (("sum", new.sum_BCAKK), ("norm", new.norm_BCAK)):
            if sums_BC is not None:
                old = past[f"{name}_{self.layer:02}"]
                sinks = -(-self.shape.window.sink_frames // self.shape.frames) if self.slots > 1 else 0
                old_BC = old.view(sums_BC.shape)
                tensors[f"{name}_{self.layer:02}"] = _kept(past, old_BC, sums_BC, 1, sinks).view(old.shape)
        if new.tail_BTHWD is not None:
            tensors[f"tail_{self.layer:02}"] = new.tail_BTHWD.flatten(2, 3)
        return tensors


def layer_past(layer: int, state: Any, shape: StepShape) -> _RingPast | _LinearPast:
    """Return how a layer's state becomes tensors.

    Raises:
        InputError: It is of no known type.
    """
    if isinstance(state, RingState):
        return _RingPast(layer=layer, state=state, shape=shape)
    if isinstance(state, LinearState):
        return _LinearPast(layer=layer, state=state, shape=shape)
    raise InputError(
        f"layer {layer} remembers a {type(state).__name__}",
        allowed="RingState, LinearState: exporters know no other state",
        remedy="let the block keep one of them",
    )


def _kept(past: Mapping[str, Tensor], old_BR: Tensor, new_BR: Tensor, added: int, sinks: int) -> Tensor:
    """Return what a ring holds after `added` entries, given what a full ring would hold.

    Without a sink that is the same. With one, a ring that is not full yet moves up as a whole: its first entries are
    empty slots, no sink.
    """
    if sinks == 0:
        return new_BR
    moved_BR = torch.cat((old_BR[:, added:], new_BR[:, -added:]), dim=1)
    full = 1 - past[PAST_BIAS][0].to(new_BR.dtype) / MASKED
    return full * new_BR + (1 - full) * moved_BR
