"""Softmax attention with channels before tokens. Its twin is in `blocks/s2search_blocks/softmax/module.py`.

Axes: D channels  S tokens  A heads  K channels per head  N queries  M keys  R slots of the ring (frames)  T frames
      G tokens of a frame on the grid of keys
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import KeptRing, Window
from s2search_blocks.pieces.channels_first.attention import attended, heads
from s2search_blocks.pieces.channels_first.norms import HeadNorm
from s2search_blocks.pieces.channels_first.projection import Projection, padded_to_even
from s2search_blocks.pieces.channels_first.rotary import rotate
from s2search_blocks.pieces.channels_first.window import remembered
from s2search_blocks.softmax.module import SoftmaxAttention

State = dict[str, Tensor]


class ChannelsFirstSoftmaxAttention(nn.Module):
    """Scaled dot-product attention as matrix products whose arguments are transposed inside, one for all heads.

    Attributes:
        state: A full ring of nothing: `keys` and `values` (1, D, R, G).
        reads_bias: It must know which frames of the ring are there.
        kept: The ring, where the host keeps it.
    """

    reads_bias = True

    def __init__(self, original: SoftmaxAttention, frames: int, grid: tuple[int, int], window: Window) -> None:
        super().__init__()
        self.heads, self.frames, self.grid, self.window = original.heads, frames, grid, window
        self.query_stride, self.key_stride = original.query_stride, original.key_stride
        self.query, self.key = Projection(original.query), Projection(original.key)
        self.value, self.output = Projection(original.value), Projection(original.output)
        self.query_norm, self.key_norm = HeadNorm(original.query_norm), HeadNorm(original.key_norm)
        self.cell = self.key_stride // self.query_stride
        self.key_grid = (-(-grid[0] // self.cell), -(-grid[1] // self.cell))
        self.slots = (window.frames or 0) + window.sink_frames
        size = (1, original.query.out_features, self.slots, self.key_grid[0] * self.key_grid[1])
        self.state = {name: original.query.weight.new_zeros(size) for name in ("keys", "values")}
        self.kept = (KeptRing(frame_tokens=size[3]),)

    def forward(self, h_1D1S: Tensor, past: Mapping[str, Tensor] | None) -> Tensor:
        """Attend to the chunk's frames, and with a past to the ring's."""
        return self._attended(h_1D1S, past, None if past is None else self._bias(past["bias"]))

    def read(self, h_1D1S: Tensor, given: Mapping[str, Tensor] | None) -> Tensor:
        """Attend to the chunk's frames and to the ring that the host gives."""
        return self._attended(h_1D1S, given, None if given is None else given["bias"])

    def new(self, h_1D1S: Tensor) -> State:
        """Return the chunk's raw keys and values (1, D, 1, T G)."""
        c_1D1S = self._on_key_grid(h_1D1S)
        return {"keys": self._key(c_1D1S).reshape(c_1D1S.shape), "values": self.value(c_1D1S)}

    def _attended(self, h_1D1S: Tensor, past: Mapping[str, Tensor] | None, bias_111M: Tensor | None) -> Tensor:
        c_1D1S = self._on_key_grid(h_1D1S)
        key_1AKM, value_1AKM = self._key(c_1D1S), heads(self.value(c_1D1S), self.heads)
        slots = 0
        if past is not None:
            slots = self.slots
            key_1AKM = torch.cat((heads(past["keys"], self.heads), key_1AKM), dim=3)
            value_1AKM = torch.cat((heads(past["values"], self.heads), value_1AKM), dim=3)
        key_1AKM = rotate(key_1AKM, (slots + self.frames, *self.key_grid), first_frame=0, stride=self.key_stride)
        query_1AKN = heads(self.query(h_1D1S), self.heads)
        query_1AKN = rotate(
            self.query_norm(query_1AKN, query_1AKN.shape[2] ** -0.5),
            (self.frames, *self.grid),
            first_frame=slots,
            stride=self.query_stride,
        )
        y_1AKN = attended(query_1AKN, key_1AKM, value_1AKM, bias_111M)
        y_1D1S: Tensor = self.output(y_1AKN.reshape(h_1D1S.shape))
        return y_1D1S

    def commit(self, h_1D1S: Tensor, past: Mapping[str, Tensor]) -> State:
        """Return the ring with this chunk's raw keys and values."""
        c_1D1S = self._on_key_grid(h_1D1S)
        new = {"keys": self._key(c_1D1S), "values": self.value(c_1D1S)}
        shape, sinks = self.state["keys"].shape, self.window.sink_frames
        return {
            name: remembered(past[name], x.reshape(1, shape[1], self.frames, shape[3]), sinks, past.get("full"))
            for name, x in new.items()
        }

    def _key(self, c_1D1S: Tensor) -> Tensor:
        key_1AKM: Tensor = self.key_norm(heads(self.key(c_1D1S), self.heads))
        return key_1AKM

    def _on_key_grid(self, h_1D1S: Tensor) -> Tensor:
        if self.cell == 1:
            return h_1D1S
        channels = h_1D1S.shape[1]
        h_1DRW = padded_to_even(h_1D1S.reshape(1, channels, -1, self.grid[1]), self.frames)
        return functional.avg_pool2d(h_1DRW, self.cell).reshape(1, channels, 1, -1)

    def _bias(self, bias_R: Tensor) -> Tensor:
        """Return what is added to the scores of every key: that of its frame, and nothing for the chunk's own."""
        tokens = self.key_grid[0] * self.key_grid[1]
        of_ring_111M = bias_R[None, None, :, None].expand(1, 1, -1, tokens).reshape(1, 1, 1, -1)
        return functional.pad(of_ring_111M, (0, self.frames * tokens))
