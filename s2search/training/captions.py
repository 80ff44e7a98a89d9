"""Captions as tokens, encoded when they are first asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from s2search.text.base import TextEncoder

_KEPT = 4096


class Captions:
    """Tokens of captions; those asked for last are kept.

    Args:
        encoder: Makes tokens.
        device: Where they are wanted.
        dtype: Of the tokens.
    """

    def __init__(self, encoder: TextEncoder, device: torch.device, dtype: torch.dtype) -> None:
        self.encoder = encoder
        self._loaded = encoder.load(device, dtype)
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Return text_BSE."""
        if new := sorted(set(captions) - self._kept.keys()):
            self._kept.update(zip(new, self._loaded.encode(new), strict=True))
        for caption in captions:
            self._kept.move_to_end(caption)
        text_BSE = torch.stack([self._kept[caption] for caption in captions])
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return text_BSE
