"""The additive latency model: a layout's latency is a constant plus one effect per layer and block.

The fit is robust: a row in another unit does not count, and a row far out pulls no harder than its neighbours.

Axes: T measurements in order, L layers, F features (one per layer and block, and the constant).

Source: Huber and Ronchetti (2009), "Robust statistics", section 7.8 (reweighting, M-estimate of regression); MacKay
(1992), "Bayesian interpolation", equations 4.8 to 4.10 (the ridge that the data ask for, here without the count of
effective parameters).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

_Array = NDArray[np.float64]

#: Dense, or sparse as `indicators_TF` makes them: products of sparse ones need no BLAS, whose threads wait by spinning.
Features = _Array | csr_array

UNITS_APART = float(np.sqrt(1000.0))  # beyond it a factor is nearer to 1000, that of the next unit, than to 1

_MOST_RIDGE = 1.0  # in rows: an effect that one row supports is halved at most
_LEAST_RIDGE = 1e-9
_RIDGES = 12
_SETTLED = 0.5  # a ridge that moves by less than this share moves no effect visibly
_CONSTANT_RIDGE = 1e-6  # of the others'
_REWEIGHTINGS = 20
_UNMOVED = 0.01  # of the usual distance: a fit that moves by less is done
_HUBER = 1.345  # 95 % efficient on Gaussian noise
_SEARCHES = 10
_NOISE = 4.5  # typical residuals: three standard deviations of Gaussian noise
_FAR = 6.0  # typical residuals
_FEW = 100  # rows, of which one may be far out


def indicators_TF(layout_TL: NDArray[np.int64], blocks: Sequence[NDArray[np.int64]] | None = None) -> csr_array:
    """Return one indicator per layer and block that occurs there, and a last column of ones, as a sparse array.

    With `blocks`, one per layer and block that is named there, sorted; a block that is not named has no indicator.

    >>> indicators_TF(np.array([[0, 7], [1, 7]])).toarray()
    array([[1., 0., 1., 1.],
           [0., 1., 1., 1.]])
    """
    named = blocks or [np.unique(layout_T) for layout_T in layout_TL.T]
    first_L = np.cumsum([0, *map(len, named)])
    column_TL = np.full((len(layout_TL), len(named) + 1), first_L[-1])
    there_TL = np.ones(column_TL.shape, dtype=np.bool_)
    for layer, block_C in enumerate(named):
        at_T = np.minimum(np.searchsorted(block_C, layout_TL[:, layer]), len(block_C) - 1)
        column_TL[:, layer] = first_L[layer] + at_T
        there_TL[:, layer] = block_C[at_T] == layout_TL[:, layer]
    column = column_TL[there_TL]
    start_T = np.concatenate([[0], np.cumsum(there_TL.sum(axis=1))])
    return csr_array((np.ones(len(column)), column, start_T), shape=(len(layout_TL), int(first_L[-1]) + 1))


def fit_additive(feature_TF: Features, latency_ms_T: _Array, weight_T: _Array) -> _Array:
    """Return one effect in ms per feature: weighted ridge regression with a free constant.

    The ridge is the variance left over as a share of the effects', so that exact sums are found exactly. A block that
    no row has gets the effect zero: that of an average block.
    """
    normal_FF = feature_TF.T @ (feature_TF * weight_T[:, None])
    normal_FF = normal_FF.toarray() if issparse(normal_FF) else np.asarray(normal_FF)
    target_F = feature_TF.T @ (weight_T * latency_ms_T)
    penalty_F = np.full(len(target_F), weight_T.mean())
    penalty_F[-1] *= _CONSTANT_RIDGE
    ridge = _MOST_RIDGE
    for _ in range(_RIDGES):
        effect_F: _Array = np.linalg.solve(normal_FF + np.diag(ridge * penalty_F), target_F)
        left_over = float(weight_T @ (latency_ms_T - feature_TF @ effect_F) ** 2 / weight_T.sum())
        spread = float((effect_F[:-1] ** 2).mean()) if len(effect_F) > 1 else 0.0
        asked = float(np.clip(left_over / spread, _LEAST_RIDGE, _MOST_RIDGE)) if spread > 0 else _MOST_RIDGE
        if abs(asked - ridge) <= _SETTLED * ridge:
            break
        ridge = asked
    return effect_F


def in_unit_ms(feature_TF: Features, latency_ms_T: _Array) -> _Array:
    """Return the latencies, with NaN for each that is so far from what the others say that its unit is another.

    The rows near the median come first; a fit to them tells which others are layouts far from the average.
    """
    known_T = np.isfinite(latency_ms_T)
    near_T = known_T & near(latency_ms_T / np.median(latency_ms_T[known_T]))
    for _ in range(_SEARCHES):
        if (near_T == known_T).all():
            break
        found_ms_T = feature_TF @ _fit_huber(feature_TF[near_T], latency_ms_T[near_T])
        distance_T = np.abs(latency_ms_T - found_ms_T)
        noise_T = distance_T <= _NOISE * np.median(distance_T[near_T])  # a tiny sum of large effects
        before_T, near_T = near_T, known_T & (noise_T | near(latency_ms_T / found_ms_T))
        if (near_T == before_T).all():
            break
    return np.where(near_T, latency_ms_T, np.nan)


def near(ratio_T: _Array) -> NDArray[np.bool_]:
    """Tell the ratios of measured to foretold latency that leave no doubt of the unit."""
    return (ratio_T < UNITS_APART) & (ratio_T > 1 / UNITS_APART)


def _fit_huber(feature_TF: Features, latency_ms_T: _Array) -> _Array:
    effect_F = fit_additive(feature_TF, latency_ms_T, np.ones(len(latency_ms_T)))
    found_ms_T = feature_TF @ effect_F
    for _ in range(_REWEIGHTINGS):
        distance_T, before_ms_T = np.abs(latency_ms_T - found_ms_T), found_ms_T
        usual_ms = _HUBER * float(np.median(distance_T)) / 0.6745
        if usual_ms <= 0:
            break
        effect_F = fit_additive(feature_TF, latency_ms_T, 1 / np.maximum(1, distance_T / usual_ms))
        found_ms_T = feature_TF @ effect_F
        if np.abs(found_ms_T - before_ms_T).max() <= _UNMOVED * usual_ms:
            break
    return effect_F


def additive_latency_ms(feature_TF: Features, latency_ms_T: _Array) -> _Array:
    """Predict every row in ms from the rows with a latency; NaN stands for a latency that is not known."""
    return predicted_ms(feature_TF, fit_robust(feature_TF, latency_ms_T), floor_ms=float(np.nanmin(latency_ms_T)))


def fit_robust(feature_TF: Features, latency_ms_T: _Array) -> _Array:
    """Return one effect in ms per feature, from the rows with a latency; some may be in another unit, or far out."""
    known_T = np.isfinite(in_unit_ms(feature_TF, latency_ms_T))
    return _fit_huber(feature_TF[known_T], latency_ms_T[known_T])


def predicted_ms(feature_TF: Features, effect_F: _Array, *, floor_ms: float) -> _Array:
    """Return the sum of effects in ms; no sum may fall below half of the least latency that was seen."""
    latency_ms_T: _Array = np.maximum(feature_TF @ effect_F, floor_ms / 2)
    return latency_ms_T


def autocorrelation(residual_T: _Array) -> float:
    """Return the lag-1 autocorrelation of what a model leaves over: 0 for noise, near 1 for slow drift.

    A few residuals far out, one in a hundred, count as six typical ones (median absolute deviations) or as the next one
    less far out, so that they hide no drift; more than a few are a state of the device.

    >>> round(autocorrelation(np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])), 2)
    0.5
    """
    centred_T = residual_T - np.median(residual_T)
    size_T = np.sort(np.abs(centred_T))
    most = max(_FAR * float(np.median(size_T)), float(size_T[-1 - len(size_T) // _FEW]))
    centred_T = np.clip(centred_T, -most, most) if most > 0 else centred_T
    centred_T -= centred_T.mean()
    power = float(centred_T @ centred_T)
    return float(centred_T[1:] @ centred_T[:-1]) / power if power > 0 else 0.0
