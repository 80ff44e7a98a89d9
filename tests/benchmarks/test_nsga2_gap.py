"""How far nsga2 stays behind the exact solver: the score at five latency budgets, and the latency-score front.

python tests/benchmarks/test_nsga2_gap.py     # prints a row per family
"""

from __future__ import annotations

import dataclasses
import sys
import time

import numpy as np
import pytest

from s2search.solver.base import Solution
from s2search.solver.dynamic import Dynamic
from s2search.solver.frontier import latency_front
from s2search.solver.nsga2 import Nsga2
from s2search.solver.problem import UNLIMITED, Problem
from s2search.solver.questions.infeasible import smallest_relaxations
from s2search.testing.problems import random_problem

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

TRIALS = 2000
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the way from the fastest layout to the best
HEADER = (
    "| layers x candidates | costs | trials | nsga2, a budget | dynamic, a budget | mean gap of the score "
    "| worst | hypervolume of the front |\n|---|---|---|---|---|---|---|---|"
)


def hypervolume(front: list[Solution], *, latest_us: int, worst: float) -> float:
    """The area of (latency, score) that a front dominates, down to a worst score and up to a latest latency."""
    area, best = 0.0, worst
    for solution in sorted(front, key=lambda s: (s.latency_us, -s.score)):
        if solution.score > best and solution.latency_us <= latest_us:
            area += (solution.score - best) * (latest_us - solution.latency_us)
            best = solution.score
    return area


def at_budgets(problem: Problem) -> list[Problem]:
    best_us = Dynamic().solve(problem).latency_us
    limited = dataclasses.replace(problem, latency_budget_us=best_us)
    fastest_us = smallest_relaxations(limited).found["latency"].needed
    budgets = [fastest_us + round(share * (best_us - fastest_us)) for share in SHARES]
    return [dataclasses.replace(problem, latency_budget_us=budget) for budget in budgets]


@pytest.mark.parametrize("costs", ["noisy", "random"])
@pytest.mark.parametrize(("layers", "candidates"), [(28, 2), (28, 4)])
def test_nsga2_comes_close_to_the_exact_answers_and_never_above(layers: int, candidates: int, costs: str) -> None:
    rng, solver = np.random.default_rng(2026), Nsga2(trials=TRIALS)
    problem = random_problem(rng, layers=layers, candidates=candidates, costs=costs, tightness=0.7)  # type: ignore[arg-type]
    problem = dataclasses.replace(problem, latency_budget_us=UNLIMITED)
    gaps, nsga2_s, exact_s = [], 0.0, 0.0
    for limited in at_budgets(problem):
        start = time.perf_counter()
        exact = Dynamic().solve(limited)
        middle = time.perf_counter()
        found = solver.solve(limited)
        exact_s, nsga2_s = exact_s + middle - start, nsga2_s + time.perf_counter() - middle
        assert found.score <= exact.score + 1e-9
        gaps.append(1 - found.score / exact.score)
    exact_front, found_front = latency_front(problem, Dynamic(), points=60), solver.front(problem)
    latest_us, worst = max(s.latency_us for s in exact_front), min(s.score for s in exact_front)
    share = hypervolume(found_front, latest_us=latest_us, worst=worst) / hypervolume(
        exact_front, latest_us=latest_us, worst=worst
    )
    n = len(SHARES)
    print(
        f"\n{HEADER}\n| {layers} x {candidates} | {costs} | {TRIALS:,} | {nsga2_s / n:.1f} s "
        f"| {exact_s / n * 1e3:.0f} ms | {np.mean(gaps):.2%} | {max(gaps):.2%} "
        f"| {share:.1%} of that of 60 exact points |"
    )
    assert np.mean(gaps) < 0.02
    assert max(gaps) < 0.04
    assert share > 0.8


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-s", "-p", "no:cacheprovider"]))
