"""How much more each contender loses than the best one, how sure that is, and what it takes to call it worse.

All contenders were trained under the same seeds, with the same order of clips and noise, and judged on the same
samples; so the difference of two is taken seed by seed and sample by sample. With d_rn the difference under seed r at
sample n, its error has two parts, which add up as variances:

- of seeds: s^2 / R of the R means over samples. Few seeds say little of s^2, so it is the larger one of the pair's own
  and of what all contenders have in common, 2 x the mean square of (contender's mean - mean of all) that is left within
  a seed, with (C - 1)(R - 1) degrees of freedom;
- of samples: those of one recording stand together. With D_n the mean over seeds less the mean of all, it is
  G / (G - 1) sum_g (sum_{n in g} D_n)^2 / N^2 over the G recordings; with one sample each, s^2 / N.

What is left of seed and sample together is in both parts, so their sum is rather too large than too small.

The best one is the best of C by what was measured, which is partly luck, and all others are held against it. So what
is called worse is behind by more than Tukey's quantile of the largest of C differences, and never by less than two
errors: of contenders that are equal, one is called worse in about five of a hundred comparisons, or less.

Source: Cameron, Gelbach and Miller, "Robust Inference with Multiway Clustering" (2011), for variances of two ways added
up; Tukey, "The Problem of Multiple Comparisons" (1953), for the studentized range.

Axes: C contenders  R seeds  N samples  G recordings
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import studentized_range

LEAST_ERRORS = 2.0
_WRONG = 0.05  # of comparisons of equal contenders, in which one is called worse

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Behind:
    """How far contenders are behind the best one.

    Attributes:
        loss_C: Mean loss.
        best: The number of the one that loses least.
        behind_C: Difference of the means to the best one's; 0 for itself.
        error_C: Standard error of that; 0 for the best one.
        seeds: That each was trained under.
        recordings: That the samples were cut out of.
    """

    loss_C: Float
    best: int
    behind_C: Float
    error_C: Float
    seeds: int
    recordings: int

    @property
    def errors(self) -> float:
        """By how many errors a contender is behind that is called worse."""
        return errors_to_differ(len(self.loss_C), self.seeds, self.recordings)

    @property
    def worse_C(self) -> NDArray[np.bool_]:
        """Which are worse than the best one, as far as can be told."""
        return self.behind_C > self.errors * self.error_C


def behind_the_best(loss_CRN: Float, recording_N: Sequence[str]) -> Behind:
    """Return how far each contender is behind the best one.

    With one seed the error is that of samples alone.

    Args:
        loss_CRN: Loss of every contender, under every seed, at every sample.
        recording_N: What each sample was cut out of: two recordings or more.
    """
    groups, group_N = np.unique(np.array(recording_N), return_inverse=True)
    loss_CR = loss_CRN.mean(axis=2)
    loss_C = loss_CR.mean(axis=1)
    best = int(loss_C.argmin())
    of_seeds_C = _variance_of_seeds(loss_CR, best)
    of_samples_C = _variance_of_samples(loss_CRN.mean(axis=1), best, group_N, len(groups))
    error_C = np.sqrt(of_seeds_C + of_samples_C)
    error_C[best] = 0.0
    return Behind(
        loss_C=loss_C,
        best=best,
        behind_C=loss_C - loss_C[best],
        error_C=error_C,
        seeds=loss_CRN.shape[1],
        recordings=len(groups),
    )


@functools.cache
def errors_to_differ(contenders: int, seeds: int, recordings: int) -> float:
    """Return how many standard errors behind the best one a contender is that is called worse.

    >>> round(errors_to_differ(13, 3, 245), 2), round(errors_to_differ(2, 3, 245), 2)
    (3.66, 4.3)
    """
    of_seeds = (contenders - 1) * (seeds - 1) if seeds > 1 else recordings - 1
    freedom = min(of_seeds, recordings - 1)
    return max(LEAST_ERRORS, float(studentized_range.ppf(1 - _WRONG, contenders, freedom)) / 2**0.5)


def _variance_of_seeds(loss_CR: Float, best: int) -> Float:
    contenders, seeds = loss_CR.shape
    if seeds == 1:
        return np.zeros(contenders)
    own_C = (loss_CR - loss_CR[best]).var(axis=1, ddof=1)
    left_CR = loss_CR - loss_CR.mean(axis=1, keepdims=True) - loss_CR.mean(axis=0) + loss_CR.mean()
    common = 2 * float((left_CR**2).sum()) / ((contenders - 1) * (seeds - 1))
    found: Float = np.maximum(own_C, common) / seeds
    return found


def _variance_of_samples(loss_CN: Float, best: int, group_N: NDArray[np.intp], groups: int) -> Float:
    samples = loss_CN.shape[1]
    behind_CN = loss_CN - loss_CN[best]
    off_CN = behind_CN - behind_CN.mean(axis=1, keepdims=True)
    member_NG = np.eye(groups)[group_N]
    found: Float = groups / (groups - 1) * ((off_CN @ member_NG) ** 2).sum(axis=1) / samples**2
    return found
