from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2search.solver.problem import UNLIMITED, FurtherDevice, Problem
from s2search.solver.questions.ties import find_ties
from s2search.testing.problems import random_problem


@st.composite
def problems(draw: st.DrawFn, *, constrained: bool = True) -> Problem:
    """Small problems full of ties, with budgets that bind, peaks, groups and, some of them, every other constraint."""
    groups, group_size = draw(st.integers(1, 5)), draw(st.sampled_from([1, 1, 2]))
    layers, candidates = groups * group_size, draw(st.integers(1, 3))

    def numbers(most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        flat = draw(st.lists(st.integers(0, most), min_size=layers * candidates, max_size=layers * candidates))
        return np.array(flat, np.int64).reshape(layers, candidates)

    allowed = numbers(9) > 0 if draw(st.booleans()) else np.ones((layers, candidates), np.bool_)
    allowed[:, 0] = True
    costs = {"latency_us_LC": numbers(4), "memory_bytes_LC": numbers(4), "peak_bytes_LC": numbers(3)}
    budgets = st.one_of(st.integers(0, 5 * layers), st.just(UNLIMITED))
    constraints: dict[str, Any] = {}
    if constrained and candidates > 1 and draw(st.booleans()):
        few = st.one_of(st.none(), st.integers(0, layers))
        constraints = {
            "counts": {0: (0, draw(st.integers(1, layers)))},
            "max_switches": draw(few),
            "reference_L": (0,) * layers,
            "max_changes": draw(few),
            "devices": (
                FurtherDevice(
                    name="b",
                    latency_us_LC=numbers(4),
                    memory_bytes_LC=numbers(4),
                    peak_bytes_LC=numbers(3),
                    switch_us_SS=np.array([[0, 1], [2, 0]]),
                    latency_budget_us=draw(budgets),
                    memory_budget_bytes=draw(budgets),
                ),
            ),
        }
    pair_LCC = None
    if draw(st.booleans()):
        pair_LCC = (
            np.random.default_rng(draw(st.integers(0, 99))).integers(-1, 2, (layers, candidates, candidates)) * 1.0
        )
        pair_LCC[0] = 0
    return Problem(
        score_LC=numbers(3) - 1.0,
        pair_score_LCC=pair_LCC,
        **costs,
        allowed_LC=allowed,
        stream_C=np.array(draw(st.lists(st.integers(0, 1), min_size=candidates, max_size=candidates)), np.int64),
        switch_us_SS=np.array(draw(st.sampled_from([[[0, 0], [0, 0]], [[0, 2], [1, 0]], [[1, 3], [0, 2]]]))),
        fixed_us=draw(st.integers(0, 3)),
        fixed_bytes=draw(st.integers(0, 3)),
        latency_budget_us=draw(budgets),
        memory_budget_bytes=draw(budgets),
        group_size=group_size,
        **constraints,
    )


def admitted(problem: Problem) -> dict[tuple[int, ...], int]:
    """Return every admitted layout with its score, in lexicographic order."""
    layers, candidates = problem.score_LC.shape
    return {
        layout: problem.price(layout).fixed_point_score
        for layout in itertools.product(range(candidates), repeat=layers)
        if problem.admits(layout)
    }


def flat(layers: int, candidates: int, **limits: Any) -> Problem:
    """A problem in which candidate c scores and costs c at every layer."""
    cost_LC = np.tile(np.arange(candidates), (layers, 1))
    return Problem(
        score_LC=cost_LC * 1.0,
        latency_us_LC=cost_LC,
        memory_bytes_LC=cost_LC,
        peak_bytes_LC=np.zeros_like(cost_LC),
        allowed_LC=cost_LC >= 0,
        stream_C=np.arange(candidates) % 2,
        switch_us_SS=np.zeros((2, 2), np.int64),
        **limits,
    )


@given(problems(), st.sampled_from([0, 0, 10**9, 2 * 10**9, 10**12]), st.sampled_from([0, 1, 10**9]))
def test_layouts_near_the_best_score_are_those_of_brute_force(problem: Problem, gap: int, least_gap: int) -> None:
    assume(scores := admitted(problem))
    best = max(scores.values())
    meant = [x for x, score in scores.items() if best - gap <= score <= best - least_gap]
    found = find_ties(problem, best, gap=gap, least_gap=least_gap, examples=4)
    assert (found.count, found.exact, found.examples) == (len(meant), True, tuple(meant[:4]))


@given(problems(), st.integers(1, 6), st.sampled_from([0, 10**9]))
def test_a_capped_count_is_never_above_the_truth_and_its_examples_tie(problem: Problem, most: int, gap: int) -> None:
    assume(scores := admitted(problem))
    best = max(scores.values())
    meant = [x for x, score in scores.items() if score >= best - gap]
    found = find_ties(problem, best, gap=gap, most_states=most, examples=4)
    assert found.count <= len(meant)
    assert found.exact <= (found.count == len(meant))
    assert set(found.examples) <= set(meant)
    assert list(found.examples) == sorted(set(found.examples))
    assert len(found.examples) == min(4, found.count)


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_is_the_order_of_the_examples(problem: Problem, random: Any) -> None:
    assume(scores := admitted(problem))
    best, order = max(scores.values()), list(range(problem.score_LC.shape[1]))
    random.shuffle(order)
    meant = sorted((x for x, s in scores.items() if s == best), key=lambda layout: [order.index(c) for c in layout])
    assert find_ties(problem, best, order_C=order).examples == tuple(meant[:3])


def test_a_tie_remembers_its_largest_peak_to_the_end() -> None:
    """Of four layouts, the one with a peak of 5 in the first layer and 3 bytes in the second breaks the budget of 5."""
    nothing = np.zeros((2, 2), np.int64)
    problem = Problem(
        score_LC=nothing * 1.0,
        latency_us_LC=nothing,
        memory_bytes_LC=np.array([[0, 0], [3, 0]]),
        peak_bytes_LC=np.array([[5, 0], [0, 0]]),
        allowed_LC=nothing == 0,
        stream_C=np.array([0, 0]),
        switch_us_SS=nothing,
        memory_budget_bytes=5,
    )
    assert find_ties(problem, 0).count == 3


@pytest.mark.parametrize(("layers", "high"), [(28, 12), (28, 0), (100, 50), (200, 77)])
def test_identical_layers_tie_in_as_many_ways_as_there_are_to_choose_among_them(layers: int, high: int) -> None:
    found = find_ties(flat(layers, 2, latency_budget_us=high), high * 10**9)
    assert (found.count, found.exact) == (math.comb(layers, high), True)
    assert found.examples[0] == (0,) * (layers - high) + (1,) * high


def test_where_nothing_binds_every_layout_is_counted() -> None:
    found = find_ties(flat(60, 8), 60 * 7 * 10**9, gap=10**15)
    assert (found.count, found.exact) == (8**60, True)


def test_where_all_layouts_score_the_same_those_within_the_budget_are_counted() -> None:
    problem = flat(28, 2, latency_budget_us=12)
    even = dataclasses.replace(problem, score_LC=np.zeros_like(problem.score_LC))
    assert find_ties(even, 0).count == sum(math.comb(28, n) for n in range(13))


def test_the_next_score_down_is_counted_apart_from_the_ties() -> None:
    problem, best = flat(28, 2, latency_budget_us=12), 12 * 10**9
    assert find_ties(problem, best, gap=10**9).count == math.comb(28, 12) + math.comb(28, 11)
    assert find_ties(problem, best, gap=10**9, least_gap=1).count == math.comb(28, 11)
    assert find_ties(problem, best, gap=10**9 - 1).count == math.comb(28, 12)


def test_more_different_partial_layouts_than_may_be_kept_give_a_lower_bound() -> None:
    problem = random_problem(np.random.default_rng(0), layers=12, candidates=3, tightness=0.8)
    level = dataclasses.replace(problem, score_LC=np.zeros_like(problem.score_LC))
    capped, whole = find_ties(level, 0, most_states=50), find_ties(level, 0, most_states=10**6)
    assert whole.exact
    assert not capped.exact
    assert 0 < capped.count < whole.count
