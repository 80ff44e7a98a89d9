"""The relations of kin.py for boxes of rows: what pairs.py needs to leave most pairs out.

What rounding leaves open, or what only the last bit decides, is asked of the relation itself, row by row.

Axes:  N rows  P pairs  F features
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter

import numpy as np
from typing_extensions import override

from s2search.lint.base import DEVIATIONS, NOISE
from s2search.lint.pairs import Bool, Boxes, Float, Int, Relation
from s2search.tables.row import Row

_SURE = 1e-9  # of a number: more than rounding changes
_MOST_CELLS = 8_000_000  # of a grid of sizes: 64 MB

Holds = Callable[[Row, Row], bool]


def first_slower(rows: Sequence[Row], sizes: Sequence[str], holds: Holds) -> list[int]:
    """Return for each row the first that is slower with less work, by their places; -1 for none."""
    sizes_NF = np.column_stack([_numbers(rows, size) for size in sizes])
    latency_ms_N, std_ms_N = _numbers(rows, "latency_ms"), np.nan_to_num(_numbers(rows, "latency_std_ms"))
    varying_NF = sizes_NF[:, np.ptp(sizes_NF, axis=0) > 0]
    feature_NF = np.column_stack([varying_NF, latency_ms_N, std_ms_N])
    asked_N = (latency_ms_N > 0) & _may_be_slower(varying_NF, latency_ms_N, std_ms_N)
    if not asked_N.any():
        return [-1] * len(rows)
    relation = _Slower(feature_NF, rows, holds)
    return [int(n) for n in Boxes(feature_NF).first_related(relation, asked_N)]


def _may_be_slower(sizes_NF: Float, latency_ms_N: Float, std_ms_N: Float) -> Bool:
    """Return for which rows the slowest of less work may be slower than chance explains; false is sure.

    Tables mostly measure a grid of sizes, where the most of all smaller cells is one running maximum per size.
    """
    place_FN = [np.unique(size_N, return_inverse=True)[1].ravel() for size_N in sizes_NF.T]
    grid = tuple(int(place_N.max()) + 1 for place_N in place_FN)
    if math.prod(grid) > _MOST_CELLS:
        return np.ones(len(sizes_NF), np.bool_)
    place_N = np.ravel_multi_index(place_FN, grid)
    spread_ms_N = DEVIATIONS / math.sqrt(2) * std_ms_N  # of two deviations the root of squares is at least that of both
    may_N = np.ones(len(sizes_NF), np.bool_)
    for slow_ms_N, bound_ms_N in (
        ((1 - NOISE) * latency_ms_N, latency_ms_N),
        (latency_ms_N - spread_ms_N, latency_ms_N + spread_ms_N),
    ):
        most_ms = np.full(math.prod(grid), -np.inf)
        np.maximum.at(most_ms, place_N, slow_ms_N)
        most_ms = most_ms.reshape(grid)
        for axis in range(len(grid)):
            np.maximum.accumulate(most_ms, axis=axis, out=most_ms)
        may_N &= most_ms.ravel()[place_N] > bound_ms_N - _SURE * latency_ms_N
    return may_N


def first_apart_from_most(rows: Sequence[Row], units_apart: float, holds: Holds) -> list[int]:
    """Return for each row that is apart from most the first that it is apart from, by their places; else -1."""
    names = ("frames", "height", "width", "context_frames", "latency_ms")
    frames_N, height_N, width_N, context_N, latency_ms_N = (_numbers(rows, name) for name in names)
    area_N, seen_N = height_N * width_N, frames_N + context_N
    feature_NF = np.log(np.column_stack([frames_N * area_N, seen_N, area_N, latency_ms_N]))
    relation = _Apart(feature_NF, rows, holds, np.log(units_apart))
    boxes = Boxes(feature_NF)
    return [int(n) for n in boxes.first_related(relation, boxes.related_to_most(relation))]


def _numbers(rows: Sequence[Row], name: str) -> Float:
    """Return a column; what is not stated is no number."""
    return np.array(list(map(attrgetter(name), rows)), np.float64)


class _OfRows(Relation):
    """What a number decides that is above 0 where the relation holds; where it is near 0, the rows decide."""

    def __init__(self, feature_NF: Float, rows: Sequence[Row], holds: Holds) -> None:
        self.feature_NF, self._rows, self._holds = feature_NF, rows, holds

    @override
    def holds(self, one_P: Int, other_P: Int) -> Bool:
        one_PF, other_PF = self.feature_NF[one_P], self.feature_NF[other_P]
        never_P, sure_P = self.between(one_PF, one_PF, other_PF, other_PF)
        open_P = ~never_P & ~sure_P
        for p in np.flatnonzero(open_P):
            sure_P[p] = self._holds(self._rows[one_P[p]], self._rows[other_P[p]])
        return sure_P


class _Slower(_OfRows):
    @override
    def between(self, low_PF: Float, high_PF: Float, other_low_PF: Float, other_high_PF: Float) -> tuple[Bool, Bool]:
        most_ms_P, least_ms_P = other_high_PF[:, -2] - low_PF[:, -2], other_low_PF[:, -2] - high_PF[:, -2]
        never_P = (other_low_PF[:, :-2] > high_PF[:, :-2]).any(axis=1)
        never_P |= most_ms_P <= NOISE * other_high_PF[:, -2] * (1 - _SURE)
        never_P |= most_ms_P <= DEVIATIONS * np.hypot(low_PF[:, -1], other_low_PF[:, -1]) * (1 - _SURE)
        always_P = (other_high_PF[:, :-2] <= low_PF[:, :-2]).all(axis=1)
        always_P &= (other_high_PF[:, :-2] < low_PF[:, :-2]).any(axis=1)
        always_P &= least_ms_P > NOISE * other_low_PF[:, -2] * (1 + _SURE)
        always_P &= least_ms_P > DEVIATIONS * np.hypot(high_PF[:, -1], other_high_PF[:, -1]) * (1 + _SURE)
        return never_P, always_P


class _Apart(_OfRows):
    def __init__(self, feature_NF: Float, rows: Sequence[Row], holds: Holds, log_apart: float) -> None:
        super().__init__(feature_NF, rows, holds)
        self._log_apart = log_apart

    @override
    def between(self, low_PF: Float, high_PF: Float, other_low_PF: Float, other_high_PF: Float) -> tuple[Bool, Bool]:
        far = self._log_apart
        larger = self._grown(low_PF, high_PF, other_low_PF, other_high_PF)
        smaller = self._grown(other_low_PF, other_high_PF, low_PF, high_PF)
        surely_larger_P = other_low_PF[:, 0] > high_PF[:, 0] + _SURE
        surely_smaller_P = other_high_PF[:, 0] < low_PF[:, 0] - _SURE
        never_P = (larger[0] | surely_smaller_P) & (smaller[0] | surely_larger_P)
        always_P = (larger[1] | surely_smaller_P) & (smaller[1] | surely_larger_P)
        near_P = np.maximum(other_high_PF[:, 3] - low_PF[:, 3], high_PF[:, 3] - other_low_PF[:, 3]) < far - _SURE
        return never_P | near_P, always_P

    def _grown(self, low_PF: Float, high_PF: Float, other_low_PF: Float, other_high_PF: Float) -> tuple[Bool, Bool]:
        """Return where the latencies are never and where always apart, if the others are the larger ones."""
        far = self._log_apart
        least_PF, most_PF = other_low_PF - high_PF, other_high_PF - low_PF
        least_growth_P = np.maximum(least_PF[:, 0] + least_PF[:, 1] + np.maximum(least_PF[:, 2], 0), 0)
        most_growth_P = np.maximum(most_PF[:, 0] + most_PF[:, 1] + np.maximum(most_PF[:, 2], 0), 0)
        never_P = (least_PF[:, 3] > -far + _SURE) & (most_PF[:, 3] < far + least_growth_P - _SURE)
        always_P = (most_PF[:, 3] < -far - _SURE) | (least_PF[:, 3] > far + most_growth_P + _SURE)
        return never_P, always_P
