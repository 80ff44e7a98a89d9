"""Label-setting dynamic programming: every undominated (latency, memory, score) that the layers can reach.

A label is a partial layout that ends in some stream. One label dominates another that ends in the same stream if it is
no slower, no larger and scores no lower. Activation peaks are not in a label: `peak_levels` gives one problem per peak,
in which they may be forgotten.

Axes:  L layers  C candidates  S streams  N labels
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.problem import Int, Problem

_NEVER = 2**61


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Undominated partial layouts ending in one stream; `parent_N` indexes the labels of the layer before."""

    latency_N: Int
    memory_N: Int
    score_N: Int
    stream_N: Int
    choice_N: Int
    parent_N: Int

    def keep(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Labels:
        """Return the labels at some indices, in that order."""
        return Labels(**{name: values[index] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The labels of every layer, first to last, and those of whole layouts (head reached, all costs in)."""

    layers: tuple[Labels, ...]
    final: Labels

    def layout(self, n: int) -> tuple[int, ...]:
        """Follow the n-th final label back to its first layer."""
        choice_L: list[int] = []
        n = int(self.final.parent_N[n])
        for labels in reversed(self.layers):
            choice_L.append(int(labels.choice_N[n]))
            n = int(labels.parent_N[n])
        return tuple(reversed(choice_L))


def peak_levels(problem: Problem) -> Iterator[tuple[int, Problem]]:
    """Yield each activation peak (bytes, largest first) with the problem of staying at or below it.

    In that problem the choices above the level are forbidden and the level is taken out of the memory budget, so that
    peaks may be forgotten. A layout within the budgets is feasible at the level of its own largest peak.
    """
    for peak_bytes in np.unique(problem.peak_bytes_LC[problem.allowed_LC])[::-1].tolist():
        allowed_LC = problem.allowed_LC & (problem.peak_bytes_LC <= peak_bytes)
        if allowed_LC.any(axis=1).all() and peak_bytes <= problem.memory_budget_bytes:
            budget = problem.memory_budget_bytes - peak_bytes
            yield peak_bytes, dataclasses.replace(problem, allowed_LC=allowed_LC, memory_budget_bytes=budget)


def memory_binds(problem: Problem) -> bool:
    """Tell whether some layout (peaks apart) takes more than the memory budget."""
    largest_L = problem.memory_bytes_LC.max(axis=1, where=problem.allowed_LC, initial=0)
    return int(largest_L.sum()) + problem.fixed_bytes > problem.memory_budget_bytes


def sweep(problem: Problem) -> Sweep:
    """Run all layers of a problem whose peaks may be forgotten, dropping labels that cannot be completed in budget."""
    to_go_us_LS, to_go_bytes_L = least_to_go(problem)
    binds = memory_binds(problem)
    memory_N = np.zeros(1, np.int64)
    labels = Labels(
        latency_N=np.full(1, problem.fixed_us, np.int64),
        memory_N=memory_N + problem.fixed_bytes,
        score_N=memory_N,
        stream_N=memory_N + problem.first_stream,
        choice_N=memory_N,
        parent_N=memory_N,
    )
    layers = []
    for layer in range(len(problem.score_LC)):
        labels = _extend(problem, labels, layer)
        fits = (labels.latency_N + to_go_us_LS[layer + 1, labels.stream_N] <= problem.latency_budget_us) & (
            labels.memory_N + to_go_bytes_L[layer + 1] <= problem.memory_budget_bytes
        )
        labels = undominated(labels.keep(fits), memory_binds=binds)
        layers.append(labels)
    return Sweep(layers=tuple(layers), final=undominated(_arrive(problem, labels), memory_binds=binds))


def undominated(labels: Labels, *, memory_binds: bool) -> Labels:
    """Return the labels that no other of the same stream dominates; of equal ones, the first.

    Where memory cannot bind it does not count, beyond preferring the smaller of two labels that are otherwise equal.
    """
    kept = []
    for stream in np.unique(labels.stream_N):
        here = np.flatnonzero(labels.stream_N == stream)
        here = here[np.lexsort((-labels.score_N[here], labels.memory_N[here], labels.latency_N[here]))]
        front = (
            _staircase(labels.memory_N[here], labels.score_N[here]) if memory_binds else _rising(labels.score_N[here])
        )
        kept.append(here[front])
    return labels.keep(np.concatenate(kept) if kept else np.zeros(0, np.intp))


def _rising(score_N: Int) -> NDArray[np.bool_]:
    """Mark the scores that are higher than all before them."""
    return np.concatenate([[True], score_N[1:] > np.maximum.accumulate(score_N)[:-1]])


def _staircase(memory_N: Int, score_N: Int) -> NDArray[np.bool_]:
    """Mark the labels with no label before them that takes no more memory and scores no lower."""
    memories: list[int] = []  # ascending, and so are
    scores: list[int] = []  # the best scores up to each memory
    keep = np.zeros(memory_N.size, np.bool_)
    for n, (memory, score) in enumerate(zip(memory_N.tolist(), score_N.tolist(), strict=True)):
        at = bisect_right(memories, memory)
        if at and scores[at - 1] >= score:
            continue
        start, stop = bisect_left(memories, memory), bisect_right(scores, score)
        memories[start : max(start, stop)] = [memory]
        scores[start : max(start, stop)] = [score]
        keep[n] = True
    return keep


def _extend(problem: Problem, labels: Labels, layer: int) -> Labels:
    """Return every label extended by every allowed choice of one layer."""
    choices = np.flatnonzero(problem.allowed_LC[layer])
    n, c = (axis.ravel() for axis in np.meshgrid(np.arange(labels.score_N.size), choices, indexing="ij"))
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


def _arrive(problem: Problem, labels: Labels) -> Labels:
    """Return whole layouts: every label with the switch to the head's stream added."""
    size = labels.score_N.size
    return Labels(
        latency_N=labels.latency_N + problem.switch_us_SS[labels.stream_N, problem.last_stream],
        memory_N=labels.memory_N,
        score_N=labels.score_N,
        stream_N=np.full(size, problem.last_stream, np.int64),
        choice_N=np.full(size, -1, np.int64),
        parent_N=np.arange(size, dtype=np.int64),
    )


def least_to_go(problem: Problem) -> tuple[Int, Int]:
    """Return the least latency from each stream and layer to the head, and the least memory still to come."""
    layers, streams = len(problem.score_LC), len(problem.switch_us_SS)
    latency_LS = np.empty((layers + 1, streams), np.int64)
    memory_L = np.zeros(layers + 1, np.int64)
    latency_LS[layers] = problem.switch_us_SS[:, problem.last_stream]
    for layer in reversed(range(layers)):
        into_C = problem.latency_us_LC[layer] + latency_LS[layer + 1, problem.stream_C]
        into_SC = problem.switch_us_SS[:, problem.stream_C] + into_C
        latency_LS[layer] = np.where(problem.allowed_LC[layer], into_SC, _NEVER).min(axis=1)
        smallest = np.where(problem.allowed_LC[layer], problem.memory_bytes_LC[layer], _NEVER).min()
        memory_L[layer] = smallest + memory_L[layer + 1]
    return latency_LS, memory_L
