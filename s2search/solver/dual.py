"""Lagrangian bounds: what the rest of a layout can score at most, given what is left of both budgets.

With prices per microsecond and per byte the budgets become part of the score, and a backward pass over (layer, stream)
gives the best priced score of any completion. For every pair of prices, priced completion + prices x what is left of
the budgets is at least what a completion can score within them (source: Fisher, "The Lagrangian Relaxation Method for
Solving Integer Programming Problems", Management Science 27, 1981). The prices with the least bound at the first layer
are found on a grid that closes in; a few of its neighbours are kept, since further on other prices bound better.

Axes:  L layers  C candidates  S streams  P price pairs  N labels
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.problem import UNLIMITED, Int, Problem

Float = NDArray[np.float64]

_GRID, _ROUNDS, _KEPT = 9, 5, 6
_FORBIDDEN = -1e30


@dataclass(frozen=True, kw_only=True)
class Dual:
    """Upper bounds on completions, for some pairs of prices.

    `completion_LSP` is the best priced score from each layer and stream to the head; `margin` covers rounding.
    """

    latency_price_P: Float
    memory_price_P: Float
    completion_LSP: Float
    margin: float

    def bound_N(self, layer: int, stream_N: Int, latency_left_N: Int, memory_left_N: Int) -> Float:
        """Return the most that completions after a layer can score, for labels with these budgets left."""
        bound_NP = self.completion_LSP[layer, stream_N]
        bound_NP = bound_NP + np.multiply.outer(latency_left_N.astype(np.float64), self.latency_price_P)
        bound_NP += np.multiply.outer(memory_left_N.astype(np.float64), self.memory_price_P)
        best: Float = bound_NP.min(axis=1)
        return best + self.margin


def lagrangian_dual(problem: Problem) -> Dual:
    """Return the bounds of a problem whose peaks may be forgotten."""
    score_LC = np.where(problem.allowed_LC, problem.fixed_point_score_LC, _FORBIDDEN)
    spread = float(_range_L(problem, problem.fixed_point_score_LC).sum())
    latency = _scale(problem.latency_budget_us - problem.fixed_us, problem, problem.latency_us_LC, spread)
    memory = _scale(problem.memory_budget_bytes - problem.fixed_bytes, problem, problem.memory_bytes_LC, spread)
    low, high = np.array([-9.0, -9.0]), np.array([9.0, 9.0])  # log2 of prices, in units of their scales
    tried: list[tuple[Float, Float, Float]] = []
    for _ in range(_ROUNDS):
        steps = np.linspace(0, 1, _GRID)
        l_exponents, m_exponents = (low[i] + steps * (high[i] - low[i]) for i in range(2))
        l_prices = np.append(2.0**l_exponents, 0.0) * latency if latency else np.zeros(1)
        m_prices = np.append(2.0**m_exponents, 0.0) * memory if memory else np.zeros(1)
        l_price_P, m_price_P = (axis.ravel() for axis in np.meshgrid(l_prices, m_prices, indexing="ij"))
        completion_SP = _completions(problem, score_LC, l_price_P, m_price_P)[0]
        bound_P = completion_SP[problem.first_stream] + _left(problem, l_price_P, m_price_P)
        tried.append((bound_P, l_price_P, m_price_P))
        best = int(bound_P.argmin())
        for i, (price, scale) in enumerate(((l_price_P[best], latency), (m_price_P[best], memory))):
            width = (high[i] - low[i]) / (_GRID - 1)
            centre = math.log2(price / scale) if price > 0 else low[i] - width
            low[i], high[i] = centre - width, centre + width
    bound_P, l_price_P, m_price_P = (np.concatenate(parts) for parts in zip(*tried, strict=True))
    kept = np.argsort(bound_P, kind="stable")[:_KEPT]
    l_price_P, m_price_P = l_price_P[kept], m_price_P[kept]
    completion_LSP = _completions(problem, score_LC, l_price_P, m_price_P)
    margin = 1e-3 + 1e-12 * float(np.abs(problem.fixed_point_score_LC).sum(axis=0).max() + np.abs(bound_P[kept]).max())
    return Dual(latency_price_P=l_price_P, memory_price_P=m_price_P, completion_LSP=completion_LSP, margin=margin)


def _completions(problem: Problem, score_LC: Float, latency_price_P: Float, memory_price_P: Float) -> Float:
    """Return the best priced score from each layer and stream to the head, by one backward pass."""
    layers, streams = len(score_LC), len(problem.switch_us_SS)
    completion_LSP = np.empty((layers + 1, streams, latency_price_P.size))
    switch_SSP = np.multiply.outer(problem.switch_us_SS.astype(np.float64), latency_price_P)
    completion_LSP[layers] = -switch_SSP[:, problem.last_stream]
    switch_SCP = switch_SSP[:, problem.stream_C]
    for layer in reversed(range(layers)):
        priced_CP = (
            score_LC[layer][:, None]
            - np.multiply.outer(problem.latency_us_LC[layer].astype(np.float64), latency_price_P)
            - np.multiply.outer(problem.memory_bytes_LC[layer].astype(np.float64), memory_price_P)
        )
        into_CP = priced_CP + completion_LSP[layer + 1, problem.stream_C]
        completion_LSP[layer] = (into_CP - switch_SCP).max(axis=1)
    return completion_LSP


def _left(problem: Problem, latency_price_P: Float, memory_price_P: Float) -> Float:
    """Return the price of both whole budgets; an unlimited one has price 0."""
    latency, memory = problem.latency_budget_us - problem.fixed_us, problem.memory_budget_bytes - problem.fixed_bytes
    return latency * latency_price_P + memory * memory_price_P


def _range_L(problem: Problem, values_LC: Int) -> Int:
    most_L = values_LC.max(axis=1, where=problem.allowed_LC, initial=np.iinfo(np.int64).min)
    least_L = values_LC.min(axis=1, where=problem.allowed_LC, initial=np.iinfo(np.int64).max)
    return np.asarray(most_L - least_L)


def _scale(budget: int, problem: Problem, cost_LC: Int, spread: float) -> float:
    """Return the price at which the whole range of scores buys the whole range of costs; 0 without a budget."""
    if budget >= UNLIMITED // 2:
        return 0.0
    return max(spread, 1.0) / max(float(_range_L(problem, cost_LC).sum()), 1.0)
