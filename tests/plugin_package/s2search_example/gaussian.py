"""gaussian: a teacher in one file, without weights: what one answers who takes latents for unit Gaussian noise.

Two experts, so that everything that changes over between them can be tried; a prompt adds its length to the answer.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from s2search.network.flow import unit_gaussian_gain
from s2search.training.teachers.base import Expert, Reader, Teacher, Velocity


@dataclass(frozen=True, kw_only=True)
class Gaussian(Teacher):
    """The velocity of unit Gaussian latents; the expert of low noise levels answers `less` of it."""

    statement: ClassVar[str] = "the velocity of unit Gaussian latents"

    channels: int = 16
    boundary: float = 0.875
    guidance: float = 2.0
    shift: float = 12.0
    less: float = 0.1
    negative: str = "blurred"

    @property
    def experts(self) -> tuple[Expert, ...]:
        return (
            Expert(name="low", high=self.boundary),
            Expert(name="high", low=self.boundary, guidance=self.guidance),
        )

    @property
    def latent_channels(self) -> int:
        return self.channels

    @property
    def files(self) -> Mapping[str, str]:
        return {}

    @property
    def encoder(self) -> str:
        return "number of letters"

    def sizes(self) -> Mapping[str, int]:
        return {"low": 0, "high": 0}

    @contextmanager
    def reading(self, device: torch.device) -> Iterator[Reader]:
        yield lambda prompts: [torch.full((1, 1), len(prompt) / 100) for prompt in prompts]

    @contextmanager
    def answering(self, expert: Expert, device: torch.device, dtype: torch.dtype) -> Iterator[Velocity]:
        part = 1 - self.less * (expert.name == "low")

        def velocity(x_BCTYX: Tensor, s_B: Tensor, texts: Sequence[Tensor]) -> Tensor:
            length_B = torch.stack([text.mean() for text in texts])
            gain_B = unit_gaussian_gain(s_B)
            return part * gain_B[:, None, None, None, None] * x_BCTYX + length_B[:, None, None, None, None]

        yield velocity
