"""Which rows of a table stand in a relation to others, without looking at all pairs.

Rows are points, halved again and again along their widest side (a k-d tree). Two boxes of points are compared at once:
where no pair of them can stand in the relation, or every pair must, their points need not be looked at
(source: Gray and Moore, "N-body problems in statistical learning", NIPS 2000, the dual-tree algorithm).

Axes:  N rows  F features  P pairs (of boxes, or of rows)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

_LEAF = 8  # rows of the smallest box
_COMPARED = 500_000  # pairs of boxes at once
_LOOKED_AT = 10_000  # pairs of smallest boxes at once
_NONE = 2**62


class Relation(ABC):
    """Something that holds between one row and another, told for boxes of features as far as boxes tell it."""

    @abstractmethod
    def between(self, low_FP: Float, high_FP: Float, other_low_FP: Float, other_high_FP: Float) -> tuple[Bool, Bool]:
        """Return where it holds for no rows of two boxes, and where for all."""

    @abstractmethod
    def holds(self, one_P: Int, other_P: Int) -> Bool:
        """Return for which rows it holds."""


class Boxes:
    """Rows in boxes of boxes. Rows of two groups stand in no relation."""

    def __init__(self, feature_FN: Float, group_N: Int) -> None:
        self.rows, self._group_N = len(group_N), group_N
        levels = 1 + max(0, math.ceil(math.log2(self.rows / _LEAF)))
        size = -(-self.rows // 2 ** (levels - 1)) * 2 ** (levels - 1)
        order = np.minimum(np.arange(size), self.rows - 1)[None]  # the last row fills up, and is counted once
        ranks = [np.unique(value_N, return_inverse=True)[1].ravel() for value_N in feature_FN]
        rank_FN = np.stack([self.rows * group_N, *ranks])  # groups are told apart before anything else
        rank = np.take(rank_FN, order, axis=1)
        for _ in range(levels - 1):
            widest = (rank.max(axis=2) - rank.min(axis=2)).argmax(axis=0)
            halved = np.argpartition(rank[widest, np.arange(len(order))], order.shape[1] // 2, axis=1)
            order = np.take_along_axis(order, halved, axis=1).reshape(2 * len(order), -1)
            rank = np.take_along_axis(rank, halved[None], axis=2).reshape(len(rank), len(order), -1)
        self.order: Int = order
        once = np.zeros(order.size, np.bool_)
        once[np.unique(order, return_index=True)[1]] = True
        self.once = once.reshape(order.shape)
        # By level, that of one box first: what is known of each box.
        feature = np.take(feature_FN, order, axis=1)
        self.low = _levels(feature.min(axis=2), levels, np.minimum)
        self.high = _levels(feature.max(axis=2), levels, np.maximum)
        self.first = _levels(order.min(axis=1), levels, np.minimum)
        self.count = _levels(self.once.sum(axis=1), levels, np.add)
        self._group_low = _levels(group_N[order].min(axis=1), levels, np.minimum)
        self._group_high = _levels(group_N[order].max(axis=1), levels, np.maximum)

    def first_related(self, relation: Relation, asked_N: Bool) -> Int:
        """Return for each row that is asked the first of all that it stands in the relation to; -1 for none."""
        found_N = np.where(asked_N, _NONE, -1)
        found = [found_N[self.order].reshape(len(first), -1).max(axis=1) for first in self.first]

        def open_boxes(level: int, one_P: Int, other_P: Int, never_P: Bool, always_P: Bool) -> Bool:
            np.minimum.at(found[level], one_P[always_P], self.first[level][other_P[always_P]])
            best = _down(found[: level + 1], np.minimum)
            return np.asarray(~never_P & ~always_P & (self.first[level][other_P] < best[one_P]))

        def look(one_P: Int, other_P: Int) -> None:
            best = np.minimum(found_N[self.order].max(axis=1), _down(found, np.minimum))
            near_P = self.first[-1][other_P] < best[one_P]
            one, other = self._rows_of(one_P[near_P], other_P[near_P])
            holds = self._holds(relation, one, other)
            np.minimum.at(found_N, one[holds], other[holds])

        self._compare(relation, open_boxes, look, np.zeros(1, np.int64), np.zeros(1, np.int64))
        found_N = np.where(asked_N, np.minimum(found_N, self._by_row(_down(found, np.minimum))), -1)
        return np.where(found_N == _NONE, -1, found_N)

    def related_to_most(self, relation: Relation, asked_N: Bool) -> Bool:
        """Return which rows of those asked stand in the relation to more than half of the others of their group.

        To itself no row does.
        """
        most_N = (np.bincount(self._group_N)[self._group_N] - 1) // 2
        most_N[~asked_N] = self.rows  # that is never more
        least = _levels(most_N[self.order].min(axis=1), len(self.first), np.minimum)
        most = _levels(most_N[self.order].max(axis=1), len(self.first), np.maximum)
        yes, no = ([np.zeros(len(first), np.int64) for first in self.first] for _ in range(2))
        yes_N = np.zeros(self.rows, np.int64)

        def open_boxes(level: int, one_P: Int, other_P: Int, never_P: Bool, always_P: Bool) -> Bool:
            np.add.at(no[level], one_P[never_P], self.count[level][other_P[never_P]])
            np.add.at(yes[level], one_P[always_P], self.count[level][other_P[always_P]])
            settled = _down(yes[: level + 1], np.add) > most[level]
            settled |= self.rows - _down(no[: level + 1], np.add) <= least[level]
            return np.asarray(~never_P & ~always_P & ~settled[one_P])

        def look(one_P: Int, other_P: Int) -> None:
            one, other = self._rows_of(one_P, other_P)
            counted = np.logical_and(*self._rows_of(one_P, other_P, self.once))
            np.add.at(yes_N, one[self._holds(relation, one, other) & counted], 1)

        self._compare(relation, open_boxes, look, np.zeros(1, np.int64), np.zeros(1, np.int64))
        return np.asarray(yes_N + self._by_row(_down(yes, np.add)) > most_N)

    def _compare(
        self,
        relation: Relation,
        open_boxes: Callable[[int, Int, Int, Bool, Bool], Bool],
        look: Callable[[Int, Int], None],
        one_P: Int,
        other_P: Int,
        level: int = 0,
    ) -> None:
        """Compare pairs of boxes of one level, and the halves of those that are still to be opened."""
        low, high = self.low[level], self.high[level]
        never_P, always_P = relation.between(low[:, one_P], high[:, one_P], low[:, other_P], high[:, other_P])
        least, most = self._group_low[level], self._group_high[level]
        never_P |= (most[one_P] < least[other_P]) | (most[other_P] < least[one_P])
        always_P &= (least[one_P] == most[other_P]) & (least[other_P] == most[one_P])
        opened_P = open_boxes(level, one_P, other_P, never_P, always_P)
        one_P, other_P = one_P[opened_P], other_P[opened_P]
        if level == len(self.first) - 1:
            by_first = np.argsort(self.first[level][other_P], kind="stable")
            for start in range(0, len(one_P), _LOOKED_AT):
                now = by_first[start : start + _LOOKED_AT]
                look(one_P[now], other_P[now])
            return
        one_P = (2 * one_P[:, None] + np.array([0, 0, 1, 1])).ravel()
        other_P = (2 * other_P[:, None] + np.array([0, 1, 0, 1])).ravel()
        # All pairs of one box stay together: what is known of it comes from all of them.
        order = np.argsort(one_P, kind="stable")
        cuts = np.searchsorted(one_P[order], one_P[order][_COMPARED::_COMPARED])
        for now in np.split(order, np.unique(cuts[cuts > 0])):
            if len(now):
                self._compare(relation, open_boxes, look, one_P[now], other_P[now], level + 1)

    def _holds(self, relation: Relation, one_P: Int, other_P: Int) -> Bool:
        return np.asarray(relation.holds(one_P, other_P) & (self._group_N[one_P] == self._group_N[other_P]))

    def _rows_of(self, one_P: Int, other_P: Int, of: Any = None) -> tuple[Any, Any]:
        """Return all pairs of rows of pairs of the smallest boxes."""
        of = self.order if of is None else of
        one, other = np.broadcast_arrays(of[one_P][:, :, None], of[other_P][:, None, :])
        return one.ravel(), other.ravel()

    def _by_row(self, value: Int) -> Int:
        """Return what is known of the smallest boxes for each of their rows."""
        value_N = np.empty(self.rows, np.int64)
        value_N[self.order] = value[:, None]
        return value_N


def _levels(value: Any, levels: int, join: np.ufunc) -> list[Any]:
    """Return what is known of the boxes of each level, from what is known of those of the last."""
    known = [value]
    for _ in range(levels - 1):
        known.append(join(known[-1][..., 0::2], known[-1][..., 1::2]))
    return known[::-1]


def _down(value: Sequence[Int], join: np.ufunc) -> Int:
    """Return what is known of each box of the last level, that of all boxes around it included."""
    known = value[0]
    for inner in value[1:]:
        known = join(np.repeat(known, 2), inner)
    return np.asarray(known)
