"""Softmax attention with channels before tokens: what a layer's attention and its reading of a text share.

Axes: D channels  S tokens  A heads  K channels per head  N queries  M keys
"""

from __future__ import annotations

import torch
from torch import Tensor


def attended(query_1AKN: Tensor, key_1AKM: Tensor, value_1AKM: Tensor, bias_111M: Tensor | None) -> Tensor:
    """Return (1, A, K, N) for queries that are scaled."""
    score_1ANM = query_1AKN.transpose(2, 3) @ key_1AKM
    if bias_111M is not None:
        score_1ANM = score_1ANM + bias_111M
    return value_1AKM @ torch.softmax(score_1ANM, dim=-1).transpose(2, 3)


def heads(x_1DRG: Tensor, count: int) -> Tensor:
    """Return (1, A, K, S)."""
    return x_1DRG.reshape(1, count, x_1DRG.shape[1] // count, -1)
