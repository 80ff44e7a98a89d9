"""Problems that nobody made for this solver: textbook knapsack families and what planners of other kinds ask.

A multiple-choice knapsack problem is a search without switches: classes are layers, items candidates, and weights what
candidates use of a budget. Sources: Pisinger, "A minimal algorithm for the Multiple-choice Knapsack Problem", European
Journal of Operational Research 83, 1995, and "Where are the hard knapsack problems?", Computers & Operations Research
32, 2005; Sinha and Zoltners, "The Multiple-Choice Knapsack Problem", Operations Research 27, 1979; Chu and Beasley, "A
Genetic Algorithm for the Multidimensional Knapsack Problem", Journal of Heuristics 4, 1998 (profits that follow the
mean of the weights).

Axes:  L layers  C candidates  S streams  B budgets
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2search.solver.problem import FurtherDevice, Int, Problem, Resource
from s2search.testing.problems import Costs, random_problem

Random = np.random.Generator
Make = Callable[[Random, int, int, float], Problem]

_RANGE = 1000  # of weights and profits, as in the sources
COSTS: tuple[Costs, ...] = ("identical", "noisy", "random")
_STEP = 10  # by which profits and weights grow apart from item to item


def knapsack(profit_LC: NDArray[Any], weight_BLC: Sequence[Int], tightness: float) -> Problem:
    """Return the multiple-choice knapsack problem; budgets lie between the least (0) and the most (1) of layouts."""
    latency_LC, *others = (np.asarray(weight_LC, np.int64) for weight_LC in weight_BLC)
    none_LC = np.zeros_like(latency_LC)
    limits = [
        Resource.of(f"budget {n}", weight_LC, _between(weight_LC, tightness), streams=1)
        for n, weight_LC in enumerate(others)
    ]
    return Problem(
        score_LC=np.asarray(profit_LC, np.float64),
        latency_us_LC=latency_LC,
        memory_bytes_LC=none_LC,
        peak_bytes_LC=none_LC,
        allowed_LC=np.ones(latency_LC.shape, np.bool_),
        stream_C=np.zeros(latency_LC.shape[1], np.int64),
        switch_us_SS=np.zeros((1, 1), np.int64),
        first_stream=0,
        last_stream=0,
        latency_budget_us=_between(latency_LC, tightness),
        limits=tuple(limits),
    )


def uncorrelated(budgets: int) -> Make:
    """Profits know nothing of weights."""
    return lambda rng, layers, candidates, tightness: knapsack(
        _numbers(rng, layers, candidates), _weights(rng, layers, candidates, budgets), tightness
    )


def weakly_correlated(budgets: int) -> Make:
    """Profits are the mean weight, give or take a tenth of the range."""

    def make(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
        weights = _weights(rng, layers, candidates, budgets)
        noise_LC = rng.integers(-_RANGE // 10, _RANGE // 10 + 1, (layers, candidates))
        return knapsack(np.maximum(np.mean(weights, axis=0) + noise_LC, 1), weights, tightness)

    return make


def strongly_correlated(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
    """Each item of a class costs something more than the one before, and brings a little more than that."""
    weight_LC = np.cumsum(_numbers(rng, layers, candidates) // candidates + 1, axis=1)
    return knapsack(weight_LC + _STEP * np.arange(1, candidates + 1), [weight_LC], tightness)


def inverse_strongly_correlated(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
    """Each item of a class brings something more than the one before, and costs a little more than that."""
    profit_LC = np.cumsum(_numbers(rng, layers, candidates) // candidates + 1, axis=1)
    return knapsack(profit_LC, [profit_LC + _STEP * np.arange(1, candidates + 1)], tightness)


def subset_sum(budgets: int) -> Make:
    """Profits are the weights of the first budget."""

    def make(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
        weights = _weights(rng, layers, candidates, budgets)
        return knapsack(weights[0], weights, tightness)

    return make


def similar_weights(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
    """Weights differ by a thousandth, profits by anything."""
    weight_LC = 100 * _RANGE + rng.integers(0, 101, (layers, candidates))
    return knapsack(_numbers(rng, layers, candidates), [weight_LC], tightness)


def sinha_zoltners(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
    """Profits and weights are sorted within each class: no item dominates another."""
    profit_LC, weight_LC = (np.sort(_numbers(rng, layers, candidates), axis=1) for _ in range(2))
    return knapsack(profit_LC, [weight_LC], tightness)


def mean_correlated(budgets: int) -> Make:
    """Profits follow the mean of all weights, and half of the range is free."""

    def make(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
        weights = _weights(rng, layers, candidates, budgets)
        free_LC = _RANGE / 2 * rng.uniform(0, 1, (layers, candidates))
        return knapsack(np.rint(np.mean(weights, axis=0) + free_LC), weights, tightness)

    return make


def score_like_latency(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
    """What scores more takes longer, up to 2 %: two budgets and two streams, as networks have them."""
    problem = random_problem(rng, layers=layers, candidates=candidates, tightness=tightness, peaks=False)
    noise_LC = rng.uniform(0.98, 1.02, (layers, candidates))
    return dataclasses.replace(problem, score_LC=(problem.latency_us_LC / 1000 + 1) * noise_LC)


def score_like_latency_of_equal_layers(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
    """The same where a block costs the same at every layer, as tables have it, and only its score differs."""
    problem = random_problem(
        rng, layers=layers, candidates=candidates, costs="identical", tightness=tightness, peaks=False
    )
    noise_LC = rng.uniform(0.98, 1.02, (layers, candidates))
    return dataclasses.replace(problem, score_LC=(problem.latency_us_LC / 1000 + 1) * noise_LC)


def parallel_strategies(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
    """How a layer is spread over processors: each way is a stream of its own, and resharding takes time.

    As planners of training ask it: the least time (here the most time saved) within the memory of one processor.
    """
    compute_LC = rng.uniform(5_000, 6_000, (layers, 1)) * np.linspace(1, 1.5, candidates)
    time_LC = np.rint(compute_LC * rng.uniform(0.97, 1.03, (layers, candidates))).astype(np.int64)
    memory_LC = np.rint(1e12 / time_LC * rng.uniform(0.9, 1.1, (layers, candidates))).astype(np.int64)
    reshard_SS = np.rint(rng.uniform(100, 800, (candidates, candidates))).astype(np.int64)
    np.fill_diagonal(reshard_SS, 0)
    return Problem(
        score_LC=(time_LC.max() - time_LC) / 1000,
        latency_us_LC=time_LC,
        memory_bytes_LC=memory_LC,
        peak_bytes_LC=np.zeros_like(memory_LC),
        allowed_LC=np.ones(time_LC.shape, np.bool_),
        stream_C=np.arange(candidates),
        switch_us_SS=reshard_SS,
        first_stream=0,
        last_stream=0,
        latency_budget_us=_between(time_LC, 0.5),
        memory_budget_bytes=_between(memory_LC, tightness),
    )


def further_devices(devices: int) -> Make:
    """One network for several phones, whose blocks cost what they like."""

    def make(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
        problem = random_problem(rng, layers=layers, candidates=candidates, costs="noisy", tightness=tightness)
        most_peak = int(problem.peak_bytes_LC.max())
        found = []
        for n in range(devices):
            latency_LC, memory_LC = (
                np.rint(values_LC * rng.uniform(0.5, 1.5, values_LC.shape)).astype(np.int64)
                for values_LC in (problem.latency_us_LC, problem.memory_bytes_LC)
            )
            found.append(
                FurtherDevice(
                    name=f"phone {n}",
                    latency_us_LC=latency_LC,
                    memory_bytes_LC=memory_LC,
                    peak_bytes_LC=problem.peak_bytes_LC,
                    switch_us_SS=problem.switch_us_SS,
                    latency_budget_us=_between(latency_LC, tightness) + 300,
                    memory_budget_bytes=_between(memory_LC, tightness) + most_peak,
                )
            )
        return dataclasses.replace(problem, devices=tuple(found))

    return make


def loose_budgets(rng: Random, layers: int, candidates: int, tightness: float) -> Problem:
    """The benchmark's own kinds, where there is almost enough of everything: 0.7 to 0.9 of the way to the most use."""
    return random_problem(
        rng,
        layers=layers,
        candidates=candidates,
        costs=COSTS[rng.integers(len(COSTS))],
        tightness=0.7 + 0.2 * tightness,
        peaks=bool(rng.integers(2)),
    )


def _numbers(rng: Random, layers: int, candidates: int) -> Int:
    return rng.integers(1, _RANGE + 1, (layers, candidates))


def _weights(rng: Random, layers: int, candidates: int, budgets: int) -> list[Int]:
    return [_numbers(rng, layers, candidates) for _ in range(budgets)]


def _between(use_LC: Int, tightness: float) -> int:
    least, most = int(use_LC.min(axis=1).sum()), int(use_LC.max(axis=1).sum())
    return least + round(tightness * (most - least))
