"""A teacher that is asked again and again: while a student trains, and not once for a cache.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from s2search.training.teachers.base import Teacher, Velocity, asked


class HeldTeacher:
    """A teacher whose parts stay in memory once they were asked, for as long as this is kept.

    Args:
        teacher: Its guidance is its experts' own.
        device: Of its networks.
        dtype: In which they compute.
    """

    def __init__(self, teacher: Teacher, device: torch.device, dtype: torch.dtype) -> None:
        self.teacher, self.device, self._dtype = teacher, device, dtype
        self._open, self._experts, self._texts = ExitStack(), dict[str, Velocity](), dict[str, Tensor]()
        self._read = self._open.enter_context(teacher.reading(device))

    def velocity(self, x_BCTYX: Tensor, s_B: Tensor, captions: Sequence[str]) -> Tensor:
        """Return the guided velocity of noisy latents, each by the expert of its noise level, in float32."""
        found = torch.empty_like(x_BCTYX, dtype=torch.float32)
        negative, *texts = self._tokens([self.teacher.negative, *captions])
        for expert in self.teacher.experts:
            chosen = [number for number, s in enumerate(s_B.tolist()) if expert.answers(s)]
            if not chosen:
                continue
            if expert.name not in self._experts:
                held = self.teacher.answering(expert, self.device, self._dtype)
                self._experts[expert.name] = self._open.enter_context(held)
            answer, of = self._experts[expert.name], [texts[number] for number in chosen]
            found[chosen] = asked(answer, x_BCTYX[chosen], s_B[chosen], of, negative, expert.guidance).to(found.device)
        return found

    def _tokens(self, prompts: Sequence[str]) -> list[Tensor]:
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]:
            self._texts |= dict(zip(new, self._read(new), strict=True))
        return [self._texts[prompt] for prompt in prompts]
