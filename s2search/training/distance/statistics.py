"""Distances of two samples of features, with standard errors.

Clips of one recording look alike, so the unit of all sums is a recording: the kernel of two recordings is its mean over
their clips. With one clip each, which is what generated samples are, these are the usual estimators.

**MMD^2** with the cubic kernel k(x, y) = (x.y / d + 1)^3, unbiased: 0 on average where the distributions are equal,
however few the samples, and so now and then below 0. Its variance has a part of first order in 1/n and one of second
order, which is all that is left where the distributions are equal. The delete-one jackknife estimates the first once
and the second twice; the second is also estimated by itself, from the doubly centred kernel, and taken off once.

**Fréchet** distance of the normal distributions with the samples' means and covariances. It is biased: the fewer
samples, the farther, by about the same for all that are compared at one size, which the row of real against real
shows. Its error is a jackknife over blocks of recordings.

Source: Gretton et al., "A Kernel Two-Sample Test" (2012), lemma 6; Binkowski et al., "Demystifying MMD GANs" (2018),
for the kernel; Heusel et al. (2017) for the Fréchet distance; Efron and Stein, "The Jackknife Estimate of Variance"
(1981), for what it estimates; Hoeffding (1948) for the two parts.

Axes: N clips  F features  G recordings of the first sample  H recordings of the second
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError

Float = NDArray[np.float64]

#: Blocks of the Fréchet distance's jackknife.
_BLOCKS = 20
#: Samples that a covariance of so many features needs: its smallest eigenvalues mean nothing before.
SAMPLES_PER_FEATURE = 4


@dataclass(frozen=True, kw_only=True)
class FeatureSample:
    """Features of one sample.

    Attributes:
        features_NF: Of its clips, in float64.
        unit_N: The number of each clip's recording, from 0, all of them there.
    """

    features_NF: Float
    unit_N: NDArray[np.intp]

    @classmethod
    def of(cls, features_NF: Float, recordings: Sequence[str] | None = None) -> FeatureSample:
        """Return features with their recordings; each its own where none is given."""
        count = len(features_NF)
        unit_N = np.unique(np.array(recordings), return_inverse=True)[1] if recordings else np.arange(count)
        return cls(features_NF=np.asarray(features_NF, dtype=np.float64), unit_N=np.asarray(unit_N, dtype=np.intp))

    @property
    def units(self) -> int:
        """Recordings."""
        return int(self.unit_N.max()) + 1

    @property
    def mean_UN(self) -> Float:
        """What makes means of recordings of what is known of clips."""
        member_UN = (np.arange(self.units)[:, None] == self.unit_N).astype(np.float64)
        found: Float = member_UN / member_UN.sum(axis=1, keepdims=True)
        return found


@dataclass(frozen=True, kw_only=True)
class Mmd:
    """MMD^2 of two samples.

    Attributes:
        value: Unbiased.
        error: Standard error.
        first_G: What it is without each recording of the first sample.
        second_H: Without each of the second.
    """

    value: float
    error: float
    first_G: Float
    second_H: Float


@dataclass(frozen=True, kw_only=True)
class Frechet:
    """Fréchet distance of two samples, with the standard error that a jackknife over blocks gives."""

    value: float
    error: float


def mmd(first: FeatureSample, second: FeatureSample) -> Mmd:
    """Return MMD^2 with the cubic kernel.

    Raises:
        InputError: There are fewer than three recordings in one of them.
    """
    for sample in (first, second):
        if sample.units < 3:
            raise InputError(
                f"a distance between clips of {first.units} and {second.units} recordings",
                allowed="three or more of each",
                remedy="hold more recordings out when the data is made",
            )
    a_GG, b_HH = (one.mean_UN @ _kernel(one, one) @ one.mean_UN.T for one in (first, second))
    c_GH = first.mean_UN @ _kernel(first, second) @ second.mean_UN.T
    for own in (a_GG, b_HH):
        np.fill_diagonal(own, 0.0)
    (count, other), cross = c_GH.shape, float(c_GH.mean())
    inner, outer = _pairs(a_GG), _pairs(b_HH)
    first_G = _without(a_GG) + outer - 2 * (c_GH.sum() - c_GH.sum(axis=1)) / ((count - 1) * other)
    second_H = inner + _without(b_HH) - 2 * (c_GH.sum() - c_GH.sum(axis=0)) / (count * (other - 1))
    of_second = _second_order(a_GG, b_HH, c_GH)
    of_first = max(0.0, jackknife(first_G) + jackknife(second_H) - 2 * of_second)
    return Mmd(
        value=inner + outer - 2 * cross, error=float(np.sqrt(of_first + of_second)), first_G=first_G, second_H=second_H
    )


def farther(first: Mmd, second: Mmd, *, paired: bool) -> tuple[float, float]:
    """Return by how much the first is farther than the second from a sample that both are held against, and its error.

    The error is the jackknife's, which is rather too large where both distances are nearly 0.

    Args:
        first: Its first sample is that of the other, clip by clip.
        second: Likewise.
        paired: Whether their second samples are of the same recordings too, such as clips and those clips blurred;
            else they are independent.
    """
    variance = jackknife(first.first_G - second.first_G)
    if paired:
        variance += jackknife(first.second_H - second.second_H)
    else:
        variance += jackknife(first.second_H) + jackknife(second.second_H)
    return first.value - second.value, float(np.sqrt(variance))


def jackknife(without_U: Float) -> float:
    """Return the variance of an estimate from what it is without each unit."""
    count = len(without_U)
    return float((count - 1) / count * ((without_U - without_U.mean()) ** 2).sum())


def frechet(first: FeatureSample, second: FeatureSample) -> Frechet:
    """Return |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), the trace of the root from symmetric matrices in float64.

    Raises:
        InputError: There are fewer than 4 clips per feature in one of them.
    """
    check_samples(min(len(first.features_NF), len(second.features_NF)), first.features_NF.shape[1])
    own, other = _normal(first.features_NF), _normal(second.features_NF)
    without_own = [_between(_normal(left_NF), other) for left_NF in _left_out(first)]
    without_other = [_between(own, _normal(left_NF)) for left_NF in _left_out(second)]
    variance = jackknife(np.array(without_own)) + jackknife(np.array(without_other))
    return Frechet(value=_between(own, other), error=float(np.sqrt(variance)))


def check_samples(samples: int, features: int) -> None:
    """Raise where samples are too few for a covariance.

    Raises:
        InputError: There are fewer than 4 per feature.
    """
    if samples < SAMPLES_PER_FEATURE * features:
        raise InputError(
            f"{samples} samples for {features} features",
            allowed=f"{SAMPLES_PER_FEATURE * features} or more, {SAMPLES_PER_FEATURE} per feature",
            remedy="take more samples, or a network of fewer features",
        )


def _kernel(first: FeatureSample, second: FeatureSample) -> Float:
    found: Float = (first.features_NF @ second.features_NF.T / first.features_NF.shape[1] + 1) ** 3
    return found


def _pairs(kernel_UU: Float) -> float:
    """Return the mean over pairs of different units; the diagonal is 0."""
    count = len(kernel_UU)
    return float(kernel_UU.sum() / (count * (count - 1)))


def _without(kernel_UU: Float) -> Float:
    """Return the same without each unit."""
    count = len(kernel_UU)
    found: Float = (kernel_UU.sum() - 2 * kernel_UU.sum(axis=1)) / ((count - 1) * (count - 2))
    return found


def _second_order(a_GG: Float, b_HH: Float, c_GH: Float) -> float:
    """Return the variance of second order: what doubly centred kernels leave."""
    count, other = c_GH.shape
    found: float = 0.0
    for own_UU in (a_GG, b_HH):
        units = len(own_UU)
        row_U = own_UU.sum(axis=1) / (units - 1)
        left_UU = own_UU - row_U[:, None] - row_U[None] + _pairs(own_UU)
        np.fill_diagonal(left_UU, 0.0)
        found += 2 * float((left_UU**2).sum()) / (units * (units - 1)) ** 2
    left_GH = c_GH - c_GH.mean(axis=1, keepdims=True) - c_GH.mean(axis=0) + c_GH.mean()
    return float(found + 4 * (left_GH**2).mean() / (count * other))


def _normal(features_NF: Float) -> tuple[Float, Float]:
    return features_NF.mean(axis=0), np.atleast_2d(np.cov(features_NF, rowvar=False))


def _between(own: tuple[Float, Float], other: tuple[Float, Float]) -> float:
    (mean_F, covariance_FF), (other_F, other_FF) = own, other
    values_F, vectors_FF = np.linalg.eigh(covariance_FF)
    root_FF = (vectors_FF * np.sqrt(values_F.clip(0))) @ vectors_FF.T
    between_FF = root_FF @ other_FF @ root_FF  # of the same eigenvalues as C C', and symmetric
    root = np.sqrt(np.linalg.eigvalsh((between_FF + between_FF.T) / 2).clip(0)).sum()
    apart = float(((mean_F - other_F) ** 2).sum())
    return max(0.0, apart + float(np.trace(covariance_FF) + np.trace(other_FF)) - 2 * float(root))


def _left_out(sample: FeatureSample) -> list[Float]:
    """Return the features without each block of recordings."""
    blocks = min(_BLOCKS, sample.units)
    return [sample.features_NF[sample.unit_N % blocks != block] for block in range(blocks)]
