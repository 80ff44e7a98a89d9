"""One training under several seeds: a design's figure is their mean, with an error that has what seeds change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from s2search.errors import QualityError
from s2search.quality.base import ERRORS_TO_DIFFER
from s2search.quality.figure import Figure

#: Student's quantile at 97.5 % by degrees of freedom, from 1; 1.96 beyond. Source: Student (1908), as tabulated since.
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def across_seeds(groups: Sequence[Sequence[Figure]]) -> tuple[Figure, ...]:
    """Return one figure for each design, of its models under their seeds.

    What seeds change is taken to be alike in all designs: its variance is pooled over them, and a design of one model
    has it too. Its part of the error is widened by Student's quantile, as the variance is one of few. The error of the
    clips does not shrink with the number of models, which were held against the same clips.

    Raises:
        QualityError: No design has two models.
    """
    means = [math.fsum(one.value for one in group) / len(group) for group in groups]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        raise QualityError(
            "what seeds change is not known: no design has two models",
            remedy="measure further seeds, or leave out seeds",
        )
    squares = math.fsum((one.value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for one in group)
    quantile = T_975[freedom - 1] if freedom <= len(T_975) else ERRORS_TO_DIFFER
    spread = math.sqrt(squares / freedom) * quantile / ERRORS_TO_DIFFER
    return tuple(
        dataclasses.replace(
            group[0],
            value=mean,
            error=math.hypot(spread / math.sqrt(len(group)), _clips(group)),
            source=" and ".join(one.source for one in group),
        )
        for group, mean in zip(groups, means, strict=True)
    )


def _clips(group: Sequence[Figure]) -> float:
    return math.sqrt(math.fsum((one.error or 0.0) ** 2 for one in group) / len(group))
