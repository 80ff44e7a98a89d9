"""Whether layouts that were held out of a fit support its correction.

Every held-out layout is foretold twice, by the old rows and by the corrected ones; its gain is the old relative error
minus the new one. A correction is supported where

    1. the median error falls, and
    2. so many layouts gain that chance alone would do it in at most one run of forty (an exact sign test).

The second says as well that the lower bound of the median gain lies above 0 (97.5 %, one-sided; the bound is an order
statistic). No shape of the noise is assumed, and a few contaminated layouts move neither a median nor a count.

Source: Conover (1999), "Practical nonparametric statistics", sections 3.2 and 3.4.

Axes: N held-out layouts.

Why not a bootstrap: docs/decisions/verification.md, "Held-out layouts decide".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CHANCE = 0.025  # of as many gains where a correction changes nothing


@dataclass(frozen=True, kw_only=True)
class HeldOutJudgement:
    """What held-out layouts say of a correction; gains are fractions of what a layout takes.

    Attributes:
        layouts: How many were held out.
        better: How many of them the corrected rows foretell better.
        needed: How many it takes.
        gain_median: The median gain.
        gain_least: The lower bound of the median gain (97.5 %).
        supported: Whether the correction may be written.
    """

    layouts: int
    better: int
    needed: int
    gain_median: float
    gain_least: float
    supported: bool


def judge(before_N: Sequence[float], after_N: Sequence[float]) -> HeldOutJudgement:
    """Judge a correction by the errors |foretold / measured - 1| of layouts that it was not fitted to.

    >>> judge([0.10, 0.12, 0.08, 0.11, 0.09, 0.10], [0.01, 0.02, 0.01, 0.03, 0.01, 0.02]).supported
    True
    >>> judge([0.10, 0.12, 0.08, 0.11, 0.09, 0.10], [0.01, 0.02, 0.01, 0.03, 0.10, 0.12]).supported
    False
    """
    gain_N = sorted(before - after for before, after in zip(before_N, after_N, strict=True))
    needed = gains_needed(len(gain_N))
    better = sum(gain > 0 for gain in gain_N)
    falls = statistics.median(after_N) < statistics.median(before_N)
    return HeldOutJudgement(
        layouts=len(gain_N),
        better=better,
        needed=needed,
        gain_median=statistics.median(gain_N),
        gain_least=gain_N[max(0, len(gain_N) - needed)],
        supported=falls and better >= needed,
    )


def gains_needed(layouts: int) -> int:
    """Return the least count of gains that has at most `CHANCE` where gain and loss are equally likely.

    More than there are layouts where even all of them would prove nothing.

    >>> [gains_needed(layouts) for layouts in (5, 10, 20)]
    [6, 9, 15]
    """
    tail, count = 0, layouts
    while (tail := tail + math.comb(layouts, count)) <= CHANCE * 2**layouts:
        count -= 1
    return count + 1
