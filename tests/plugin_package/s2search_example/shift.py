"""shift: a block in one file, with a fused form and one with channels first.

Only the attention is new: the layer around it, with its costs and its forms, is the one that all blocks of s2search
share. The modules stand in the same file, so a search among this block loads torch; keep them in a second file, as
s2search does, where that matters.

Axes: B batch  T frames  H W token rows and columns  D channels  R frames of the tail  S tokens  G tokens of a frame
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from s2search_blocks.layer.spec import LayerBlock, linear_flops
from s2search_blocks.pieces.channels_first.projection import Projection
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import KeptTail, LinearState, Parameters, Precision, Shape, Stream, Window


@dataclass(frozen=True, kw_only=True)
class Shift(LayerBlock):
    """Every token beside the same token some frames earlier: memory for the price of two matrix products.

    Source: Peng et al., "RWKV" (2023), section 3.1 (token shift), here over frames.
    """

    symbol: ClassVar[str] = "H"
    stream: ClassVar[Stream] = Stream.LOW

    reach: int = 1  # frames

    def attention_parameters(self, shape: Shape) -> Parameters:
        return Parameters(matrix=2 * shape.channels**2, small=shape.channels)

    def attention_flops(self, shape: Shape) -> int:
        return 2 * linear_flops(self.tokens(shape), shape.channels, shape.channels)

    def attention_peak_bytes(self, shape: Shape, precision: Precision) -> int:
        stored = precision.activation_bits // 8
        stream, tail = self.tokens(shape) * shape.channels * stored, self._tail(shape) * stored
        return (tail + stream) + 3 * stream  # all frames; both products and their sum

    def state_bytes(self, shape: Shape, precision: Precision) -> int:
        return self._tail(shape) * precision.ring_bits // 8 if shape.context_frames else 0

    def build_attention(self, shape: Shape) -> ShiftAttention:
        return ShiftAttention(shape.channels, self.reach)

    def fused_attention(self, attention: ShiftAttention) -> FusedShift:
        return FusedShift(attention)

    def channels_first_attention(
        self, attention: ShiftAttention, frames: int, grid: tuple[int, int], window: Window
    ) -> ChannelsFirstShift:
        return ChannelsFirstShift(attention, frames, grid)

    def _tail(self, shape: Shape) -> int:
        """Numbers of the tail."""
        return self.reach * shape.low_height * shape.low_width * shape.channels


class ShiftAttention(nn.Module):
    """y_t = W h_t + V h_{t - reach}: causal in time, so a stream needs the last frames only."""

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.now, self.before = nn.Linear(channels, channels), nn.Linear(channels, channels, bias=False)

    def initial_state(self, batch, grid, window, device, dtype) -> LinearState:
        tail_BRHWD = torch.zeros(batch, self.reach, *grid, self.now.in_features, device=device, dtype=dtype)
        return LinearState(sum_BCAKK=None, norm_BCAK=None, tail_BTHWD=tail_BRHWD, window=window)

    def forward(self, h_BTHWD: Tensor, state: LinearState | None) -> Tensor:
        earlier_BTHWD = self.frames(h_BTHWD, state)[:, : h_BTHWD.shape[1]]
        return self.now(h_BTHWD) + self.before(earlier_BTHWD)

    def commit(self, h_BTHWD: Tensor, state: LinearState) -> LinearState:
        return replace(state, tail_BTHWD=self.frames(h_BTHWD, state)[:, -self.reach :].clone())

    def advance(self, h_BTHWD: Tensor, state: LinearState) -> tuple[Tensor, LinearState]:
        return self(h_BTHWD, state), self.commit(h_BTHWD, state)

    def frames(self, h_BTHWD: Tensor, state: LinearState | None) -> Tensor:
        if state is None:
            batch, _, *grid, _ = h_BTHWD.shape
            state = self.initial_state(batch, grid, None, h_BTHWD.device, h_BTHWD.dtype)
        return torch.cat((state.tail_BTHWD, h_BTHWD), dim=1)


class FusedShift(ShiftAttention):
    """One matrix product instead of two and a sum."""

    @torch.no_grad()
    def __init__(self, original: ShiftAttention) -> None:
        nn.Module.__init__(self)
        self.reach, self.now = original.reach, original.now
        self.weight = nn.Parameter(torch.cat((original.now.weight, original.before.weight), dim=1))

    def forward(self, h_BTHWD: Tensor, state: LinearState | None) -> Tensor:
        earlier_BTHWD = self.frames(h_BTHWD, state)[:, : h_BTHWD.shape[1]]
        return functional.linear(torch.cat((h_BTHWD, earlier_BTHWD), dim=-1), self.weight, self.now.bias)


class ChannelsFirstShift(nn.Module):
    """The same with channels before tokens, for one chunk length and grid."""

    reads_bias = False

    def __init__(self, original: ShiftAttention, frames: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.frames, self.reach = frames, original.reach
        self.now, self.before = Projection(original.now), Projection(original.before)
        channels = original.now.in_features
        self.state = {"tail": original.now.weight.new_zeros(1, channels, self.reach, grid[0] * grid[1])}
        self.kept = (KeptTail(frames=self.reach, frame_tokens=grid[0] * grid[1]),)

    def forward(self, h_1D1S: Tensor, past: dict[str, Tensor] | None) -> Tensor:
        earlier_1DTG = self._frames(h_1D1S, past)[:, :, : self.frames]
        return self.now(h_1D1S) + self.before(earlier_1DTG.reshape(h_1D1S.shape))

    def commit(self, h_1D1S: Tensor, past: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"tail": self._frames(h_1D1S, past)[:, :, -self.reach :]}

    def read(self, h_1D1S: Tensor, given: dict[str, Tensor] | None) -> Tensor:
        past = None if given is None else {"tail": given["tail"].reshape(self.state["tail"].shape)}
        return self(h_1D1S, past)

    def new(self, h_1D1S: Tensor) -> dict[str, Tensor]:
        frames_1DTG = h_1D1S.reshape(1, h_1D1S.shape[1], self.frames, -1)
        return {"tail": frames_1DTG[:, :, -self.reach :].reshape(1, h_1D1S.shape[1], 1, -1)}

    def _frames(self, h_1D1S: Tensor, past: dict[str, Tensor] | None) -> Tensor:
        tail_1DRG = (self.state if past is None else past)["tail"]
        return torch.cat((tail_1DRG, h_1D1S.reshape(1, h_1D1S.shape[1], self.frames, -1)), dim=2)
