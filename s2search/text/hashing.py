"""hashing: tokens from hashes of words, without weights, for runs and tests that have none."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import shake_256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search.errors import InputError
from s2search.text.base import LoadedText, TextComponent, TextEncoder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LEVELS = 2**16  # of a hashed value


@dataclass(frozen=True, kw_only=True)
class Hashing(TextEncoder):
    """Gives every word a vector of its own, the same on every machine, plus one for its position.

    Tokens have mean 0 and variance 1, as CLIP's have behind its last LayerNorm. Words keep no meaning: "cat" is as far
    from "kitten" as from "bridge", so a model trained with it knows only words it has seen. As with CLIP's tokenizer,
    case and spacing do not count, and the end mark fills the rest.

    Attributes:
        channels: Width of a token.
        tokens: Tokens of a prompt, with its begin and end mark.
    """

    channels: int = 768
    tokens: int = 77

    def __post_init__(self) -> None:
        if self.channels < 1 or self.tokens < 3:
            raise InputError(
                f"channels={self.channels}, tokens={self.tokens}",
                allowed="channels from 1, tokens from 3 (a word, its begin and its end mark)",
                remedy="correct the text encoder's options",
            )

    @override
    def load(self, device: torch.device, dtype: torch.dtype) -> LoadedText:
        return _LoadedHashing(self, device, dtype)

    @override
    def component(self) -> TextComponent:
        raise InputError(
            f"the text encoder {self.name!r} needs no package: its tokens are computed from the words",
            remedy="export the step and the decoder alone",
        )


class _LoadedHashing(LoadedText):
    def __init__(self, config: Hashing, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        self._position_SE = np.stack([_hashed(f"position {place}", config.channels) for place in range(config.tokens)])

    @override
    def encode(self, prompts: Sequence[str]) -> Tensor:
        import torch

        config = self._config
        text_BSE = np.empty((len(prompts), config.tokens, config.channels), np.float32)
        for text_SE, prompt in zip(text_BSE, prompts, strict=True):
            symbols = ["begin", *(f"word {word}" for word in words(prompt)[: config.tokens - 2])]
            symbols += ["end"] * (config.tokens - len(symbols))
            vector = {symbol: _hashed(symbol, config.channels) for symbol in set(symbols)}
            # Whole numbers up to here, and one product: every machine rounds alike.
            text_SE[:] = (np.stack([vector[symbol] for symbol in symbols]) + self._position_SE) * _SCALE
        return torch.from_numpy(text_BSE).to(self._device, self._dtype)


def words(prompt: str) -> list[str]:
    """Return the words and marks of a prompt in lower case.

    >>> words("A  cat, É!")
    ['a', 'cat', ',', 'é', '!']
    """
    return re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFC", prompt).lower())


def _hashed(symbol: str, channels: int) -> NDArray[np.int64]:
    """Return odd whole numbers, evenly spread around 0: exact on every machine, unlike a normal deviate's logarithm."""
    digest = shake_256(symbol.encode("utf-8", "surrogatepass")).digest(2 * channels)
    return 2 * np.frombuffer(digest, "<u2").astype(np.int64) - (_LEVELS - 1)


#: From the sum of two hashed values, each of variance (levels^2 - 1) / 3, to a variance of 1.
_SCALE = 1 / math.sqrt(2 * (_LEVELS**2 - 1) / 3)
