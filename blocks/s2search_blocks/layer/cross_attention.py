"""Attention from video tokens to text tokens.

Axes: B batch  T frames  H W token rows and columns  D channels  N video tokens  A heads  K channels per head
      S text tokens  E text channels
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from s2search_blocks.pieces.norms import RMSNorm, layer_norm

#: Keys and values of a text, both (B, S, A, K).
Words = tuple[Tensor, Tensor]


class CrossAttention(nn.Module):
    """Keys and values come straight from text tokens; queries and keys are RMS-normalised per head."""

    def __init__(self, channels: int, heads: int, text_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(text_channels, channels)
        self.value = nn.Linear(text_channels, channels)
        self.output = nn.Linear(channels, channels)
        self.query_norm = RMSNorm(channels // heads)
        self.key_norm = RMSNorm(channels // heads)

    def read_text(self, text_BSE: Tensor) -> Words:
        """Return keys and values of a text: they may take its place."""
        key_BSAK: Tensor = self.key_norm(self.key(text_BSE).unflatten(-1, (self.heads, -1)))
        return key_BSAK, self.value(text_BSE).unflatten(-1, (self.heads, -1))

    def forward(self, x_BTHWD: Tensor, text: Tensor | Words) -> Tensor:
        """Normalise, attend to the text (B, S, E) or to its words. The caller adds the result to the stream."""
        query_BNAK = self.query_norm(self.query(layer_norm(x_BTHWD)).flatten(1, 3).unflatten(-1, (self.heads, -1)))
        # A text is read after the queries are normalised, which takes the most memory of all.
        key_BSAK, value_BSAK = self.read_text(text) if isinstance(text, Tensor) else text
        y_BANK = functional.scaled_dot_product_attention(
            query_BNAK.transpose(1, 2), key_BSAK.transpose(1, 2), value_BSAK.transpose(1, 2)
        )
        del query_BNAK
        output_BTHWD: Tensor = self.output(y_BANK.transpose(1, 2).reshape(x_BTHWD.shape))
        return output_BTHWD
