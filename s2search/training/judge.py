"""How good a velocity is, in parts of the data and bands of noise, beside what one knows without looking.

The blind baseline takes every number of a latent for an independent normal one with its channel's mean and variance,
and answers the velocity that this implies: a model that is not better has learned the scale of its data and no more.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s2search.training.data.inspect import channel_moments
from s2search.training.judgement import BANDS, Band, JudgedPart

if TYPE_CHECKING:
    from s2search.training.data.clips import Clips

#: Clips from whose latents the baseline's means and variances are taken, at most.
_FITTED = 4096


@dataclass(frozen=True, kw_only=True)
class Blind:
    """The velocity of independent normal latents: E[eps - z | x_s] for z ~ N(mean, variance) per channel.

    Attributes:
        mean_C111: Of each channel.
        variance_C111: Of each channel.
    """

    mean_C111: Tensor
    variance_C111: Tensor

    @classmethod
    def fitted(cls, clips: Clips) -> Blind:
        """Return the baseline of what there is to train on."""
        mean_C, std_C = (torch.tensor(numbers, dtype=torch.float64) for numbers in channel_moments(clips, _FITTED))
        return cls(mean_C111=mean_C[:, None, None, None], variance_C111=std_C.square()[:, None, None, None])

    def velocity(self, x_BCTYX: Tensor, s_B: Tensor) -> Tensor:
        """Return v_BCTYX in float64; linear regression of noise and latents on their sum (1 - s) z + s eps."""
        x, s = x_BCTYX.double(), s_B.double()[:, None, None, None, None]
        keep = 1 - s
        off = (x - keep * self.mean_C111) / (keep.square() * self.variance_C111 + s.square()).clamp_min(1e-12)
        return s * off - (self.mean_C111 + keep * self.variance_C111 * off)


def parts(measured: Mapping[str, Tensor], also: Sequence[str] = ()) -> tuple[JudgedPart, ...]:
    """Return what tables say of each part.

    Args:
        measured: Noise level, loss and baseline's loss of each sample, and further numbers; a row whose noise level is
            not a number is no sample.
        also: The names of the further numbers.
    """
    return tuple(_part(name, table_NK.double(), also) for name, table_NK in measured.items())


def _part(name: str, table_NK: Tensor, also: Sequence[str]) -> JudgedPart:
    table_NK = table_NK[~table_NK[:, 0].isnan()]
    s_N, loss_N, blind_N, *further = table_NK.unbind(1)
    loss, blind = float(loss_N.mean()), float(blind_N.mean())
    ratio = loss / blind
    bands = []
    for low, high in pairwise(BANDS):
        inside_N = (s_N >= low) & ((s_N < high) | (high == BANDS[-1]))
        if count := int(inside_N.sum()):
            bands.append(
                Band(
                    low=low,
                    high=high,
                    samples=count,
                    loss=float(loss_N[inside_N].mean()),
                    blind=float(blind_N[inside_N].mean()),
                    also={key: float(one_N[inside_N].mean()) for key, one_N in zip(also, further, strict=True)},
                )
            )
    spread = float((loss_N - ratio * blind_N).std()) / blind  # the ratio of means, to first order
    return JudgedPart(
        name=name,
        samples=len(s_N),
        loss=loss,
        blind=blind,
        ratio=ratio,
        ratio_error=spread / len(s_N) ** 0.5,
        bands=tuple(bands),
        also={key: float(one_N.mean()) for key, one_N in zip(also, further, strict=True)},
    )
