from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2search.errors import CheckError, InfeasibleError, ProblemError
from s2search.solver.allocation import Allocation
from s2search.solver.base import Choice, Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive, layouts_NL
from s2search.solver.milp import Milp
from s2search.solver.problem import UNLIMITED, Problem
from s2search.solver.questions.infeasible import least_of
from s2search.testing.problems import random_problem
from s2search.testing.solvers import check_solver


@st.composite
def problems(draw: st.DrawFn, *, most_layers: int = 6, position_free: bool = False) -> Problem:
    """Small problems in which ties, exact hits of a budget, peaks, switches and forbidden choices are common."""
    groups, group_size = draw(st.integers(1, most_layers)), draw(st.sampled_from([1, 1, 2]))
    layers, candidates = groups * group_size, draw(st.integers(1, 3))
    shape = (1 if position_free else layers, candidates)

    def numbers(most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        flat = draw(st.lists(st.integers(0, most), min_size=shape[0] * candidates, max_size=shape[0] * candidates))
        return np.repeat(np.array(flat, np.int64).reshape(shape), layers // shape[0], axis=0)

    allowed = numbers(9) > 0 if draw(st.booleans()) else np.ones((layers, candidates), np.bool_)
    allowed[:, 0] = True
    pair_LCC = None
    if not position_free and draw(st.booleans()):
        pair_LCC = np.random.default_rng(draw(st.integers(0, 99))).integers(-3, 4, (layers, candidates, candidates)) / 7
        pair_LCC[0] = 0
    return Problem(
        score_LC=numbers(5) / 7 - 0.3,
        pair_score_LCC=pair_LCC,
        latency_us_LC=numbers(5),
        memory_bytes_LC=numbers(5),
        peak_bytes_LC=numbers(3) if draw(st.booleans()) else np.zeros((layers, candidates), np.int64),
        allowed_LC=allowed,
        stream_C=np.array(draw(st.lists(st.integers(0, 1), min_size=candidates, max_size=candidates)), np.int64),
        switch_us_SS=np.array(draw(st.sampled_from([[[0, 0], [0, 0]], [[0, 2], [1, 0]], [[1, 3], [0, 2]]]))),
        fixed_us=draw(st.integers(0, 3)),
        fixed_bytes=draw(st.integers(0, 3)),
        latency_budget_us=draw(st.one_of(st.integers(0, 6 * layers), st.just(UNLIMITED))),
        memory_budget_bytes=draw(st.one_of(st.integers(0, 6 * layers), st.just(UNLIMITED))),
        group_size=group_size,
    )


def score_or_none(solver: Solver, problem: Problem) -> float | None:
    best = solver.best(problem)
    return None if best is None else best.score


def plain_optimum(problem: Problem) -> float | None:
    """The definition, word for word: price every layout that the problem admits."""
    by_group = problem.by_group()
    layouts = (
        tuple(int(c) for c in np.repeat(choice, problem.group_size))
        for chunk in layouts_NL(by_group, limit=10**6)
        for choice in chunk
    )
    return max((problem.price(layout).score for layout in layouts if problem.admits(layout)), default=None)


@given(problems())
def test_exhaustive_equals_the_definition(problem: Problem) -> None:
    assert score_or_none(Exhaustive(), problem) == plain_optimum(problem)


@given(problems())
def test_dynamic_equals_exhaustive(problem: Problem) -> None:
    assert score_or_none(Dynamic(), problem) == score_or_none(Exhaustive(), problem)


@given(problems())
def test_milp_equals_exhaustive(problem: Problem) -> None:
    best, found = score_or_none(Exhaustive(), problem), score_or_none(Milp(), problem)
    assert (best is None) == (found is None)
    assert best is None or found == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_dynamic_equals_milp_on_problems_too_large_to_enumerate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, layers=int(rng.integers(12, 22)), candidates=3, switches=bool(seed % 2))
    assert Dynamic().solve(problem).score == pytest.approx(Milp(time_limit_s=60).solve(problem).score, abs=1e-6)


@given(problems(position_free=True))
def test_allocation_never_beats_the_optimum(problem: Problem) -> None:
    best, found = score_or_none(Exhaustive(), problem), score_or_none(Allocation(), problem)
    assert found is None or (best is not None and found <= best)


@pytest.mark.parametrize(
    ("solver", "exact"), [(Exhaustive(), True), (Dynamic(), True), (Milp(), True), (Allocation(), False)]
)
def test_built_in_solvers_pass_the_conformance_suite(solver: Solver, exact: bool) -> None:
    check_solver(solver, exact=exact)


def test_the_conformance_suite_catches_a_solver_that_misses_the_optimum() -> None:
    class Worst(Exhaustive):
        def _choose(self, problem: Problem) -> Choice:
            best = super()._choose(problem)
            return super()._choose(dataclasses.replace(problem, score_LC=-problem.score_LC)) if best else best

    with pytest.raises((AssertionError, CheckError)):
        check_solver(Worst())


def test_a_solver_that_breaks_a_budget_is_found_out() -> None:
    class Reckless(Solver):
        def _choose(self, problem: Problem) -> Choice:
            return Choice(choice_L=(0,) * len(problem.score_LC), upper_bound=0)

    problem = random_problem(np.random.default_rng(0), layers=4, candidates=2)
    with pytest.raises(CheckError, match="'reckless' chose a layout"):
        Reckless().solve(dataclasses.replace(problem, latency_budget_us=0))


@given(problems(), st.integers(0, 5), st.integers(0, 5))
def test_a_larger_budget_never_scores_lower(problem: Problem, more_us: int, more_bytes: int) -> None:
    before = score_or_none(Dynamic(), problem)
    larger = dataclasses.replace(
        problem,
        latency_budget_us=problem.latency_budget_us + more_us,
        memory_budget_bytes=problem.memory_budget_bytes + more_bytes,
    )
    after = score_or_none(Dynamic(), larger)
    assert before is None or (after is not None and after >= before)


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(problem: Problem, random: Any) -> None:
    order = list(range(problem.score_LC.shape[1]))
    random.shuffle(order)
    shuffled = dataclasses.replace(
        problem,
        **{
            f: getattr(problem, f)[:, order]
            for f in ("score_LC", "latency_us_LC", "memory_bytes_LC", "peak_bytes_LC", "allowed_LC")
        },
        pair_score_LCC=None if (pair := problem.pair_score_LCC) is None else pair[:, order][:, :, order],
        stream_C=problem.stream_C[order],
    )
    assert score_or_none(Dynamic(), shuffled) == score_or_none(Dynamic(), problem)


@given(problems())
def test_a_budget_equal_to_a_layouts_cost_admits_it_and_one_less_does_not(problem: Problem) -> None:
    best = score_or_none(Dynamic(), problem)
    assume(best is not None)
    solution = Dynamic().solve(problem)
    total_bytes = solution.memory_bytes + solution.peak_bytes
    exact = dataclasses.replace(problem, latency_budget_us=solution.latency_us, memory_budget_bytes=total_bytes)
    assert score_or_none(Dynamic(), exact) == best
    if problem.layouts == 1 and solution.latency_us > 0:
        tighter = dataclasses.replace(problem, latency_budget_us=solution.latency_us - 1)
        assert score_or_none(Dynamic(), tighter) is None


BUDGETS = {"latency": "latency_budget_us", "memory": "memory_budget_bytes"}


def with_limit(problem: Problem, name: str, amount: int) -> Problem:
    return dataclasses.replace(problem, **{BUDGETS[name]: amount})


@given(problems())
def test_an_infeasible_problem_says_the_least_that_would_do(problem: Problem) -> None:
    """Applied, each relaxation lets a layout fit; one microsecond or byte less, it does not."""
    try:
        Dynamic().solve(problem)
        return
    except InfeasibleError as error:
        reason = error
    free = dataclasses.replace(problem, latency_budget_us=UNLIMITED, memory_budget_bytes=UNLIMITED)
    for r, (name, least) in enumerate((("latency", "least_latency_us"), ("memory", "least_memory_bytes"))):
        amount = reason.fields[least]
        assert amount == least_of(problem, r)
        assert score_or_none(Exhaustive(), with_limit(free, name, amount)) is not None
        assert not amount or score_or_none(Exhaustive(), with_limit(free, name, amount - 1)) is None
    for name in BUDGETS:
        needed = reason.fields["relaxations"].get(name)
        if needed is None:
            assert score_or_none(Exhaustive(), with_limit(problem, name, UNLIMITED)) is None
        else:
            assert score_or_none(Exhaustive(), with_limit(problem, name, needed)) is not None
            assert score_or_none(Exhaustive(), with_limit(problem, name, needed - 1)) is None


@given(problems())
def test_the_nearest_layout_breaks_one_limit_only_by_the_least_that_any_does(problem: Problem) -> None:
    try:
        Dynamic().solve(problem)
        return
    except InfeasibleError as error:
        nearest_L, relaxations = error.fields["nearest_L"], error.fields["relaxations"]
    assert (nearest_L is None) == (not relaxations)
    if nearest_L is not None:
        admitting = [n for n, needed in relaxations.items() if with_limit(problem, n, needed).admits(nearest_L)]
        assert admitting


@pytest.mark.parametrize("problems", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_dynamic_equals_highs_on_random_problems(problems: int) -> None:
    rng = np.random.default_rng(500)
    answered = 0
    for i in range(problems):
        problem = random_problem(
            rng,
            layers=int(rng.integers(4, 13)),
            candidates=int(rng.integers(2, 5)),
            costs=("identical", "noisy", "random")[i % 3],  # type: ignore[arg-type]
            tightness=float(rng.uniform(0.05, 0.95)),
            peaks=bool(rng.integers(2)),
            switches=bool(rng.integers(2)),
        )
        ours, theirs = score_or_none(Dynamic(), problem), score_or_none(Milp(time_limit_s=60), problem)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours == pytest.approx(theirs, abs=1e-6)
            answered += 1
    assert answered > 0.6 * problems


def test_32_layers_of_3_1_ms_fit_their_own_sum() -> None:
    """Float sums refuse this plan: 32 additions of 1.6 are more than 51.2."""
    ones = np.ones((32, 1), np.int64)
    problem = Problem(
        score_LC=ones * 1.0,
        latency_us_LC=1600 * ones,
        memory_bytes_LC=ones,
        peak_bytes_LC=ones,
        allowed_LC=ones > 0,
        stream_C=np.zeros(1, np.int64),
        switch_us_SS=np.zeros((2, 2), np.int64),
        latency_budget_us=51_200,
        memory_budget_bytes=33,
    )
    assert sum([1.6] * 32) > 51.2
    assert Dynamic().solve(problem).optimal


def test_allocation_comes_as_close_to_both_budgets_as_any_count() -> None:
    """Source: S2DiT, section 3, stage 1: 12 LCHA + 16 SSA of 28 fill 535 ms and the memory they take."""
    ones = np.ones((28, 1), np.int64)
    problem = Problem(
        score_LC=ones * np.array([[-0.1, -0.2]]),
        latency_us_LC=ones * np.array([[32_142, 9_214]]),
        memory_bytes_LC=ones * np.array([[40, 30]]),
        peak_bytes_LC=0 * ones * np.array([[0, 0]]),
        allowed_LC=np.ones((28, 2), np.bool_),
        stream_C=np.array([0, 1]),
        switch_us_SS=np.zeros((2, 2), np.int64),
        latency_budget_us=535_000,
        memory_budget_bytes=960,
    )
    assert Allocation().solve(problem).choice_L.count(0) == 12


def test_allocation_refuses_costs_that_depend_on_the_layer() -> None:
    problem = random_problem(np.random.default_rng(0), layers=4, candidates=2)
    with pytest.raises(ProblemError, match="depends on the layer"):
        Allocation().solve(problem)


def test_exhaustive_refuses_what_it_cannot_enumerate() -> None:
    problem = random_problem(np.random.default_rng(0), layers=40, candidates=2)
    with pytest.raises(ProblemError, match="at most 2,000,000 layouts, this problem has 1,099,511,627,776"):
        Exhaustive().solve(problem)
