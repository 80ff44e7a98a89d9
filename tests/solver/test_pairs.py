"""Scores of pairs: what a block is worth behind another one, in the search, its references and its questions."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import InfeasibleError, ProblemError
from s2search.solver.base import unconstrained_bound
from s2search.solver.dynamic import Dynamic
from s2search.solver.exact.dual import upper_bound
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.frontier import frontier
from s2search.solver.milp import Milp
from s2search.solver.nsga2 import Nsga2
from s2search.solver.problem import FIXED_POINT, UNLIMITED, Problem, Resource
from s2search.solver.questions.confidence import least_quantile_us, solve_with_confidence
from s2search.solver.questions.shadow_price import shadow_prices
from s2search.solver.spread import Spread
from s2search.solver.variation import Pricing
from s2search.testing.problems import random_pairs, random_problem, with_random_constraints


def paired(seed: int, *, layers: int = 6, candidates: int = 3, **settings: Any) -> Problem:
    rng = np.random.default_rng(seed)
    settings = {"tightness": float(rng.uniform(0.2, 1)), **settings}
    problem = random_problem(rng, layers=layers, candidates=candidates, **settings)
    return dataclasses.replace(problem, pair_score_LCC=random_pairs(rng, layers, candidates))


def test_a_pair_counts_where_its_blocks_meet_and_nowhere_else() -> None:
    """By hand: 1 behind 1 costs 5 at the last of three layers, 0 behind 1 gains 2 at the middle one."""
    pair_LCC = np.zeros((3, 2, 2))
    pair_LCC[2, 1, 1], pair_LCC[1, 1, 0] = -5, 2
    problem = dataclasses.replace(
        random_problem(np.random.default_rng(0), layers=3, candidates=2, tightness=1.0),
        score_LC=np.array([[0.0, 1.0]] * 3),
        pair_score_LCC=pair_LCC,
    )
    scores = {layout: problem.price(layout).score for layout in [(1, 1, 1), (1, 0, 1), (0, 1, 1), (1, 1, 0)]}
    assert scores == {(1, 1, 1): -2, (1, 0, 1): 4, (0, 1, 1): -3, (1, 1, 0): 2}
    for solver in (Dynamic(), Milp(), Exhaustive()):
        assert solver.solve(problem).choice_L == (1, 0, 1)


def same_answer(problem: Problem) -> None:
    """`dynamic` and the naive reference find the same score, and the same least latency that it can be had for."""
    best, found = Exhaustive().best(problem), Dynamic().best(problem)
    assert (best is None) == (found is None)
    if best is not None and found is not None:
        assert found.optimal
        scores = (problem.price(one.choice_L).fixed_point_score for one in (best, found))
        assert len(set(scores)) == 1
        assert found.latency_us == best.latency_us


@pytest.mark.parametrize("costs", ["identical", "noisy", "random"])
@pytest.mark.parametrize("first", range(0, 100, 25))
def test_dynamic_equals_exhaustive_where_pairs_decide(first: int, costs: Any) -> None:
    """Pairs of the size of what layers score, of whole layers, and of next to nothing."""
    for seed in range(first, first + 25):
        problem = paired(seed, costs=costs)
        pair_LCC = random_pairs(np.random.default_rng(seed), 6, 3)
        same_answer(problem)
        same_answer(dataclasses.replace(problem, pair_score_LCC=3 * pair_LCC))
        same_answer(dataclasses.replace(problem, score_LC=(4 * problem.score_LC).round(), pair_score_LCC=pair_LCC / 10))


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_a_limit_may_count_pairs(first: int) -> None:
    for seed in range(first, first + 25):
        rng = np.random.default_rng(seed)
        problem = paired(seed, tightness=0.8)
        use_LCC = rng.integers(0, 5, (6, 3, 3))
        use_LCC[0] = 0
        energy = Resource.of("energy", rng.integers(0, 3, (6, 3)), int(rng.integers(5, 16)))
        energy = dataclasses.replace(energy, pair_LCC=use_LCC)
        if seed % 2:
            problem = dataclasses.replace(problem, pair_score_LCC=None)
        same_answer(dataclasses.replace(problem, limits=(energy,)))


@pytest.mark.parametrize("seed", range(40))
def test_no_bound_is_below_what_layouts_score(seed: int) -> None:
    problem = paired(seed)
    best = Exhaustive().best(problem)
    if best is not None:
        assert upper_bound(problem) >= problem.price(best.choice_L).fixed_point_score


@pytest.mark.parametrize("seed", range(8))
def test_dynamic_equals_highs_where_layouts_are_too_many_to_price(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = paired(seed, layers=int(rng.integers(12, 24)), candidates=int(rng.integers(2, 5)))
    if seed % 2:
        problem = with_random_constraints(rng, problem)
    found, expected = Dynamic().best(problem), Milp(time_limit_s=60).best(problem)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.optimal
        assert expected.optimal
        assert problem.price(found.choice_L).fixed_point_score == problem.price(expected.choice_L).fixed_point_score


@given(st.integers(0, 10**6))
def test_groups_score_their_inner_pairs_and_those_between_them(seed: int) -> None:
    problem = dataclasses.replace(paired(seed), group_size=2)
    folded, rng = problem.by_group(), np.random.default_rng(seed)
    for _ in range(5):
        choice_G = rng.integers(0, 3, 3)
        whole, by_group = problem.price(np.repeat(choice_G, 2).tolist()), folded.price(choice_G.tolist())
        assert whole.fixed_point_score == by_group.fixed_point_score


@given(st.integers(0, 10**6))
def test_what_is_lost_and_what_is_scored_add_up_to_the_same_for_every_layout(seed: int) -> None:
    problem, rng = paired(seed), np.random.default_rng(seed)
    lost = problem.score_lost(least_score=0)
    for _ in range(5):
        layout = rng.integers(0, 3, 6).tolist()
        assert lost.spent(problem, layout) + problem.price(layout).fixed_point_score == lost.limit
        assert lost.spent(problem, layout) >= 0
        assert problem.price(layout).fixed_point_score <= unconstrained_bound(problem)


@pytest.mark.parametrize("seed", range(6))
def test_a_front_holds_the_best_of_every_budget(seed: int) -> None:
    problem = paired(seed, layers=5)
    try:
        front = frontier(problem)
    except InfeasibleError:
        assert Exhaustive().best(problem) is None
        return
    for point in front.points:
        within = dataclasses.replace(
            problem, latency_budget_us=point.latency_us, memory_budget_bytes=point.memory_bytes
        )
        assert Exhaustive().solve(within).score == pytest.approx(point.score)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_budget_is_worth_knows_of_pairs(seed: int) -> None:
    problem = paired(seed, layers=5, tightness=0.5)
    best = Dynamic().solve(problem)
    for price in shadow_prices(problem, best, Dynamic()):
        if price.next is not None:
            gained = problem.price(price.next.choice_L).fixed_point_score / FIXED_POINT - best.score
            assert price.next.gain == pytest.approx(gained)


@given(st.integers(0, 10**6))
def test_many_layouts_at_once_are_priced_as_each_alone(seed: int) -> None:
    rng, problem = np.random.default_rng(seed), paired(seed)
    energy = Resource.of("energy", rng.integers(0, 3, (6, 3)), 9)
    energy = dataclasses.replace(energy, pair_LCC=rng.integers(0, 5, (6, 3, 3)))
    problem = dataclasses.replace(problem, limits=(energy,))
    pricing, choice_NL = Pricing(problem), rng.integers(0, 3, (7, 6))
    for layout, spent_R, score in zip(
        choice_NL.tolist(), pricing.spent_NR(choice_NL), pricing.score_N(choice_NL), strict=True
    ):
        assert spent_R.tolist() == [resource.spent(problem, layout) for resource in problem.resources]
        assert score == problem.price(layout).fixed_point_score


def test_evolution_sees_pairs_and_claims_no_more_than_the_bound() -> None:
    problem = paired(0, layers=8)
    found, best = Nsga2().solve(problem), Dynamic().solve(problem)
    assert found.score <= best.score <= found.upper_bound + 1e-9
    assert found.score == pytest.approx(best.score)  # 6,561 layouts, of which it prices as many


def test_equal_layers_are_not_put_in_order_where_neighbours_matter() -> None:
    """Without pairs equal blocks may stand together; with a loss of every run they may not."""
    problem = random_problem(
        np.random.default_rng(0), layers=8, candidates=2, costs="identical", peaks=False, switches=False
    )
    pair_LCC = np.zeros((8, 2, 2))
    pair_LCC[1:, [0, 1], [0, 1]] = -1
    problem = dataclasses.replace(problem, score_LC=np.zeros((8, 2)), pair_score_LCC=pair_LCC)
    loose = dataclasses.replace(problem, latency_budget_us=10**9, memory_budget_bytes=10**12)
    assert Dynamic().solve(loose).score == 0
    assert Dynamic().solve(problem).score == Exhaustive().solve(problem).score


def test_a_confident_plan_counts_pairs() -> None:
    problem = paired(1, layers=5, tightness=0.6)
    spread = Spread(
        std_us_LC=problem.latency_us_LC * 0.05, switch_std_us_SS=np.zeros((2, 2)), fixed_std_us=0.0, common_relative=0.0
    )
    found = solve_with_confidence(problem, spread, 0.9, Dynamic()).solution
    layouts = [layout for layout in itertools.product(range(3), repeat=5) if problem.admits(layout)]
    kept = [layout for layout in layouts if spread.keeps(problem, layout, 0.9)]
    assert found.score == max(problem.price(layout).score for layout in kept)
    least = min(math.ceil(spread.quantile_us(problem, layout, 0.9)) for layout in itertools.product(range(3), repeat=5))
    loose = dataclasses.replace(problem, memory_budget_bytes=UNLIMITED)
    assert least_quantile_us(loose, spread, 0.9) == least


def test_what_pairs_may_use_is_exact_or_refused() -> None:
    problem = random_problem(np.random.default_rng(0), layers=4, candidates=2)
    most = np.full((4, 2, 2), 2**49)
    limit = dataclasses.replace(Resource.of("energy", np.zeros((4, 2), np.int64), 5), pair_LCC=most)
    with pytest.raises(ProblemError, match="energy may add up to"):
        dataclasses.replace(problem, limits=(limit,))
    for wrong in (most[:, :, :1], most[:3], -most, most * 1.0):
        with pytest.raises(ProblemError, match="pair_LCC of the limit 'energy'"):
            dataclasses.replace(problem, limits=(dataclasses.replace(limit, pair_LCC=wrong),))


@pytest.mark.parametrize(
    ("pair_LCC", "problem"),
    [
        (np.zeros((4, 2)), r"pair_score_LCC has the shape \(4, 2\); \(4, 2, 2\)"),
        (np.full((4, 2, 2), np.nan), "pair_score_LCC holds numbers that are not finite"),
        (np.ones((4, 2, 2)), "pair_score_LCC has scores at the first layer"),
        (np.concatenate([np.zeros((1, 2, 2)), np.full((3, 2, 2), 1e6)]), "whose sum is not exact"),
        (np.concatenate([np.zeros((1, 2, 2)), np.full((3, 2, 2), 1e-12)]), "pair_score_LCC is less than 1e-09"),
    ],
)
def test_pairs_that_cannot_be_are_refused(pair_LCC: Any, problem: str) -> None:
    four = random_problem(np.random.default_rng(3), layers=4, candidates=2)
    with pytest.raises(ProblemError, match=problem):
        dataclasses.replace(four, pair_score_LCC=pair_LCC)
