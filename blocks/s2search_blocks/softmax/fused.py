"""Softmax attention again for running fast; its twin is `module.py` beside it, whose axes these are.

P: projections that come from one grid: queries, keys and values; keys and values only, where their grid is coarser.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2search.block import RingState
from s2search_blocks.pieces.joined import joined
from s2search_blocks.softmax.module import SoftmaxAttention, with_chunk


class FusedSoftmaxAttention(SoftmaxAttention):
    """Makes all that comes from one grid by one matrix product."""

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
        return with_chunk(state, *self._projections(h_BTHWD)[1:])

    def _projections(self, h_BTHWD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of the frames given, none of them rotated."""
        *first, key_BMAK, value_BMAK = self._several(self.project(self.on_key_grid(h_BTHWD))).unbind(2)
        query_BNAK = first[0] if self.other_query is None else self._several(self.other_query(h_BTHWD))[:, :, 0]
        return self.query_norm(query_BNAK), self.key_norm(key_BMAK), value_BMAK

    def _several(self, x_BTHWD: Tensor) -> Tensor:
        """Return (B, N, P, A, K)."""
        width = self.output.in_features // self.heads
        return torch.unflatten(x_BTHWD.flatten(1, 3), -1, (-1, self.heads, width))
