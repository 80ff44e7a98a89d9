"""What every block has around its attention: modulation, text cross-attention, feed-forward and residuals.

Axes: B batch  T frames  H W token rows and columns  D channels  S text tokens  E text channels
      6: shift, scale and gate of the attention, then of the feed-forward
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from s2search.block import Shape, Window
from s2search_blocks.layer.cross_attention import CrossAttention
from s2search_blocks.layer.feed_forward import FeedForward
from s2search_blocks.pieces.norms import modulated_norm


class Layer(nn.Module):
    """One transformer layer around any attention that reads `(h_BTHWD, state)` and commits the same.

    adaLN is shared by all layers (`Stem` computes it); a layer only adds a table of its own.
    """

    def __init__(self, shape: Shape, attention: nn.Module) -> None:
        super().__init__()
        self.table_6D = nn.Parameter(torch.randn(6, shape.channels) / shape.channels**0.5)
        self.attention = attention
        self.cross_attention = CrossAttention(shape.channels, shape.heads, shape.text_channels)
        self.feed_forward = FeedForward(shape.channels, shape.feed_forward)

    def forward(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, text_BSE: Tensor, state: Any = None) -> Tensor:
        """Read: return the stream after this layer, and leave the state as it is."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(self.table_6D, modulation_BT6D)
        x_BTHWD = torch.addcmul(x_BTHWD, gate1, self.attention(modulated_norm(x_BTHWD, shift1, scale1), state))
        x_BTHWD = x_BTHWD + self.cross_attention(x_BTHWD, text_BSE)
        return torch.addcmul(x_BTHWD, gate2, self.feed_forward(x_BTHWD, shift2, scale2))

    def initial_state(
        self, batch: int, grid: tuple[int, int], window: Window, device: torch.device, dtype: torch.dtype
    ) -> Any:
        """Return a state that remembers nothing yet; `grid` has the rows and columns that `forward` gets."""
        return self.attention.initial_state(batch, grid, window, device, dtype)  # type: ignore[operator]

    def commit(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, state: Any) -> Any:
        """Return the state that a later chunk may see, this chunk included."""
        shift, scale, *_ = self.modulation(self.table_6D, modulation_BT6D)
        return self.attention.commit(modulated_norm(x_BTHWD, shift, scale), state)  # type: ignore[operator]

    def fused(self) -> nn.Module:
        """Return the same layer for running fast; it shares all weights but those that it joins, which it copies."""
        from s2search_blocks.layer.fused import FusedLayer

        return FusedLayer(self)

    def channels_first(self, frames: int, grid: tuple[int, int], window: Window) -> nn.Module | None:
        """Return the same layer with channels before tokens; None where its attention has no such twin."""
        from s2search_blocks.layer.channels_first import channels_first

        return channels_first(self, frames, grid, window)

    @staticmethod
    def modulation(table_6D: Tensor, modulation_BT6D: Tensor) -> tuple[Tensor, ...]:
        """Return six tensors (B, T, 1, 1, D) in the order of the axis legend."""
        return tuple(row_BTD[:, :, None, None] for row_BTD in (modulation_BT6D + table_6D).unbind(2))
