"""Lagrangian bounds: what the rest of a layout can score at most, given what is left of every resource.

With a price per unit the limits become part of the score, and a backward pass over (layer, stream) gives the best
priced score of any completion. For every set of prices, priced completion + prices x what is left of the resources is
at least what a completion can score within them (source: Fisher, "The Lagrangian Relaxation Method for Solving Integer
Programming Problems", Management Science 27, 1981). The prices with the least bound at the first layer are searched
two resources at a time; some of their neighbours are kept, since further on other prices bound better.

Axes:  L layers  C candidates  S streams  R resources  K cases  P price sets
(in the search of prices: A shares  B sizes)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.solver.graph import BOUNDLESS, Cases, Graph

Float = NDArray[np.float64]

#: Shares of two prices and octaves of sizes that are tried first, and how wide the later windows are.
_SHARES, _SIZES, _OCTAVES = 17, 145, 9.0
_CLOSER, _STEPS = (1 / 8, 1 / 32, 1 / 128), np.linspace(-1, 1, 9)
_NEAR = (0.9, 0.97, 1.03, 1.1)  # multiples of the best prices that are kept beside them
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
            bound_PN = _priced(self.price_KPR[0], left_RN)
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
    """Return the price sets with the least bounds, and others near them, the best first: (K, P, R)."""
    limited = [r for r in range(len(graph.use_RLC)) if (cases.limit_KR[:, r] < BOUNDLESS).any()]
    unit_R = _units(graph, limited)
    best_KR = np.zeros((len(cases), len(unit_R)))
    pairs = [limited[i : i + 2] for i in range(0, len(limited), 2)]
    for pair in pairs + pairs * (len(pairs) > 1):
        best_KR = _best_of_two(graph, cases, best_KR, pair, unit_R)
    best_KR = np.where(cases.limit_KR >= BOUNDLESS, 0.0, best_KR)
    return best_KR[:, None] * _factors(len(unit_R), limited)


def _best_of_two(graph: Graph, cases: Cases, price_KR: Float, pair: list[int], unit_R: Float) -> Float:
    """Return the prices with one or two of them changed to what bounds best.

    Two prices are a share and a size (octaves). A bound is convex in prices: so it falls and then rises with the size,
    and the least of each share falls and then rises with the share. Both are found by closing in around the best.
    """

    def prices_KABR(share_KA: Float, size_KAB: Float) -> Float:
        found_KABR = np.tile(price_KR[: len(size_KAB), None, None], (1, *size_KAB.shape[1:], 1))
        for r, part_KA in zip(pair, (1 - share_KA, share_KA), strict=False):
            found_KABR[..., r] = unit_R[r] * part_KA[:, :, None] * 2.0**size_KAB
        return found_KABR

    def bounds_KAB(share_KA: Float, size_KAB: Float) -> Float:
        price_KPR = prices_KABR(share_KA, size_KAB).reshape(len(size_KAB), -1, len(unit_R))
        return _bounds_at(graph, cases, price_KPR).reshape(-1, *size_KAB.shape[1:])

    row_K, two = np.arange(len(cases)), len(pair) > 1
    alike = (price_KR == price_KR[0]).all()  # then one grid serves all cases
    share_KA = np.tile(np.linspace(0, 1, _SHARES if two else 1), (1 if alike else len(cases), 1))
    size_KAB = np.tile(np.linspace(-_OCTAVES, _OCTAVES, _SIZES), (*share_KA.shape, 1))
    at_K = bounds_KAB(share_KA, size_KAB).reshape(len(cases), -1).argmin(axis=1)
    share_K, size_K = share_KA[0, at_K // _SIZES], size_KAB[0, 0, at_K % _SIZES]
    for width in _CLOSER:
        share_KA = np.clip(share_K[:, None] + width * _STEPS, 0, 1) if two else share_K[:, None]
        size_KA = np.tile(size_K[:, None], (1, share_KA.shape[1]))
        for octaves in (4 * width, width):
            size_KAB = size_KA[:, :, None] + octaves * _STEPS
            bound_KAB = bounds_KAB(share_KA, size_KAB)
            size_KA = np.take_along_axis(size_KAB, bound_KAB.argmin(axis=2)[:, :, None], axis=2)[:, :, 0]
        a_K = bound_KAB.min(axis=2).argmin(axis=1)
        share_K, size_K = share_KA[row_K, a_K], size_KA[row_K, a_K]
    found_KR = prices_KABR(share_K[:, None], size_K[:, None, None])[:, 0, 0]
    bound_KP = _bounds_at(graph, cases, np.stack([price_KR, found_KR], axis=1))
    return np.where(bound_KP[:, 1:] < bound_KP[:, :1], found_KR, price_KR)


def _factors(resources: int, limited: list[int]) -> Float:
    """Return multiples of the best prices that bound well further on: one moved, all, or two against each other."""
    unit_RR = np.eye(resources)
    ways = [unit_RR[r] for r in limited]
    if len(limited) > 1:
        ways += [unit_RR[limited].sum(axis=0), unit_RR[limited[0]] - unit_RR[limited[1]]]
    return np.stack([np.ones(resources), *(factor**way_R for way_R in ways for factor in _NEAR)])


def _bounds_at(graph: Graph, cases: Cases, price_KPR: Float) -> Float:
    """Return the bounds of each case at prices of its own, or at those of the only row."""
    if len(price_KPR) == len(cases):
        price_KPR = np.where((cases.limit_KR >= BOUNDLESS)[:, None], 0.0, price_KPR)
        return _completions(graph, cases, price_KPR)[0, :, :, graph.first_stream] + _left(cases, price_KPR)
    masks = np.arange(len(cases.allowed_MLC))
    each = dataclasses.replace(cases, limit_KR=cases.limit_KR[: len(masks)], mask_K=masks)
    completion_MP = _completions(graph, each, np.repeat(price_KPR, len(masks), axis=0))[0, :, :, graph.first_stream]
    bound_KP: Float = completion_MP[cases.mask_K] + _priced(cases.limit_KR.astype(np.float64), price_KPR[0].T)
    return bound_KP


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
        into_CQ = graph.score_LC[layer][:, None] - _priced(use_LCR[layer], price_RQ)
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


def _priced(left_MR: Float, right_RN: Float) -> Float:
    """Return the product of two matrices with few resources; BLAS would start threads for it, which costs more."""
    product_MN: Float = left_MR[:, :1] * right_RN[0]
    for r in range(1, len(right_RN)):
        product_MN += left_MR[:, r : r + 1] * right_RN[r]
    return product_MN


def _left(cases: Cases, price_KPR: Float) -> Float:
    """Return the price of all limits; an unlimited resource has price 0."""
    left_KP: Float = np.einsum("kpr,kr->kp", price_KPR, cases.limit_KR.astype(np.float64))
    return left_KP


def _units(graph: Graph, limited: list[int]) -> Float:
    """Return per resource the price at which the whole range of scores buys the whole range of use."""
    unit_R = np.zeros(len(graph.use_RLC))
    spread = max(float(np.ptp(graph.score_LC, axis=1).sum() + np.ptp(graph.switch_score_SS)), 1.0)
    for r in limited:
        used = float(np.ptp(graph.use_RLC[r], axis=1).sum() + np.ptp(graph.switch_RSS[r]))
        unit_R[r] = spread / max(used, 1.0)
    return unit_R
