"""How good a trained model is, in figures: the content of a run's judgement.json, which needs no torch to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from s2search.document import Document

#: Bands of the noise level, each from its lower end to below the next one's.
BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """What there is in a band of noise levels: the two ends, samples, mean losses, and what else the trainer judges."""

    low: float
    high: float
    samples: int
    loss: float
    blind: float
    also: dict[str, float] = {}


class JudgedPart(msgspec.Struct, frozen=True, kw_only=True):
    """How good a model is on a part of the data.

    Attributes:
        name: `train`, `held-out`, or a further data set's folder.
        samples: Each a clip, a noise level and noise.
        loss: Mean of |v_hat - v|^2.
        blind: The same for the baseline, on the same samples.
        ratio: Of the two.
        ratio_error: Standard error of that, from the paired samples.
        bands: Of the noise level.
        also: Means of what else the trainer judges, by its names.
    """

    name: str
    samples: int
    loss: float
    blind: float
    ratio: float
    ratio_error: float
    bands: tuple[Band, ...]
    also: dict[str, float] = {}

    @property
    def trained(self) -> bool:
        """Whether the model knows more than the scale of its data."""
        return self.ratio < 1


@dataclass(frozen=True, kw_only=True)
class ModelJudgement(Document):
    """How good a model is when it is trained: the content of judgement.json.

    Attributes:
        steps: That it was trained for.
        parts: Of the data.
        baseline: What `blind` is.
    """

    schema: Literal["s2search.judgement/1"] = "s2search.judgement/1"
    steps: int
    parts: tuple[JudgedPart, ...]
    baseline: str = "the velocity of independent normal numbers with the means and variances of the channels"
