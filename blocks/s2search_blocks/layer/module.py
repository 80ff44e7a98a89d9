"""What every block has around its attention: modulation, text cross-attention, feed-forward and residuals.

Axes: B batch  T frames  H W token rows and columns  D channels  S text tokens  E text channels
      6: shift, scale and gate of the attention, then of the feed-forward
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from s2search.block import Shape, Window
from s2search_blocks.layer.cross_attention import CrossAttention, Words
from s2search_blocks.layer.feed_forward import FeedForward
from s2search_blocks.pieces.norms import modulated_norm


class Layer(nn.Module):
    """One transformer layer around any attention that reads `(h_BTHWD, state)`, and commits and advances the same.

    adaLN is shared by all layers (`Stem` computes it); a layer only adds a table of its own. What it does keeps the
    contract of a block's module: see `s2search.block.Block`.
    """

    def __init__(self, shape: Shape, attention: nn.Module) -> None:
        super().__init__()
        self.table_6D = nn.Parameter(torch.randn(6, shape.channels) / shape.channels**0.5)
        self.attention = attention
        self.cross_attention = CrossAttention(shape.channels, shape.heads, shape.text_channels)
        self.feed_forward = FeedForward(shape.channels, shape.feed_forward)

    def around(self, attention: nn.Module) -> Layer:
        """Return this layer around another attention; all other weights are shared."""
        layer = Layer.__new__(Layer)
        nn.Module.__init__(layer)
        layer.training, layer.table_6D, layer.attention = self.training, self.table_6D, attention
        layer.cross_attention, layer.feed_forward = self.cross_attention, self.feed_forward
        return layer

    def forward(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, text: Tensor | Words, state: Any = None) -> Tensor:
        """Read: return the stream after this layer, and leave the state as it is."""
        shift, scale, gate, *later = self._modulation(modulation_BT6D)
        # Nested, so that nothing here holds what the attention gave while the rest of the layer runs.
        return self._after(
            torch.addcmul(x_BTHWD, gate, self.attention(modulated_norm(x_BTHWD, shift, scale), state)), text, later
        )

    def initial_state(
        self, batch: int, grid: tuple[int, int], window: Window, device: torch.device, dtype: torch.dtype
    ) -> Any:
        """Return a state that remembers nothing yet; `grid` has the rows and columns that `forward` gets."""
        return self.attention.initial_state(batch, grid, window, device, dtype)  # type: ignore[operator]

    def commit(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, state: Any) -> Any:
        """Return the state that a later chunk may see, this chunk included."""
        shift, scale, *_ = self._modulation(modulation_BT6D)
        return self.attention.commit(modulated_norm(x_BTHWD, shift, scale), state)  # type: ignore[operator]

    def advance(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, text: Tensor | Words, state: Any) -> tuple[Tensor, Any]:
        """Return what `forward` and `commit` return; keys, values and sums are made once."""
        shift, scale, gate, *later = self._modulation(modulation_BT6D)
        y_BTHWD, state = self.attention.advance(modulated_norm(x_BTHWD, shift, scale), state)  # type: ignore[operator]
        return self._after(torch.addcmul(x_BTHWD, gate, y_BTHWD), text, later), state

    def read_text(self, text_BSE: Tensor) -> Words:
        """Return what may take a text's place, made once for as long as the text is the same."""
        return self.cross_attention.read_text(text_BSE)

    def _after(self, x_BTHWD: Tensor, text: Tensor | Words, later: Sequence[Tensor]) -> Tensor:
        """Return what comes after the attention: the text and the feed-forward."""
        shift, scale, gate = later
        x_BTHWD = x_BTHWD + self.cross_attention(x_BTHWD, text)
        return torch.addcmul(x_BTHWD, gate, self.feed_forward(x_BTHWD, shift, scale))

    def _modulation(self, modulation_BT6D: Tensor) -> tuple[Tensor, ...]:
        """Return six tensors (B, T, 1, 1, D) in the order of the axis legend."""
        return tuple(row_BTD[:, :, None, None] for row_BTD in (modulation_BT6D + self.table_6D).unbind(2))
