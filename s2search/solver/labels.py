"""Label-setting over the layers: partial layouts as labels, kept while they can still win.

A label is a partial layout: latency and memory so far, score so far, and the stream it ends in. It is dropped if it
cannot be completed within the budgets, if a Lagrangian bound says that no completion beats the best layout known, or if
another label that ends in the same stream is no slower, no larger and scores no lower. Where more than `width` are
left, those with the lowest bounds are cut; the largest bound among them says what the cut could have cost.

Activation peaks are not in a label: `peak_levels` and `within_peaks` give problems in which they may be forgotten.

Axes:  L layers  C candidates  S streams  N labels
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.problem import Int, Problem
from s2search.solver.dual import Dual

#: (score, minus latency): what a layout is worth. Of equal scores the faster one wins.
Rank = tuple[int, int]

NOTHING: Rank = (-(2**62), -(2**62))
_NEVER = 2**61
_THRESHOLDS = 24


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Partial layouts; `parent_N` indexes the labels of the layer before."""

    latency_N: Int
    memory_N: Int
    score_N: Int
    stream_N: Int
    choice_N: Int
    parent_N: Int

    def keep(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Labels:
        """Return the labels at some indices, in that order."""
        return Labels(**{name: values[index] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return self.score_N.size


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What one pass over all layers found.

    `layout` is the best whole layout and `rank` its worth; None and `NOTHING` where it found none that beats the one
    known. `cut` is the largest bound (fixed-point score) among labels that were cut: no layout that was not looked at
    scores above it. `NOTHING`'s score where nothing was cut, so that what was found is proven best.
    """

    layout: tuple[int, ...] | None
    rank: Rank
    cut: int


def peak_levels(problem: Problem) -> list[int]:
    """Return the distinct activation peaks that fit the memory budget, ascending, bytes."""
    levels = np.unique(problem.peak_bytes_LC[problem.allowed_LC])
    return [int(level) for level in levels if level <= problem.memory_budget_bytes]


def within_peaks(problem: Problem, low: int, high: int) -> Problem | None:
    """Return a relaxation of all layouts whose largest peak lies between two levels, bytes; None if there are none.

    Choices with peaks above `high` are forbidden and `low` is taken out of the memory budget. Where both are equal it
    is no relaxation any more.
    """
    allowed_LC = problem.allowed_LC & (problem.peak_bytes_LC <= high)
    if not allowed_LC.any(axis=1).all():
        return None
    return dataclasses.replace(problem, allowed_LC=allowed_LC, memory_budget_bytes=problem.memory_budget_bytes - low)


def sweep(problem: Problem, dual: Dual, *, width: int, best: Rank) -> Sweep:
    """Pass over the layers of a problem whose peaks may be forgotten; look for a layout that beats the best known."""
    to_go_us_LS, to_go_bytes_L = least_to_go(problem)
    labels, cut = _start(problem), NOTHING[0]
    layers: list[Labels] = []
    for layer in range(len(problem.score_LC)):
        labels = _extend(problem, labels, layer)
        latency_left_N = problem.latency_budget_us - labels.latency_N
        memory_left_N = problem.memory_budget_bytes - labels.memory_N
        least_us_N = to_go_us_LS[layer + 1, labels.stream_N]
        bound_N = np.floor(labels.score_N + dual.bound_N(layer + 1, labels.stream_N, latency_left_N, memory_left_N))
        wins_N = (bound_N > best[0]) | ((bound_N == best[0]) & (labels.latency_N + least_us_N < -best[1]))
        fits_N = (least_us_N <= latency_left_N) & (to_go_bytes_L[layer + 1] <= memory_left_N)
        chosen = np.flatnonzero(wins_N & fits_N)
        chosen = chosen[_undominated(labels.keep(chosen))]
        if chosen.size > width:
            order = np.argsort(-bound_N[chosen], kind="stable")
            cut = max(cut, int(bound_N[chosen[order[width]]]))
            chosen = chosen[np.sort(order[:width])]
        labels = labels.keep(chosen)
        layers.append(labels)
    return _finish(problem, layers, cut)


def least_to_go(problem: Problem) -> tuple[Int, Int]:
    """Return the least latency from each layer and stream to the head, and the least memory still to come."""
    layers, streams = len(problem.score_LC), len(problem.switch_us_SS)
    latency_LS = np.empty((layers + 1, streams), np.int64)
    latency_LS[layers] = problem.switch_us_SS[:, problem.last_stream]
    latency_LC = np.where(problem.allowed_LC, problem.latency_us_LC, _NEVER)
    for layer in reversed(range(layers)):
        into_C = latency_LC[layer] + latency_LS[layer + 1, problem.stream_C]
        latency_LS[layer] = (problem.switch_us_SS[:, problem.stream_C] + into_C).min(axis=1)
    smallest_L = np.where(problem.allowed_LC, problem.memory_bytes_LC, _NEVER).min(axis=1)
    return latency_LS, np.append(smallest_L[::-1].cumsum()[::-1], 0)


def _start(problem: Problem) -> Labels:
    one = np.zeros(1, np.int64)
    return Labels(
        latency_N=one + problem.fixed_us,
        memory_N=one + problem.fixed_bytes,
        score_N=one,
        stream_N=one + problem.first_stream,
        choice_N=one,
        parent_N=one,
    )


def _extend(problem: Problem, labels: Labels, layer: int) -> Labels:
    """Return every label extended by every allowed choice of one layer."""
    choices = np.flatnonzero(problem.allowed_LC[layer])
    n, c = np.repeat(np.arange(len(labels)), choices.size), np.tile(choices, len(labels))
    stream_N = problem.stream_C[c]
    return Labels(
        latency_N=labels.latency_N[n]
        + problem.switch_us_SS[labels.stream_N[n], stream_N]
        + problem.latency_us_LC[layer, c],
        memory_N=labels.memory_N[n] + problem.memory_bytes_LC[layer, c],
        score_N=labels.score_N[n] + problem.fixed_point_score_LC[layer, c],
        stream_N=stream_N,
        choice_N=c.astype(np.int64),
        parent_N=n.astype(np.int64),
    )


def _undominated(labels: Labels) -> NDArray[np.intp]:
    """Return the indices of labels left after dropping dominated ones, in order; of equal labels the first stays.

    Not all dominated labels are found, which costs time and never an answer: each is compared with the best score of
    all faster ones up to some thresholds of memory.
    """
    order = np.lexsort((-labels.score_N, labels.memory_N, labels.latency_N, labels.stream_N))
    memory_N, score_N, stream_N = labels.memory_N[order], labels.score_N[order], labels.stream_N[order]
    dominated_N = np.zeros(order.size, np.bool_)
    dominated_N[1:] = (np.diff(np.stack([labels.latency_N[order], memory_N, score_N, stream_N])) == 0).all(axis=0)
    for stream in np.unique(stream_N):
        here = np.flatnonzero(stream_N == stream)
        dominated_N[here] |= _below_a_threshold(memory_N[here], score_N[here])
    return np.sort(order[~dominated_N])


def _below_a_threshold(memory_N: Int, score_N: Int) -> NDArray[np.bool_]:
    """Mark labels of one stream, sorted by latency, that an earlier one dominates."""
    dominated_N = np.zeros(memory_N.size, np.bool_)
    if memory_N.size < 2:
        return dominated_N
    if (score_N == score_N[0]).all():
        dominated_N[1:] = memory_N[1:] >= np.minimum.accumulate(memory_N)[:-1]
        return dominated_N
    distinct = np.unique(memory_N)
    for threshold in distinct[np.linspace(0, distinct.size - 1, min(distinct.size, _THRESHOLDS)).astype(np.int64)]:
        within_N = np.where(memory_N <= threshold, score_N, NOTHING[0])
        before_N = np.maximum.accumulate(within_N)[:-1]
        dominated_N[1:] |= (memory_N[1:] >= threshold) & (score_N[1:] <= before_N)
    return dominated_N


def _finish(problem: Problem, layers: list[Labels], cut: int) -> Sweep:
    """Reach the head, and follow the best label back to its first layer."""
    last = layers[-1]
    latency_N = last.latency_N + problem.switch_us_SS[last.stream_N, problem.last_stream]
    if not len(last):
        return Sweep(layout=None, rank=NOTHING, cut=cut)
    n = int(np.lexsort((last.memory_N, latency_N, -last.score_N))[0])
    rank = (int(last.score_N[n]), -int(latency_N[n]))
    choice_L: list[int] = []
    for labels in reversed(layers):
        choice_L.append(int(labels.choice_N[n]))
        n = int(labels.parent_N[n])
    return Sweep(layout=tuple(reversed(choice_L)), rank=rank, cut=cut)
