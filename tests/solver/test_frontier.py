from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2search.errors import CheckError, InfeasibleError, InputError
from s2search.solver import frontier as front_room
from s2search.solver.base import Solution
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.frontier import Front, frontier, latency_front
from s2search.solver.problem import UNLIMITED, Problem
from s2search.testing.problems import random_problem, with_random_constraints

seeds = st.integers(0, 2**32 - 1)


def small(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    costs = ("identical", "noisy", "random")[seed % 3]
    shape = {"layers": int(rng.integers(1, 7)), "candidates": int(rng.integers(2, 4))}
    problem = random_problem(rng, costs=costs, tightness=float(rng.uniform(0.2, 1)), **shape)  # type: ignore[arg-type]
    return with_random_constraints(rng, problem) if seed % 2 else problem


def undominated(problem: Problem) -> set[tuple[int, int, float]]:
    """(latency, memory, score) of all layouts that no other is as good as in all three, by comparing all pairs."""
    layers, candidates = problem.score_LC.shape
    priced = {
        (price.latency_us, price.total_bytes, price.score)
        for layout in itertools.product(range(candidates), repeat=layers)
        if problem.admits(layout)
        for price in [problem.price(layout)]
    }
    return {a for a in priced if not any(b != a and b[0] <= a[0] and b[1] <= a[1] and b[2] >= a[2] for b in priced)}


def within(problem: Problem, latency_us: int, memory_bytes: int) -> float | None:
    limited = dataclasses.replace(
        problem,
        latency_budget_us=min(latency_us, problem.latency_budget_us),
        memory_budget_bytes=min(memory_bytes, problem.memory_budget_bytes),
    )
    best = Exhaustive().best(limited)
    return None if best is None else best.score


def budgets(problem: Problem, rng: np.random.Generator, count: int) -> tuple[list[int], list[int]]:
    latency = int(problem.latency_us_LC.max(axis=1).sum()) + problem.fixed_us
    memory = int(problem.memory_bytes_LC.max(axis=1).sum() + problem.peak_bytes_LC.max()) + problem.fixed_bytes
    return [int(latency * s) for s in rng.uniform(0.3, 1.1, count)], [
        int(memory * s) for s in rng.uniform(0.3, 1.1, count)
    ]


@given(seeds)
def test_a_small_front_is_complete(seed: int) -> None:
    problem = small(seed)
    expected = undominated(problem)
    if not expected:
        with pytest.raises(InfeasibleError):
            frontier(problem)
        return
    front = frontier(problem)
    assert (front.complete, front.epsilon) == (True, 0.0)
    assert {(p.latency_us, p.memory_bytes, p.score) for p in front.points} == expected
    assert all(problem.admits(p.choice_L) and problem.price(p.choice_L).score == p.score for p in front.points)


@given(seeds, st.sampled_from([0.0, 0.02]), st.sampled_from([None, 2]))
def test_every_pair_of_budgets_is_answered_within_the_certificate(seed: int, epsilon: float, most: int | None) -> None:
    problem = small(seed)
    rng = np.random.default_rng(seed)
    latencies, memories = budgets(problem, rng, 4)
    assume(undominated(problem))
    try:
        front = frontier(problem, latencies, memories, epsilon, most_labels=most)
    except InfeasibleError:
        assert within(problem, max(latencies), max(memories)) is None
        return
    assert front.epsilon <= epsilon + 1e-9
    for latency, memory in itertools.product(latencies, memories):
        optimum = within(problem, latency, memory)
        best = front.best(latency_us=latency, memory_bytes=memory)
        assert (optimum is None) == (best is None)
        if optimum is not None and best is not None:
            bound = front.upper_bound(latency_us=latency, memory_bytes=memory)
            assert bound is not None
            assert best.score <= optimum <= bound <= best.score + front.epsilon * abs(best.score) + 1e-8


@given(seeds)
def test_between_its_budgets_a_front_bounds_what_it_does_not_know(seed: int) -> None:
    problem = small(seed)
    rng = np.random.default_rng(seed)
    assume(undominated(problem))
    try:
        front = frontier(problem, *budgets(problem, rng, 3))
    except InfeasibleError:
        return
    for latency, memory in zip(*budgets(problem, rng, 6), strict=True):
        optimum, bound = (
            within(problem, latency, memory),
            front.upper_bound(latency_us=latency, memory_bytes=memory),
        )
        best = front.best(latency_us=latency, memory_bytes=memory)
        assert best is None or (optimum is not None and best.score <= optimum)
        assert bound is None or optimum is None or optimum <= bound


@given(seeds)
def test_the_latency_front_is_the_optimum_at_each_of_its_latencies(seed: int) -> None:
    problem = small(seed)
    assume(undominated(problem))
    found = latency_front(problem, Dynamic())
    assert all(a.latency_us < b.latency_us and a.score < b.score for a, b in itertools.pairwise(found))
    for solution in found:
        at = dataclasses.replace(problem, latency_budget_us=solution.latency_us)
        assert Exhaustive().solve(at).score == solution.score
    for solution in latency_front(problem, Exhaustive(), points=5):
        assert (solution.latency_us, solution.score) in {(s.latency_us, s.score) for s in found}


def test_a_large_front_is_searched_on_a_grid_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_room, "_MOST_COMPLETE", 10)
    monkeypatch.setattr(front_room, "_GRID", 5)
    problem = random_problem(np.random.default_rng(0), layers=12, candidates=3, tightness=0.7)
    front = frontier(problem, epsilon=0.01)
    assert not front.complete
    assert front.epsilon <= 0.01
    limited = dataclasses.replace(problem, latency_budget_us=front.bounds[-1].latency_us)
    best = front.best(latency_us=front.bounds[-1].latency_us)
    assert best is not None
    assert best.score >= Dynamic().solve(limited).score * (1 - 0.01)


def test_a_front_tells_the_distance_that_no_search_could_close(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(np.random.default_rng(5), layers=24, candidates=5, costs="noisy", tightness=0.5)
    pairs = budgets(problem, np.random.default_rng(5), 4)
    exact = frontier(problem, *pairs)
    monkeypatch.setattr(front_room, "Dynamic", Unsettled)
    loose = frontier(problem, *pairs, most_labels=40)
    assert loose.epsilon > 0
    for bound in loose.bounds:
        at = {"latency_us": bound.latency_us, "memory_bytes": bound.memory_bytes}
        found, best = loose.best(**at), exact.best(**at)
        assert found is not None
        assert best is not None
        assert found.score <= best.score <= bound.upper_bound <= found.score * (1 + loose.epsilon) + 1e-8


class Unsettled(Dynamic):
    def best(self, problem: Problem) -> Solution | None:
        raise CheckError("not settled", remedy="none")


def test_a_saved_front_answers_in_under_a_millisecond(tmp_path: Path) -> None:
    problem = random_problem(np.random.default_rng(1), layers=28, candidates=4, tightness=0.7, peaks=False)
    rng = np.random.default_rng(0)
    front = frontier(problem, *budgets(problem, rng, 12), epsilon=0.02)
    front.save(tmp_path / "front.json")
    read = Front.load(tmp_path / "front.json")
    assert read == front
    queries = [(int(a), int(b)) for a, b in zip(*budgets(problem, rng, 200), strict=True)]
    read.best(latency_us=0), read.upper_bound(latency_us=0)
    start = time.perf_counter()
    for latency, memory in queries:
        read.best(latency_us=latency, memory_bytes=memory)
        read.upper_bound(latency_us=latency, memory_bytes=memory)
    assert (time.perf_counter() - start) / len(queries) < 1e-3


@pytest.mark.parametrize("grid", [False, True])
def test_budgets_at_which_the_labels_run_out_are_not_called_impossible(tmp_path: Path, grid: bool) -> None:
    rng = np.random.default_rng(1)
    layers, candidates, most = 16, 4, 10**6
    latency_us_LC, zero_LC = rng.integers(0, most, (layers, candidates)), np.zeros((layers, candidates), np.int64)
    only_L = rng.integers(0, candidates, layers)
    latency_us = int(latency_us_LC[np.arange(layers), only_L].sum())  # and no layout but this is as fast and as small
    problem = Problem(
        score_LC=rng.random((layers, candidates)),
        latency_us_LC=latency_us_LC,
        memory_bytes_LC=most - latency_us_LC,
        peak_bytes_LC=zero_LC,
        allowed_LC=zero_LC == 0,
        stream_C=np.zeros(candidates, np.int64),
        switch_us_SS=np.zeros((1, 1), np.int64),
        latency_budget_us=latency_us,
        memory_budget_bytes=layers * most - latency_us,
        first_stream=0,
        last_stream=0,
    )
    front = frontier(problem, None if grid else [latency_us, latency_us // 2], epsilon=0.01)
    assert [(p.latency_us, p.memory_bytes) for p in front.points] == [(latency_us, layers * most - latency_us)]
    assert front.epsilon <= 0.01
    front.save(tmp_path / "front.json")
    assert Front.load(tmp_path / "front.json") == front


def test_bad_epsilons_budgets_and_files_are_named(tmp_path: Path) -> None:
    problem = small(0)
    for epsilon in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="the epsilon is"):
            frontier(problem, epsilon=epsilon)
    with pytest.raises(InputError, match="the latency budgets are"):
        frontier(problem, latency_budgets=[-1])
    with pytest.raises(InputError, match="the memory budgets are"):
        frontier(problem, memory_budgets=[])
    (tmp_path / "front.json").write_text("{}")
    with pytest.raises(InputError, match="is not a front"):
        Front.load(tmp_path / "front.json")


def test_no_budget_is_no_limit() -> None:
    problem = dataclasses.replace(small(0), latency_budget_us=UNLIMITED, memory_budget_bytes=UNLIMITED)
    best = Dynamic().solve(problem)
    assert frontier(problem).points[-1].score == best.score
    assert frontier(problem, latency_budgets=[UNLIMITED]).points[-1].score == best.score
