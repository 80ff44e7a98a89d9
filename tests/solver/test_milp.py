"""milp claims what whole numbers prove: HiGHS's own tolerances are wider than what decides."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.errors import InfeasibleError
from s2search.solver.base import Solver
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.milp import Milp
from s2search.solver.problem import Problem
from s2search.testing.problems import random_problem


def uniform(layers: int, *, score: tuple[float, float], memory_bytes: tuple[int, int], budget: int) -> Problem:
    """Two candidates that cost and score the same at every layer."""
    shape = (layers, 2)
    return Problem(
        score_LC=np.broadcast_to(score, shape).copy(),
        latency_us_LC=np.ones(shape, np.int64),
        memory_bytes_LC=np.broadcast_to(memory_bytes, shape).copy(),
        peak_bytes_LC=np.zeros(shape, np.int64),
        allowed_LC=np.ones(shape, np.bool_),
        stream_C=np.array([0, 1]),
        switch_us_SS=np.zeros((2, 2), np.int64),
        memory_budget_bytes=budget,
    )


def test_one_score_that_forbids_does_not_hide_the_differences_of_the_others() -> None:
    problem = uniform(4, score=(-0.248, -0.26), memory_bytes=(40, 20), budget=100)
    score_LC = problem.score_LC.copy()
    score_LC[0, 0] = -10_000
    solution = Milp().solve(dataclasses.replace(problem, score_LC=score_LC))
    assert (solution.score, solution.optimal) == (pytest.approx(-1.028), True)


def test_millions_of_layouts_that_tie_one_byte_over_a_limit_are_ruled_out_at_once() -> None:
    layers, large, small = 28, 43_000_123, 40_000_000
    limit = 12 * large + 16 * small - 1
    start = time.process_time()
    solution = Milp().solve(uniform(layers, score=(1.0, 0.5), memory_bytes=(large, small), budget=limit))
    assert solution.choice_L.count(0) == 11
    assert solution.optimal
    assert time.process_time() - start < 10


@pytest.mark.parametrize("magnitude", [10**3, 10**6, 10**9, 10**13])
def test_a_limit_decides_by_its_last_unit(magnitude: int) -> None:
    for budget, expected in ((3 * magnitude, 3), (3 * magnitude - 1, 2)):
        problem = uniform(6, score=(1.0, 0.0), memory_bytes=(magnitude, 0), budget=budget)
        assert Milp().solve(problem).choice_L.count(0) == expected


def test_a_peak_counts_to_its_last_byte() -> None:
    problem = uniform(3, score=(1.0, 0.0), memory_bytes=(10**9, 10**9), budget=4 * 10**9)
    peaks = np.array([[10**9, 0], [10**9 + 1, 0], [5, 0]])
    assert Milp().solve(dataclasses.replace(problem, peak_bytes_LC=peaks)).choice_L == (0, 1, 0)


def score_or_none(solver: Solver, problem: Problem) -> float | None:
    try:
        return solver.solve(problem).score
    except InfeasibleError:
        return None


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    forbidding=st.sampled_from([0.0, -1e2, -1e5]),
    unit=st.sampled_from([1.0, 1e-3, 1e-6]),
    missing=st.sampled_from([0, 1]),
)
def test_scores_of_any_scale_at_the_very_limit_are_those_of_brute_force(
    seed: int, forbidding: float, unit: float, missing: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, layers=6, candidates=3, tightness=rng.uniform(0.2, 1))
    score_LC = 1 + problem.score_LC * unit
    score_LC[rng.integers(6), rng.integers(3)] += forbidding
    price = problem.price([int(c) for c in rng.integers(0, 3, 6)])
    problem = dataclasses.replace(problem, score_LC=score_LC, memory_budget_bytes=price.total_bytes - missing)
    assert score_or_none(Milp(), problem) == score_or_none(Exhaustive(), problem)


def test_a_score_that_must_be_swallowed_leaves_the_proof_as_fine_as_before() -> None:
    """The scale of the objective is then ten million times coarser than what decides."""
    problem = uniform(4, score=(-0.248, -0.248001), memory_bytes=(40, 20), budget=100)
    score_LC, memory_LC = problem.score_LC.copy(), problem.memory_bytes_LC.copy()
    score_LC[0], memory_LC[0] = (0, -10_000), (90, 20)
    solution = Milp().solve(dataclasses.replace(problem, score_LC=score_LC, memory_bytes_LC=memory_LC))
    assert (solution.score, solution.optimal) == (pytest.approx(-10_000.744002, abs=1e-9), True)


def test_distinct_peaks_at_every_layer_are_as_exact_as_a_few() -> None:
    rng = np.random.default_rng(5)
    problem = random_problem(rng, layers=6, candidates=3, tightness=0.6)
    problem = dataclasses.replace(problem, peak_bytes_LC=rng.integers(0, 2_000_000, (6, 3)))
    price = problem.price([2, 1, 0, 1, 2, 0])
    for missing in (0, 1):
        tight = dataclasses.replace(problem, memory_budget_bytes=price.total_bytes - missing)
        assert score_or_none(Milp(), tight) == score_or_none(Exhaustive(), tight)
