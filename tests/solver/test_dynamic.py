from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2search.errors import InfeasibleError, ProblemError
from s2search.problem import Problem
from s2search.solver.dual import lagrangian_dual
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.labels import NOTHING, peak_levels, sweep, within_peaks
from s2search.solver.milp import Milp
from s2search.solver.symmetry import break_symmetry
from s2search.testing.problems import random_problem

seeds = st.integers(0, 2**32 - 1)


def small(seed: int, **settings: object) -> Problem:
    rng = np.random.default_rng(seed)
    shape = {"layers": int(rng.integers(2, 7)), "candidates": int(rng.integers(2, 4))}
    return random_problem(rng, **{**shape, "tightness": float(rng.uniform(0, 1)), **settings})  # type: ignore[arg-type]


def optimum(problem: Problem) -> float | None:
    try:
        return Exhaustive().solve(problem).score
    except InfeasibleError:
        return None


@given(seeds)
def test_a_bound_is_never_below_what_a_completion_scores(seed: int) -> None:
    problem = small(seed, peaks=False)
    dual = lagrangian_dual(problem)
    layers, candidates = problem.score_LC.shape
    for layout in itertools.product(range(candidates), repeat=layers):
        if not problem.admits(layout):
            continue
        for layer in range(layers + 1):
            done = Problem.price(problem, layout[:layer])
            stream = int(problem.stream_C[layout[layer - 1]]) if layer else problem.first_stream
            home_us = int(problem.switch_us_SS[stream, problem.last_stream])
            bound = dual.bound_N(
                layer,
                np.array([stream]),
                np.array([problem.latency_budget_us - (done.latency_us - home_us)]),
                np.array([problem.memory_budget_bytes - done.memory_bytes]),
            )
            assert done.fixed_point_score + bound[0] >= problem.price(layout).fixed_point_score


@given(seeds)
def test_breaking_symmetry_keeps_the_optimum_and_the_fastest_layout_of_it(seed: int) -> None:
    problem = small(seed, costs="identical", peaks=False)
    broken = break_symmetry(problem)
    assert broken is not problem
    best, canonical = optimum(problem), optimum(broken)
    assert best == canonical
    if best is not None:
        assert Exhaustive().solve(problem).latency_us == Exhaustive().solve(broken).latency_us


def test_layers_that_differ_have_no_symmetry_to_break() -> None:
    problem = small(0)
    assert break_symmetry(problem) is problem


@given(seeds)
def test_a_narrow_sweep_says_what_it_may_have_missed(seed: int) -> None:
    problem = small(seed, peaks=False)
    best = optimum(problem)
    assume(best is not None)
    narrow = sweep(problem, lagrangian_dual(problem), width=1, best=NOTHING)
    assert best is not None
    assert max(narrow.rank[0], narrow.cut) >= round(best * 10**9)


@given(seeds)
def test_many_different_peaks_are_settled_in_spans(seed: int) -> None:
    problem = small(seed, peaks=False)
    rng = np.random.default_rng(seed)
    peaky = dataclasses.replace(
        problem,
        peak_bytes_LC=rng.integers(0, 10**6, problem.score_LC.shape),
        memory_budget_bytes=problem.memory_budget_bytes + int(rng.integers(0, 10**6)),
    )
    try:
        assert Dynamic().solve(peaky).score == optimum(peaky)
    except InfeasibleError:
        assert optimum(peaky) is None


@given(seeds)
def test_a_relaxed_span_contains_every_layout_of_its_peaks(seed: int) -> None:
    problem = small(seed)
    best = optimum(problem)
    assume(best is not None)
    levels = peak_levels(problem)
    relaxed = within_peaks(problem, levels[0], levels[-1])
    assert relaxed is not None
    free = dataclasses.replace(relaxed, peak_bytes_LC=np.zeros_like(relaxed.peak_bytes_LC))
    assert (optimum(free) or -1.0) >= (best or 0.0)


def test_beyond_its_labels_it_hands_over_to_highs_and_says_so() -> None:
    problem = random_problem(np.random.default_rng(5), layers=14, candidates=4)
    handed = Dynamic(most_labels=10).solve(problem)
    assert handed.method == "milp, handed over by dynamic after 10 labels in a layer"
    assert handed.score == Dynamic().solve(problem).score
    assert Dynamic().solve(problem).method == "dynamic"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("costs", ["identical", "noisy", "random"])
def test_it_equals_highs_at_a_phone_models_size(seed: int, costs: str) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, layers=16, candidates=2 + seed % 2, costs=costs, tightness=0.2 + 0.1 * seed)  # type: ignore[arg-type]
    try:
        best = Dynamic().solve(problem).score
    except InfeasibleError:
        with pytest.raises(InfeasibleError):
            Milp(time_limit_s=60).solve(problem)
        return
    assert best == pytest.approx(Milp(time_limit_s=60).solve(problem).score, abs=1e-6)


EXTREMES = {
    "one layer": (1, {}),
    "200 layers": (200, {}),
    "all ties": (20, {"score_LC": lambda a: 0 * a}),
    "negative scores": (20, {"score_LC": lambda a: -a}),
    "huge scores": (20, {"score_LC": lambda a: 2e4 * a}),
    "huge latencies": (20, {"latency_us_LC": lambda a: a * 10**9, "latency_budget_us": lambda a: a * 10**9}),
    "a stream that cannot be left": (
        20,
        {
            "switch_us_SS": lambda a: a + np.array([[0, 0], [10**9, 0]]),
            "latency_budget_us": lambda a: 2 * a,
            "memory_budget_bytes": lambda a: 2 * a,
        },
    ),
    "a stream that costs to stay in": (20, {"switch_us_SS": lambda a: a + 3 * np.eye(2, dtype=np.int64)}),
    "free choices": (20, {"latency_us_LC": lambda a: 0 * a, "memory_bytes_LC": lambda a: 0 * a}),
    "one candidate allowed somewhere": (20, {"allowed_LC": lambda a: a & (np.arange(a.size).reshape(a.shape) != 7)}),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_problems_are_solved_as_highs_solves_them(name: str) -> None:
    layers, changes = EXTREMES[name]
    problem = random_problem(np.random.default_rng(1), layers=layers, candidates=2, tightness=0.6)
    problem = dataclasses.replace(
        problem, **{field: change(getattr(problem, field)) for field, change in changes.items()}
    )
    best = Milp(time_limit_s=60).solve(problem).score
    assert Dynamic().solve(problem).score == pytest.approx(best, rel=1e-9, abs=1e-6)


def test_a_budget_of_zero_and_a_layer_without_a_choice_are_named() -> None:
    problem = small(0)
    with pytest.raises(InfeasibleError, match="raise the latency budget to"):
        Dynamic().solve(dataclasses.replace(problem, latency_budget_us=0))
    with pytest.raises(InfeasibleError, match="raise the memory budget to"):
        Dynamic().solve(dataclasses.replace(problem, memory_budget_bytes=0))
    with pytest.raises(ProblemError, match="no candidate is allowed at layer 0"):
        dataclasses.replace(problem, allowed_LC=np.zeros_like(problem.allowed_LC))
