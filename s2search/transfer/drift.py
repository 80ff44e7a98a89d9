"""Drift: how much slower or faster a device runs than usual, at every moment of a measuring run.

A device throttles, recovers, and falls back and forth between a few clock rates, so its slowdown creeps and jumps. The
model: log latency = log(additive latency) + level + noise. The level follows a Markov chain on a grid, whose jumps are
learned from the run itself (Baum-Welch); the noise has heavy tails. A row without a latency gets its level from the
rows around it, before and after.

Axes: T measurements in order, K levels of the grid, F features of the additive model.

Source: Rabiner (1989), "A tutorial on hidden Markov models", equations 19-20, 24-25 and 95 (forward, backward,
transitions).

What was tried: docs/decisions/transfer.md, "Drift is a Markov chain on a grid of levels".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.transfer.additive import Features, additive_latency_ms, fit_additive, fit_robust, in_unit_ms, predicted_ms

_Array = NDArray[np.float64]

SMOOTHNESSES = (0.2, 0.6)  # noise, in units of the typical step between neighbouring rows
_FOLDS = 3
_LEAST_GAIN = 1e-6  # fractions of the latency: less is rounding
_DEVIATIONS = 2.0  # drift is on where its gain in cross-validation is this many standard errors

_LEVELS = 90  # a larger matrix would make OpenBLAS share each product among threads, which is slower
_ROUNDS = 3
_LEARNING_STEPS = 4
_JUMP = 0.2  # the share of jumps that learning starts from
_PRIOR_COUNT = 3.0  # observations of every level that this start is worth
_OUTLIERS = 0.02
_TAIL = 4.0  # degrees of freedom of the noise (Student's t)
_PIECE = 32  # rows: OpenBLAS shares larger products among threads, which wait for one another by spinning
_RESCALE = 8  # rows between rescalings; products of so few densities stay within floating point
_HUBER = 1.345  # 95 % efficient on Gaussian noise


@dataclass(frozen=True, kw_only=True)
class DriftModel:
    """Predictions of every row of a run.

    Attributes:
        latency_ms_T: Predicted latency in ms.
        drift_T: The factor between that and the additive latency; 1 where there is no drift.
        effect_F: The effects in ms of the additive latency.
        smoothness: The member of `SMOOTHNESSES` that cross-validation chose; None where drift is off.
    """

    latency_ms_T: _Array
    drift_T: _Array
    effect_F: _Array
    smoothness: float | None


def fit_drift(feature_TF: Features, latency_ms_T: _Array, rng: np.random.Generator) -> DriftModel:
    """Predict every row from the rows with a latency; NaN stands for a latency that is not known.

    A latency in another unit counts as not known. Cross-validation on the known rows chooses the smoothness, and leaves
    drift off where its gain is not beyond doubt: then the predictions are those of the additive model.
    """
    latency_ms_T = in_unit_ms(feature_TF, latency_ms_T)
    smoothness = _choose(feature_TF, latency_ms_T, rng)
    if smoothness is None:
        effect_F = fit_robust(feature_TF, latency_ms_T)
        additive_ms_T = predicted_ms(feature_TF, effect_F, floor_ms=float(np.nanmin(latency_ms_T)))
        return DriftModel(
            latency_ms_T=additive_ms_T, drift_T=np.ones(len(latency_ms_T)), effect_F=effect_F, smoothness=None
        )
    return fit_smooth(feature_TF, latency_ms_T, smoothness)


def _choose(feature_TF: Features, latency_ms_T: _Array, rng: np.random.Generator) -> float | None:
    """Return the smoothness with the least error on rows left out in turn, or None where the additive model will do."""
    known = np.flatnonzero(np.isfinite(latency_ms_T))
    additive_T, drifting_ST = np.zeros(len(latency_ms_T)), np.zeros((len(SMOOTHNESSES), len(latency_ms_T)))
    for fold in np.array_split(rng.permutation(known), _FOLDS):
        rest_ms_T, truth = latency_ms_T.copy(), latency_ms_T[fold]
        rest_ms_T[fold] = np.nan
        additive_T[fold] = np.abs(additive_latency_ms(feature_TF, rest_ms_T)[fold] / truth - 1)
        for error_T, smoothness in zip(drifting_ST, SMOOTHNESSES, strict=True):
            error_T[fold] = np.abs(fit_smooth(feature_TF, rest_ms_T, smoothness).latency_ms_T[fold] / truth - 1)
    best = int(drifting_ST[:, known].mean(axis=1).argmin())
    gain = (additive_T - drifting_ST[best])[known]
    certain = gain.mean() > max(_DEVIATIONS * gain.std() / np.sqrt(len(known)), _LEAST_GAIN)
    return SMOOTHNESSES[best] if certain else None


def fit_smooth(feature_TF: Features, latency_ms_T: _Array, smoothness: float) -> DriftModel:
    """Alternate between the drift around the additive model and the additive model of latencies without drift."""
    latency_ms_T = in_unit_ms(feature_TF, latency_ms_T)
    known_T = np.isfinite(latency_ms_T)
    known_TF = feature_TF[known_T]
    floor_ms = float(latency_ms_T[known_T].min())
    first_ms_T = additive_latency_ms(feature_TF, latency_ms_T)
    weight_T, log_drift_T = first_ms_T**-2, np.zeros(len(latency_ms_T))
    for _ in range(_ROUNDS):
        steady_ms_T = latency_ms_T / np.exp(log_drift_T)
        effect_F = fit_additive(known_TF, steady_ms_T[known_T], weight_T[known_T])
        additive_ms_T = predicted_ms(feature_TF, effect_F, floor_ms=floor_ms)
        residual_T = np.log(latency_ms_T / additive_ms_T)
        log_drift_T, variance_T = _smooth(residual_T, smoothness)
        doubt_T = np.abs(residual_T - log_drift_T) / (_HUBER * np.sqrt(variance_T))
        weight_T = first_ms_T**-2 / (variance_T * np.maximum(1, doubt_T))
    drift_T = np.exp(log_drift_T)
    return DriftModel(latency_ms_T=additive_ms_T * drift_T, drift_T=drift_T, effect_F=effect_F, smoothness=smoothness)


def _smooth(residual_T: _Array, smoothness: float) -> tuple[_Array, _Array]:
    """Predict every log residual from all the *others* that are known: the best guess, and its variance.

    The guess minimises the expected relative error: it is the median under weights 1 / latency (Gneiting 2011, "Making
    and evaluating point forecasts", theorem 5 with beta = -1).
    """
    known_T = np.isfinite(residual_T)
    known = residual_T[known_T]
    low, high = np.quantile(known, [0.001, 0.999])
    if high - low < 1e-9:
        return np.full(len(residual_T), float(np.median(known))), np.ones(len(residual_T))
    level_K, step = np.linspace(low, high, _LEVELS, retstep=True)
    typical = float(np.median(np.abs(np.diff(known)))) / (0.6745 * np.sqrt(2))
    noise = max(smoothness * typical, step / 2)
    chance_TK = np.ones((len(residual_T), _LEVELS))
    chance_TK[known_T] = _likelihood(np.clip(known, low, high)[:, None] - level_K, noise, high - low)

    start_K = np.histogram(np.clip(known, low, high), _LEVELS, (low - step / 2, high + step / 2))[0] + 0.5
    share_K, move_KK = _learn(chance_TK, start_K / start_K.sum(), level_K, noise)
    others_TK, _, _ = _from_others(chance_TK, share_K, move_KK)

    spread_KK = _normal(_student((level_K[:, None] - level_K) / noise))
    outcome_TK = (1 - _OUTLIERS) * _product(others_TK, spread_KK) + _OUTLIERS * share_K
    mean_T = outcome_TK @ level_K
    variance_T = np.maximum(outcome_TK @ level_K**2 - mean_T**2, step**2 / 12)
    return _median(outcome_TK * np.exp(-level_K), level_K), variance_T


def _learn(chance_TK: _Array, share_K: _Array, level_K: _Array, noise: float) -> tuple[_Array, _Array]:
    """Learn how often each level occurs and which follows which; both are smoothed over neighbouring levels."""
    step = level_K[1] - level_K[0]
    creep_KK = _kernel(level_K, max(0.3 * noise, 0.7 * step))
    blur_KK = _kernel(level_K, max(0.7 * noise, step))
    prior_KK = move_KK = (1 - _JUMP) * creep_KK + _JUMP * share_K
    for _ in range(_LEARNING_STEPS):
        others_TK, before_TK, after_TK = _from_others(chance_TK, share_K, move_KK)
        share_K = _normal(_normal(others_TK * chance_TK).mean(axis=0) + 1e-6)
        prior_KK = (1 - _JUMP) * creep_KK + _JUMP * share_K
        next_TK = chance_TK[1:] * after_TK[1:]
        filtered_TK = _normal(before_TK * chance_TK)[:-1]
        total_T = (_normal(before_TK[1:]) * next_TK).sum(axis=1, keepdims=True)
        count_KK = move_KK * _pairs(filtered_TK, next_TK / total_T)
        move_KK = _normal(_product(_product(blur_KK.T, count_KK), blur_KK) + _PRIOR_COUNT * prior_KK)
    return share_K, move_KK


def _from_others(chance_TK: _Array, share_K: _Array, move_KK: _Array) -> tuple[_Array, _Array, _Array]:
    """Return the levels' chances at every row given all others, given those before, and the likelihood of the rest.

    A row's own latency is left out, so that a row with a latency is predicted like one without.
    """
    before_TK, after_TK = np.empty_like(chance_TK), np.empty_like(chance_TK)
    before_TK[0], after_TK[-1] = share_K, 1
    _pass(before_TK, chance_TK, move_KK)
    _pass(after_TK[::-1], chance_TK[::-1], np.ascontiguousarray(move_KK.T))
    return _normal(before_TK * after_TK), before_TK, after_TK


def _pass(found_TK: _Array, chance_TK: _Array, move_KK: _Array) -> None:
    """Fill in every row of `found_TK` after its first."""
    weighted_K, multiply, dot = np.empty(len(move_KK)), np.multiply, np.dot
    for row, (last_K, chance_K, next_K) in enumerate(
        zip(found_TK[:-1], chance_TK[:-1], found_TK[1:], strict=True), start=1
    ):
        multiply(last_K, chance_K, out=weighted_K)
        dot(weighted_K, move_KK, out=next_K)
        if row % _RESCALE == 0:
            next_K /= next_K.sum()


def _pairs(one_TK: _Array, other_TK: _Array) -> _Array:
    """Return the sum over rows of the outer products, a piece at a time; see `_PIECE`."""
    whole = len(one_TK) // _PIECE * _PIECE
    one_PRK, other_PRK = (all_TK[:whole].reshape(-1, _PIECE, _LEVELS) for all_TK in (one_TK, other_TK))
    pairs_KK: _Array = (one_PRK.transpose(0, 2, 1) @ other_PRK).sum(axis=0) + one_TK[whole:].T @ other_TK[whole:]
    return pairs_KK


def _product(one_TK: _Array, other_KK: _Array) -> _Array:
    """Return the product, a piece at a time; see `_PIECE`."""
    whole = len(one_TK) // _PIECE * _PIECE
    pieces_TK = (one_TK[:whole].reshape(-1, _PIECE, _LEVELS) @ other_KK).reshape(whole, _LEVELS)
    return np.vstack([pieces_TK, one_TK[whole:] @ other_KK])


def _likelihood(distance: _Array, noise: float, width: float) -> _Array:
    """Return the density of a residual at a distance from its level: Student's t, or an outlier anywhere."""
    scale = 0.375 / noise  # of Student's t with 4 degrees of freedom
    return (1 - _OUTLIERS) * scale * _student(distance / noise) + _OUTLIERS / width


def _student(z: _Array) -> _Array:
    density: _Array = (1 + z**2 / _TAIL) ** (-(_TAIL + 1) / 2)
    return density


def _kernel(level_K: _Array, width: float) -> _Array:
    return _normal(np.exp(-0.5 * ((level_K[:, None] - level_K) / width) ** 2))


def _normal(weight: _Array) -> _Array:
    """Scale the last axis to a sum of one."""
    shares: _Array = weight / weight.sum(axis=-1, keepdims=True)
    return shares


def _median(weight_TK: _Array, level_K: _Array) -> _Array:
    """Return each row's weighted median, linear within a level's cell."""
    cumulated_TK = np.cumsum(_normal(weight_TK), axis=1)
    cell_T = np.minimum((cumulated_TK < 0.5).sum(axis=1), len(level_K) - 1)
    row_T = np.arange(len(weight_TK))
    upper_T = cumulated_TK[row_T, cell_T]
    mass_T = _normal(weight_TK)[row_T, cell_T]
    step = level_K[1] - level_K[0]
    median_T: _Array = level_K[cell_T] + step * (0.5 - (upper_T - 0.5) / mass_T)
    return median_T
