"""What a teacher is: experts, each of which answers with a velocity in a band of noise levels.

A teacher plugin is configuration (`local[folder=DIR]`, `wan22[folder=DIR]`); making one loads nothing. What is large
is in memory one after another: `reading` holds what encodes prompts, `answering` one expert. The teacher answers for a
prompt as it is; guidance, which needs a second answer, is made of both by who asks (`asked`).

Source: S2DiT, section 4.2 (offline distillation: answers are computed once); Wan Team 2025, "Wan", and Wan 2.2's model
card (two experts, which change over at a noise level); Ho and Salimans, "Classifier-Free Diffusion Guidance" (2022).

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from s2search.border.regular_file import open_regular
from s2search.errors import InputError
from s2search.registry import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: How two answers become one; another convention, c + g (c - u), has w = g + 1 and is converted by who states it.
Convention = Literal["u + w (c - u)"]
CONVENTION: Convention = "u + w (c - u)"

#: Gives a prompt's tokens `text_SE`, without padding, for each of some prompts.
Reader = Callable[[Sequence[str]], list["Tensor"]]

#: Gives `v_BCTYX` of noisy latents `x_BCTYX` at noise levels `s_B` (float32), with a prompt's tokens for each.
Velocity = Callable[["Tensor", "Tensor", Sequence["Tensor"]], "Tensor"]


class Expert(msgspec.Struct, frozen=True, kw_only=True):
    """A network of a teacher, and where it answers.

    Attributes:
        name: Of the network.
        low: The lowest noise level that is its own, 0 to 1.
        high: The next expert's lowest; 1 is the highest one's.
        guidance: w of `u + w (c - u)`; at 1 it is not asked about the negative prompt.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    guidance: float = 1.0

    def answers(self, s: float) -> bool:
        """Return whether a noise level is its own."""
        return self.low <= s < self.high or s == self.high == 1


class Teacher(Plugin, abc.ABC):
    """Configuration of a teacher."""

    #: What it is: one line.
    statement: ClassVar[str]

    #: How far its noise levels are pushed towards 1 as it samples: `shift(U, a)`.
    shift: float

    #: What guidance leads away from.
    negative: str

    @property
    @abc.abstractmethod
    def experts(self) -> tuple[Expert, ...]:
        """Its networks, from the lowest noise levels to the highest; together they answer from 0 to 1."""

    @property
    @abc.abstractmethod
    def latent_channels(self) -> int:
        """Of the latents that it denoises."""

    @property
    @abc.abstractmethod
    def files(self) -> Mapping[str, str]:
        """A hash of every file that its answers depend on, by its place in the folder.

        Raises:
            InputError: One is not there, or cannot be read.
        """

    @property
    @abc.abstractmethod
    def encoder(self) -> str:
        """What encodes its prompts, in words and with a hash where it has weights."""

    @property
    def codec_digest(self) -> str:
        """The digest of the codec whose latents it denoises; empty where it does not know."""
        return ""

    @property
    def revision(self) -> str:
        """What its folder says of its version; empty where it says nothing."""
        return ""

    @abc.abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Return how many parameters each of its networks has: its experts by their names, and what reads prompts."""

    @abc.abstractmethod
    def reading(self, device: torch.device) -> AbstractContextManager[Reader]:
        """Hold what encodes prompts.

        Raises:
            InputError: Weights are missing, or are something else.
        """

    @abc.abstractmethod
    def answering(self, expert: Expert, device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Velocity]:
        """Hold one expert. It answers in float32, whatever it computes in.

        Raises:
            InputError: Weights are missing, or are something else.
        """


def asked(velocity: Velocity, x: Tensor, s_B: Tensor, texts: Sequence[Tensor], negative: Tensor, w: float) -> Tensor:
    """Return an expert's guided velocity in float32: `u + w (c - u)`, c with the prompts and u with the negative one.

    Args:
        velocity: Of the expert.
        x: Noisy latents, x_BCTYX.
        s_B: Noise levels.
        texts: Tokens of each sample's prompt.
        negative: Tokens of the negative prompt.
        w: The expert's guidance; at 1 the negative prompt is not asked about.
    """
    from s2search.network.flow import guided

    c = velocity(x, s_B, texts).float()
    return c if w == 1 else guided(velocity(x, s_B, [negative] * len(texts)).float(), c, w)


def check_experts(experts: Sequence[Expert]) -> None:
    """Raise unless experts answer at every noise level, each at its own, with guidance that means something.

    Raises:
        InputError: A level has no expert or two, or a guidance is not finite or below 1.
    """
    ends = [0.0, *(expert.high for expert in experts)]
    if not experts or ends[-1] != 1 or any(one.low != end or one.high <= end for one, end in zip(experts, ends)):  # noqa: B905
        parts = ", ".join(f"{one.name} from {one.low:g} to {one.high:g}" for one in experts) or "none"
        raise InputError(f"the experts are {parts}", allowed="from 0 to 1, one after another", remedy="correct them")
    for expert in experts:
        if not 1 <= expert.guidance < float("inf"):
            raise InputError(
                f"the guidance of {expert.name} is {expert.guidance:g}",
                allowed=f"1 or more: w of {CONVENTION}",
                remedy="add 1 to a g of c + g (c - u)",
            )


def hashed_files(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the hash of each file of a folder, by its place in it.

    Raises:
        InputError: One is not there, or cannot be read.
    """
    found = {}
    for name in names:
        try:
            with open_regular(folder / name) as file:
                found[name] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except OSError as error:
            raise InputError(
                f"the teacher's {name!r} in {str(folder)!r} cannot be read: {error.strerror}", remedy="restore it"
            ) from error
    return found
