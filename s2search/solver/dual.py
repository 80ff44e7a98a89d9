"""Lagrangian bounds: what the rest of a layout can score at most, given what is left of every resource.

With a price per unit the limits become part of the score, and a backward pass over (layer, stream) gives the best
priced score of any completion. For every set of prices, priced completion + prices x what is left of the resources is
at least what a completion can score within them (source: Fisher, "The Lagrangian Relaxation Method for Solving Integer
Programming Problems", Management Science 27, 1981). The prices with the least bound at the first layer are found on
grids that close in on the best, two resources at a time; some of their neighbours are kept, since further on other
prices bound better.

Axes:  L layers  C candidates  S streams  R resources  K cases  P price sets
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.solver.graph import BOUNDLESS, Cases, Graph

Float = NDArray[np.float64]

#: Points of the first grid per resource, of the closing ones, and how often they close.
_FIRST, _CLOSER, _ROUNDS = 17, 7, 5
_KEPT = 12
_FORBIDDEN = -1e30


@dataclass(frozen=True, kw_only=True, eq=False)
class Dual:
    """Upper bounds on completions, for some sets of prices per case, the best set first.

    `completion_LKPS` is the best priced score from each layer and stream to the head. `bound_K` is the least upper
    bound on any whole layout. Both include a margin for rounding; `margin_K` is that of the best set.
    """

    price_KPR: Float
    completion_LKPS: Float
    bound_K: Float
    margin_K: Float

    def bound_N(self, layer: int, case_N: NDArray[np.int64], stream_N: NDArray[np.int64], left_RN: Float) -> Float:
        """Return the most that completions after a layer can score, for labels with these amounts left."""
        if len(self.price_KPR) == 1:
            bound_PN = self.price_KPR[0] @ left_RN
            bound_PN += self.completion_LKPS[layer, 0][:, stream_N]
            return np.asarray(bound_PN.min(axis=0))
        bound_NP = np.einsum("npr,rn->np", self.price_KPR[case_N], left_RN)
        bound_NP += self.completion_LKPS[layer, case_N, :, stream_N]
        return np.asarray(bound_NP.min(axis=1))

    @classmethod
    def joined(cls, duals: Sequence[Dual]) -> Dual:
        """Return the bounds of several cases side by side."""
        return cls(
            price_KPR=np.concatenate([dual.price_KPR for dual in duals]),
            completion_LKPS=np.concatenate([dual.completion_LKPS for dual in duals], axis=1),
            bound_K=np.concatenate([dual.bound_K for dual in duals]),
            margin_K=np.concatenate([dual.margin_K for dual in duals]),
        )

    def take(self, index_K: NDArray[np.intp] | Sequence[int]) -> Dual:
        """Return the bounds of some of the cases."""
        return dataclasses.replace(
            self,
            price_KPR=self.price_KPR[index_K],
            completion_LKPS=self.completion_LKPS[:, index_K],
            bound_K=self.bound_K[index_K],
            margin_K=self.margin_K[index_K],
        )


def lagrangian_dual(graph: Graph, cases: Cases) -> Dual:
    """Return bounds from the stem on; for those from the head on see `at_prices`."""
    price_KPR = _search_prices(graph, cases)
    return at_prices(graph, cases, price_KPR)


def at_prices(graph: Graph, cases: Cases, price_KPR: Float) -> Dual:
    """Return the bounds that given prices imply."""
    completion_LKPS = _completions(graph, cases, price_KPR, every_layer=True)
    left_KP = _left(cases, price_KPR)
    # what is summed may be far larger than the sum: the margin goes by the largest of the summands
    largest_KP = np.abs(completion_LKPS).max(axis=(0, 3), where=completion_LKPS > _FORBIDDEN / 2, initial=0)
    largest_KP += np.abs(graph.score_LC).max(axis=1).sum() + left_KP
    margin_KP = 1e-3 + 1e-12 * largest_KP
    completion_LKPS += margin_KP[:, :, None]
    return Dual(
        price_KPR=price_KPR,
        completion_LKPS=completion_LKPS,
        bound_K=(completion_LKPS[0, :, :, graph.first_stream] + left_KP).min(axis=1),
        margin_K=margin_KP[:, 0],
    )


def _search_prices(graph: Graph, cases: Cases) -> Float:
    """Return the price sets with the least bounds, best first: (K, P, R)."""
    limited = [r for r in range(len(graph.use_RLC)) if (cases.limit_KR[:, r] < BOUNDLESS).any()]
    scale_R = _scales(graph, limited)
    best_KR = np.zeros((len(cases), len(scale_R)))
    tried: list[tuple[Float, Float]] = []
    pairs = [limited[i : i + 2] for i in range(0, len(limited), 2)]
    for pair in pairs + pairs * (len(pairs) > 1):
        grid = [np.append(2.0 ** np.linspace(-9, 9, _FIRST), 0.0)] * len(pair)
        best_KR = _best_of(graph, cases, _vary(best_KR, pair, grid, scale_R), tried)
        width = 18 / (_FIRST - 1)
        for _ in range(_ROUNDS):
            grid = [2.0 ** np.linspace(-width, width, _CLOSER)] * len(pair)
            best_KR = _best_of(graph, cases, _vary(best_KR, pair, grid), tried)
            width *= 2 / (_CLOSER - 1)
    if not tried:
        return np.zeros((len(cases), 1, len(scale_R)))
    bound_KP = np.concatenate([bound for bound, _ in tried], axis=1)
    price_KPR = np.concatenate([price for _, price in tried], axis=1)
    best_KP = np.argsort(bound_KP, axis=1, kind="stable")[:, : 3 * _KEPT]
    price_KPR = np.take_along_axis(price_KPR, best_KP[:, :, None], axis=1)
    again_KP = (price_KPR[:, 1:] == price_KPR[:, :-1]).all(axis=2)
    kept_KP = np.argsort(np.pad(again_KP, ((0, 0), (1, 0))), axis=1, kind="stable")[:, :_KEPT]
    return np.take_along_axis(price_KPR, kept_KP[:, :, None], axis=1)


def _vary(price_KR: Float, pair: list[int], grid: list[Float], scale_R: Float | None = None) -> Float:
    """Return price sets that vary in one or two resources: multiples of their scale, or of the price so far."""
    points = [axis.ravel() for axis in np.meshgrid(*grid, indexing="ij")]
    price_KPR = np.repeat(price_KR[:, None], len(points[0]), axis=1)
    for r, factor_P in zip(pair, points, strict=True):
        unit_K = price_KR[:, r] if scale_R is None else np.full(len(price_KR), scale_R[r])
        price_KPR[:, :, r] = unit_K[:, None] * factor_P
    return price_KPR


def _best_of(graph: Graph, cases: Cases, price_KPR: Float, tried: list[tuple[Float, Float]]) -> Float:
    unlimited_KR = cases.limit_KR >= BOUNDLESS
    price_KPR = np.where(unlimited_KR[:, None], 0.0, price_KPR)
    bound_KP = _completions(graph, cases, price_KPR)[0, :, :, graph.first_stream] + _left(cases, price_KPR)
    tried.append((bound_KP, price_KPR))
    best: Float = price_KPR[np.arange(len(cases)), bound_KP.argmin(axis=1)]
    return best


def _completions(graph: Graph, cases: Cases, price_KPR: Float, *, every_layer: bool = False) -> Float:
    """Return the best priced score from each layer (or only the first) and stream to the head, by one backward pass."""
    (k, p, _), streams, candidates = price_KPR.shape, len(graph.follows_SS), len(graph.stream_C)
    price_RQ = np.ascontiguousarray(price_KPR.reshape(k * p, -1).T)
    switch_SSQ = np.tensordot(-graph.switch_RSS.astype(np.float64), price_RQ, axes=(0, 0))
    switch_SSQ += graph.switch_score_SS[:, :, None]
    switch_SSQ[~graph.follows_SS] = _FORBIDDEN
    switch_SCQ = switch_SSQ[:, graph.stream_C]
    now_SQ = switch_SSQ[:, graph.last_stream]
    use_LCR = graph.use_RLC.transpose(1, 2, 0).astype(np.float64)
    found = [now_SQ]
    for layer in reversed(range(graph.layers)):
        into_CQ = graph.score_LC[layer][:, None] - use_LCR[layer] @ price_RQ
        into_CQ += now_SQ[graph.stream_C]
        allowed_CK = cases.allowed_MLC[cases.mask_K, layer].T
        if not allowed_CK.all():
            into_CQ.reshape(candidates, k, p)[~allowed_CK] = _FORBIDDEN
        now_SQ = (into_CQ + switch_SCQ).max(axis=1)
        np.maximum(now_SQ, _FORBIDDEN, out=now_SQ)
        if every_layer:
            found.append(now_SQ)
    found = found[::-1] if every_layer else [now_SQ]
    return np.stack(found).reshape(-1, streams, k, p).transpose(0, 2, 3, 1)


def _left(cases: Cases, price_KPR: Float) -> Float:
    """Return the price of all limits; an unlimited resource has price 0."""
    left_KP: Float = np.einsum("kpr,kr->kp", price_KPR, cases.limit_KR.astype(np.float64))
    return left_KP


def _scales(graph: Graph, limited: list[int]) -> Float:
    """Return per resource the price at which the whole range of scores buys the whole range of use."""
    scale_R = np.zeros(len(graph.use_RLC))
    spread = max(float(np.ptp(graph.score_LC, axis=1).sum() + np.ptp(graph.switch_score_SS)), 1.0)
    for r in limited:
        used = float(np.ptp(graph.use_RLC[r], axis=1).sum() + np.ptp(graph.switch_RSS[r]))
        scale_R[r] = spread / max(used, 1.0)
    return scale_R
