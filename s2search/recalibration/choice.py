"""Which of several kinds of correction a run supports: the simplest that foretells as well as the best.

Every kind is judged by the error of its predictions of layouts left out of its fit, one at a time. Chosen is the
simplest, of equally simple ones the better, that errs no more than the best by over one standard error of the paired
difference. To correct nothing must be worse by two of them, so that a table without a systematic miss keeps its rows.
Source of the rule: Hastie, Tibshirani and Friedman (2009), "The elements of statistical learning", section 7.10.

Axes: N layouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

NONE = "none"  # the kind that corrects nothing
_CERTAIN = {NONE: 2.0}  # standard errors; 1 for all others

_Array = NDArray[np.float64]
#: How often a layout pays every row.
Counts = Mapping[str, int]
#: Returns what predicts a layout, fitted to others and what they were measured at.
Fitted = Callable[[Sequence[Counts], _Array], Callable[[Counts], float]]


def cross_validated(fitted: Fitted, counts: Sequence[Counts], measured_N: _Array) -> _Array:
    """Return the relative error of every layout, foretold from all others."""
    errors = []
    for left_out, measured in enumerate(measured_N):
        others = [one for number, one in enumerate(counts) if number != left_out]
        predict = fitted(others, np.delete(measured_N, left_out))
        errors.append(predict(counts[left_out]) / measured - 1)
    return np.abs(errors)


def choose(errors: Mapping[str, _Array], size: Callable[[str], int]) -> str:
    """Return the chosen kind.

    Args:
        errors: Of every kind that was tried, by layout.
        size: Of a kind: its coefficients.
    """
    best = min(errors, key=lambda kind: float(errors[kind].mean()))
    good = [kind for kind in errors if _as_good(errors[kind], errors[best], _CERTAIN.get(kind, 1.0))]
    return min(good, key=lambda kind: (size(kind), float(errors[kind].mean())))


def _as_good(error_N: _Array, best_N: _Array, certain: float) -> bool:
    """Whether errors exceed the best ones by no more than so many standard errors of the paired difference."""
    excess_N = error_N - best_N
    return float(excess_N.mean()) <= certain * float(excess_N.std(ddof=1)) / math.sqrt(len(excess_N))
