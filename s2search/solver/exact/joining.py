"""Joining two walks: the best pair of a label from the stem and one from the head, per case.

At the best prices, no pair within the limits scores above the sum of both priced scores and the priced limits; what is
left of a resource costs its price. So only pairs matter that leave little of every priced resource: heads are tried by
falling priced score, each with the tails in a window of one resource.

Axes:  R resources  K cases  N pairs (in loops over labels: heads)  M tails
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.solver.exact.graph import Graph
from s2search.solver.exact.labels import NOTHING, Labels, Walk, trace
from s2search.solver.problem import Int

_PAIRS_FIRST, _PAIRS_MOST = 2**12, 2**18


@dataclass(frozen=True, kw_only=True)
class Found:
    """A whole layout and its worth: score (fixed-point) and latency, `NOTHING` where there is none."""

    layout: tuple[int, ...] | None = None
    score: int = NOTHING
    latency: int = -NOTHING


def join(forward: Walk, backward: Walk) -> list[Found]:
    """Return, per case, the best layout that beats the best known, where the two walks meet."""
    case_N, case_M = forward.labels.case_N, backward.labels.case_N
    return [
        _best_pair(forward, backward, k, np.flatnonzero(case_N == k), np.flatnonzero(case_M == k))
        for k in range(len(forward.cases))
    ]


def _best_pair(forward: Walk, backward: Walk, k: int, heads: NDArray[np.intp], tails: NDArray[np.intp]) -> Found:
    if not heads.size or not tails.size:
        return Found()
    graph, limit_R, price_R = forward.graph, forward.cases.limit_KR[k], forward.dual.price_KPR[k, 0]
    head, tail = forward.labels.keep(heads), backward.labels.keep(tails)
    value_N, value_M = (labels.score_N - price_R @ labels.used_RN for labels in (head, tail))
    order = np.argsort(-value_N, kind="stable")
    head, heads = head.keep(order), heads[order]
    step, margin = forward.walked, forward.dual.margin_K[k]
    most_N = value_N[order] + value_M.max() + price_R @ limit_R + graph.step_score_SS(step).max() + margin
    known = Found(score=int(forward.best.score_K[k]), latency=int(forward.best.latency_K[k]))
    r = _narrowest(limit_R, price_R, head, tail, most_N - known.score)
    order = np.argsort(tail.used_RN[r], kind="stable")
    tail, tails = tail.keep(order), tails[order]
    pair, start, most = None, 0, _PAIRS_FIRST
    while start < len(head) and most_N[start] >= known.score:
        first_N, last_N = _window(
            limit_R[r], price_R[r], head.used_RN[r, start:], tail.used_RN[r], most_N[start:] - known.score
        )
        count_N = np.maximum(last_N - first_N, 0)
        rows = max(1, int(np.searchsorted(np.cumsum(count_N), most, side="right")))
        count_N, first_N = count_N[:rows], first_N[:rows]
        n = np.repeat(np.arange(start, start + rows), count_N)
        m = np.arange(n.size) - np.repeat(np.cumsum(count_N) - count_N - first_N, count_N)
        better = _better_pair(graph, step, limit_R, head, tail, n, m, known)
        if better is not None:
            pair, known = better
        start, most = start + rows, min(2 * most, _PAIRS_MOST)
    if pair is None:
        return Found()
    layout = (*reversed(trace(forward.layers, int(heads[pair[0]]))), *trace(backward.layers, int(tails[pair[1]])))
    return Found(layout=layout, score=known.score, latency=known.latency)


def _narrowest(
    limit_R: Int, price_R: NDArray[np.float64], head: Labels, tail: Labels, spare_N: NDArray[np.float64]
) -> int:
    """Return the resource whose windows hold fewest pairs."""
    pairs_R = []
    for r in range(len(limit_R)):
        first_N, last_N = _window(limit_R[r], price_R[r], head.used_RN[r], np.sort(tail.used_RN[r]), spare_N)
        pairs_R.append(int(np.maximum(last_N - first_N, 0).sum()))
    return int(np.argmin(pairs_R))


def _window(
    limit: int, price: float, head_N: Int, tail_M: Int, spare_N: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which tails, sorted by use of a resource, leave some of it but not more than the spare score buys."""
    left_N = limit - head_N
    last_N = np.searchsorted(tail_M, left_N, side="right")
    if price <= 0:
        return np.zeros_like(last_N), last_N
    least_N = left_N - np.clip(spare_N / price, -(2.0**61), 2.0**61).astype(np.int64) - 1
    return np.searchsorted(tail_M, least_N, side="left"), last_N


def _better_pair(
    graph: Graph,
    step: int,
    limit_R: Int,
    head: Labels,
    tail: Labels,
    n: NDArray[np.intp],
    m: NDArray[np.intp],
    known: Found,
) -> tuple[tuple[int, int], Found] | None:
    """Return the best of some pairs within the limits, if it is better than what is known."""
    streams = head.stream_N[n], tail.stream_N[m]
    score_N = head.score_N[n] + tail.score_N[m] + graph.step_score_SS(step)[streams]
    index = np.flatnonzero((score_N >= known.score) & graph.follows_SS[streams])
    n, m, score_N = n[index], m[index], score_N[index]
    used_RN = head.used_RN[:, n] + tail.used_RN[:, m] + graph.step_RSS(step)[:, head.stream_N[n], tail.stream_N[m]]
    index = np.flatnonzero((used_RN <= limit_R[:, None]).all(axis=0))
    if not index.size:
        return None
    i = index[np.lexsort((*used_RN[::-1, index], -score_N[index]))[0]]
    found = Found(score=int(score_N[i]), latency=int(used_RN[0, i]))
    better = (found.score, -found.latency) > (known.score, -known.latency)
    return ((int(n[i]), int(m[i])), found) if better else None
