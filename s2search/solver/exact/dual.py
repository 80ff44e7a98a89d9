"""Lagrangian bounds: what the rest of a layout can score at most, given what is left of every resource.

With a price per unit the limits become part of the score, and a backward pass over (layer, stream) gives the best
priced score of any completion. For every set of prices, priced completion + prices x what is left of the resources is
at least what a completion can score within them (source: Fisher, "The Lagrangian Relaxation Method for Solving Integer
Programming Problems", Management Science 27, 1981). The prices with the least bound at the first layer are searched;
some of their neighbours are kept, since further on other prices bound better. So are prices far above, where several
limits are scarce: what keeps each of them may keep no two, and only high prices of both tell.

Axes:  L layers  C candidates  S streams  R resources  K cases  P price sets
(in the search of prices: A shares  B sizes  D drawn  E elite)

Why prices are drawn and not searched on a grid: docs/decisions/solver.md, "It was the prices".
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2search.solver.exact.graph import BOUNDLESS, Cases, Graph
from s2search.solver.problem import Int, Problem

Float = NDArray[np.float64]

_SHARES, _SIZES, _OCTAVES = 21, 25, 9.0  # of the first grid: proportions of prices, and how large they are
_ELITE, _DRAWN, _ROUNDS, _WIDER = 16, 64, 10, 1.5
_NEAR = (0.9, 0.97, 1.03, 1.1)  # multiples of the best prices that are kept beside them
_WEIGHINGS, _PACE = 16, 2.0  # of scarce resources: how often, and how fast what is used up becomes dear
_ENOUGH = 0.7  # of every limit, which some layout keeps: nothing is scarce
_DEAR = 10  # times the range of scores: what everything costs at the prices of the scarce
_FORBIDDEN = -1e30
_LOWEST = -(2.0**61)  # bound: where nothing fits it has no end, and an integer of 64 bits has one
_BLOCK = 2**15  # numbers that stay in the processor's cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Dual:
    """Upper bounds on completions, for some sets of prices per case, the best set first, that of the scarce last.

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
        """Return the bounds of several cases side by side; those of fewer prices have their last ones repeatedly."""
        sets = max(dual.price_KPR.shape[1] for dual in duals)
        index_P = [np.minimum(np.arange(sets), dual.price_KPR.shape[1] - 1) for dual in duals]
        return cls(
            price_KPR=np.concatenate([dual.price_KPR[:, own_P] for dual, own_P in zip(duals, index_P, strict=True)]),
            completion_LKPS=np.concatenate(
                [dual.completion_LKPS[:, :, own_P] for dual, own_P in zip(duals, index_P, strict=True)], axis=1
            ),
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


def lagrangian_dual(graph: Graph, cases: Cases, *, exact: bool = False) -> Dual:
    """Return bounds from the stem on, if asked at the very best prices of the only case; see also `at_prices`."""
    price_R = _best_prices(graph, cases) if exact else None
    best_KR = _search_prices(graph, cases) if price_R is None else price_R[None]
    price_KPR = best_KR[:, None] * _factors(len(graph.use_RLC), cases.limited)
    if len(cases.limited) > 1:
        price_KPR = np.concatenate([price_KPR, _scarce_prices(graph, cases)[:, None]], axis=1)
    return at_prices(graph, cases, price_KPR)


def upper_bound(problem: Problem) -> int:
    """Return what no layout within the limits scores above (fixed-point); its `group_size` is 1."""
    graph, limit_R = Graph.of(problem)
    graph, limit_KR, _ = graph.reduced(limit_R[None])
    cases = Cases(limit_KR=limit_KR, mask_K=np.zeros(1, np.int64), allowed_MLC=graph.allowed_LC[None])
    return int(np.floor(lagrangian_dual(graph, cases).bound_K[0]))


def at_prices(graph: Graph, cases: Cases, price_KPR: Float) -> Dual:
    """Return the bounds that given prices imply."""
    completion_LKPS = _completions(graph, cases, price_KPR, every_layer=True)
    left_KP = _left(cases, price_KPR)
    # what is summed may be far larger than the sum: the margin goes by the largest of the summands
    largest_KP = np.abs(completion_LKPS).max(axis=(0, 3), where=completion_LKPS > _FORBIDDEN / 2, initial=0)
    steps = np.abs(graph.step_score_FSS).max(axis=(1, 2)).sum() * graph.steps_alike
    largest_KP += np.abs(graph.score_LC).max(axis=1).sum() + steps + left_KP
    margin_KP = 1e-3 + 1e-12 * largest_KP
    completion_LKPS += margin_KP[:, :, None]
    return Dual(
        price_KPR=price_KPR,
        completion_LKPS=completion_LKPS,
        bound_K=(completion_LKPS[0, :, :, graph.first_stream] + left_KP).min(axis=1).clip(_LOWEST),
        margin_K=margin_KP[:, 0],
    )


def cheapest_use(graph: Graph, cases: Cases, price_KR: Float) -> Int:
    """Return what each layer uses of every resource by the candidate that costs least there: (K, R, L)."""
    cost_KN = _priced(price_KR, graph.use_RLC.reshape(len(graph.use_RLC), -1).astype(np.float64))
    cost_KLC = np.where(cases.allowed_MLC[cases.mask_K], cost_KN.reshape(-1, *graph.score_LC.shape), np.inf)
    return np.asarray(graph.use_RLC[:, np.arange(graph.layers), cost_KLC.argmin(axis=2)].swapaxes(0, 1))


def _search_prices(graph: Graph, cases: Cases) -> Float:
    """Return the prices with the least bounds: (K, R).

    The bound is convex in the prices, but steep across and flat along what resources have in common. The best of a grid
    are replaced, round by round, by better ones among points drawn around the best with the covariance of all.
    """
    limited = cases.limited
    unit_R = _units(graph, limited)
    price_KER, bound_KE = _best_of_grid(graph, cases, unit_R, limited)
    normal_DR = np.random.default_rng(0).normal(size=(_DRAWN, len(limited)))  # the same in every round
    for _ in range(_ROUNDS):
        if (bound_KE[:, 0] < graph.least_score).all():  # nothing fits
            break
        relative_KER = price_KER[:, :, limited] / unit_R[limited]
        from_mean_KER = relative_KER - relative_KER.mean(axis=1, keepdims=True)
        covariance_KRR = np.einsum("ker,kes->krs", from_mean_KER, from_mean_KER) / price_KER.shape[1]
        least_K = 1e-12 * np.trace(covariance_KRR, axis1=1, axis2=2) + 1e-30
        root_KRR = np.linalg.cholesky(covariance_KRR + least_K[:, None, None] * np.eye(len(limited)))
        drawn_KDR = np.zeros((len(cases), _DRAWN, len(unit_R)))
        around_KDR = relative_KER[:, :1] + _WIDER * np.einsum("dr,ksr->kds", normal_DR, root_KRR)
        drawn_KDR[:, :, limited] = np.maximum(around_KDR, 0) * unit_R[limited]
        all_KPR = np.concatenate([price_KER, drawn_KDR], axis=1)
        all_KP = np.concatenate([bound_KE, _bounds_at(graph, cases, drawn_KDR)], axis=1)
        order_KE = np.argsort(all_KP, axis=1, kind="stable")[:, :_ELITE]
        price_KER = np.take_along_axis(all_KPR, order_KE[:, :, None], axis=1)
        bound_KE = np.take_along_axis(all_KP, order_KE, axis=1)
    return np.where(cases.limit_KR >= BOUNDLESS, 0.0, price_KER[:, 0])


def _best_prices(graph: Graph, cases: Cases) -> Float | None:
    """Return the prices of the only case's limits in its linear relaxation, solved by HiGHS; None where it fails.

    Drawn prices end 1 % above the least bound where there are many limits. The relaxation is a flow through the layered
    graph: x[l, c] through the candidates, f[l, s, t] between the streams of two layers.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, hstack, kron, vstack

    layers, streams, candidates = graph.layers, len(graph.follows_SS), len(graph.stream_C)
    limited = cases.limited
    in_stream_SC = csr_array((graph.stream_C == np.arange(streams)[:, None]).astype(np.float64))
    each_S, each_L = np.ones((1, streams)), csr_array(np.eye(layers))
    before_LF = csr_array(np.eye(layers, layers + 1))
    after_LF = csr_array(np.eye(layers, layers + 1, 1))
    here = kron(each_L, in_stream_SC)
    into = kron(before_LF, kron(each_S, np.eye(streams)))
    out = kron(after_LF, kron(np.eye(streams), each_S))
    flow = vstack([hstack([here, -into]), hstack([here, -out])]).tocsr()
    open_FSS = np.broadcast_to(graph.follows_SS, (layers + 1, streams, streams)).copy()
    open_FSS[0, np.arange(streams) != graph.first_stream] = False
    open_FSS[-1, :, np.arange(streams) != graph.last_stream] = False
    start = csr_array(np.concatenate([np.zeros(layers * candidates), np.arange(open_FSS.size) < streams**2])[None])
    step_RN = np.tile(graph.step_RFSS[limited].reshape(len(limited), -1), graph.steps_alike)
    use_RN = np.concatenate([graph.use_RLC[limited].reshape(len(limited), -1), step_RN], axis=1).astype(np.float64)
    score_N = np.concatenate([graph.score_LC.ravel(), np.tile(graph.step_score_FSS.ravel(), graph.steps_alike)])
    scale, scale_R = max(float(np.abs(score_N).max()), 1.0), np.maximum(use_RN.max(axis=1), 1.0)
    upper_N = np.concatenate([cases.allowed_MLC[cases.mask_K[0]].ravel(), open_FSS.ravel()])
    program: dict[str, Any] = {  # sparse, which the stubs of scipy do not know
        "A_ub": use_RN / scale_R[:, None],
        "b_ub": cases.limit_KR[0, limited] / scale_R,
        "A_eq": vstack([flow, start]),
        "b_eq": np.append(np.zeros(flow.shape[0]), 1.0),
        "bounds": np.stack([np.zeros(len(upper_N)), upper_N], axis=1),
    }
    found = linprog(-score_N / scale, **program)
    if found.status != 0:
        return None
    price_R = np.zeros(len(graph.use_RLC))
    price_R[limited] = np.maximum(-found.ineqlin.marginals, 0) * scale / scale_R
    return price_R


def _scarce_prices(graph: Graph, cases: Cases) -> Float:
    """Return high prices at which the cheapest layout costs most, of all at which the limits cost the same: (K, R).

    Found by multiplicative weights (source: Plotkin, Shmoys and Tardos, "Fast Approximation Algorithms for Fractional
    Packing and Covering Problems", Mathematics of Operations Research 20, 1995), steps and peaks left out; shared
    evenly where some layout leaves enough of everything. The search ends where they show that nothing fits.
    """
    limited_KR, limit_KR = cases.limit_KR < BOUNDLESS, np.maximum(cases.limit_KR, 1)
    share_KR = limited_KR / np.maximum(limited_KR.sum(axis=1, keepdims=True), 1)
    sum_KR, spent_KR = share_KR, np.zeros(share_KR.shape)
    for n in range(1, _WEIGHINGS + 1):
        used_KR = cheapest_use(graph, cases, share_KR / limit_KR).sum(axis=2) / limit_KR
        nothing_fits_K = (share_KR * used_KR).sum(axis=1) > 1
        if (nothing_fits_K | (used_KR <= _ENOUGH).all(axis=1)).all():
            break
        spent_KR += used_KR * (_PACE / math.sqrt(n))
        share_KR = np.where(limited_KR, np.exp(spent_KR - spent_KR.max(axis=1, keepdims=True)), 0)
        share_KR /= np.maximum(share_KR.sum(axis=1, keepdims=True), 1)
        sum_KR = sum_KR + n * share_KR
    share_KR = sum_KR / np.maximum(sum_KR.sum(axis=1, keepdims=True), 1)
    return np.asarray(share_KR / limit_KR * (_DEAR * _spread(graph)))


def _best_of_grid(graph: Graph, cases: Cases, unit_R: Float, limited: NDArray[np.intp]) -> tuple[Float, Float]:
    """Return no prices, and the best size of each of the best shares of prices, the best first, with their bounds."""
    share_AR = np.zeros((1, len(unit_R)))
    if len(limited):
        share_AR = np.zeros((len(parts := _parts(len(limited))), len(unit_R)))
        share_AR[:, limited] = parts * unit_R[limited]
    price_PR = (share_AR[:, None] * 2.0 ** np.linspace(-_OCTAVES, _OCTAVES, _SIZES)[:, None]).reshape(-1, len(unit_R))
    bound_KP = _bounds_at(graph, cases, price_PR[None])
    bound_KAB = bound_KP.reshape(len(cases), -1, _SIZES)
    shares_KE = np.argsort(bound_KAB.min(axis=2), axis=1, kind="stable")[:, :_ELITE]
    at_KE = shares_KE * _SIZES + np.take_along_axis(bound_KAB.argmin(axis=2), shares_KE, axis=1)
    none_K1R = np.zeros((len(cases), 1, len(unit_R)))
    price_KER = np.concatenate([none_K1R, price_PR[at_KE]], axis=1)
    bound_KE = np.concatenate([_bounds_at(graph, cases, none_K1R), np.take_along_axis(bound_KP, at_KE, axis=1)], axis=1)
    order_KE = np.argsort(bound_KE, axis=1, kind="stable")
    return np.take_along_axis(price_KER, order_KE[:, :, None], axis=1), np.take_along_axis(bound_KE, order_KE, axis=1)


def _parts(resources: int) -> Float:
    """Return shares of so many prices that sum to one: evenly spaced, as many as a grid can bear."""
    steps = max(n for n in range(1, _SHARES) if math.comb(n + resources - 1, n) <= _SHARES or n == 1)
    counts = itertools.combinations_with_replacement(range(resources), steps)
    return np.array([np.bincount(count, minlength=resources) for count in counts]) / steps


def _factors(resources: int, limited: NDArray[np.intp]) -> Float:
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
    (k, p, _), streams = price_KPR.shape, len(graph.follows_SS)
    price_RQ = np.ascontiguousarray(price_KPR.reshape(k * p, -1).T)
    step_SCQ = _priced_step(graph, graph.layers, price_RQ, graph.stream_C)
    now_SQ, sum_SCQ = _priced_step(graph, graph.layers, price_RQ, [graph.last_stream])[:, 0], np.empty_like(step_SCQ)
    found = [now_SQ]
    layers = zip(reversed(range(graph.layers)), _priced_backwards(graph, cases, price_RQ), strict=True)
    for layer, here_CQ in layers:
        if graph.steps_alike == 1:
            step_SCQ = _priced_step(graph, layer, price_RQ, graph.stream_C)
        here_CQ += now_SQ[graph.stream_C]
        now_SQ = np.add(here_CQ, step_SCQ, out=sum_SCQ).max(axis=1)
        if every_layer:
            found.append(now_SQ)
    found = found[::-1] if every_layer else [now_SQ]
    return np.maximum(np.stack(found), _FORBIDDEN).reshape(-1, streams, k, p).transpose(0, 2, 3, 1)


def _priced_step(graph: Graph, step: int, price_RQ: Float, into_C: Sequence[int] | NDArray[np.int64]) -> Float:
    """Return what going from every stream into some scores less what it uses."""
    step_SCQ = np.asarray(np.tensordot(-graph.step_RSS(step)[:, :, into_C].astype(float), price_RQ, axes=(0, 0)))
    step_SCQ += graph.step_score_SS(step)[:, into_C, None]
    step_SCQ[~graph.follows_SS[:, into_C]] = _FORBIDDEN
    return step_SCQ


def _priced_backwards(graph: Graph, cases: Cases, price_RQ: Float) -> Iterator[Float]:
    """Yield what the candidates of each layer score less what they use, from the last layer on; layers by the block."""
    candidates, kept = len(graph.stream_C), len(cases)
    block = max(1, _BLOCK // (candidates * price_RQ.shape[1]))
    all_allowed = bool(cases.allowed_MLC.all())
    for end in range(graph.layers, 0, -block):
        layers = slice(max(end - block, 0), end)
        use_NR = graph.use_RLC[:, layers].reshape(len(price_RQ), -1).T.astype(np.float64)
        score_N1 = graph.score_LC[layers].reshape(-1, 1)
        priced_LCQ = (score_N1 - _priced(use_NR, price_RQ)).reshape(-1, candidates, price_RQ.shape[1])
        if not all_allowed:
            allowed_LCK = cases.allowed_MLC[cases.mask_K, layers].transpose(1, 2, 0)
            priced_LCQ.reshape(*allowed_LCK.shape[:2], kept, -1)[~allowed_LCK] = _FORBIDDEN
        yield from priced_LCQ[::-1]


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


def _spread(graph: Graph) -> float:
    """Return by how much one layout may score more than another, at least 1."""
    return max(float(np.ptp(graph.score_LC, axis=1).sum() + _step_spread(graph.step_score_FSS)), 1.0)


def _step_spread(step_FSS: NDArray[np.int64]) -> float:
    """Return by how much one choice of steps may differ from another."""
    return float(np.ptp(step_FSS.reshape(len(step_FSS), -1), axis=1).sum())


def _units(graph: Graph, limited: NDArray[np.intp]) -> Float:
    """Return per resource the price at which the whole range of scores buys the whole range of use."""
    unit_R = np.zeros(len(graph.use_RLC))
    for r in limited:
        used = float(np.ptp(graph.use_RLC[r], axis=1).sum() + _step_spread(graph.step_RFSS[r]))
        unit_R[r] = _spread(graph) / max(used, 1.0)
    return unit_R
