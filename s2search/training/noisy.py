"""Noisy latents with their velocities: what a step learns from, and what a model is judged by.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s2search.network.flow import renoise, shift, velocity
from s2search.training.share import Share, generator

if TYPE_CHECKING:
    from s2search.training.data.clips import Clip, Clips, Split


@dataclass(frozen=True, kw_only=True)
class NoisyBatch:
    """Samples: clips, each with noise at a level of its own.

    Attributes:
        captions: Of the clips.
        s_B: Noise levels, in float32.
        x_BCTYX: Noisy latents.
        v_BCTYX: Their true velocities.
    """

    captions: tuple[str, ...]
    s_B: Tensor
    x_BCTYX: Tensor
    v_BCTYX: Tensor

    def to(self, device: torch.device) -> NoisyBatch:
        """Return it with its tensors on a device."""
        on = {name: getattr(self, name).to(device) for name in ("s_B", "x_BCTYX", "v_BCTYX")}
        return dataclasses.replace(self, **on)


def learned_from(clips: Clips, share: Share, a: float) -> NoisyBatch:
    """Return the samples of a step, at noise levels drawn evenly and then shifted by `a`."""
    z_BCTYX, captions = drawn_clips(clips, share)
    eps_BCTYX, s_B = share.normal("noise", z_BCTYX.shape[1:]), levels(share, a)
    return NoisyBatch(
        captions=captions,
        s_B=s_B,
        x_BCTYX=renoise(z_BCTYX, s_B[:, None, None, None, None], eps_BCTYX),
        v_BCTYX=velocity(z_BCTYX, eps_BCTYX),
    )


def drawn_clips(clips: Clips, share: Share) -> tuple[Tensor, tuple[str, ...]]:
    """Return the latents z_BCTYX and the captions of a step's samples."""
    part = clips.of("train")
    chosen = [part[place] for place in share.clips(len(part))]
    return clips.latents([clip.id for clip in chosen]), tuple(clip.caption for clip in chosen)


def levels(share: Share, a: float) -> Tensor:
    """Return the noise levels of a step's samples, in float32."""
    return shift(share.uniform("s"), a).float()


def judged_by(clips: Clips, split: Split, numbers: Sequence[int], of: int, a: float) -> NoisyBatch:
    """Return these of so many samples: the same for whoever asks, whatever the run.

    Their noise levels are spread evenly before they are shifted by `a`: sample number n has (n + 1/2) / `of`.
    """
    chosen = judged_clips(clips, split, numbers, of)
    z_BCTYX = clips.latents([clip.id for clip in chosen])
    levels = torch.tensor([(_spread(number, of) + 0.5) / of for number in numbers], dtype=torch.float64)
    s_B = shift(levels, a).float()
    noise = [torch.randn(z_BCTYX.shape[1:], generator=generator("judge", number)) for number in numbers]
    eps_BCTYX = torch.stack(noise)
    return NoisyBatch(
        captions=tuple(clip.caption for clip in chosen),
        s_B=s_B,
        x_BCTYX=renoise(z_BCTYX, s_B[:, None, None, None, None], eps_BCTYX),
        v_BCTYX=velocity(z_BCTYX, eps_BCTYX),
    )


def judged_clips(clips: Clips, split: Split, numbers: Sequence[int], of: int) -> list[Clip]:
    """Return the clips of these of so many samples: far apart, or one after another again where there are too few."""
    part = clips.of(split)
    return [part[(number * len(part)) // of if of <= len(part) else number % len(part)] for number in numbers]


def _spread(number: int, of: int) -> int:
    """Return another order of the numbers below `of`: neighbours get noise levels far apart.

    >>> [_spread(number, 5) for number in range(5)]
    [0, 3, 1, 4, 2]
    """
    step = next(step for step in range(max(1, round(of * 0.618)), of + 2) if math.gcd(step, of) == 1)
    return number * step % of
