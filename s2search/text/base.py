"""The contract of a text encoder: prompts become the tokens that the model's cross-attention reads.

Axes: B prompts  S tokens  E channels

A text encoder is a frozen keyword-only dataclass; its fields are its configuration, and it holds no weights. `channels`
and `tokens` are known without loading them. `load` reads the weights onto a device and returns a `LoadedText`, which
owns them until it is dropped and may be asked from one thread at a time.

`encode` gives every prompt the same number of tokens: a shorter one is padded, a longer one is cut at the limit. The
empty prompt is valid; it is the unconditional one of guidance. An answer depends on the prompt alone, not on its
neighbours in the batch, on earlier calls or on any random state, and the caller may keep it and change it. No gradient
flows through it; it may still stand in a graph that has one.

`component` says how it is exported, where it can be. Files are read from a folder that the option `folder` names: a
package keeps a copy of what is read there, and verification names the copy instead.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.errors import InputError
from s2search.registry import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class LoadedText(abc.ABC):
    """A text encoder that is ready to work."""

    @abc.abstractmethod
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return text_BSE, on the device and in the dtype that were asked for."""


@dataclass(frozen=True, kw_only=True)
class TextComponent:
    """A text encoder as exporters take it. Splitting a prompt into numbers stays with the host.

    Attributes:
        loaded: The text encoder itself, in float32 on the processor, which a package must equal.
        module: Takes ids_BS and returns the tuple (text_BSE,). All of its weights are in its attribute `model`.
        ids: Returns a prompt as ids_BS, int32, one row.
        sources: The folders that are read, each by its place in the option `folder`; `.` is that folder itself.
    """

    loaded: LoadedText
    module: nn.Module
    ids: Callable[[str], Tensor]
    sources: Mapping[str, Path] = field(default_factory=dict)

    @property
    def model(self) -> nn.Module:
        """The network; packages store its weights."""
        return self.module.get_submodule("model")


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

    def component(self) -> TextComponent:
        """Return the network as exporters take it, loaded.

        Raises:
            InputError: It has none, or does not say how it is exported, which is the default.
        """
        raise InputError(
            f"the text encoder {self.name!r} does not say how it is exported",
            remedy="export another, or let its component() return the network",
        )
