"""Blend: a new device's latencies as a non-negative combination of known devices', from a few timings of it.

Items are whatever is timed: single blocks or whole layouts. The model of an item's latency is

    latency = blend * (1 + misfit + noise),    blend = known_ms_D @ weight_D + constant_ms,    weights >= 0

Misfit is a Gaussian process over the items' traits (items that share blocks err alike), noise is independent with heavy
tails. How large both are is not known beforehand: a wide prior around what known devices showed (`Belief`), narrowed by
the timings on a grid. The misfit's posterior mean is a shrunken correction; its posterior variance, with that of the
weights, is the uncertainty. The items to time are those that leave the least of it.

Axes: N items, P probes (the items that are timed), D known devices, K those and a constant, F traits, M sizes of
misfit, S sizes of noise.

Source: Rasmussen and Williams (2006), "Gaussian processes for machine learning", equations 2.25, 2.26 and 2.30 (mean,
variance, marginal likelihood); Atkinson, Donev and Tobias (2007), "Optimum experimental designs", section 10.6
(V-optimality); Lange, Little and Taylor (1989), "Robust statistical modeling using the t distribution" (weights).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError

_Array = NDArray[np.float64]

LEAST_SHOTS = 4
MOST_UNEXPLAINED = 0.6  # of the error of one constant: beyond it the known devices say too little of a device
_SIZES = np.geomspace(0.001, 1.0, 19)  # of misfit and of noise: standard deviations as fractions of the latency
_SURPRISE = np.log(4.0)  # one standard deviation of the prior: a size four times as large, or as small, as believed
_SCALE = 1.0  # of the scale that all items share, before any is timed
_SHARE = 0.5  # of one known device's share in the blend
_DEGREES = 4.0  # of freedom of the noise (Student's t)
_ROUNDS = 4
_REWEIGHTINGS = 20
_SQUARE = 0.05  # fractions of the latency: smaller errors count by their square, larger ones by their size
_NEGLIGIBLE = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class Items:
    """What may be timed or foretold: known devices' latencies of it in ms, and traits of unit length on average.

    The latencies come from models of the known devices, or from their tables. Two items err alike as far as the product
    of their traits says.
    """

    known_ms_ND: _Array
    trait_NF: _Array

    @property
    def combined_NK(self) -> _Array:
        """What is combined: the known devices, and one on which everything takes 1 ms."""
        return np.hstack([self.known_ms_ND, np.ones((len(self.known_ms_ND), 1))])

    def take(self, index_P: NDArray[np.int64]) -> Items:
        """Return some of the items."""
        return Items(known_ms_ND=self.known_ms_ND[index_P], trait_NF=self.trait_NF[index_P])

    def without(self, device: int) -> Items:
        """Return the same items with one known device less."""
        return Items(known_ms_ND=np.delete(self.known_ms_ND, device, axis=1), trait_NF=self.trait_NF)


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What is expected of a device before it is timed: standard deviations of misfit and of noise, as fractions."""

    misfit: float = 0.1
    noise: float = 0.03


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """Latencies in ms and their standard deviations in ms, the noise of a single timing left out."""

    latency_ms_N: _Array
    std_ms_N: _Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Blend:
    """A device as a combination of known ones; made by `fit_blend`.

    Attributes:
        weight_K: What each known device's latency counts, 0 or more, and a constant in ms: 0 where they explain enough.
        probes: The items that were timed.
        latency_ms_P: Their timings in ms.
        residual_P: Their measured latencies over the combination, less one, before its scale made room for corrections.
        doubt_P: How much more variance each timing's noise has than an ordinary one's.
        posterior_MS: Probability of every size of misfit and of noise.
        unexplained: The probes' mean error over that of one constant for all of them; near 1, or above, the known
            devices say nothing about this one.
    """

    weight_K: _Array
    probes: Items
    latency_ms_P: _Array
    residual_P: _Array
    doubt_P: _Array
    posterior_MS: _Array
    unexplained: float

    def predict(self, items: Items) -> Prediction:
        """Foretell items, timed ones among them or not."""
        blend_ms_N = items.combined_NK @ self.weight_K
        like_NP, like_PP = items.trait_NF @ self.probes.trait_NF.T, self.probes.trait_NF @ self.probes.trait_NF.T
        mean_ms_D = self.probes.known_ms_ND.mean(axis=0)
        weight_NG, weight_PG = _weight_factor(items, mean_ms_D), _weight_factor(self.probes, mean_ms_D)
        both_NP = weight_NG @ weight_PG.T
        # Means over the sizes of misfit and noise; a variance is quadratic in what all sizes share.
        size, mean_P = 0.0, np.zeros(len(like_PP))
        square_PP, like_like_PP, like_both_PP, both_both_PP = np.zeros((4, *like_PP.shape))
        for m, s in np.argwhere(self.posterior_MS > _NEGLIGIBLE):
            chance, misfit = self.posterior_MS[m, s], _SIZES[m] ** 2
            noise_PP = np.diag(_SIZES[s] ** 2 * self.doubt_P)
            inverse_PP = chance * np.linalg.inv(misfit * like_PP + weight_PG @ weight_PG.T + noise_PP)
            correction_P = misfit * inverse_PP @ self.residual_P / chance
            size, mean_P = size + chance * misfit, mean_P + chance * correction_P
            square_PP += chance * np.outer(correction_P, correction_P)
            like_like_PP += misfit**2 * inverse_PP
            like_both_PP += misfit * inverse_PP
            both_both_PP += inverse_PP
        mean_N, like_N = like_NP @ mean_P, (items.trait_NF**2).sum(axis=1)
        prior_N = size * like_N + self.posterior_MS[self.posterior_MS > _NEGLIGIBLE].sum() * (weight_NG**2).sum(axis=1)
        explained_N = _quadratic(like_NP, like_like_PP - square_PP, like_NP)
        explained_N += 2 * _quadratic(like_NP, like_both_PP, both_NP) + _quadratic(both_NP, both_both_PP, both_NP)
        return Prediction(
            latency_ms_N=blend_ms_N * np.maximum(1 + mean_N, 0.5),
            std_ms_N=blend_ms_N * np.sqrt(np.maximum(prior_N - explained_N - mean_N**2, 0)),
        )


def _quadratic(left_NP: _Array, middle_PP: _Array, right_NP: _Array) -> _Array:
    value_N: _Array = (left_NP @ middle_PP * right_NP).sum(axis=1)
    return value_N


def choose_probes(items: Items, shots: int, belief: Belief, timed: Sequence[int] = ()) -> NDArray[np.int64]:
    """Choose which items to time: one after the other, each the one that leaves all items' variances least in sum.

    Args:
        items: All items.
        shots: How many to choose.
        belief: What to expect of the device.
        timed: Positions of items that are timed in any case, and not chosen.

    Returns:
        Positions in `items`, the most telling first.

    Raises:
        InputError: Too few timings to tell anything, or so many that nothing is left to foretell.
    """
    if not LEAST_SHOTS <= shots + len(timed) < len(items.known_ms_ND):
        raise InputError(
            f"{shots + len(timed)} timings of {len(items.known_ms_ND)} candidates",
            allowed=f"{LEAST_SHOTS} timings or more, and fewer than candidates",
            remedy="time more, or offer more candidates",
        )
    factor_NG = np.hstack([_weight_factor(items, items.known_ms_ND.mean(axis=0)), belief.misfit * items.trait_NF])
    # All items' covariance stays a product of factors less one column's outer product per probe: no N by N array.
    variance_N, product_GG = (factor_NG**2).sum(axis=1), factor_NG.T @ factor_NG
    square_N = _quadratic(factor_NG, product_GG, factor_NG)  # of the covariances of each item with all
    removed_KN = np.zeros((0, len(factor_NG)))
    probes = list[int]()
    for number in range(len(timed) + shots):
        gain_N = square_N / (variance_N + belief.noise**2)
        gain_N[[*timed, *probes]] = -1
        best = timed[number] if number < len(timed) else int(gain_N.argmax())
        probes.append(best)
        column_N = factor_NG @ factor_NG[best] - removed_KN.T @ removed_KN[:, best]
        column_N /= np.sqrt(variance_N[best] + belief.noise**2)
        along_N = factor_NG @ (factor_NG.T @ column_N) - removed_KN.T @ (removed_KN @ column_N)
        square_N += column_N**2 * (column_N @ column_N) - 2 * column_N * along_N
        variance_N = variance_N - column_N**2
        removed_KN = np.vstack([removed_KN, column_N])
    return np.array(probes[len(timed) :])


def fit_blend(probes: Items, latency_ms_P: _Array, belief: Belief) -> Blend:
    """Fit weights, corrections and their uncertainty to the timings of a few items.

    The common scale is that of `fit_combination`; corrections are measured from their mean at the timed items.
    """
    weight_K, unexplained = fit_combination(probes.combined_NK, latency_ms_P)
    residual_P = latency_ms_P / (probes.combined_NK @ weight_K) - 1
    posterior_MS, doubt_P = _posterior(probes, residual_P, belief)
    blend = Blend(
        weight_K=weight_K,
        probes=probes,
        latency_ms_P=latency_ms_P,
        residual_P=residual_P,
        doubt_P=doubt_P,
        posterior_MS=posterior_MS,
        unexplained=unexplained,
    )
    corrected_P = blend.predict(probes).latency_ms_N / (probes.combined_NK @ weight_K)
    return dataclasses.replace(blend, weight_K=weight_K / np.average(corrected_P, weights=1 / doubt_P))


def fit_combination(combined_PK: _Array, latency_ms_P: _Array) -> tuple[_Array, float]:
    """Return the weights, and the known devices' mean error over that of one constant (see `Blend`).

    Where the known devices explain too little, a constant helps them. The common scale is the median of measured over
    foretold: that of the speed at which the device mostly runs.
    """
    weight_K = np.append(fit_weights(combined_PK[:, :-1], latency_ms_P), 0.0)
    error_P = np.abs(combined_PK @ weight_K / latency_ms_P - 1)
    constant_ms = fit_weights(combined_PK[:, -1:], latency_ms_P)
    unexplained = float(error_P.sum() / max(np.abs(constant_ms / latency_ms_P - 1).sum(), 1e-12))
    if unexplained > MOST_UNEXPLAINED:
        weight_K = fit_weights(combined_PK, latency_ms_P)
    return weight_K * np.median(latency_ms_P / (combined_PK @ weight_K)), unexplained


def fit_weights(combined_NK: _Array, latency_ms_N: _Array) -> _Array:
    """Return the weights, none negative, of the least sum of relative errors.

    By iteratively reweighted least squares, so that a timing which is far out pulls no harder than its neighbours.
    """
    from scipy.optimize import nnls

    row_N = 1 / latency_ms_N
    for _ in range(_REWEIGHTINGS):
        weight_K: _Array = nnls(combined_NK * row_N[:, None], latency_ms_N * row_N)[0]
        blend_ms_N = combined_NK @ weight_K
        size_ms_N = np.maximum(latency_ms_N, blend_ms_N)  # no error exceeds 1, of a slow timing or of a fast one
        row_N = 1 / np.sqrt(np.maximum(np.abs(blend_ms_N - latency_ms_N) / size_ms_N, _SQUARE)) / size_ms_N
    return weight_K


def _posterior(probes: Items, residual_P: _Array, belief: Belief) -> tuple[_Array, _Array]:
    """Return the probability of every size of misfit and noise, and how doubtful each timing is."""
    like_PP = probes.trait_NF @ probes.trait_NF.T
    weight_PG = _weight_factor(probes, probes.known_ms_ND.mean(axis=0))
    weight_PP = weight_PG @ weight_PG.T
    size_M, size_S = _SIZES[:, None, None, None] ** 2, _SIZES[:, None, None] ** 2
    log_prior_MS = -0.5 * (_surprise(belief.misfit)[:, None] ** 2 + _surprise(belief.noise) ** 2)
    doubt_P = np.ones(len(residual_P))
    for _ in range(_ROUNDS):
        variance_MSPP = size_M * like_PP + size_S * np.diag(doubt_P) + weight_PP
        log_MS = log_prior_MS + _log_likelihood(variance_MSPP, residual_P)
        posterior_MS = np.exp(log_MS - log_MS.max())
        posterior_MS /= posterior_MS.sum()
        misfit, noise = (np.exp(posterior_MS.sum(axis=axis) @ np.log(_SIZES)) for axis in (1, 0))
        known_PP = misfit**2 * like_PP + weight_PP
        expected_P = known_PP @ np.linalg.solve(known_PP + noise**2 * np.diag(doubt_P), residual_P)
        doubt_P = (_DEGREES + ((residual_P - expected_P) / noise) ** 2) / (_DEGREES + 1)
    return posterior_MS, doubt_P


def _surprise(believed: float) -> _Array:
    surprise: _Array = np.log(_SIZES / believed) / _SURPRISE
    return surprise


def _log_likelihood(variance_MSPP: _Array, residual_P: _Array) -> _Array:
    factor_MSPP = np.linalg.cholesky(variance_MSPP)
    column_MSP1 = np.broadcast_to(residual_P[:, None], (*factor_MSPP.shape[:-1], 1))
    white_MSP = np.linalg.solve(factor_MSPP, column_MSP1)[..., 0]
    log_root_MSP = np.log(np.diagonal(factor_MSPP, axis1=-2, axis2=-1))
    likelihood_MS: _Array = -0.5 * (white_MSP**2).sum(axis=-1) - log_root_MSP.sum(axis=-1)
    return likelihood_MS


def _weight_factor(items: Items, mean_ms_D: _Array) -> _Array:
    """Return a factor of the prior covariance that unknown weights give: a common scale, and a share per device."""
    share_ND = items.known_ms_ND / mean_ms_D
    share_ND = share_ND / share_ND.mean(axis=1, keepdims=True) - 1
    return np.hstack([np.full((len(share_ND), 1), _SCALE), _SHARE * share_ND])
