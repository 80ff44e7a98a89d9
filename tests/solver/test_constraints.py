from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import CheckError, InfeasibleError, ProblemError
from s2search.solver.allocation import Allocation
from s2search.solver.base import Choice, Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.milp import Milp
from s2search.solver.problem import UNLIMITED, FurtherDevice, Problem, Resource
from s2search.testing.problems import random_problem, with_random_constraints
from s2search.testing.solvers import check_constraints


@st.composite
def constrained(draw: st.DrawFn) -> Problem:
    """Tiny problems with all constraints, each of which may be absent, and limits that are often hit exactly."""
    group_size, candidates = draw(st.sampled_from([1, 1, 2])), draw(st.integers(1, 3))
    layers = group_size * draw(st.integers(1, 4 // group_size))

    def numbers(rows: int, columns: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        size = rows * columns
        flat = draw(st.lists(st.integers(0, most), min_size=size, max_size=size))
        return np.array(flat, np.int64).reshape(rows, columns)

    def costs() -> dict[str, Any]:
        return {
            "latency_us_LC": numbers(layers, candidates, 3),
            "memory_bytes_LC": numbers(layers, candidates, 3),
            "peak_bytes_LC": numbers(layers, candidates, 3),
            "switch_us_SS": numbers(2, 2, 2),
            "fixed_us": draw(st.integers(0, 2)),
            "fixed_bytes": draw(st.integers(0, 2)),
            "latency_budget_us": draw(st.integers(2 * layers, 5 * layers) | st.just(UNLIMITED)),
            "memory_budget_bytes": draw(st.integers(2 * layers, 5 * layers) | st.just(UNLIMITED)),
        }

    def resource() -> Resource:
        return Resource(
            name="energy",
            use_LC=numbers(layers, candidates, 3),
            switch_SS=numbers(2, 2, 2),
            peak_LC=numbers(layers, candidates, 2),
            limit=draw(st.integers(-1, 5 * layers) | st.just(UNLIMITED)),
            pair_LCC=pairs(0, 3),
        )

    def pairs(least: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        if not draw(st.booleans()):
            return None
        drawn = np.random.default_rng(draw(st.integers(0, 99))).integers(least, most, (layers, candidates, candidates))
        drawn[0] = 0
        return drawn

    layout = st.tuples(*[st.integers(0, candidates - 1)] * layers)
    kept, reference = draw(layout), draw(st.none() | layout)
    some, more = st.booleans(), st.integers(0, 1)
    return Problem(
        score_LC=numbers(layers, candidates, 5) / 7 - 0.3,
        pair_score_LCC=None if (pair_LCC := pairs(-3, 4)) is None else pair_LCC / 7,
        allowed_LC=np.ones((layers, candidates), np.bool_),
        stream_C=numbers(1, candidates, 1)[0],
        first_stream=draw(st.integers(0, 1)),
        last_stream=draw(st.integers(0, 1)),
        group_size=group_size,
        counts={
            c: kept.count(c) if draw(some) else (max(kept.count(c) - draw(more), 0), kept.count(c) + draw(more))
            for c in range(candidates)
            if draw(some)
        },
        max_switches=draw(st.none() | st.integers(0, layers + 1)),
        reference_L=reference,
        max_changes=None if reference is None else draw(st.none() | st.integers(0, layers)),
        devices=tuple(FurtherDevice(name=name, **costs()) for name in draw(st.sampled_from(["", "", "B", "BC"]))),
        limits=tuple(resource() for _ in range(draw(more))),
        **costs(),
    )


def layouts(problem: Problem) -> Iterator[tuple[int, ...]]:
    """All layouts, allowed or not."""
    layers, candidates = problem.score_LC.shape
    return itertools.product(range(candidates), repeat=layers)


def score_or_none(solver: Solver, problem: Problem) -> float | None:
    best = solver.best(problem)
    return None if best is None else best.score


def small(**changes: Any) -> Problem:
    """Four layers of two candidates, one per stream; the first scores and costs 2, the second 1; no budget."""
    two_one = np.tile(np.array([2, 1]), (4, 1))
    nothing = np.zeros((4, 2), np.int64)
    given: dict[str, Any] = {
        "score_LC": two_one * 1.0,
        "latency_us_LC": two_one,
        "memory_bytes_LC": nothing,
        "peak_bytes_LC": nothing,
        "allowed_LC": nothing == 0,
        "stream_C": np.array([0, 1]),
        "switch_us_SS": np.zeros((2, 2), np.int64),
    }
    return Problem(**(given | changes))


@given(constrained())
def test_a_layout_is_admitted_if_and_only_if_it_keeps_within_every_resource(problem: Problem) -> None:
    for choice_L in layouts(problem):
        in_groups = all(len(set(group)) == 1 for group in np.reshape(choice_L, (-1, problem.group_size)).tolist())
        keeps_all = all(resource.spent(problem, choice_L) <= resource.limit for resource in problem.resources)
        assert problem.admits(choice_L) == (in_groups and keeps_all), choice_L


@given(constrained())
def test_folding_groups_admits_the_grouped_layouts_at_the_same_price(problem: Problem) -> None:
    folded = problem.by_group()
    for group in layouts(folded):
        choice_L = tuple(c for c in group for _ in range(problem.group_size))
        assert folded.price(group) == problem.price(choice_L)
        assert folded.admits(group) == problem.admits(choice_L)
        for whole, part in zip(problem.resources, folded.resources, strict=True):
            assert (whole.name, whole.spent(problem, choice_L)) == (part.name, part.spent(folded, group))


@given(constrained())
def test_exhaustive_keeps_every_constraint_by_its_definition(problem: Problem) -> None:
    admitted = [problem.price(choice_L).score for choice_L in layouts(problem) if problem.admits(choice_L)]
    assert score_or_none(Exhaustive(), problem) == max(admitted, default=None)


@given(constrained())
def test_milp_equals_exhaustive_on_constrained_problems(problem: Problem) -> None:
    assert score_or_none(Milp(), problem) == score_or_none(Exhaustive(), problem)


@given(constrained())
def test_milp_puts_every_constraint_into_its_program(problem: Problem) -> None:
    """It would find the optimum without, by excluding one layout after the other; it must not need to."""
    with mock.patch("s2search.solver.exact.program._Model.exclude", side_effect=AssertionError("not in the program")):
        score_or_none(Milp(), problem)


@pytest.mark.parametrize("solver", [Dynamic(), Exhaustive(), Milp()])
def test_exact_solvers_pass_the_conformance_suite_of_constraints(solver: Solver) -> None:
    check_constraints(solver)


def test_the_conformance_suite_catches_a_solver_that_forgets_constraints() -> None:
    class Forgetful(Exhaustive):
        def _choose(self, problem: Problem) -> Choice:
            lifted: dict[str, Any] = {"counts": {}, "reference_L": None, "devices": (), "limits": ()}
            return super()._choose(dataclasses.replace(problem, max_switches=None, max_changes=None, **lifted))

    with pytest.raises(CheckError, match="the solver 'forgetful' chose a layout"):
        check_constraints(Forgetful())


def test_random_constraints_leave_a_layout_to_many_problems_and_none_to_many() -> None:
    rng = np.random.default_rng(0)
    loose = [random_problem(rng, layers=4, candidates=2, tightness=1.0) for _ in range(100)]
    found = [score_or_none(Exhaustive(), with_random_constraints(rng, problem)) for problem in loose]
    assert 20 <= found.count(None) <= 80


@pytest.mark.parametrize(
    ("constraint", "choice_L"),
    [
        ({"counts": {0: 1}, "max_switches": 2}, [(0, 1, 1, 1), (1, 1, 1, 0)]),
        ({"counts": {1: (2, 3)}, "max_switches": 2}, [(0, 0, 1, 1), (0, 1, 1, 0), (1, 1, 0, 0)]),
        ({"max_switches": 1}, [(0, 0, 0, 0)]),
        ({"max_switches": 1, "last_stream": 1, "counts": {1: (1, 4)}}, [(0, 0, 0, 1)]),
        ({"reference_L": (1, 1, 1, 1), "max_changes": 1, "max_switches": 2}, [(0, 1, 1, 1), (1, 1, 1, 0)]),
        ({"reference_L": (1, 1, 0, 1), "max_changes": 0}, [(1, 1, 0, 1)]),
        ({"limits": (Resource.of("heat", np.array([[1, 0]] * 3 + [[0, 1]]), 0),)}, [(1, 1, 1, 0)]),
    ],
)
@pytest.mark.parametrize("solver", [Dynamic(), Exhaustive(), Milp()])
def test_a_constraint_leaves_the_layouts_that_it_says(
    solver: Solver, constraint: dict[str, Any], choice_L: list[tuple[int, ...]]
) -> None:
    assert solver.solve(small(**constraint)).choice_L in choice_L


@pytest.mark.parametrize("solver", [Dynamic(), Exhaustive(), Milp()])
def test_the_tightest_device_binds(solver: Solver) -> None:
    problem = small(latency_budget_us=8)
    same = {
        name: getattr(problem, name) for name in ("latency_us_LC", "memory_bytes_LC", "peak_bytes_LC", "switch_us_SS")
    }
    slow = FurtherDevice(name="slow", **same | {"latency_us_LC": 10 * problem.latency_us_LC}, latency_budget_us=60)
    full = FurtherDevice(name="full", **same | {"memory_bytes_LC": problem.latency_us_LC}, memory_budget_bytes=4)
    assert solver.solve(problem).score == 8
    assert solver.solve(dataclasses.replace(problem, devices=(slow,))).score == 6
    assert solver.solve(dataclasses.replace(problem, devices=(slow, full))).score == 4


@pytest.mark.parametrize("solver", [Dynamic(), Exhaustive(), Milp()])
def test_a_stream_that_costs_too_much_to_leave_is_entered_only_to_stay(solver: Solver) -> None:
    problem = small(switch_us_SS=np.array([[0, 0], [2**40, 0]]), latency_budget_us=7)
    with pytest.raises(InfeasibleError, match=r"no layout fits 0\.007 ms: the fastest of 16 needs 0\.008 ms"):
        solver.solve(problem)
    assert solver.solve(dataclasses.replace(problem, last_stream=1)).choice_L == (0, 0, 0, 1)


@pytest.mark.parametrize("solver", [Dynamic(), Exhaustive(), Milp()])
def test_a_stream_that_no_allowed_candidate_leaves_holds_the_layout(solver: Solver) -> None:
    """From the second layer on only the low stream is allowed, and the head reads the high one: two changes."""
    allowed_LC = np.array([[True, True], [False, True], [False, True], [False, True]])
    assert solver.solve(small(allowed_LC=allowed_LC, max_switches=2)).choice_L == (0, 1, 1, 1)
    with pytest.raises(
        InfeasibleError, match="no layout fits at most 1 switches: the nearest of 2 needs 2 switches; raise"
    ):
        solver.solve(small(allowed_LC=allowed_LC, max_switches=1))


@pytest.mark.parametrize("solver", [Dynamic(), Exhaustive(), Milp()])
def test_integers_as_large_as_a_problem_takes_are_added_exactly(solver: Solver) -> None:
    """A budget equal to the cost admits it; one microsecond less, 1e-15 of the budget, does not."""
    huge = small(latency_us_LC=np.tile(np.array([2**48, 1]), (4, 1)))
    exact = dataclasses.replace(huge, latency_budget_us=3 * 2**48 + 1)
    assert solver.solve(exact).score == 7
    assert solver.solve(dataclasses.replace(exact, latency_budget_us=3 * 2**48)).score == 6
    assert solver.solve(dataclasses.replace(huge, latency_budget_us=4)).score == 4
    assert solver.solve(dataclasses.replace(huge, counts={0: (0, 2**80)}, max_switches=2**80)).score == 8


@pytest.mark.parametrize("solver", [Dynamic(), Exhaustive(), Milp()])
def test_a_candidate_far_beyond_a_limit_leaves_the_other_one(solver: Solver) -> None:
    """2**50 times the limit is a coefficient that HiGHS does not take: it calls the problem infeasible."""
    problem = small(peak_bytes_LC=np.tile(np.array([2**50, 1]), (4, 1)), memory_budget_bytes=1)
    assert solver.solve(problem).choice_L == (1, 1, 1, 1)


@pytest.mark.parametrize("solver", [Dynamic(), Exhaustive(), Milp()])
def test_constraints_that_rule_out_each_other_are_named(solver: Solver) -> None:
    problem = small(counts={0: 2}, reference_L=(0, 0, 0, 0), max_changes=1, label_C=("lcha", "ssa"))
    names = "at most 1 changes, at most 2 layers of lcha, at most 2 layers other than lcha"
    with pytest.raises(InfeasibleError, match=f"no layout fits {names}: .*raise the limit on layers of lcha to 3, or"):
        solver.solve(problem)
    with pytest.raises(InfeasibleError, match=f"no layout fits 0.004 ms, {names}: the fastest of 16 needs 0.004 ms"):
        solver.solve(dataclasses.replace(problem, latency_budget_us=4))
    with pytest.raises(InfeasibleError, match=r"no layout fits 0\.003 ms.*relax more than one limit"):
        solver.solve(dataclasses.replace(problem, latency_budget_us=3))


def test_exhaustive_takes_the_fastest_then_the_first_of_equals_among_many_thousand() -> None:
    """Of the 131,072 layouts, the second half comes in a second portion."""
    problem = random_problem(np.random.default_rng(0), layers=17, candidates=2, switches=False, tightness=1.0)
    flat = dataclasses.replace(
        problem, score_LC=np.zeros((17, 2)), latency_us_LC=np.ones((17, 2), np.int64), stream_C=np.array([0, 0])
    )
    assert Exhaustive().solve(flat).choice_L == (0,) * 17
    slow_LC = np.array([[2, 1]] + [[1, 1]] * 16)
    assert Exhaustive().solve(dataclasses.replace(flat, latency_us_LC=slow_LC)).choice_L == (1,) + (0,) * 16


def test_allocation_keeps_counts_and_refuses_a_layout_to_resemble() -> None:
    assert Allocation().solve(small(counts={0: 3}, latency_budget_us=8)).choice_L.count(0) == 3
    with pytest.raises(ProblemError, match="changes depends on the layer, and allocation only counts"):
        Allocation().solve(small(reference_L=(0, 0, 0, 1), max_changes=1))


def test_allocation_says_that_only_its_interleaving_was_tried() -> None:
    problem = small(counts={0: 2}, max_switches=1, last_stream=1, latency_budget_us=6)
    assert Exhaustive().solve(problem).score == 6
    with pytest.raises(InfeasibleError, match="no evenly interleaved layout meets what is asked"):
        Allocation().solve(problem)
