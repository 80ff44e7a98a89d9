"""What rows of one part at several shapes say against each other. A table may hold 100,000 of them.

Each relation is stated for pairs of rows, and for pairs of boxes of rows, which pairs.py needs to leave most pairs out.

Axes:  N rows  P pairs  F features  G groups: rows that are compared with each other
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search.lint.base import DEVIATIONS, NOISE, UNITS_APART
from s2search.lint.pairs import Bool, Boxes, Float, Int, Relation
from s2search.tables.columns import Groups
from s2search.tables.rows import Rows

_SIZES = ("frames", "height", "width", "context_frames", "channels", "feed_forward", "text_tokens")
_SURE = 1e-9  # of a number: more than rounding changes
_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64)
_MOST_CELLS = 8_000_000  # of a grid of sizes: 64 MB

#: The places of rows, and of the first other one that each stands in a relation to.
Found = tuple[Int, Int]


def slower_than_less_work(rows: Rows, groups: Groups) -> Found:
    """Return the rows that take less time than one of their group with less work, with the slowest such one."""
    least_G, most_G = _extremes(rows, groups)
    spread = np.flatnonzero((most_G * (1 - NOISE) > least_G)[groups.group_N])
    spread = spread[np.argsort(-rows.numbers("latency_ms")[spread], kind="stable")]  # so the first is the slowest
    feature_FN = np.stack([rows.numbers(name)[spread] for name in (*_SIZES, "latency_ms", "latency_std_ms")])
    feature_FN = np.nan_to_num(feature_FN)  # what states no deviation has none
    group_N, relation = groups.group_N[spread], _Slower(feature_FN)
    asked_N, first_N = feature_FN[-2] > 0, np.full(len(spread), -1)
    if (grid := _Grid.of(feature_FN[:-2], group_N)) is not None:
        slowest_N = grid.first_of_less_work()
        asked_N &= grid.may_be_slower(*feature_FN[-2:]) & (slowest_N >= 0)
        known = np.flatnonzero(asked_N)
        known = known[relation.holds(known, slowest_N[known])]
        first_N[known], asked_N[known] = slowest_N[known], False
    if asked_N.any():  # the slowest is no contradiction, since its deviation is large, and another may be one
        kept = np.flatnonzero(np.bincount(group_N, asked_N)[group_N])
        boxes = Boxes(feature_FN[:, kept], group_N[kept])
        found_N = boxes.first_related(_Slower(feature_FN[:, kept]), asked_N[kept])
        at = np.flatnonzero(found_N >= 0)
        first_N[kept[at]] = kept[found_N[at]]
    ones, others = _places(spread, first_N)
    order = np.argsort(ones, kind="stable")
    return ones[order], others[order]


def worlds_apart_from_most(rows: Rows, groups: Groups) -> Found:
    """Return the rows whose latency is further from most others' of their group than sizes explain.

    Beside each stands the first that it is so far from. Of just two rows either may be wrong; the later one is named.
    """
    least_G, most_G = _extremes(rows, groups)
    spread = np.flatnonzero((most_G >= (1 - 1e-9) * UNITS_APART * least_G)[groups.group_N])
    asked_N = _may_be_apart_from_most(rows.numbers("latency_ms")[spread], groups.group_N[spread])
    if not asked_N.any():
        return _NOTHING
    relation = _Apart(rows.take(spread))
    boxes = Boxes(relation.feature_FN, groups.group_N[spread])
    apart_N = boxes.related_to_most(relation, asked_N)
    return _places(spread, boxes.first_related(relation, apart_N)) if apart_N.any() else _NOTHING


def _extremes(rows: Rows, groups: Groups) -> tuple[Float, Float]:
    """Return the least and the most latency of each group, in milliseconds."""
    least_G, most_G = np.full(len(groups), np.inf), np.full(len(groups), -np.inf)
    np.minimum.at(least_G, groups.group_N, rows.numbers("latency_ms"))
    np.maximum.at(most_G, groups.group_N, rows.numbers("latency_ms"))
    return least_G, most_G


def _places(chosen: Int, first_N: Int) -> Found:
    one = np.flatnonzero(first_N >= 0)
    return chosen[one], chosen[first_N[one]]


class _Grid:
    """Rows as places in a grid of their sizes, group by group: what all smaller cells have is one pass per size.

    Tables mostly measure such a grid.
    """

    def __init__(self, place_FN: list[Int], shape: tuple[int, ...]) -> None:
        self._place_FN, self._shape = place_FN, shape
        self._place_N = np.ravel_multi_index(place_FN, shape)

    @classmethod
    def of(cls, size_FN: Float, group_N: Int) -> _Grid | None:
        """Return the grid of rows, None where it would be too large."""
        place_FN = [Groups.of(group_N).group_N, *(_rank_in_group(size_N, group_N) for size_N in size_FN)]
        shape = tuple(1 + int(place_N.max(initial=0)) for place_N in place_FN)
        return None if math.prod(shape) > _MOST_CELLS else cls(place_FN, shape)

    def _cumulated(self, join: np.ufunc, value_N: NDArray[Any], nothing: float) -> NDArray[Any]:
        """Return what a cell and all smaller ones of its group have."""
        cells = np.full(math.prod(self._shape), nothing, value_N.dtype)
        join.at(cells, self._place_N, value_N)
        cells = cells.reshape(self._shape)
        for axis in range(1, len(self._shape)):
            join.accumulate(cells, axis=axis, out=cells)
        return cells

    def may_be_slower(self, latency_ms_N: Float, std_ms_N: Float) -> Bool:
        """Return for which rows the slowest of less work may be slower than chance explains; false is sure."""
        spread_ms_N = DEVIATIONS / math.sqrt(2) * std_ms_N  # of two deviations the root of squares is at least both's
        may_N = np.ones(len(latency_ms_N), np.bool_)
        for slow_ms_N, bound_ms_N in (
            ((1 - NOISE) * latency_ms_N, latency_ms_N),
            (latency_ms_N - spread_ms_N, latency_ms_N + spread_ms_N),
        ):
            most_ms = self._cumulated(np.maximum, slow_ms_N, -np.inf)
            may_N &= most_ms.ravel()[self._place_N] > bound_ms_N - _SURE * latency_ms_N
        return may_N

    def first_of_less_work(self) -> Int:
        """Return for each row the first of its group that is less in one size and more in none; -1 for none."""
        none = len(self._place_N)
        first = self._cumulated(np.minimum, np.arange(none), none)
        found_N = np.full(none, none)
        for axis in range(1, len(self._shape)):  # less by a step in this size, and more in none
            below_FN = [*self._place_FN[:axis], self._place_FN[axis] - 1, *self._place_FN[axis + 1 :]]
            steps_N = below_FN[axis] >= 0
            found_N[steps_N] = np.minimum(found_N[steps_N], first[tuple(place_N[steps_N] for place_N in below_FN)])
        return np.where(found_N == none, -1, found_N)


def _rank_in_group(size_N: Float, group_N: Int) -> Int:
    """Return the place of each size among the different ones of its group."""
    rank_N = np.unique(size_N, return_inverse=True)[1].ravel()
    ranks = 1 + rank_N.max(initial=0)
    pair, place_N = np.unique(group_N * ranks + rank_N, return_inverse=True)
    return np.asarray(place_N.ravel() - np.searchsorted(pair, group_N * ranks))


def _may_be_apart_from_most(latency_ms_N: Float, group_N: Int) -> Bool:
    """Return which rows may be apart from most of their group; false is sure: half of it takes about as long."""
    log_N, far = np.log(latency_ms_N), math.log(UNITS_APART)
    log_N += group_N * (log_N.max(initial=0) - log_N.min(initial=0) + 2 * far)  # groups lie beyond each other's reach
    sorted_N, reach = np.sort(log_N), far - 1e-6  # what was added rounds
    near_N = np.searchsorted(sorted_N, log_N + reach) - np.searchsorted(sorted_N, log_N - reach)
    others_N = np.bincount(group_N, minlength=1)[group_N] - 1
    may_N = 2 * (near_N - 1) < others_N
    first = np.unique(group_N, return_index=True)[1]
    may_N[first[others_N[first] == 1]] = False  # of two rows
    return np.asarray(may_N)


class _Slower(Relation):
    """Whether another row, of less work in one size and of more in none, takes longer than chance explains.

    Features: the sizes, then the latency and its deviation in milliseconds.
    """

    def __init__(self, feature_FN: Float) -> None:
        self._feature_FN = feature_FN

    @override
    def holds(self, one_P: Int, other_P: Int) -> Bool:
        (*size_FP, ms_P, std_ms_P), (*other_size_FP, other_ms_P, other_std_ms_P) = (
            self._feature_FN[:, places_P] for places_P in (one_P, other_P)
        )
        holds_P = (ms_P > 0) & (other_ms_P - ms_P > NOISE * other_ms_P)
        holds_P &= other_ms_P - ms_P > DEVIATIONS * np.hypot(std_ms_P, other_std_ms_P)
        return np.asarray(holds_P & _is_less(other_size_FP, size_FP))

    @override
    def between(self, low_FP: Float, high_FP: Float, other_low_FP: Float, other_high_FP: Float) -> tuple[Bool, Bool]:
        (*least_FP, low_ms_P, low_std_P), (*most_FP, high_ms_P, high_std_P) = low_FP, high_FP
        (*other_least_FP, other_low_ms_P, other_low_std_P) = other_low_FP
        (*other_most_FP, other_high_ms_P, other_high_std_P) = other_high_FP
        most_ms_P, least_ms_P = other_high_ms_P - low_ms_P, other_low_ms_P - high_ms_P
        never_P = np.any([other_P > mine_P for other_P, mine_P in zip(other_least_FP, most_FP, strict=True)], axis=0)
        never_P |= most_ms_P <= NOISE * other_high_ms_P * (1 - _SURE)
        never_P |= most_ms_P <= DEVIATIONS * np.hypot(low_std_P, other_low_std_P) * (1 - _SURE)
        always_P = _is_less(other_most_FP, least_FP)
        always_P &= least_ms_P > NOISE * other_low_ms_P * (1 + _SURE)
        always_P &= least_ms_P > DEVIATIONS * np.hypot(high_std_P, other_high_std_P) * (1 + _SURE)
        return never_P, always_P


def _is_less(one_FP: Sequence[Float], other_FP: Sequence[Float]) -> Bool:
    """Return where sizes are less in one and more in none."""
    pairs = list(zip(one_FP, other_FP, strict=True))
    return np.asarray(
        np.all([one <= other for one, other in pairs], axis=0) & np.any([a < b for a, b in pairs], axis=0)
    )


class _Apart(Relation):
    """Whether two latencies differ by more than 100 times what lies between no growth and quadratic growth.

    Features: the logarithms of tokens, of the frames that they see, of the area, and of the latency.
    """

    def __init__(self, rows: Rows) -> None:
        frames_N, height_N, width_N = (rows.numbers(name) for name in ("frames", "height", "width"))
        area_N, seen_N = height_N * width_N, frames_N + rows.numbers("context_frames")
        self._amount_FN = np.stack([frames_N * area_N, seen_N, area_N, rows.numbers("latency_ms")])
        self.feature_FN = np.log(self._amount_FN)

    @override
    def holds(self, one_P: Int, other_P: Int) -> Bool:
        tokens_N = self._amount_FN[0]
        larger_P = tokens_N[one_P] > tokens_N[other_P]
        large_FP = self._amount_FN[:, np.where(larger_P, one_P, other_P)]
        small_FP = self._amount_FN[:, np.where(larger_P, other_P, one_P)]
        growth_P = large_FP[0] * large_FP[1] / (small_FP[0] * small_FP[1]) * np.maximum(1.0, large_FP[2] / small_FP[2])
        ratio_P = large_FP[3] / small_FP[3]
        return np.asarray((ratio_P <= 1 / UNITS_APART) | (ratio_P >= UNITS_APART * np.maximum(growth_P, 1.0)))

    @override
    def between(self, low_FP: Float, high_FP: Float, other_low_FP: Float, other_high_FP: Float) -> tuple[Bool, Bool]:
        larger = self._grown(low_FP, high_FP, other_low_FP, other_high_FP)
        smaller = self._grown(other_low_FP, other_high_FP, low_FP, high_FP)
        surely_larger_P = other_low_FP[0] > high_FP[0] + _SURE
        surely_smaller_P = other_high_FP[0] < low_FP[0] - _SURE
        never_P = (larger[0] | surely_smaller_P) & (smaller[0] | surely_larger_P)
        always_P = (larger[1] | surely_smaller_P) & (smaller[1] | surely_larger_P)
        most_P = np.maximum(other_high_FP[3] - low_FP[3], high_FP[3] - other_low_FP[3])
        return never_P | (most_P < math.log(UNITS_APART) - _SURE), always_P

    def _grown(self, low_FP: Float, high_FP: Float, other_low_FP: Float, other_high_FP: Float) -> tuple[Bool, Bool]:
        """Return where the latencies are never and where always apart, if the others are the larger ones."""
        far = math.log(UNITS_APART)
        least_FP, most_FP = other_low_FP - high_FP, other_high_FP - low_FP
        least_growth_P = np.maximum(least_FP[0] + least_FP[1] + np.maximum(least_FP[2], 0), 0)
        most_growth_P = np.maximum(most_FP[0] + most_FP[1] + np.maximum(most_FP[2], 0), 0)
        never_P = (least_FP[3] > -far + _SURE) & (most_FP[3] < far + least_growth_P - _SURE)
        always_P = (most_FP[3] < -far - _SURE) | (least_FP[3] > far + most_growth_P + _SURE)
        return never_P, always_P
