"""Softmax attention over space and time, on one grid or from a fine grid to a coarse one.

Axes: B batch  T frames  H W token rows and columns (h w: of the grid of keys)  D channels  N tokens  M keys
      A heads  K channels per head
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import RingState, Shape, Window
from s2search_blocks.pieces.cells import cell_means
from s2search_blocks.pieces.norms import RMSNorm
from s2search_blocks.pieces.rotary import rotate
from s2search_blocks.pieces.window import remembered


class SoftmaxAttention(nn.Module):
    """Scaled dot-product attention with QK-norm, 3-D RoPE and a ring of past keys and values.

    Args:
        shape: Sizes; the grid and the frames do not matter.
        query_stride: High-resolution tokens per row and column step of the grid that the input comes on: 1 or 2.
        key_stride: The same for keys and values. Where it is coarser than the queries', cells are averaged first.
    """

    def __init__(self, shape: Shape, *, query_stride: int, key_stride: int) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query_stride, self.key_stride = query_stride, key_stride
        self.query = nn.Linear(shape.channels, shape.channels)
        self.key = nn.Linear(shape.channels, shape.channels)
        self.value = nn.Linear(shape.channels, shape.channels)
        self.output = nn.Linear(shape.channels, shape.channels)
        self.query_norm = RMSNorm(shape.head_channels)
        self.key_norm = RMSNorm(shape.head_channels)

    def forward(self, h_BTHWD: Tensor, state: RingState | None) -> Tensor:
        """Attend to all frames given and, with a state, to the frames that it remembers."""
        # One after the other, so that little waits beside what takes the most memory: keys, values, queries.
        c_BThwD = self.on_key_grid(h_BTHWD)
        key_BMAK = self._seen_keys(self._key(c_BThwD), h_BTHWD, state)
        value_BMAK = self._seen_values(self._value(c_BThwD), state)
        del c_BThwD
        query_BNAK = self._placed_queries(self._query(h_BTHWD), h_BTHWD, state)
        y_BANK = _attended(query_BNAK, key_BMAK, value_BMAK, state)
        del query_BNAK, key_BMAK, value_BMAK
        return self._joined_heads(y_BANK, h_BTHWD)

    def initial_state(
        self, batch: int, grid: tuple[int, int], window: Window, device: torch.device, dtype: torch.dtype
    ) -> RingState:
        """Return a ring of no frames."""
        heads = (self.heads, self.output.in_features // self.heads)
        none_BThwAK = torch.empty(batch, 0, *self._key_grid(grid), *heads, device=device, dtype=dtype)
        return RingState(keys_BTHWAK=none_BThwAK, values_BTHWAK=none_BThwAK, window=window)

    def commit(self, h_BTHWD: Tensor, state: RingState) -> RingState:
        """Return the ring with this chunk appended, and without the frames between sink and window."""
        c_BThwD = self.on_key_grid(h_BTHWD)
        return with_chunk(state, self._key(c_BThwD), self._value(c_BThwD))

    def advance(self, h_BTHWD: Tensor, state: RingState) -> tuple[Tensor, RingState]:
        """Return what `forward` and `commit` return, with keys and values made once."""
        query_BNAK, key_BMAK, value_BMAK = self._projections(h_BTHWD)
        y_BTHWD = self._attend(h_BTHWD, state, query_BNAK, key_BMAK, value_BMAK)
        return y_BTHWD, with_chunk(state, key_BMAK, value_BMAK)

    def _projections(self, h_BTHWD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of the frames given, none of them rotated."""
        c_BThwD = self.on_key_grid(h_BTHWD)
        return self._query(h_BTHWD), self._key(c_BThwD), self._value(c_BThwD)

    def _attend(
        self, h_BTHWD: Tensor, state: RingState | None, query_BNAK: Tensor, key_BMAK: Tensor, value_BMAK: Tensor
    ) -> Tensor:
        y_BANK = _attended(
            self._placed_queries(query_BNAK, h_BTHWD, state),
            self._seen_keys(key_BMAK, h_BTHWD, state),
            self._seen_values(value_BMAK, state),
            state,
        )
        return self._joined_heads(y_BANK, h_BTHWD)

    def _placed_queries(self, query_BNAK: Tensor, h_BTHWD: Tensor, state: RingState | None) -> Tensor:
        """Return queries rotated by their positions, the past before them."""
        # Only offsets in time matter, so counting from the ring's oldest frame keeps angles small for ever.
        past_frames = 0 if state is None else state.keys_BTHWAK.shape[1]
        return rotate(query_BNAK, h_BTHWD.shape[1:4], first_frame=past_frames, stride=self.query_stride)

    def _seen_keys(self, key_BMAK: Tensor, h_BTHWD: Tensor, state: RingState | None) -> Tensor:
        """Return the keys of the ring and the chunk, rotated by their positions."""
        frames, *grid = h_BTHWD.shape[1:4]
        if state is not None:
            frames += state.keys_BTHWAK.shape[1]
            key_BMAK = torch.cat((state.keys_BTHWAK.flatten(1, 3), key_BMAK), dim=1)
        return rotate(key_BMAK, (frames, *self._key_grid(grid)), first_frame=0, stride=self.key_stride)

    def _seen_values(self, value_BMAK: Tensor, state: RingState | None) -> Tensor:
        """Return the values of the ring and the chunk."""
        return value_BMAK if state is None else torch.cat((state.values_BTHWAK.flatten(1, 3), value_BMAK), dim=1)

    def _joined_heads(self, y_BANK: Tensor, h_BTHWD: Tensor) -> Tensor:
        """Return what all heads give together, in the input's shape."""
        output_BTHWD: Tensor = self.output(y_BANK.transpose(1, 2).reshape(h_BTHWD.shape))
        return output_BTHWD

    def on_key_grid(self, h_BTHWD: Tensor) -> Tensor:
        """Return the input on the grid of keys and values."""
        return cell_means(h_BTHWD) if self.key_stride > self.query_stride else h_BTHWD

    def _key_grid(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Return rows and columns of keys, for those of the stream."""
        cell = self.key_stride // self.query_stride
        return tuple(-(-length // cell) for length in grid)

    def _query(self, h_BTHWD: Tensor) -> Tensor:
        query_BNAK: Tensor = self.query_norm(self._heads(self.query(h_BTHWD)))
        return query_BNAK

    def _key(self, c_BThwD: Tensor) -> Tensor:
        key_BNAK: Tensor = self.key_norm(self._heads(self.key(c_BThwD)))
        return key_BNAK

    def _value(self, c_BThwD: Tensor) -> Tensor:
        return self._heads(self.value(c_BThwD))

    def _heads(self, x_BTHWD: Tensor) -> Tensor:
        """Return (B, N, A, K): no tensor here has more than five axes, the most that Core ML takes."""
        return torch.unflatten(x_BTHWD.flatten(1, 3), -1, (self.heads, -1))


def _attended(query_BNAK: Tensor, key_BMAK: Tensor, value_BMAK: Tensor, state: RingState | None) -> Tensor:
    """Return what every query reads of the values (B, A, N, K)."""
    query_BANK, key_BAMK, value_BAMK = (x.transpose(1, 2) for x in (query_BNAK, key_BMAK, value_BMAK))
    bias_111M = _score_bias(state, key_BMAK.shape[1])
    return functional.scaled_dot_product_attention(query_BANK, key_BAMK, value_BAMK, attn_mask=bias_111M)


def _score_bias(state: RingState | None, keys: int) -> Tensor | None:
    """Return what is added to the scores of so many keys, the ring's first (1, 1, 1, M); None where nothing is."""
    if state is None or state.bias_T is None:
        return None
    height, width = state.keys_BTHWAK.shape[2:4]
    bias_M = state.bias_T[:, None].expand(-1, height * width).flatten()
    return functional.pad(bias_M, (0, keys - len(bias_M)))[None, None, None]


def with_chunk(state: RingState, key_BMAK: Tensor, value_BMAK: Tensor) -> RingState:
    """Return the ring with a chunk's raw keys and values."""
    keys_BTHWAK = _appended(state.keys_BTHWAK, key_BMAK, state.window)
    values_BTHWAK = _appended(state.values_BTHWAK, value_BMAK, state.window)
    return replace(state, keys_BTHWAK=keys_BTHWAK, values_BTHWAK=values_BTHWAK)


def _appended(past_BTHWAK: Tensor, new_BNAK: Tensor, window: Window) -> Tensor:
    """Return a ring's keys or values with those of a chunk. Put together as rows, so that six axes are only a view."""
    frame = past_BTHWAK.shape[2:]
    new_BTX = new_BNAK.reshape(new_BNAK.shape[0], -1, math.prod(frame))
    kept_BTX = remembered(past_BTHWAK.flatten(2), new_BTX, latest=window.frames, first=window.sink_frames)
    return torch.unflatten(kept_BTX, 2, frame)
