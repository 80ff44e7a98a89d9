from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2search.errors import InfeasibleError, ProblemError
from s2search.solver.dynamic import Dynamic
from s2search.solver.exact.dual import at_prices, lagrangian_dual
from s2search.solver.exact.graph import Cases, Graph
from s2search.solver.exact.labels import NOTHING, Best
from s2search.solver.exact.search import least_use, search, sweep
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.milp import Milp
from s2search.solver.problem import FIXED_POINT, Problem
from s2search.testing.problems import random_problem, with_random_constraints
from tests.benchmarks import families

seeds = st.integers(0, 2**32 - 1)


def small(seed: int, **settings: object) -> Problem:
    rng = np.random.default_rng(seed)
    shape = {"layers": int(rng.integers(2, 7)), "candidates": int(rng.integers(2, 4))}
    return random_problem(rng, **{**shape, "tightness": float(rng.uniform(0, 1)), **settings})  # type: ignore[arg-type]


def optimum(problem: Problem) -> float | None:
    best = Exhaustive().best(problem)
    return None if best is None else best.score


def graph_and_case(problem: Problem) -> tuple[Graph, Cases]:
    graph, limit_R = Graph.of(problem)
    one = np.zeros(1, np.int64)
    return graph, Cases(limit_KR=limit_R[None], mask_K=one, allowed_MLC=graph.allowed_LC[None])


def every_layout(problem: Problem) -> list[tuple[int, ...]]:
    layers, candidates = problem.score_LC.shape
    return list(itertools.product(range(candidates), repeat=layers))


@given(seeds, st.booleans(), st.booleans())
def test_a_bound_is_never_below_what_a_completion_scores(seed: int, constrained: bool, exact: bool) -> None:
    problem = small(seed, peaks=False)
    if constrained:
        problem = with_random_constraints(np.random.default_rng(seed), problem).by_group()
    graph, case = graph_and_case(problem)
    dual = lagrangian_dual(graph, case, exact=exact)
    for layout in every_layout(problem):
        if not problem.admits(layout):
            continue
        used_R, score, stream = np.zeros_like(case.limit_KR[0]), 0, graph.first_stream
        for layer, c in enumerate([*layout, None]):
            left_RN = (case.limit_KR[0] - used_R)[:, None].astype(np.float64)
            bound = dual.bound_N(layer, np.zeros(1, np.int64), np.array([stream]), left_RN)
            assert score + bound[0] >= problem.price(layout).fixed_point_score
            if c is not None:
                step = layer, stream, int(graph.stream_C[c])
                used_R = used_R + graph.use_RLC[:, layer, c] + graph.step_RSS(layer)[:, *step[1:]]
                score += int(graph.score_LC[layer, c]) + int(graph.step_score_SS(layer)[step[1:]])
                stream = step[2]


@given(seeds)
def test_layouts_in_order_keep_the_optimum_of_equal_layers_and_the_fastest_of_it(seed: int) -> None:
    problem = small(seed, costs="identical", peaks=False)
    graph, limit_R = Graph.of(problem)
    ordered = graph.ordered()
    assert ordered is not graph
    (answer,) = search(graph, limit_R[None])
    assert (optimum(problem) is None) == (answer.layout is None)
    if answer.layout is not None:
        best = Exhaustive().solve(problem)
        assert (answer.score, answer.latency) == (round(best.score * FIXED_POINT), best.latency_us - problem.fixed_us)
        rank_C = np.argsort(np.lexsort((np.arange(len(graph.stream_C)), graph.stream_C != graph.first_stream)))
        assert (np.diff(rank_C[list(answer.layout)]) >= 0).all()


def test_layers_that_differ_are_left_in_any_order() -> None:
    graph, _ = Graph.of(small(0))
    assert graph.ordered() is graph


@pytest.mark.parametrize("seed", [2, 19, 24, 54])
def test_large_costs_that_all_layouts_share_do_not_blur_the_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, candidates, shared = 21, 3, 3_221_225_473_001 * (1 + seed % 5)
    latency_us_LC, memory_bytes_LC = rng.integers(0, 8, (2, layers, candidates))
    problem = Problem(
        score_LC=latency_us_LC * 1.234567 + rng.integers(0, 3, (layers, candidates)) / FIXED_POINT,
        latency_us_LC=latency_us_LC,
        memory_bytes_LC=memory_bytes_LC,
        peak_bytes_LC=np.zeros((layers, candidates), np.int64),
        allowed_LC=np.ones((layers, candidates), np.bool_),
        stream_C=np.arange(candidates) % 2,
        switch_us_SS=np.array([[0, 1], [2, 0]]),
        latency_budget_us=64,
        memory_budget_bytes=100,
    )
    large = dataclasses.replace(
        problem,
        latency_us_LC=latency_us_LC + shared,
        memory_bytes_LC=memory_bytes_LC + shared,
        latency_budget_us=64 + layers * shared,
        memory_budget_bytes=100 + layers * shared,
    )
    assert Dynamic().solve(large).score == Dynamic().solve(problem).score


@given(seeds, st.integers(20, 43))
def test_bounds_hold_where_prices_and_costs_are_large(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    problem = small(seed, peaks=False)
    shared = int(rng.integers(2**bits, 2 ** (bits + 1)))
    layers = len(problem.score_LC)
    problem = dataclasses.replace(
        problem,
        latency_us_LC=problem.latency_us_LC + shared,
        latency_budget_us=problem.latency_budget_us + layers * shared,
    )
    best = optimum(problem)
    assume(best is not None)
    assert best is not None
    graph, case = graph_and_case(problem)
    assert lagrangian_dual(graph, case).bound_K[0] >= round(best * FIXED_POINT)


@given(seeds, st.integers(1, 3))
def test_a_narrow_sweep_says_what_it_may_have_missed(seed: int, width: int) -> None:
    problem = small(seed, peaks=False)
    best = optimum(problem)
    assume(best is not None)
    graph, case = graph_and_case(problem)
    dual = lagrangian_dual(graph, case)
    backward_dual = at_prices(graph.backwards, case.backwards, dual.price_KPR)
    narrow = sweep(graph, case, dual, backward_dual, width=width, best=Best.none(1))
    assert best is not None
    assert max(narrow.found_K[0].score, int(narrow.cut_K[0])) >= round(best * FIXED_POINT)


@given(seeds)
def test_a_sweep_that_cuts_nothing_finds_whatever_scores_more_than_is_known(seed: int) -> None:
    problem = small(seed, peaks=False)
    best = optimum(problem)
    assume(best is not None)
    assert best is not None
    graph, case = graph_and_case(problem)
    dual = lagrangian_dual(graph, case)
    backward_dual = at_prices(graph.backwards, case.backwards, dual.price_KPR)
    for known in (round(best * FIXED_POINT) - 1, round(best * FIXED_POINT)):
        beaten = Best(score_K=np.array([known]), latency_K=np.array([NOTHING]))
        found = sweep(graph, case, dual, backward_dual, width=10**6, best=beaten).found_K[0]
        assert found.score == (round(best * FIXED_POINT) if known < round(best * FIXED_POINT) else NOTHING)


@given(seeds)
def test_a_sweep_finds_an_equal_score_in_less_time_than_is_known(seed: int) -> None:
    problem = small(seed, peaks=False)
    best = Exhaustive().best(problem)
    if best is None:
        return
    graph, case = graph_and_case(problem)
    dual = lagrangian_dual(graph, case)
    backward_dual = at_prices(graph.backwards, case.backwards, dual.price_KPR)
    score, latency = round(best.score * FIXED_POINT), best.latency_us - problem.fixed_us
    for known_latency, expected in ((latency + 1, latency), (latency, -NOTHING)):
        known = Best(score_K=np.array([score]), latency_K=np.array([known_latency]))
        found = sweep(graph, case, dual, backward_dual, width=10**6, best=known).found_K[0]
        assert found.latency == expected


@pytest.mark.parametrize(
    ("budgets", "seed", "first", "others"),
    [
        (2, 500, 0.15, 0.15),
        (2, 501, 0.15, 0.15),
        (2, 507, 0.16, 0.16),
        (2, 511, 0.13, 0.13),
        (2, 500, 0.1, 0.21),
        (2, 502, 0.21, 0.1),
        (3, 501, 0.25, 0.25),
        (3, 501, 0.95, 0.95),
    ],
)
def test_few_labels_settle_what_hardly_any_layout_keeps(budgets: int, seed: int, first: float, others: float) -> None:
    make = families.subset_sum(budgets)
    problem, other = (make(np.random.default_rng(seed), 48, 6, tightness) for tightness in (first, others))
    graph, limit_R = Graph.of(dataclasses.replace(problem, limits=other.limits))
    (answer,) = search(graph, limit_R[None], most_labels=256)
    assert answer.settled


@given(seeds)
def test_many_cases_at_once_are_answered_as_one_by_one(seed: int) -> None:
    problem = small(seed)
    graph, limit_R = Graph.of(problem)
    rng = np.random.default_rng(seed)
    limit_KR = np.rint(limit_R * rng.uniform(0.7, 1.3, (5, limit_R.size))).astype(np.int64)
    for case, together in zip(limit_KR, search(graph, limit_KR), strict=True):
        (alone,) = search(graph, case[None])
        assert (alone.score, alone.latency, alone.settled) == (together.score, together.latency, together.settled)
        assert (alone.layout is None) == (together.layout is None)


@given(seeds, st.floats(0, 0.2))
def test_slack_is_never_exceeded_and_bounds_stay_bounds(seed: int, slack: float) -> None:
    problem = small(seed)
    best = optimum(problem)
    assume(best is not None)
    assert best is not None
    graph, limit_R = Graph.of(problem)
    (answer,) = search(graph, limit_R[None], slack=slack)
    assert answer.layout is not None
    assert problem.admits(answer.layout)
    assert answer.score <= round(best * FIXED_POINT) <= answer.bound
    assert answer.bound <= answer.score + slack * abs(answer.score) + 1


@given(seeds, st.booleans())
def test_the_least_use_of_a_resource_is_that_of_brute_force(seed: int, constrained: bool) -> None:
    problem = small(seed)
    if constrained:
        problem = with_random_constraints(np.random.default_rng(seed), problem).by_group()
    graph, limit_R = Graph.of(problem)
    peak_RL = graph.peak_RLC
    for r in range(len(limit_R)):
        others = np.arange(len(limit_R)) != r
        uses = []
        for layout in every_layout(problem):
            used_R = graph.spent_R(layout) + peak_RL[:, np.arange(len(layout)), list(layout)].max(axis=1)
            if (used_R <= limit_R)[others].all() and problem.allowed_LC[np.arange(len(layout)), list(layout)].all():
                uses.append(int(used_R[r]))
        least = least_use(graph, limit_R, r)
        assert (None if least is None else least[0]) == min(uses, default=None)


@given(seeds)
def test_only_what_scores_above_something_is_looked_for(seed: int) -> None:
    problem = small(seed)
    best = Exhaustive().best(problem)
    assume(best is not None)
    assert best is not None
    graph, limit_R = Graph.of(problem)
    score = graph.scored(best.choice_L)
    (found,) = search(graph, limit_R[None], above=score - 1)
    assert (found.score, found.settled) == (score, True)
    (found,) = search(graph, limit_R[None], above=score)
    assert (found.layout, found.bound, found.settled) == (None, score, True)


@given(seeds, st.integers(2, 6))
def test_where_no_tie_is_left_open_no_layout_of_the_best_score_is_faster(seed: int, width: int) -> None:
    problem = small(seed)
    rounded = dataclasses.replace(problem, score_LC=np.round(2 * problem.score_LC) + 1)
    latency = dataclasses.replace(problem, score_LC=problem.latency_us_LC.astype(np.float64))
    for asked in (rounded, latency):
        best = Exhaustive().best(asked)
        graph, limit_R = Graph.of(asked)
        (found,) = search(graph, limit_R[None], most_labels=width, most_in_all=10**9)
        if best is None:
            assert found.layout is None
        elif found.settled and not found.tied:
            assert (found.score, found.latency + asked.fixed_us) == (graph.scored(best.choice_L), best.latency_us)


@given(seeds)
def test_no_layout_scores_below_the_least_score(seed: int) -> None:
    graph, _ = Graph.of(small(seed))
    for asked in (graph, graph.minimizing(0, graph.allowed_LC), graph.ordered()):
        layouts = itertools.product(range(len(asked.stream_C)), repeat=asked.layers)
        assert asked.least_score <= min(asked.scored(layout) for layout in layouts)


@pytest.mark.parametrize("budgets", [1, 2, 3])
def test_a_score_that_is_a_cost_is_settled_by_few_labels(budgets: int) -> None:
    """All bounds are equal then, and near copies of one label would meet nothing."""
    settled = []
    for seed, tightness in enumerate((0.2, 0.35, 0.5, 0.65, 0.8)):
        problem = families.subset_sum(budgets)(np.random.default_rng(seed), 48, 6, tightness)
        graph, limit_R = Graph.of(problem)
        (found,) = search(graph, limit_R[None], most_labels=64, most_in_all=1)
        settled.append(found.settled)
    assert sum(settled) >= 4


@given(seeds)
def test_many_different_peaks_are_settled_in_spans(seed: int) -> None:
    problem = small(seed, peaks=False)
    rng = np.random.default_rng(seed)
    peaky = dataclasses.replace(
        problem,
        peak_bytes_LC=rng.integers(0, 10**6, problem.score_LC.shape),
        memory_budget_bytes=problem.memory_budget_bytes + int(rng.integers(0, 10**6)),
    )
    best = Dynamic().best(peaky)
    assert (None if best is None else best.score) == optimum(peaky)


@pytest.mark.parametrize("seed", range(4))
def test_where_all_layouts_score_the_same_the_fastest_is_chosen(seed: int) -> None:
    problem = random_problem(np.random.default_rng(seed), layers=20, candidates=4, peaks=False, switches=False)
    flat = dataclasses.replace(problem, score_LC=np.ones((20, 4)), stream_C=np.zeros(4, np.int64))
    by_latency = dataclasses.replace(flat, score_LC=-problem.latency_us_LC / 1e4)
    assert Dynamic().solve(flat).latency_us == Milp().solve(by_latency).latency_us


def test_beyond_its_labels_it_hands_over_to_highs_and_says_so() -> None:
    problem = random_problem(np.random.default_rng(0), layers=24, candidates=4, costs="noisy", tightness=0.2)
    handed = Dynamic(most_labels=10).solve(problem)
    assert handed.method.startswith("milp, handed over by dynamic after 10 labels in a layer")
    assert handed.score == Dynamic().solve(problem).score
    assert Dynamic().solve(problem).method == "dynamic"


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 8))])
@pytest.mark.parametrize("costs", ["identical", "noisy", "random"])
def test_it_equals_highs_at_a_phone_models_size(seed: int, costs: str) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, layers=16, candidates=2 + seed % 2, costs=costs, tightness=0.2 + 0.1 * seed)  # type: ignore[arg-type]
    best, by_highs = Dynamic().best(problem), Milp(time_limit_s=60).best(problem)
    assert (best is None) == (by_highs is None)
    if best is not None and by_highs is not None:
        assert best.score == pytest.approx(by_highs.score, abs=1e-6)


EXTREMES = {
    "one layer": (1, {}),
    "120 layers": (120, {}),
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


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) if one == "120 layers" else one for one in EXTREMES]
)
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
