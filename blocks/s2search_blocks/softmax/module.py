"""Softmax attention over space and time, on one grid or from a fine grid to a coarse one.

Axes: B batch  T frames  H W token rows and columns (h w: of the grid of keys)  D channels  N tokens  M keys
      A heads  K channels per head
"""

from __future__ import annotations

import math
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
        past_frames = 0 if state is None else state.keys_BTHWAK.shape[1]
        key_BMAK, value_BMAK = self._keys_and_values(h_BTHWD, state)
        # Only offsets in time matter, so counting from the ring's oldest frame keeps angles small for ever.
        query_BNAK = rotate(
            self.query_norm(self._heads(self.query(h_BTHWD))),
            h_BTHWD.shape[1:4],
            first_frame=past_frames,
            stride=self.query_stride,
        )
        y_BANK = functional.scaled_dot_product_attention(
            query_BNAK.transpose(1, 2),
            key_BMAK.transpose(1, 2),
            value_BMAK.transpose(1, 2),
            attn_mask=score_bias(state, key_BMAK.shape[1]),
        )
        del query_BNAK, key_BMAK, value_BMAK
        output_BTHWD: Tensor = self.output(y_BANK.transpose(1, 2).reshape(h_BTHWD.shape))
        return output_BTHWD

    def initial_state(
        self, batch: int, grid: tuple[int, int], window: Window, device: torch.device, dtype: torch.dtype
    ) -> RingState:
        """Return a ring of no frames."""
        cell = self.key_stride // self.query_stride
        key_grid = tuple(-(-length // cell) for length in grid)
        heads = (self.heads, self.output.in_features // self.heads)
        none_BThwAK = torch.empty(batch, 0, *key_grid, *heads, device=device, dtype=dtype)
        return RingState(keys_BTHWAK=none_BThwAK, values_BTHWAK=none_BThwAK, window=window)

    def commit(self, h_BTHWD: Tensor, state: RingState) -> RingState:
        """Return the ring with this chunk appended, and without the frames between sink and window."""
        c_BThwD = self.on_key_grid(h_BTHWD)
        keys_BTHWAK = appended(state.keys_BTHWAK, self._key(c_BThwD), state.window)
        values_BTHWAK = appended(state.values_BTHWAK, self._value(c_BThwD), state.window)
        return replace(state, keys_BTHWAK=keys_BTHWAK, values_BTHWAK=values_BTHWAK)

    def _keys_and_values(self, h_BTHWD: Tensor, state: RingState | None) -> tuple[Tensor, Tensor]:
        """Return rotated keys and values of the ring and the chunk."""
        c_BThwD = self.on_key_grid(h_BTHWD)
        frames, height, width = c_BThwD.shape[1:4]
        key_BMAK = self._key(c_BThwD)
        if state is not None:
            frames += state.keys_BTHWAK.shape[1]
            key_BMAK = torch.cat((state.keys_BTHWAK.flatten(1, 3), key_BMAK), dim=1)
        key_BMAK = rotate(key_BMAK, (frames, height, width), first_frame=0, stride=self.key_stride)
        value_BMAK = self._value(c_BThwD)
        if state is not None:
            value_BMAK = torch.cat((state.values_BTHWAK.flatten(1, 3), value_BMAK), dim=1)
        return key_BMAK, value_BMAK

    def on_key_grid(self, h_BTHWD: Tensor) -> Tensor:
        """Return the input on the grid of keys and values."""
        return cell_means(h_BTHWD) if self.key_stride > self.query_stride else h_BTHWD

    def _key(self, c_BThwD: Tensor) -> Tensor:
        key_BNAK: Tensor = self.key_norm(self._heads(self.key(c_BThwD)))
        return key_BNAK

    def _value(self, c_BThwD: Tensor) -> Tensor:
        return self._heads(self.value(c_BThwD))

    def _heads(self, x_BTHWD: Tensor) -> Tensor:
        """Return (B, N, A, K): no tensor here has more than five axes, the most that Core ML takes."""
        return torch.unflatten(x_BTHWD.flatten(1, 3), -1, (self.heads, -1))


def score_bias(state: RingState | None, keys: int) -> Tensor | None:
    """Return what is added to the scores of so many keys, the ring's first (1, 1, 1, M); None where nothing is."""
    if state is None or state.bias_T is None:
        return None
    height, width = state.keys_BTHWAK.shape[2:4]
    bias_M = state.bias_T[:, None].expand(-1, height * width).flatten()
    return functional.pad(bias_M, (0, keys - len(bias_M)))[None, None, None]


def appended(past_BTHWAK: Tensor, new_BNAK: Tensor, window: Window) -> Tensor:
    """Return a ring's keys or values with those of a chunk. Put together as rows, so that six axes are only a view."""
    frame = past_BTHWAK.shape[2:]
    new_BTX = new_BNAK.reshape(new_BNAK.shape[0], -1, math.prod(frame))
    kept_BTX = remembered(past_BTHWAK.flatten(2), new_BTX, latest=window.frames, first=window.sink_frames)
    return torch.unflatten(kept_BTX, 2, frame)
