from __future__ import annotations

import dataclasses
import itertools
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.errors import InfeasibleError, InputError, ProblemError
from s2search.solver.allocation import Allocation
from s2search.solver.base import Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.milp import Milp
from s2search.solver.problem import UNLIMITED, Problem
from s2search.solver.questions.confidence import least_quantile_us, solve_with_confidence
from s2search.solver.spread import Spread, check_confidence, normal_quantile
from s2search.testing.problems import random_problem

CONFIDENCES = [0.51, 0.8, 0.95, 0.999]
Case = tuple[Problem, Spread]
Layout = tuple[int, ...]


def case(seed: int, *, layers: int = 5, candidates: int = 3, noise: float = 0.5, **change: Any) -> Case:
    """A random problem, half of them with groups of two layers, whose spreads have nothing to do with the costs."""
    rng = np.random.default_rng(seed)
    group_size = 1 + seed % 2
    costs = ("random", "noisy", "identical")[seed % 3]
    problem = random_problem(rng, layers=layers * group_size, candidates=candidates, costs=costs, tightness=0.7)
    rows = len(problem.score_LC) if costs == "random" else 1
    std_us_LC = np.tile(rng.uniform(0, 1000 * noise, (rows, candidates)), (len(problem.score_LC) // rows, 1))
    spread = Spread(
        std_us_LC=std_us_LC,
        switch_std_us_SS=np.array([[0.0, 40.0], [90.0, 0.0]]),
        fixed_std_us=30.0,
        common_relative=change.pop("common", (0.0, 0.03)[seed // 2 % 2]),
    )
    return dataclasses.replace(problem, group_size=group_size, **change), spread


def latency_terms(problem: Problem, spread: Spread, layout: Layout) -> tuple[float, list[float]]:
    """The definition: the latency of every part summed, and the deviation of every part."""
    streams = [problem.first_stream, *problem.stream_C[list(layout)], problem.last_stream]
    steps = list(itertools.pairwise(streams))
    parts = [problem.fixed_us, *problem.latency_us_LC[range(len(layout)), layout]]
    stds = [spread.fixed_std_us, *spread.std_us_LC[range(len(layout)), layout]]
    return (
        float(sum(parts) + sum(problem.switch_us_SS[step] for step in steps)),
        [*map(float, stds), *(float(spread.switch_std_us_SS[step]) for step in steps)],
    )


def surely_within_us(problem: Problem, spread: Spread, layout: Layout, confidence: float) -> float:
    mean_us, stds = latency_terms(problem, spread, layout)
    return mean_us + NormalDist().inv_cdf(confidence) * (math.hypot(*stds) + spread.common_relative * mean_us)


def brute_force(problem: Problem, spread: Spread, confidence: float) -> float | None:
    scores = [
        problem.price(layout).score
        for layout in itertools.product(range(problem.score_LC.shape[1]), repeat=len(problem.score_LC))
        if problem.admits(layout) and surely_within_us(problem, spread, layout, confidence) <= problem.latency_budget_us
    ]
    return max(scores, default=None)


def score_or_none(problem: Problem, spread: Spread, confidence: float, solver: Solver) -> float | None:
    try:
        found = solve_with_confidence(problem, spread, confidence, solver)
    except InfeasibleError:
        return None
    assert found.solution.optimal
    assert surely_within_us(problem, spread, found.solution.choice_L, confidence) == pytest.approx(found.quantile_us)
    assert found.quantile_us <= problem.latency_budget_us
    assert found.solution.score <= found.plain.score
    return found.solution.score


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.sampled_from(CONFIDENCES), st.floats(0, 2))
def test_the_plan_is_the_best_of_all_that_keep_the_condition(
    seed: int, layers: int, candidates: int, confidence: float, noise: float
) -> None:
    problem, spread = case(seed, layers=layers, candidates=candidates, noise=noise)
    assert score_or_none(problem, spread, confidence, Dynamic()) == brute_force(problem, spread, confidence)


@pytest.mark.parametrize("solver", [Milp(), Exhaustive()])
def test_any_exact_solver_serves(solver: Solver) -> None:
    for seed in range(6):
        problem, spread = case(seed, layers=3)
        assert score_or_none(problem, spread, 0.95, solver) == brute_force(problem, spread, 0.95)


def test_the_condition_costs_score_and_needs_more_than_one_line() -> None:
    found = [solve_with_confidence(*case(seed, layers=8, candidates=4), 0.95, Dynamic()) for seed in (3, 9, 12, 27)]
    assert all(answer.solution.score < answer.plain.score for answer in found)
    assert max(answer.solves for answer in found) > 3


def test_a_search_cut_short_answers_with_a_tangents_layout_and_a_true_bound() -> None:
    proven = 0
    for seed in range(12):
        problem, spread = case(seed, layers=14, candidates=3, noise=2.0)
        try:
            best = solve_with_confidence(problem, spread, 0.95, Dynamic()).solution
        except InfeasibleError:
            continue
        answer = solve_with_confidence(problem, spread, 0.95, Dynamic(), most_chords=1)
        assert answer.solves <= 3, "without the condition, with one chord, with its tangent"
        cut = answer.solution
        assert spread.keeps(problem, cut.choice_L, 0.95)
        assert 0.99 * best.score <= cut.score <= best.score <= cut.upper_bound
        assert cut.optimal == (cut.score == cut.upper_bound)
        proven += cut.optimal
    assert 0 < proven < 10


@pytest.mark.parametrize("common", [0.0, 0.02])
def test_drawn_latencies_keep_the_budget_as_often_as_asked(common: float) -> None:
    draws, confidence = 200_000, 0.9
    problem, spread = case(6, layers=10, noise=0.2, common=common)
    choice_L = solve_with_confidence(problem, spread, confidence, Dynamic()).solution.choice_L
    mean_us, stds = latency_terms(problem, spread, choice_L)
    tightest = dataclasses.replace(
        problem, latency_budget_us=math.ceil(surely_within_us(problem, spread, choice_L, confidence))
    )
    rng = np.random.default_rng(0)
    drawn_us = mean_us * (1 + common * rng.standard_normal(draws))
    for std_us in stds:
        drawn_us += std_us * rng.standard_normal(draws)
    sampling_error = math.sqrt(confidence * (1 - confidence) / draws)
    rate = float((drawn_us <= tightest.latency_budget_us).mean())
    assert spread.keeps(tightest, choice_L, confidence)
    assert float((drawn_us <= problem.latency_budget_us).mean()) >= rate
    assert rate >= confidence - 3 * sampling_error
    if not common:
        assert rate <= confidence + 3 * sampling_error + 1e-3, "no slack is wasted"


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_more_confidence_never_scores_higher(seed: int) -> None:
    problem, spread = case(seed, layers=4)
    scores = [score_or_none(problem, spread, confidence, Dynamic()) for confidence in (0.51, 0.8, 0.95, 0.999)]
    ranked = [-math.inf if score is None else score for score in scores]
    assert ranked == sorted(ranked, reverse=True)


@given(st.integers(0, 10**6))
def test_a_confidence_of_a_half_or_no_spread_at_all_is_the_plain_plan(seed: int) -> None:
    """A plan that takes the budget to its last microsecond has no room for the least spread: then it is another."""
    problem, spread = case(seed, layers=4)
    plain, half = Dynamic().solve(problem), 0.5 + 1e-12
    still = Spread(std_us_LC=0 * spread.std_us_LC, switch_std_us_SS=0 * spread.switch_std_us_SS)
    fits = surely_within_us(problem, spread, plain.choice_L, half) <= problem.latency_budget_us
    same = solve_with_confidence(problem, spread, half, Dynamic()).solution.choice_L == plain.choice_L
    assert same == fits == (plain.latency_us < problem.latency_budget_us)
    assert solve_with_confidence(problem, still, 0.999, Dynamic()).solution == plain


@given(st.integers(0, 10**6), st.sampled_from(CONFIDENCES))
def test_the_budget_that_the_error_names_is_the_least_that_does(seed: int, confidence: float) -> None:
    problem, spread = case(seed, layers=3, noise=1.0, latency_budget_us=1000)
    with pytest.raises(InfeasibleError, match=rf"with confidence {confidence}: the surest of") as refused:
        solve_with_confidence(problem, spread, confidence, Dynamic())
    least_us = refused.value.fields["least_quantile_us"]
    assert f"raise the latency budget to {least_us / 1000:g} ms" in str(refused.value)
    enough, short = (dataclasses.replace(problem, latency_budget_us=least_us - less) for less in (0, 1))
    assert brute_force(short, spread, confidence) is None
    assert score_or_none(enough, spread, confidence, Dynamic()) == brute_force(enough, spread, confidence) is not None


def test_a_memory_budget_that_nothing_fits_is_named_as_without_confidence() -> None:
    problem, spread = case(1, memory_budget_bytes=1)
    with pytest.raises(InfeasibleError, match="raise the memory budget"):
        least_quantile_us(problem, spread, 0.95)
    with pytest.raises(InfeasibleError, match="raise the memory budget"):
        solve_with_confidence(problem, spread, 0.95, Dynamic())


def test_a_budget_that_a_layout_meets_exactly_admits_it() -> None:
    problem = Problem(
        score_LC=np.tile([1.0, 2.0], (3, 1)),
        latency_us_LC=np.full((3, 2), 10),
        memory_bytes_LC=np.zeros((3, 2), np.int64),
        peak_bytes_LC=np.zeros((3, 2), np.int64),
        allowed_LC=np.ones((3, 2), np.bool_),
        stream_C=np.zeros(2, np.int64),
        switch_us_SS=np.zeros((1, 1), np.int64),
        latency_budget_us=33,
    )
    spread = Spread(std_us_LC=np.array([[1.0, 1e3], [2.0, 1e3], [2.0, 1e3]]), switch_std_us_SS=np.zeros((1, 1)))
    one_sigma = NormalDist().cdf(1 - 1e-12)
    found = solve_with_confidence(problem, spread, one_sigma, Dynamic())
    assert found.solution.choice_L == (0, 0, 0)
    assert found.quantile_us == pytest.approx(33)
    with pytest.raises(InfeasibleError, match=r"needs 0\.033 ms"):
        solve_with_confidence(dataclasses.replace(problem, latency_budget_us=32), spread, one_sigma, Dynamic())


def test_a_part_whose_spread_is_far_beyond_the_budget_is_left_out_without_overflow() -> None:
    problem, spread = case(4, candidates=2, layers=4, latency_budget_us=10**8, memory_budget_bytes=UNLIMITED)
    favourite = Dynamic().solve(problem).choice_L[0]
    std_us_LC = spread.std_us_LC + 1e12 * (np.arange(2) == favourite)
    found = solve_with_confidence(problem, dataclasses.replace(spread, std_us_LC=std_us_LC), 0.95, Dynamic())
    assert favourite not in found.solution.choice_L
    assert found.solution.optimal


def test_what_cannot_be_answered_is_refused() -> None:
    problem, spread = case(0)
    with pytest.raises(ProblemError, match="no latency budget"):
        solve_with_confidence(dataclasses.replace(problem, latency_budget_us=UNLIMITED), spread, 0.95, Dynamic())
    with pytest.raises(ProblemError, match=r"std_us_LC has the shape \(1, 3\); \(5, 3\) as latency_us_LC"):
        solve_with_confidence(problem, dataclasses.replace(spread, std_us_LC=spread.std_us_LC[:1]), 0.95, Dynamic())
    with pytest.raises(ProblemError, match=r"fixed_std_us holds -1\.0"):
        dataclasses.replace(spread, fixed_std_us=-1.0)
    with pytest.raises(ProblemError, match="common_relative holds nan"):
        dataclasses.replace(spread, common_relative=math.nan)
    identical, its_spread = case(2, noise=0.2)
    with pytest.raises(ProblemError, match="'allocation' does not prove its answer"):
        solve_with_confidence(identical, its_spread, 0.95, Allocation())


@pytest.mark.parametrize("confidence", [0.5, 1.0, 0.0, -1.0, 95.0, math.nan, math.inf])
def test_a_confidence_outside_a_half_to_one_is_refused(confidence: float) -> None:
    for refuses in (check_confidence, normal_quantile):
        with pytest.raises(InputError, match=f"the confidence is {confidence}; more than 0.5 and less than 1"):
            refuses(confidence)
