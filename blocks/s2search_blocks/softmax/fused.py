"""Softmax attention again for running fast; its twin is `module.py` beside it, whose axes these are.

P: projections that come from one grid: queries, keys and values; keys and values only, where their grid is coarser.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import RingState
from s2search_blocks.pieces.joined import joined
from s2search_blocks.pieces.rotary import rotate
from s2search_blocks.softmax.module import SoftmaxAttention, appended, score_bias

_Projections = tuple[Tensor, Tensor, Tensor, tuple[int, int, int]]


class FusedSoftmaxAttention(SoftmaxAttention):
    """Makes all that comes from one grid by one matrix product, and once where it reads and commits."""

    def __init__(self, original: SoftmaxAttention) -> None:
        nn.Module.__init__(self)
        self.heads = original.heads
        self.query_stride, self.key_stride = original.query_stride, original.key_stride
        self.output, self.query_norm, self.key_norm = original.output, original.query_norm, original.key_norm
        self.other_query = None if self.query_stride == self.key_stride else original.query
        several = (original.key, original.value)
        self.project = joined(*several) if self.other_query else joined(original.query, *several)

    def forward(self, h_BTHWD: Tensor, state: RingState | None) -> Tensor:
        """Attend. See the twin."""
        return self._attend(h_BTHWD, state, *self._projections(h_BTHWD))

    def commit(self, h_BTHWD: Tensor, state: RingState) -> RingState:
        """Return the ring with this chunk appended. See the twin."""
        return _with_chunk(state, *self._projections(h_BTHWD)[1:3])

    def advance(self, h_BTHWD: Tensor, state: RingState) -> tuple[Tensor, RingState]:
        """Return what `forward` and `commit` return."""
        projections = self._projections(h_BTHWD)
        return self._attend(h_BTHWD, state, *projections), _with_chunk(state, *projections[1:3])

    def _projections(self, h_BTHWD: Tensor) -> _Projections:
        """Return queries, keys and values, not rotated, and the frames, rows and columns of the last two."""
        c_BThwD = self.on_key_grid(h_BTHWD)
        *first, key_BMAK, value_BMAK = self._several(self.project(c_BThwD)).unbind(2)
        query_BNAK = first[0] if self.other_query is None else self._several(self.other_query(h_BTHWD))[:, :, 0]
        frames, height, width = c_BThwD.shape[1:4]
        return self.query_norm(query_BNAK), self.key_norm(key_BMAK), value_BMAK, (frames, height, width)

    def _attend(
        self,
        h_BTHWD: Tensor,
        state: RingState | None,
        query_BNAK: Tensor,
        key_BMAK: Tensor,
        value_BMAK: Tensor,
        grid: tuple[int, int, int],
    ) -> Tensor:
        past_frames = 0 if state is None else state.keys_BTHWAK.shape[1]
        if state is not None:
            key_BMAK = torch.cat((state.keys_BTHWAK.flatten(1, 3), key_BMAK), dim=1)
            value_BMAK = torch.cat((state.values_BTHWAK.flatten(1, 3), value_BMAK), dim=1)
        key_BMAK = rotate(key_BMAK, (past_frames + grid[0], *grid[1:]), first_frame=0, stride=self.key_stride)
        query_BNAK = rotate(query_BNAK, h_BTHWD.shape[1:4], first_frame=past_frames, stride=self.query_stride)
        y_BANK = functional.scaled_dot_product_attention(
            query_BNAK.transpose(1, 2),
            key_BMAK.transpose(1, 2),
            value_BMAK.transpose(1, 2),
            attn_mask=score_bias(state, key_BMAK.shape[1]),
        )
        output_BTHWD: Tensor = self.output(y_BANK.transpose(1, 2).reshape(h_BTHWD.shape))
        return output_BTHWD

    def _several(self, x_BTHWD: Tensor) -> Tensor:
        """Return (B, N, P, A, K)."""
        width = self.output.in_features // self.heads
        return torch.unflatten(x_BTHWD.flatten(1, 3), -1, (-1, self.heads, width))


def _with_chunk(state: RingState, key_BMAK: Tensor, value_BMAK: Tensor) -> RingState:
    keys_BTHWAK = appended(state.keys_BTHWAK, key_BMAK, state.window)
    values_BTHWAK = appended(state.values_BTHWAK, value_BMAK, state.window)
    return replace(state, keys_BTHWAK=keys_BTHWAK, values_BTHWAK=values_BTHWAK)
