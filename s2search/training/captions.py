"""Captions as tokens, encoded when they are first asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s2search import registry
from s2search.errors import InputError

if TYPE_CHECKING:
    from s2search.preset import Preset
    from s2search.text.base import TextEncoder

_KEPT = 4096


def text_encoder(given: str | TextEncoder | None, sizes: Preset) -> TextEncoder:
    """Return a text encoder by name, or itself; `hashing`, as wide as the model, where none is given.

    Raises:
        InputError: Its tokens have another width than the model reads.
    """
    text = given or f"hashing[channels={sizes.text_channels},tokens={sizes.text_tokens}]"
    encoder: TextEncoder = registry.create("texts", text) if isinstance(text, str) else text
    if encoder.channels != sizes.text_channels:
        raise InputError(
            f"tokens of {encoder.label} have {encoder.channels} channels, and the model reads {sizes.text_channels}",
            remedy="name another text encoder, or other sizes",
        )
    return encoder


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
            text_BSE, said = self._loaded.encode(new), self.encoder.tokens
            if text_BSE.shape[1] != said:
                raise InputError(
                    f"{self.encoder.label} makes {text_BSE.shape[1]} tokens of a prompt, and says that it makes {said}",
                    remedy="mend the text encoder: every prompt, in every process, has the same number",
                )
            self._kept.update(zip(new, text_BSE, strict=True))
        for caption in captions:
            self._kept.move_to_end(caption)
        text_BSE = torch.stack([self._kept[caption] for caption in captions])
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return text_BSE
