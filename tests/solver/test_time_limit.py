"""A search that is stopped answers with the best layout found and a proven bound; what cannot be better ends it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import pytest

from s2search.errors import InputError
from s2search.solver.base import Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.exact.graph import Graph
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.milp import Milp
from s2search.solver.problem import UNLIMITED, Problem
from s2search.testing.problems import random_problem
from tests.benchmarks import families

SMALL = {
    "subset-sum": families.subset_sum(1),
    "subset-sum, two budgets": families.subset_sum(2),
    "uncorrelated": families.uncorrelated(2),
    "strongly correlated": families.strongly_correlated,
    "similar weights": families.similar_weights,
    "strategies": families.parallel_strategies,
    "loose": families.loose_budgets,
    "further devices": families.further_devices(2),
    "equal layers": families.score_like_latency_of_equal_layers,
}


def hard() -> Problem:
    """Scores that are latencies but for 2 % and a constant: nothing dominates, and prices hardly tell layouts apart."""
    return families.score_like_latency(np.random.default_rng(1), 48, 6, 0.5)


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("tightness", [0.1, 0.5, 0.95])
def test_steps_between_scores_lose_no_layout(family: str, tightness: float) -> None:
    for seed in range(6):
        problem = SMALL[family](np.random.default_rng(seed), 6, 3, tightness)
        found, expected = Dynamic().best(problem), Exhaustive().best(problem)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert (found.score, found.latency_us, found.optimal) == (expected.score, expected.latency_us, True)


def test_no_score_lies_between_two_steps() -> None:
    problem = families.subset_sum(2)(np.random.default_rng(3), 5, 4, 0.5)
    graph, _ = Graph.of(problem)
    base, step = graph.score_steps
    assert step % 10**9 == 0
    scores = [problem.price(choice_L).fixed_point_score for choice_L in np.ndindex(*(4,) * 5)]
    assert all((score - base) % step == 0 for score in scores)
    bounds = np.array(scores[:50])
    assert (graph.floor_N(bounds) == bounds).all()
    assert (graph.floor_N(bounds + step - 1) == bounds).all()


@pytest.mark.parametrize("costs", ["identical", "noisy", "random"])
def test_what_is_best_without_limits_is_found_at_once_and_is_the_fastest(costs: str) -> None:
    for seed in range(8):
        problem = random_problem(np.random.default_rng(seed), layers=5, candidates=3, costs=costs)
        problem = dataclasses.replace(
            problem,
            score_LC=np.round(problem.score_LC),
            latency_budget_us=UNLIMITED,
            memory_budget_bytes=UNLIMITED,
        )
        best = Exhaustive().solve(problem)
        layout = Graph.of(problem)[0].without_limits()
        assert (problem.price(layout).score, problem.price(layout).latency_us) == (best.score, best.latency_us)
        assert Dynamic().solve(problem).latency_us == best.latency_us


@pytest.mark.parametrize(
    "solver",
    [
        Dynamic(time_limit_s=0.4),
        pytest.param(Milp(time_limit_s=3.0), marks=pytest.mark.slow),
        Dynamic(most_labels=64, hand_over_s=0.2),
    ],
)
def test_a_search_that_is_stopped_keeps_its_best_layout_and_a_bound(solver: Solver) -> None:
    problem = hard()
    start = time.process_time()
    solution = solver.solve(problem)
    assert time.process_time() - start < 10
    assert problem.admits(solution.choice_L)
    assert solution.score <= solution.upper_bound
    assert solution.optimal or "found in" in solution.method
    assert solution.upper_bound <= 1.02 * solution.score  # of the prices, not of the best at each layer alone


def test_a_longer_search_is_no_worse() -> None:
    problem = hard()
    short, longer = (Dynamic(time_limit_s=limit).solve(problem) for limit in (0.3, 1.0))
    assert longer.upper_bound <= short.upper_bound
    assert short.score <= longer.upper_bound


@pytest.mark.parametrize("make", [Dynamic, Milp])
def test_a_time_limit_is_more_than_nothing(make: Callable[..., Solver]) -> None:
    with pytest.raises(InputError, match="time limit"):
        make(time_limit_s=0)


def test_some_layout_is_found_however_short_the_time() -> None:
    solution = Dynamic(time_limit_s=1e-9).solve(hard())
    assert hard().admits(solution.choice_L)
    assert not solution.optimal
