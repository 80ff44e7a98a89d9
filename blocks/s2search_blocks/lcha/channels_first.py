"""LCHA with channels before tokens. Its twin is in `blocks/s2search_blocks/lcha/module.py`.

Axes: D channels  S tokens  A heads  K channels per head (V: of values, = K; J: of features, = K)
      C chunks whose sums are kept apart, or 1  T frames  R frames of the tail  G tokens of a frame  H W rows, columns
      X rows of a head's sums: those of S transposed (V), and z
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import Kept, KeptSums, KeptTail, Window, largest_share
from s2search_blocks.lcha.module import (
    LEAST_DENOMINATOR,
    LinConvHybridAttention,
    LinearAttention,
    LocalMixing,
    SoftplusMap,
    softplus,
)
from s2search_blocks.pieces.channels_first.norms import HeadNorm
from s2search_blocks.pieces.channels_first.projection import Projection, parameter
from s2search_blocks.pieces.channels_first.rotary import rotate
from s2search_blocks.pieces.channels_first.window import remembered

State = dict[str, Tensor]

#: The least denominator where all is float16: its smallest normal number. Maps that are 0 everywhere then give 0.
LEAST_HALF = 2.0**-14


class ChannelsFirstLCHA(nn.Module):
    """The linear and the local path of one layer, or the one that is there.

    Attributes:
        state: `sum` (1, C A, K, K) and `norm` (1, C A, K) of nothing, and a `tail` (1, D, R, G) of zeros.
        reads_bias: Whether it must know that the window is full.
        kept: The same, where the host keeps it.
    """

    def __init__(self, original: LinConvHybridAttention, frames: int, grid: tuple[int, int], window: Window) -> None:
        super().__init__()
        self.memory, self.decay, self.frames = original.memory, original.decay, frames
        self.linear = None if original.linear is None else ChannelsFirstLinear(original.linear, frames, grid)
        self.local = None if original.local is None else ChannelsFirstLocal(original.local, frames, grid)
        gate_D = original.gate_D
        self.gate_D = None if gate_D is None else parameter(gate_D[None, :, None, None])
        self.output = Projection(original.output)
        apart = self.memory == "window"
        self.sinks = -(-window.sink_frames // frames) if apart else 0
        self.chunks = -(-(window.frames or 0) // frames) + self.sinks if apart else 1
        self.reads_bias = self.linear is not None and self.chunks > 1 and self.sinks > 0
        zeros, width = original.output.weight.new_zeros, original.channels
        self.state: State = {}
        if self.linear is not None:
            heads, per_head = self.chunks * self.linear.heads, width // self.linear.heads
            self.state |= {"sum": zeros(1, heads, per_head, per_head), "norm": zeros(1, heads, per_head)}
        if self.local is not None:
            self.state |= {"tail": zeros(1, width, self.local.reach, grid[0] * grid[1])}
        self.kept = self._kept(grid[0] * grid[1])

    def forward(self, h_1D1S: Tensor, past: Mapping[str, Tensor] | None) -> Tensor:
        """Mix the frames given with what is remembered."""
        past = self.state if past is None else past
        paths = [path(h_1D1S, past) for path in (self.linear, self.local) if path is not None]
        y_1D1S: Tensor = self.output(self._mixed(paths))
        return y_1D1S

    def commit(self, h_1D1S: Tensor, past: Mapping[str, Tensor]) -> State:
        """Return the state with this chunk's sums, and its last frames as the tail."""
        new: State = {}
        if self.linear is not None:
            sum_1AJV, norm_1AJ = self.linear.chunk_sums(h_1D1S)
            new["sum"] = self._with_chunk(past, "sum", sum_1AJV)
            new["norm"] = self._with_chunk(past, "norm", norm_1AJ)
        if self.local is not None:
            new["tail"] = remembered(past["tail"], self.local.on_frames(h_1D1S), 0, None)
        return new

    def read(self, h_1D1S: Tensor, given: Mapping[str, Tensor] | None) -> Tensor:
        """Mix the frames given with what the host remembers."""
        paths = []
        if self.linear is not None:
            paths.append(self.linear.read(h_1D1S, None if given is None else given["sums"]))
        if self.local is not None:
            empty = self.state["tail"]
            tail = empty if given is None or self.local.reach == 0 else given["tail"].reshape(empty.shape)
            paths.append(self.local(h_1D1S, {"tail": tail}))
        y_1D1S: Tensor = self.output(self._mixed(paths))
        return y_1D1S

    def new(self, h_1D1S: Tensor) -> State:
        """Return the chunk's sums, and its last frames (1, D, 1, R G), at most as many as the tail has."""
        new: State = {}
        if self.linear is not None:
            new["sums"] = self.linear.new_sums(h_1D1S)
        if self.local is not None and self.local.reach > 0:
            frames_1DTG = self.local.on_frames(h_1D1S)
            latest = min(self.local.reach, self.frames)
            new["tail"] = frames_1DTG[:, :, self.frames - latest :].reshape(1, h_1D1S.shape[1], 1, -1)
        return new

    def _kept(self, frame_tokens: int) -> tuple[Kept, ...]:
        kept: list[Kept] = []
        if self.linear is not None:
            kept.append(KeptSums(heads=self.linear.heads, memory=self.memory, decay=self.decay))
        if self.local is not None and self.local.reach > 0:
            kept.append(KeptTail(frames=self.local.reach, frame_tokens=frame_tokens))
        return tuple(kept)

    def _with_chunk(self, past: Mapping[str, Tensor], name: str, chunk_1A: Tensor) -> Tensor:
        """Return the sums that the memory keeps once a chunk has been added; those kept apart stand as more heads."""
        past_1A = past[name]
        if self.memory == "running":
            return past_1A + chunk_1A
        if self.memory == "decay":
            return self.decay * (past_1A + chunk_1A)
        past_1CX, chunk_1CX = (x.reshape(1, 1, -1, chunk_1A[0].numel()) for x in (past_1A, chunk_1A))
        return remembered(past_1CX, chunk_1CX, self.sinks, past.get("full")).reshape(past_1A.shape)

    def _mixed(self, paths: list[Tensor]) -> Tensor:
        if len(paths) == 1:
            return paths[0]
        linear_1D1S, local_1D1S = paths
        if self.gate_D is None:
            return linear_1D1S + local_1D1S
        return local_1D1S + torch.sigmoid(self.gate_D) * (linear_1D1S - local_1D1S)


class ChannelsFirstLinear(nn.Module):
    """Linear attention; its sums are products over tokens of features that were divided by the tokens of a frame."""

    def __init__(self, original: LinearAttention, frames: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.rope_order, self.grid = original.heads, original.rope_order, (frames, *grid)
        self.query, self.key = Projection(original.query), Projection(original.key)
        self.value = Projection(original.value)
        self.query_norm, self.key_norm = HeadNorm(original.query_norm), HeadNorm(original.key_norm)
        learned = isinstance(original.feature_map, SoftplusMap)
        self.feature_map = ChannelsFirstSoftplus(original.feature_map) if learned else nn.ReLU()  # type: ignore[arg-type]

    def forward(self, h_1D1S: Tensor, past: Mapping[str, Tensor]) -> Tensor:
        """Return the attention of every token over the state's tokens and the chunk's, both directions in time."""
        sum_1AJV, norm_1AJ = self.chunk_sums(h_1D1S)
        for sum_of_chunk, norm_of_chunk in self._chunks(past):
            sum_1AJV, norm_1AJ = sum_of_chunk + sum_1AJV, norm_of_chunk + norm_1AJ
        largest_1A1 = norm_1AJ.amax(dim=2, keepdim=True).clamp_min(LEAST_DENOMINATOR)  # sums grow: see the twin
        sum_1AJV, norm_1AJ = sum_1AJV / largest_1A1[..., None], norm_1AJ / largest_1A1
        rotated_1AJS, plain_1AJS = self._features(self.query_norm(self._heads(self.query(h_1D1S))))
        y_1AVS = sum_1AJV.transpose(2, 3) @ rotated_1AJS
        least_1A11 = LEAST_DENOMINATOR / largest_1A1[..., None]
        denominator_1A1S = torch.maximum(norm_1AJ[:, :, None] @ plain_1AJS, least_1A11)
        return (y_1AVS / denominator_1A1S).reshape(h_1D1S.shape)

    def read(self, h_1D1S: Tensor, past_1AXJ: Tensor | None) -> Tensor:
        """Return the same in float16 throughout, of sums that the host keeps.

        Args:
            h_1D1S: The chunk.
            past_1AXJ: S transposed, z and the chunk's share (1, A, K + 2, K), the first two already times the share; or
                nothing. The share of a head is one number, so S and z go on in one proportion, and their ratio stays.
        """
        sums_1AXJ = self.new_sums(h_1D1S)
        if past_1AXJ is None:
            sums_1AXJ = sums_1AXJ * largest_share(self.grid[0])
        else:
            past_1AXJ, share_1A1J = torch.split(past_1AXJ, [sums_1AXJ.shape[2], 1], dim=2)
            sums_1AXJ = past_1AXJ + share_1A1J * sums_1AXJ
        rotated_1AJS, plain_1AJS = self._features(self.query_norm(self._heads(self.query(h_1D1S))))
        channels = sums_1AXJ.shape[3]
        if self.rope_order == "pre":  # one product for both
            y_1AVS, denominator_1A1S = torch.split(sums_1AXJ @ rotated_1AJS, [channels, 1], dim=2)
        else:
            sum_1AVJ, norm_1A1J = torch.split(sums_1AXJ, [channels, 1], dim=2)
            y_1AVS, denominator_1A1S = sum_1AVJ @ rotated_1AJS, norm_1A1J @ plain_1AJS
        return (y_1AVS / denominator_1A1S.clamp_min(LEAST_HALF)).reshape(h_1D1S.shape)

    def new_sums(self, h_1D1S: Tensor) -> Tensor:
        """Return S transposed and z over the chunk's tokens (1, A, K + 1, K): products with values, and with ones."""
        frame_tokens = self.grid[1] * self.grid[2]
        rotated_1AJS, plain_1AJS = self._features(self.key_norm(self._heads(self.key(h_1D1S))))
        value_1AVS = self._heads(self.value(h_1D1S))
        ones_1A1S = torch.ones(1, self.heads, 1, value_1AVS.shape[3], dtype=value_1AVS.dtype)
        part_1ASJ = (rotated_1AJS / frame_tokens).transpose(2, 3)
        if self.rope_order == "pre":
            return torch.cat((value_1AVS, ones_1A1S), dim=2) @ part_1ASJ
        norm_1A1J = ones_1A1S @ (plain_1AJS / frame_tokens).transpose(2, 3)
        return torch.cat((value_1AVS @ part_1ASJ, norm_1A1J), dim=2)

    def chunk_sums(self, h_1D1S: Tensor) -> tuple[Tensor, Tensor]:
        """Return S and z over the chunk's tokens."""
        frame_tokens = self.grid[1] * self.grid[2]
        rotated_1AJS, plain_1AJS = self._features(self.key_norm(self._heads(self.key(h_1D1S))))
        norm_1AJ = (plain_1AJS / frame_tokens).sum(dim=3)
        value_1AVS = self._heads(self.value(h_1D1S))
        return (rotated_1AJS / frame_tokens) @ value_1AVS.transpose(2, 3), norm_1AJ

    def _chunks(self, past: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return S and z of every chunk that is remembered apart, or the ones of all."""
        if past["sum"].shape[1] == self.heads:
            return [(past["sum"], past["norm"])]
        sums, norms = (torch.split(past[name], self.heads, dim=1) for name in ("sum", "norm"))
        return list(zip(sums, norms, strict=True))

    def _features(self, x_1AKS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the numerator and those of the denominator."""
        if self.rope_order == "pre":
            phi_1AJS: Tensor = self.feature_map(rotate(x_1AKS, self.grid, first_frame=None))
            return phi_1AJS, phi_1AJS
        phi_1AJS = self.feature_map(x_1AKS)
        return rotate(phi_1AJS, self.grid, first_frame=None), phi_1AJS

    def _heads(self, x_1D1S: Tensor) -> Tensor:
        return x_1D1S.reshape(1, self.heads, x_1D1S.shape[1] // self.heads, -1)


class ChannelsFirstSoftplus(nn.Module):
    """The learned map of every head as one convolution with a group per head, then softplus, which is written out."""

    def __init__(self, original: SoftplusMap) -> None:
        super().__init__()
        self.weight_AKK = parameter(original.weight_AKK.transpose(1, 2).flatten(0, 1)[:, :, None, None])
        self.bias_AK = parameter(original.bias_AK.flatten())

    def forward(self, x_1AKS: Tensor) -> Tensor:
        """Return positive features of the same shape."""
        x_1D1S = x_1AKS.reshape(1, -1, 1, x_1AKS.shape[3])
        y_1D1S = functional.conv2d(x_1D1S, self.weight_AKK, self.bias_AK, groups=x_1AKS.shape[1])
        return softplus(y_1D1S).reshape(x_1AKS.shape)


class ChannelsFirstLocal(nn.Module):
    """The depthwise convolution, causal in time, and the mixing of channels.

    Exporters make one grouped 2-D convolution of it: all views around it are then joined.
    """

    def __init__(self, original: LocalMixing, frames: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.reach, self.frames, self.grid = original.reach, frames, grid
        self.depthwise, self.mix = original.depthwise, Projection(original.mix)

    def forward(self, h_1D1S: Tensor, past: Mapping[str, Tensor]) -> Tensor:
        """Return the mixture of every token's neighbours in its frame and the frames just before it."""
        h_1DTG = torch.cat((past["tail"], self.on_frames(h_1D1S)), dim=2)
        y_1DTHW = self.depthwise(torch.unflatten(h_1DTG, 3, self.grid))
        y_1D1S: Tensor = self.mix(y_1DTHW.reshape(h_1D1S.shape))
        return y_1D1S

    def on_frames(self, h_1D1S: Tensor) -> Tensor:
        """Return (1, D, T, G)."""
        return h_1D1S.reshape(1, h_1D1S.shape[1], self.frames, -1)
