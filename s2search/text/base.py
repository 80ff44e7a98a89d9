"""The contract of a text encoder: prompts become the tokens that the model's cross-attention reads.

Axes: B prompts  S tokens  E channels

A text encoder is a frozen keyword-only dataclass; its fields are its configuration, and it holds no weights. `channels`
and `tokens` are known without loading them. `load` reads the weights onto a device and returns a `LoadedText`, which
owns them until it is dropped and may be asked from one thread at a time.

`encode` gives every prompt the same number of tokens: a shorter one is padded, a longer one is cut at the limit. The
empty prompt is valid; it is the unconditional one of guidance. An answer depends on the prompt alone, not on its
neighbours in the batch, on earlier calls or on any random state, and the caller may keep it and change it. No gradient
flows through it; it may still stand in a graph that has one.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from s2search.registry import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class LoadedText(abc.ABC):
    """A text encoder that is ready to work."""

    @abc.abstractmethod
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return text_BSE, on the device and in the dtype that were asked for."""


class TextEncoder(Plugin, abc.ABC):
    """Makes tokens of prompts."""

    @property
    @abc.abstractmethod
    def channels(self) -> int:
        """How wide a token is."""

    @property
    @abc.abstractmethod
    def tokens(self) -> int:
        """How many tokens a prompt becomes."""

    @abc.abstractmethod
    def load(self, device: torch.device, dtype: torch.dtype) -> LoadedText:
        """Load the weights.

        Raises:
            InputError: An extra is not installed, or the weights are missing or are something else.
        """
