"""What a solver's answers say beside the layout: prices, swaps, thresholds. All against plain enumeration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2search.errors import ProblemError
from s2search.solver.allocation import Allocation
from s2search.solver.base import Solution
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.problem import FIXED_POINT, UNLIMITED, Problem, Resource
from s2search.solver.questions.sensitivity import FURTHEST, sensitivity
from s2search.solver.questions.shadow_price import budgets, next_point, shadow_prices, with_more
from s2search.solver.questions.swap import best_swaps
from s2search.solver.questions.threshold import first
from s2search.testing.problems import random_problem, with_random_constraints
from tests.solver.test_constraints import constrained, layouts, small

EXACT = Dynamic()
Points = list[tuple[int, int]]


@st.composite
def sized(draw: st.DrawFn) -> Problem:
    """Small problems whose costs are milliseconds and megabytes, so that one of either more or less matters."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    problem = random_problem(
        rng,
        layers=draw(st.integers(1, 4)),
        candidates=draw(st.integers(2, 3)),
        costs=draw(st.sampled_from(["identical", "noisy", "random"])),
        tightness=draw(st.sampled_from([0.1, 0.5, 0.9])),
    )
    return with_random_constraints(rng, problem) if draw(st.booleans()) else problem


def enumerated(problem: Problem, resource: Resource) -> Points:
    """Return the use of one budget and the score (fixed-point) of every layout that keeps all others."""
    free = with_more(problem, resource.name, 10**12)
    return [
        (resource.spent(problem, layout), problem.price(layout).fixed_point_score)
        for layout in layouts(problem)
        if free.admits(layout)
    ]


def best_within(points: Points, limit: int) -> int | None:
    return max((score for use, score in points if use <= limit), default=None)


@given(constrained() | sized())
def test_the_next_point_is_the_least_addition_that_buys_anything_and_what_it_buys(problem: Problem) -> None:
    assume(any(map(problem.admits, layouts(problem))))
    best = EXACT.solve(problem)
    for resource in budgets(problem):
        points = enumerated(problem, resource)
        now = best_within(points, resource.limit)
        assert now is not None
        found = next_point(problem, best, resource, EXACT)
        better = [use for use, score in points if score > now]
        if found is None:
            assert not better
            continue
        assert found.extra == min(better) - resource.limit
        then = best_within(points, resource.limit + found.extra)
        assert then is not None
        assert round(found.gain * FIXED_POINT) == then - now
        assert with_more(problem, resource.name, found.extra).admits(found.choice_L)
        assert problem.price(found.choice_L).fixed_point_score == then


@given(sized())
def test_a_round_unit_more_or_less_changes_the_score_as_stated(problem: Problem) -> None:
    assume(any(map(problem.admits, layouts(problem))))
    prices = shadow_prices(problem, EXACT.solve(problem), EXACT)
    assert [price.name for price in prices] == [resource.name for resource in budgets(problem)]
    for price, resource in zip(prices, budgets(problem), strict=True):
        unit, points = {"us": 1000, "bytes": 1_000_000}[price.unit], enumerated(problem, resource)
        less, now, more = (best_within(points, resource.limit + change) for change in (-unit, 0, unit))
        assert now is not None
        assert more is not None
        assert round(price.gain * FIXED_POINT) == more - now
        if price.loss is None:
            assert less is None
        else:
            assert less is not None
            assert round(price.loss * FIXED_POINT) == now - less


def test_budgets_are_named_and_limited_and_further_devices_have_theirs() -> None:
    rng = np.random.default_rng(0)
    problem = random_problem(rng, layers=3, candidates=2)
    while not problem.devices:
        problem = with_random_constraints(rng, problem)
    names = ["latency", "memory", "latency of another", "memory of another"]
    assert [resource.name for resource in budgets(problem)] == names
    for name, before in zip(names, budgets(problem), strict=True):
        for other, after in zip(names, budgets(with_more(problem, name, 7)), strict=True):
            assert after.limit == (before.limit + 7 if name == other else after.limit)
    assert budgets(dataclasses.replace(problem, devices=(), memory_budget_bytes=UNLIMITED))[0].name == "latency"
    assert len(budgets(dataclasses.replace(problem, devices=(), memory_budget_bytes=UNLIMITED))) == 1


def test_the_multiplier_is_the_slope_of_a_straight_front() -> None:
    problem = small(latency_budget_us=6)
    (price,) = shadow_prices(problem, EXACT.solve(problem), EXACT)
    assert price.multiplier == pytest.approx(1000, rel=0.05), "one microsecond buys a score of one"
    assert (price.next.extra, price.next.gain) == (1, 1.0) if price.next else False
    assert (price.gain, price.loss) == (2.0, None)


def test_the_multiplier_allows_for_the_peak_of_the_layout() -> None:
    two_one = np.tile(np.array([2, 1]), (4, 1))
    problem = small(memory_bytes_LC=two_one * 10**6, peak_bytes_LC=0 * two_one + 10**7, memory_budget_bytes=16 * 10**6)
    (price,) = shadow_prices(problem, EXACT.solve(problem), EXACT)
    assert price.multiplier == pytest.approx(1, rel=0.05)
    assert (price.gain, price.loss) == (1.0, 1.0)


@given(constrained(), st.data())
def test_the_shown_swap_is_the_best_that_fits_or_else_the_best_that_does_not(
    problem: Problem, data: st.DataObject
) -> None:
    size = problem.group_size
    groups = len(problem.score_LC) // size
    choices_G = data.draw(st.lists(st.integers(0, len(problem.stream_C) - 1), min_size=groups, max_size=groups))
    choice_L = tuple(c for c in choices_G for _ in range(size))
    before = problem.price(choice_L)
    for group, shown in enumerate(best_swaps(problem, choice_L)):
        others = {
            c: (*choice_L[: group * size], *[c] * size, *choice_L[(group + 1) * size :])
            for c in range(len(problem.stream_C))
            if c != choices_G[group]
        }
        gains = {c: problem.price(layout).fixed_point_score - before.fixed_point_score for c, layout in others.items()}
        fitting = {c for c in others if problem.admits(others[c]) and gains[c] > 0}
        if shown is None:
            assert not others
            continue
        assert shown.candidate in (fitting or others)
        assert gains[shown.candidate] == max(gains[c] for c in fitting or others)
        assert round(shown.gain * FIXED_POINT) == gains[shown.candidate]
        after = problem.price(others[shown.candidate])
        assert shown.latency_us == after.latency_us - before.latency_us
        assert shown.memory_bytes == after.total_bytes - before.total_bytes
        assert shown.fits == problem.admits(others[shown.candidate])
        assert (shown.first, shown.last) == (group * size, (group + 1) * size - 1)
        for resource in problem.resources:
            over = resource.spent(problem, others[shown.candidate]) - resource.limit
            assert shown.over.get(resource.name, 0) == max(over, 0)


def test_a_candidate_that_is_not_allowed_is_no_swap() -> None:
    allowed_LC = np.ones((4, 2), np.bool_)
    allowed_LC[1, 0] = False
    swaps = best_swaps(small(allowed_LC=allowed_LC), (1, 1, 1, 1))
    assert [swap is None for swap in swaps] == [False, True, False, False]
    swaps = best_swaps(small(allowed_LC=allowed_LC, group_size=2), (1, 1, 1, 1))
    assert [swap is None for swap in swaps] == [True, False]


@given(constrained(), st.integers(0, 2), st.integers(2, 14))
def test_a_latency_may_move_just_as_far_as_stated(problem: Problem, c: int, latency_us: int) -> None:
    assume(c < len(problem.stream_C))

    def pose(changed_us: int) -> Problem:
        latency_us_LC = problem.latency_us_LC.copy()
        latency_us_LC[:, c] = changed_us
        return dataclasses.replace(problem, latency_us_LC=latency_us_LC, latency_budget_us=30)

    def best_of(changed: Problem) -> int | None:
        scores = [problem.price(layout).fixed_point_score for layout in layouts(problem) if changed.admits(layout)]
        return max(scores, default=None)

    now = best_of(pose(latency_us))
    assume(now is not None)
    best = EXACT.solve(pose(latency_us))
    found = sensitivity(pose, latency_us, best, EXACT)
    changes = range(1, int(latency_us * FURTHEST) + 1)
    assert found.faster_us == next((by for by in changes if best_of(pose(latency_us - by)) != now), None)
    assert found.slower_us == next((by for by in changes if not pose(latency_us + by).admits(best.choice_L)), None)


@pytest.mark.parametrize("least", range(1, 9))
def test_the_first_change_is_found_wherever_it_is(least: int) -> None:
    tried: list[int] = []

    def holds(change: int) -> bool:
        tried.append(change)
        return change >= least

    assert first(holds, 0, 8) == least
    assert len(tried) <= 3


@pytest.mark.parametrize(
    "say",
    [
        lambda problem, best: shadow_prices(problem, best, Allocation()),
        lambda problem, best: next_point(problem, best, problem.resources[0], Allocation()),
        lambda problem, best: sensitivity(lambda _: problem, 9, best, Allocation()),
    ],
)
def test_a_solver_without_proofs_is_refused(say: Callable[[Problem, Solution], object]) -> None:
    problem = random_problem(np.random.default_rng(3), layers=4, candidates=2, costs="identical", switches=False)
    with pytest.raises(ProblemError, match=r"allocation does not prove its layouts optimal.*--solver dynamic"):
        say(problem, Exhaustive().solve(problem))
