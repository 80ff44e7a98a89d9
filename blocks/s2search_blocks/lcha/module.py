"""LinConv Hybrid Attention: linear attention and a causal local convolution, mixed by a gate.

Axes: B batch  T frames  H W token rows and columns  D channels  N tokens  A heads
      K channels per head (V: of values, = K; J: of features, = K)  C chunks whose sums are kept apart, or 1

Source: S2DiT, section 3 (LCHA); arXiv 2601.12719.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import LinearState, Shape, Window
from s2search.errors import InputError
from s2search_blocks.pieces.norms import RMSNorm
from s2search_blocks.pieces.rotary import rotate
from s2search_blocks.pieces.window import remembered

if TYPE_CHECKING:
    from s2search_blocks.lcha.spec import LCHA

#: S (B, A, K, V) and z (B, A, K) of a chunk: see `LinearAttention`.
Sums = tuple[Tensor, Tensor]

# ReLU maps may all be zero; the bound then gives 0 instead of 0/0. Softplus maps stay far above it.
LEAST_DENOMINATOR = 1e-6


class LinConvHybridAttention(nn.Module):
    """Runs the linear path and the local path of one layer, or one of them where the other is ablated."""

    def __init__(self, shape: Shape, options: LCHA) -> None:
        super().__init__()
        self.channels, self.memory, self.decay = shape.channels, options.memory, options.decay
        self.linear = None if options.local_only else LinearAttention(shape, options)
        self.local = None if options.linear_only else LocalMixing(shape.channels, options.kernel)
        both = self.linear is not None and self.local is not None
        self.gate_D = nn.Parameter(torch.zeros(shape.channels)) if both and options.gate else None
        self.output = nn.Linear(shape.channels, shape.channels)

    def forward(self, h_BTHWD: Tensor, state: LinearState | None) -> Tensor:
        """Mix the frames given with what the state remembers; no state is the same as an empty one."""
        if state is None:
            grid = h_BTHWD.shape[2:4]
            state = self.initial_state(h_BTHWD.shape[0], grid, Window(frames=None), h_BTHWD.device, h_BTHWD.dtype)
        paths = [path(h_BTHWD, state) for path in (self.linear, self.local) if path is not None]
        mixed_BTHWD = self._mixed(paths)
        del paths
        output_BTHWD: Tensor = self.output(mixed_BTHWD)
        return output_BTHWD

    def initial_state(
        self, batch: int, grid: tuple[int, ...], window: Window, device: torch.device, dtype: torch.dtype
    ) -> LinearState:
        """Return sums of nothing and a tail of zeros, which is how the convolution pads the first frame."""
        sum_BCAKV = norm_BCAK = tail_BTHWD = None
        if self.linear is not None:
            exact = torch.promote_types(dtype, torch.float32)
            heads, width = self.linear.heads, self.channels // self.linear.heads
            chunks = 0 if self.memory == "window" else 1
            sum_BCAKV = torch.zeros(batch, chunks, heads, width, width, device=device, dtype=exact)
            norm_BCAK = torch.zeros(batch, chunks, heads, width, device=device, dtype=exact)
        if self.local is not None:
            tail_BTHWD = torch.zeros(batch, self.local.reach, *grid, self.channels, device=device, dtype=dtype)
        return LinearState(sum_BCAKK=sum_BCAKV, norm_BCAK=norm_BCAK, tail_BTHWD=tail_BTHWD, window=window)

    def commit(self, h_BTHWD: Tensor, state: LinearState) -> LinearState:
        """Return the state with this chunk's sums and its last frames as the tail."""
        return self._remember(h_BTHWD, None if self.linear is None else self.linear.chunk_sums(h_BTHWD), state)

    def advance(self, h_BTHWD: Tensor, state: LinearState) -> tuple[Tensor, LinearState]:
        """Return what `forward` and `commit` return, with the chunk's sums made once."""
        paths, sums = [], None
        if self.linear is not None:
            linear_BTHWD, sums = self.linear.advance(h_BTHWD, state)
            paths.append(linear_BTHWD)
        if self.local is not None:
            paths.append(self.local(h_BTHWD, state))
        output_BTHWD: Tensor = self.output(self._mixed(paths))
        return output_BTHWD, self._remember(h_BTHWD, sums, state)

    def _remember(self, h_BTHWD: Tensor, sums: Sums | None, state: LinearState) -> LinearState:
        """Return the state with a chunk whose sums are known."""
        if sums is not None:
            sum_BAKV, norm_BAK = sums
            sum_BCAKV = self._with_chunk(state.sum_BCAKK, sum_BAKV[:, None], h_BTHWD.shape[1], state)
            norm_BCAK = self._with_chunk(state.norm_BCAK, norm_BAK[:, None], h_BTHWD.shape[1], state)
            state = replace(state, sum_BCAKK=sum_BCAKV, norm_BCAK=norm_BCAK)
            if self.memory == "window" and state.window.frames is not None:
                state = replace(state, chunk_frames=h_BTHWD.shape[1])
        if self.local is not None:
            state = replace(state, tail_BTHWD=self.local.tail(h_BTHWD, state))
        return state

    def _with_chunk(self, past_BC: Tensor | None, chunk_B1: Tensor, frames: int, state: LinearState) -> Tensor:
        """Return the sums that the memory keeps once a chunk of so many frames has been added.

        Raises:
            InputError: They have another length than the chunks before, so that no number of chunks is the window.
        """
        assert past_BC is not None
        if self.memory == "running":
            return past_BC + chunk_B1
        if self.memory == "decay":
            return self.decay * (past_BC + chunk_B1)
        window = state.window
        if state.chunk_frames not in (None, frames):
            raise InputError(
                f"a chunk of {frames} frames follows chunks of {state.chunk_frames}",
                allowed="chunks of one length, where sums are kept for a window",
                remedy="keep the length, or take lcha[memory=running] or [memory=decay]",
            )
        chunks = None if window.frames is None else -(-window.frames // frames)
        return remembered(past_BC, chunk_B1, latest=chunks, first=-(-window.sink_frames // frames))

    def _mixed(self, paths: list[Tensor]) -> Tensor:
        """Return what the gate makes of the linear and the local path, or the only one."""
        if len(paths) == 1:
            return paths[0]
        linear_BTHWD, local_BTHWD = paths
        if self.gate_D is None:
            return linear_BTHWD + local_BTHWD
        return torch.lerp(local_BTHWD, linear_BTHWD, torch.sigmoid(self.gate_D))


class LinearAttention(nn.Module):
    """y_i = phi(q_i)^T S / phi(q_i)^T z with S = sum_j phi(k_j) v_j^T and z = sum_j phi(k_j), over all tokens j.

    phi(k) is divided by the tokens of one frame in both sums. The ratio is unchanged, and the sums stay within
    float16's range where a phone computes them so. Here they are float32 at least, whatever the input is.
    """

    def __init__(self, shape: Shape, options: LCHA) -> None:
        super().__init__()
        self.heads, self.rope_order = options.heads(shape), options.rope_order
        width = shape.channels // self.heads
        self.query = nn.Linear(shape.channels, shape.channels)
        self.key = nn.Linear(shape.channels, shape.channels)
        self.value = nn.Linear(shape.channels, shape.channels)
        self.query_norm = RMSNorm(width)
        self.key_norm = RMSNorm(width)
        self.feature_map = SoftplusMap(self.heads, width) if options.feature_map == "softplus" else nn.ReLU()

    def forward(self, h_BTHWD: Tensor, state: LinearState) -> Tensor:
        """Return the attention of every token over the state's tokens and the chunk's, both directions in time."""
        return self._read(h_BTHWD, self.chunk_sums(h_BTHWD), state)

    def advance(self, h_BTHWD: Tensor, state: LinearState) -> tuple[Tensor, Sums]:
        """Return what `forward` and `chunk_sums` return."""
        sums = self.chunk_sums(h_BTHWD)
        return self._read(h_BTHWD, sums, state), sums

    def _read(self, h_BTHWD: Tensor, sums: Sums, state: LinearState) -> Tensor:
        assert state.sum_BCAKK is not None
        assert state.norm_BCAK is not None
        sum_BAKV, norm_BAK = sums
        del sums
        sum_BAKV = reduce(torch.add, state.sum_BCAKK.unbind(1), sum_BAKV)
        norm_BAK = reduce(torch.add, state.norm_BCAK.unbind(1), norm_BAK)
        # Sums grow with the stream, and in float16 their products with phi(q) overflow after some 300 chunks. Over the
        # largest number of a head's z their ratio is the same, and the products stay small for ever.
        sum_BAKV = sum_BAKV / _largest(norm_BAK)[..., None, None]
        query_BNAK = self.query_norm(self._heads(self.query(h_BTHWD)))
        rotated_BNAK, plain_BNAK = self._features(query_BNAK, h_BTHWD.shape[1:4])
        del query_BNAK
        largest_BA = _largest(norm_BAK)  # again: kept until here it would be a part of the peak
        denominator_BNA = torch.einsum("bnak,bak->bna", plain_BNAK, norm_BAK / largest_BA[..., None])
        del plain_BNAK, norm_BAK
        denominator_BNA = torch.maximum(denominator_BNA, (LEAST_DENOMINATOR / largest_BA)[:, None])
        del largest_BA
        y_BNAV = torch.einsum("bnak,bakv->bnav", rotated_BNAK, sum_BAKV)
        del rotated_BNAK
        return (y_BNAV / denominator_BNA[..., None]).to(h_BTHWD.dtype).reshape(h_BTHWD.shape)

    def chunk_sums(self, h_BTHWD: Tensor) -> Sums:
        """Return S and z over the chunk's tokens."""
        grid = h_BTHWD.shape[1:4]
        frame_tokens = grid[1] * grid[2]
        rotated_BNAK, plain_BNAK = self._features(self.key_norm(self._heads(self.key(h_BTHWD))), grid)
        norm_BAK = (plain_BNAK / frame_tokens).sum(dim=1)
        del plain_BNAK
        rotated_BNAK = rotated_BNAK / frame_tokens
        value_BNAV = self._heads(self.value(h_BTHWD)).to(rotated_BNAK.dtype)
        return torch.einsum("bnak,bnav->bakv", rotated_BNAK, value_BNAV), norm_BAK

    def _features(self, x_BNAK: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the features of the numerator and those of the denominator, float32 at least.

        Rows and columns are rotated, time is not: sums cannot be rotated on, and absolute frames would leave the range
        that training saw. The convolution and the low stream's softmax attention know the order in time.
        """
        exact = torch.promote_types(x_BNAK.dtype, torch.float32)
        if self.rope_order == "pre":
            phi_BNAK: Tensor = self.feature_map(rotate(x_BNAK, grid, first_frame=None)).to(exact)
            return phi_BNAK, phi_BNAK
        phi_BNAK = self.feature_map(x_BNAK).to(exact)
        return rotate(phi_BNAK, grid, first_frame=None), phi_BNAK

    def _heads(self, x_BTHWD: Tensor) -> Tensor:
        """Return (B, N, A, K): no tensor here has more than five axes, the most that Core ML takes."""
        return torch.unflatten(x_BTHWD.flatten(1, 3), -1, (self.heads, -1))


class SoftplusMap(nn.Module):
    """phi(x) = softplus(W x + b), one learned map per head, at first the softplus of x itself."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.weight_AKK = nn.Parameter(torch.eye(width).repeat(heads, 1, 1))
        self.bias_AK = nn.Parameter(torch.zeros(heads, width))

    def forward(self, x_BNAK: Tensor) -> Tensor:
        """Return positive features of the same shape."""
        return softplus(torch.einsum("bnak,akj->bnaj", x_BNAK, self.weight_AKK) + self.bias_AK)


class LocalMixing(nn.Module):
    """A depthwise convolution over (time, rows, columns), causal in time, then a linear mixing of channels."""

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.reach = kernel[0] - 1
        self.depthwise = nn.Conv3d(
            channels, channels, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2), groups=channels
        )
        self.mix = nn.Linear(channels, channels)

    def forward(self, h_BTHWD: Tensor, state: LinearState) -> Tensor:
        """Return the mixture of every token's neighbours in its frame and the frames just before it."""
        assert state.tail_BTHWD is not None
        h_BTHWD = torch.cat((state.tail_BTHWD, h_BTHWD), dim=1)
        mixed_BTHWD: Tensor = self.mix(self.depthwise(h_BTHWD.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1))
        return mixed_BTHWD

    def tail(self, h_BTHWD: Tensor, state: LinearState) -> Tensor:
        """Return the last frames that the next chunk's convolution reaches."""
        assert state.tail_BTHWD is not None
        return remembered(state.tail_BTHWD, h_BTHWD, latest=self.reach)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)) with its own gradient at every x, and no overflow."""
    # Written out because softplus is reported to give 0 above 10.4 on the Neural Engine (coremltools issue 2687).
    positive = functional.relu(x)
    return positive + torch.log1p(torch.exp(x - positive - positive))  # -|x|, whose own gradient at 0 is 0


def _largest(norm_BAK: Tensor) -> Tensor:
    """Return the largest number of every head's z (B, A)."""
    return norm_BAK.amax(dim=-1).clamp_min(LEAST_DENOMINATOR)
