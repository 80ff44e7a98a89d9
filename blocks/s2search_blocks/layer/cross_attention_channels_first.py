"""Attention to text tokens with channels before tokens. Its twin is `cross_attention.py`.

Axes: D channels  S video tokens  E text channels  W text tokens  A heads  K channels per head
"""

from __future__ import annotations

from torch import Tensor, nn

from s2search_blocks.layer.cross_attention import CrossAttention
from s2search_blocks.pieces.channels_first.attention import attended, heads
from s2search_blocks.pieces.channels_first.norms import HeadNorm, layer_norm
from s2search_blocks.pieces.channels_first.projection import Projection


class ChannelsFirstCrossAttention(nn.Module):
    """Keys and values come straight from text tokens."""

    def __init__(self, original: CrossAttention) -> None:
        super().__init__()
        self.heads = original.heads
        self.query, self.key = Projection(original.query), Projection(original.key)
        self.value, self.output = Projection(original.value), Projection(original.output)
        self.query_norm, self.key_norm = HeadNorm(original.query_norm), HeadNorm(original.key_norm)

    def forward(self, x_1D1S: Tensor, text_1E1W: Tensor) -> Tensor:
        """Normalise, attend to the text. The caller adds the result to the stream."""
        query_1AKS = heads(self.query(layer_norm(x_1D1S)), self.heads)
        query_1AKS = self.query_norm(query_1AKS, query_1AKS.shape[2] ** -0.5)
        key_1AKW = self.key_norm(heads(self.key(text_1E1W), self.heads))
        y_1AKS = attended(query_1AKS, key_1AKW, heads(self.value(text_1E1W), self.heads), None)
        y_1D1S: Tensor = self.output(y_1AKS.reshape(x_1D1S.shape))
        return y_1D1S
