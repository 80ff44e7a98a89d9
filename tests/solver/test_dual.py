from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array

from s2search.solver.exact.dual import Dual, lagrangian_dual
from s2search.solver.exact.graph import BOUNDLESS, Cases, Graph
from s2search.solver.problem import FurtherDevice, Problem
from s2search.testing.problems import Costs, random_problem
from tests.benchmarks import families


def graph_and_case(problem: Problem) -> tuple[Graph, Cases]:
    graph, limit_R = Graph.of(problem)
    graph, limit_KR, _ = graph.reduced(limit_R[None])
    allowed_MLC = graph.allowed_LC[None]
    return graph, Cases(limit_KR=limit_KR, mask_K=np.zeros(len(limit_KR), np.int64), allowed_MLC=allowed_MLC)


def linear_relaxation(graph: Graph, case: Cases) -> float:
    """Return the most that mixtures of layouts score within the limits: a flow from the stem to the head."""
    layers, streams = len(graph.score_LC), len(graph.follows_SS)
    arcs = [
        (layer, s, c, int(graph.stream_C[c]))
        for layer, s, c in itertools.product(range(layers), range(streams), range(len(graph.stream_C)))
        if graph.allowed_LC[layer, c]
    ] + [(layers, s, None, graph.last_stream) for s in range(streams)]
    score_A, use_RA, nodes, flows, columns = [], [], [], [], []
    for a, (layer, s, c, t) in enumerate(arcs):
        score_A.append(graph.step_score_SS(layer)[s, t] + (0 if c is None else graph.score_LC[layer, c]))
        use_RA.append(graph.step_RSS(layer)[:, s, t] + (0 if c is None else graph.use_RLC[:, layer, c]))
        nodes += [layer * streams + s] + ([] if c is None else [(layer + 1) * streams + t])
        flows += [1.0] + ([] if c is None else [-1.0])
        columns += [a] * (1 if c is None else 2)
    conserved = coo_array((flows, (nodes, columns)), shape=((layers + 1) * streams, len(arcs)))
    source = np.zeros((layers + 1) * streams)
    source[graph.first_stream] = 1
    scale_R = np.maximum(case.limit_KR[0].astype(float), 1)
    found = linprog(
        -np.array(score_A) / 1e9,
        A_ub=np.array(use_RA).T / scale_R[:, None],
        b_ub=case.limit_KR[0] / scale_R,
        A_eq=conserved.tocsr(),
        b_eq=source,
        bounds=(0, None),
        method="highs",
    )
    if found.status == 2:
        reject()
    return float(-found.fun * 1e9)


@pytest.mark.parametrize("costs", ["noisy", "random", "identical"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tightness=st.floats(0.05, 0.95), devices=st.integers(1, 2))
def test_bounds_are_as_good_as_the_linear_relaxation(seed: int, tightness: float, devices: int, costs: Costs) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, layers=24, candidates=5, costs=costs, tightness=tightness, peaks=False)
    if devices > 1:
        problem = dataclasses.replace(problem, devices=(slower(rng, problem),))
    graph, case = graph_and_case(problem)
    relaxed = linear_relaxation(graph, case)
    (bound,) = lagrangian_dual(graph, case).bound_K
    assert relaxed * (1 - 1e-7) <= bound <= relaxed * (1 + (3e-4 if devices == 1 else 1e-2))
    (best,) = lagrangian_dual(graph, case, exact=True).bound_K
    assert relaxed * (1 - 1e-7) <= best <= relaxed * (1 + 1e-6)


def slower(rng: np.random.Generator, problem: Problem) -> FurtherDevice:
    latency_us_LC = np.rint(problem.latency_us_LC * rng.uniform(0.5, 2, problem.latency_us_LC.shape)).astype(np.int64)
    return FurtherDevice(
        name="other",
        latency_us_LC=latency_us_LC,
        memory_bytes_LC=problem.memory_bytes_LC,
        peak_bytes_LC=problem.peak_bytes_LC,
        switch_us_SS=problem.switch_us_SS,
        fixed_us=0,
        fixed_bytes=0,
        latency_budget_us=int(latency_us_LC.mean(axis=1).sum()),
        memory_budget_bytes=problem.memory_budget_bytes,
    )


def test_many_cases_are_bounded_as_one_by_one() -> None:
    problem = random_problem(np.random.default_rng(3), layers=48, candidates=6, costs="noisy", tightness=0.7)
    graph, case = graph_and_case(problem)
    shares = np.linspace(0.3, 1, 6)[:, None]
    cases = dataclasses.replace(
        case, limit_KR=np.rint(case.limit_KR * shares).astype(np.int64), mask_K=np.zeros(6, np.int64)
    )
    together_K = lagrangian_dual(graph, cases).bound_K
    alone_K = [lagrangian_dual(graph, cases.take([k])).bound_K[0] for k in range(len(cases))]
    np.testing.assert_allclose(together_K, alone_K, rtol=1e-9)


@pytest.mark.parametrize(("first", "others"), [(0.3, 0.3), (0.4, 0.2)])
def test_the_last_prices_are_those_at_which_the_cheapest_layout_costs_most(first: float, others: float) -> None:
    problem = two_budgets(500, first, others)
    allowed_LC = problem.latency_us_LC > problem.latency_us_LC.min(axis=1, keepdims=True)
    graph, case = graph_and_case(dataclasses.replace(problem, allowed_LC=allowed_LC))
    limit_R = case.limit_KR[0, case.limited].astype(np.float64)
    share_R = lagrangian_dual(graph, case).price_KPR[0, -1, case.limited] * limit_R

    def cheapest(share_R: NDArray[np.float64]) -> float:
        cost_LC = np.tensordot(share_R / limit_R, graph.use_RLC[case.limited], axes=1)
        return float(cost_LC.min(axis=1, where=allowed_LC, initial=np.inf).sum())

    most = max(cheapest(np.array([share, 1 - share])) for share in np.linspace(0, 1, 101))
    assert 0.7 < most < 1
    assert cheapest(share_R / share_R.sum()) > 0.99 * most
    assert share_R.sum() == pytest.approx(10 * np.ptp(graph.score_LC, axis=1).sum())


def two_budgets(seed: int, first: float, second: float) -> Problem:
    """Return a subset-sum of 48 layers with two budgets, one tighter than the other."""
    make = families.subset_sum(2)
    problem, other = (make(np.random.default_rng(seed), 48, 6, tightness) for tightness in (first, second))
    return dataclasses.replace(problem, limits=other.limits)


def test_bounds_of_one_resource_and_of_two_stand_side_by_side() -> None:
    graph, case = graph_and_case(random_problem(np.random.default_rng(3), layers=6, candidates=3))
    alone = Cases(
        limit_KR=np.where(np.arange(case.limit_KR.shape[1]) == 0, case.limit_KR, BOUNDLESS),
        mask_K=case.mask_K,
        allowed_MLC=case.allowed_MLC,
    )
    one, both = lagrangian_dual(graph, alone), lagrangian_dual(graph, case)
    assert one.price_KPR.shape[1] < both.price_KPR.shape[1]
    joined = Dual.joined([one, both])
    left_RN = np.repeat(case.limit_KR.T.astype(float), 2, axis=1)
    zero_N = np.zeros(2, np.int64)
    bounds = joined.bound_N(0, np.arange(2), zero_N + graph.first_stream, left_RN)
    for dual, bound in zip((one, both), bounds, strict=True):
        assert dual.bound_N(0, zero_N[:1], zero_N[:1] + graph.first_stream, left_RN[:, :1]) == pytest.approx(bound)
