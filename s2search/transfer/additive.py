"""The additive latency model: a layout's latency is a constant plus one effect per layer and block.

Axes: T measurements in order, L layers, F features (one per layer and block, and the constant).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1.0  # in rows: an effect that one row supports is halved


def indicators_TF(
    layout_TL: NDArray[np.int64] | NDArray[np.str_], blocks: Sequence[NDArray[np.int64]] | None = None
) -> NDArray[np.float64]:
    """Return one indicator per layer and block that occurs there, and a last column of ones.

    With `blocks`, one per layer and block that is named there.

    >>> indicators_TF(np.array([[0, 7], [1, 7]]))
    array([[1., 0., 1., 1.],
           [0., 1., 1., 1.]])
    """
    named = blocks or [np.unique(layout_T) for layout_T in layout_TL.T]
    columns = [layout_T[:, None] == block_C for layout_T, block_C in zip(layout_TL.T, named, strict=True)]
    return np.hstack([*columns, np.ones((len(layout_TL), 1))]).astype(np.float64)


def fit_additive(
    feature_TF: NDArray[np.float64], latency_ms_T: NDArray[np.float64], weight_T: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return one effect in ms per feature: weighted ridge regression with a free constant.

    A block that no row has gets the effect zero: that of an average block.
    """
    weighted_TF = feature_TF * weight_T[:, None]
    penalty_F = np.full(feature_TF.shape[1], _RIDGE * weight_T.mean())
    penalty_F[-1] *= 1e-6
    normal_FF = feature_TF.T @ weighted_TF + np.diag(penalty_F)
    effect_F: NDArray[np.float64] = np.linalg.solve(normal_FF, weighted_TF.T @ latency_ms_T)
    return effect_F


def additive_latency_ms(feature_TF: NDArray[np.float64], latency_ms_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Predict every row in ms from the rows with a latency; NaN stands for a latency that is not known."""
    known_T = np.isfinite(latency_ms_T)
    effect_F = fit_additive(feature_TF[known_T], latency_ms_T[known_T], np.ones(known_T.sum()))
    return predicted_ms(feature_TF, effect_F, floor_ms=float(latency_ms_T[known_T].min()))


def predicted_ms(
    feature_TF: NDArray[np.float64], effect_F: NDArray[np.float64], *, floor_ms: float
) -> NDArray[np.float64]:
    """Return the sum of effects in ms; no sum may fall below half of the least latency that was seen."""
    latency_ms_T: NDArray[np.float64] = np.maximum(feature_TF @ effect_F, floor_ms / 2)
    return latency_ms_T


def autocorrelation(residual_T: NDArray[np.float64]) -> float:
    """Return the lag-1 autocorrelation of what a model leaves over: 0 for noise, near 1 for slow drift.

    >>> round(autocorrelation(np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])), 2)
    0.5
    """
    centred_T = residual_T - residual_T.mean()
    power = float(centred_T @ centred_T)
    return float(centred_T[1:] @ centred_T[:-1]) / power if power > 0 else 0.0
