"""A layer again for running fast: the same function of the same weights, with less to launch and less to read.

What differs is exact but for the order of sums, and `tests/blocks/test_fused.py` holds each piece against its twin:
queries, keys and values come from one matrix product; a text's keys and values are made once per prompt, not at every
pass; a pass that also commits makes keys, values and sums once (`advance`). For the rest see `lcha/fused.py`.

Axes: B batch  T frames  H W token rows and columns  D channels  N tokens  A heads  K channels per head  S text tokens
      E text channels  6: see blocks/s2search_blocks/layer/module.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import Window
from s2search_blocks.layer.cross_attention import CrossAttention
from s2search_blocks.layer.module import Layer
from s2search_blocks.lcha.fused import FusedLinConvHybridAttention
from s2search_blocks.lcha.module import LinConvHybridAttention
from s2search_blocks.pieces.norms import layer_norm, modulated_norm
from s2search_blocks.softmax.fused import FusedSoftmaxAttention
from s2search_blocks.softmax.module import SoftmaxAttention

#: Keys and values of a text, both (B, S, A, K).
Words = tuple[Tensor, Tensor]


class FusedLayer(nn.Module):
    """A layer that takes a text as keys and values, and can read and commit in one pass. It shares most weights."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.table_6D, self.feed_forward = layer.table_6D, layer.feed_forward
        self.cross_attention = FusedCrossAttention(layer.cross_attention)
        self.attention = _fused(layer.attention)

    def read_text(self, text_BSE: Tensor) -> Words:
        """Return what `forward` and `advance` need of a text."""
        return self.cross_attention.keys_values(text_BSE)

    def initial_state(
        self, batch: int, grid: tuple[int, int], window: Window, device: torch.device, dtype: torch.dtype
    ) -> Any:
        """Return a state that remembers nothing yet. See the twin."""
        return self.attention.initial_state(batch, grid, window, device, dtype)  # type: ignore[operator]

    def forward(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, words: Words, state: Any = None) -> Tensor:
        """Read. See the twin."""
        shift1, scale1, *later = Layer.modulation(self.table_6D, modulation_BT6D)
        attended_BTHWD = self.attention(modulated_norm(x_BTHWD, shift1, scale1), state)
        return self._after(x_BTHWD, attended_BTHWD, words, *later)

    def advance(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, words: Words, state: Any) -> tuple[Tensor, Any]:
        """Return what `forward` and `commit` return."""
        shift1, scale1, *later = Layer.modulation(self.table_6D, modulation_BT6D)
        attended_BTHWD, state = self.attention.advance(modulated_norm(x_BTHWD, shift1, scale1), state)  # type: ignore[operator]
        return self._after(x_BTHWD, attended_BTHWD, words, *later), state

    def commit(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, state: Any) -> Any:
        """Return the state that a later chunk may see. See the twin."""
        shift, scale, *_ = Layer.modulation(self.table_6D, modulation_BT6D)
        return self.attention.commit(modulated_norm(x_BTHWD, shift, scale), state)  # type: ignore[operator]

    def _after(
        self,
        x_BTHWD: Tensor,
        attended_BTHWD: Tensor,
        words: Words,
        gate1: Tensor,
        shift2: Tensor,
        scale2: Tensor,
        gate2: Tensor,
    ) -> Tensor:
        x_BTHWD = torch.addcmul(x_BTHWD, gate1, attended_BTHWD)
        x_BTHWD = x_BTHWD + self.cross_attention(x_BTHWD, words)
        return torch.addcmul(x_BTHWD, gate2, self.feed_forward(x_BTHWD, shift2, scale2))


class FusedCrossAttention(nn.Module):
    """Attends to the keys and values of a text."""

    def __init__(self, original: CrossAttention) -> None:
        super().__init__()
        self.heads = original.heads
        self.query, self.output, self.query_norm = original.query, original.output, original.query_norm
        self.key, self.value, self.key_norm = original.key, original.value, original.key_norm

    def keys_values(self, text_BSE: Tensor) -> Words:
        """Return keys and values."""
        key_BSAK: Tensor = self.key_norm(self.key(text_BSE).unflatten(-1, (self.heads, -1)))
        return key_BSAK, self.value(text_BSE).unflatten(-1, (self.heads, -1))

    def forward(self, x_BTHWD: Tensor, words: Words) -> Tensor:
        """Normalise, attend to the text. The caller adds the result to the stream."""
        query_BNAK = self.query_norm(self.query(layer_norm(x_BTHWD)).flatten(1, 3).unflatten(-1, (self.heads, -1)))
        query_BANK, key_BASK, value_BASK = (x.transpose(1, 2) for x in (query_BNAK, *words))
        y_BANK = functional.scaled_dot_product_attention(query_BANK, key_BASK, value_BASK)
        output_BTHWD: Tensor = self.output(y_BANK.transpose(1, 2).reshape(x_BTHWD.shape))
        return output_BTHWD


def _fused(attention: nn.Module) -> nn.Module:
    if isinstance(attention, LinConvHybridAttention):
        return FusedLinConvHybridAttention(attention)
    if isinstance(attention, SoftmaxAttention):
        return FusedSoftmaxAttention(attention)
    return _OneAfterTheOther(attention)


class _OneAfterTheOther(nn.Module):
    """Any other attention, as it is."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def initial_state(self, *arguments: Any) -> Any:
        return self.attention.initial_state(*arguments)  # type: ignore[operator]

    def forward(self, h_BTHWD: Tensor, state: Any) -> Tensor:
        y_BTHWD: Tensor = self.attention(h_BTHWD, state)
        return y_BTHWD

    def commit(self, h_BTHWD: Tensor, state: Any) -> Any:
        return self.attention.commit(h_BTHWD, state)  # type: ignore[operator]

    def advance(self, h_BTHWD: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.attention(h_BTHWD, state), self.commit(h_BTHWD, state)
