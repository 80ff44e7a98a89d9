"""Bootstrap errors of medians: how far a median would move if the same run were made again.

Source: Efron and Tibshirani (1993), "An introduction to the bootstrap", algorithm 6.1 (standard error).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_RESAMPLES = 1000
_SEED = 0  # the same samples give the same error


def median_error(values: ArrayLike) -> float:
    """Return the standard error of the median, in the unit of the values; NaN where there is but one.

    >>> round(median_error([1.0, 2.0, 3.0, 4.0, 5.0]), 1)
    1.0
    >>> median_error([2.0, 2.0, 2.0])
    0.0
    """
    value_N = np.asarray(values, np.float64)
    if len(value_N) < 2:
        return float("nan")
    draws = np.random.default_rng(_SEED).integers(len(value_N), size=(_RESAMPLES, len(value_N)))
    return float(np.median(value_N[draws], axis=1).std(ddof=1))
