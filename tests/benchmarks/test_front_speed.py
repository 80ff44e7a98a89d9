"""The front of many budgets from one run, against HiGHS solved once per budget, at 48 layers x 6 candidates.

python tests/benchmarks/test_front_speed.py     # prints the table of the README, in some minutes
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time

import numpy as np
import pytest

from s2search.errors import CheckError, InfeasibleError
from s2search.solver.frontier import frontier
from s2search.solver.problem import Problem
from s2search.testing.problems import Costs, random_problem
from tests.benchmarks.plain_highs import PlainHighs

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

COSTS: tuple[Costs, ...] = ("identical", "noisy", "random")
TIME_LIMIT_S = 10.0
SAMPLE = 5  # HiGHS solves that are run; their mean stands for all


def budgets(problem: Problem, count: int) -> tuple[list[int], list[int]]:
    """Return latency and memory budgets from a tenth above the least of any layout to the problem's own."""
    least_us = int(problem.latency_us_LC.min(axis=1).sum()) + problem.fixed_us
    least_bytes = int(problem.memory_bytes_LC.min(axis=1).sum()) + problem.fixed_bytes
    shares = np.linspace(0.1, 1, count)
    latency = least_us + shares * (problem.latency_budget_us - least_us)
    memory = least_bytes + shares * (problem.memory_budget_bytes - least_bytes)
    return [int(b) for b in latency], [int(b) for b in memory]


def highs_s(problem: Problem, latencies: list[int], memories: list[int]) -> float:
    """Return the mean time of a HiGHS solve at some of the budgets."""
    start = time.process_time()
    for latency, memory in zip(latencies, memories, strict=True):
        limited = dataclasses.replace(problem, latency_budget_us=latency, memory_budget_bytes=memory)
        with contextlib.suppress(InfeasibleError, CheckError):
            PlainHighs(time_limit_s=TIME_LIMIT_S).solve(limited)
    return (time.process_time() - start) / len(latencies)


def test_a_front_comes_sooner_than_highs_solves_its_budgets() -> None:
    frontier(random_problem(np.random.default_rng(0), layers=6, candidates=2), [10**5], [10**9])  # warm
    lines = ["| costs | 50 budgets | one HiGHS solve | 50 of HiGHS / front | 30 x 30 budgets | within | 60 of HiGHS |"]
    lines.append("|---|---|---|---|---|---|---|")
    ratios_50, ratios_900 = [], []
    for costs in COSTS:
        problem = random_problem(np.random.default_rng(3), layers=48, candidates=6, costs=costs, tightness=0.75)
        latencies, _ = budgets(problem, 50)
        start = time.process_time()
        line = frontier(problem, latencies)
        line_s = time.process_time() - start
        one_s = highs_s(problem, latencies[:: 50 // SAMPLE], [problem.memory_budget_bytes] * SAMPLE)
        latencies, memories = budgets(problem, 30)
        start = time.process_time()
        plane = frontier(problem, latencies, memories, 0.01)
        plane_s = time.process_time() - start
        cell_s = highs_s(problem, latencies[:: 30 // SAMPLE], memories[:: 30 // SAMPLE])
        assert line.epsilon == 0
        lines.append(
            f"| {costs} | {line_s:.2f} s | {one_s:.2f} s | {50 * one_s / line_s:.0f} | {plane_s:.1f} s "
            f"| {plane.epsilon:.1%} | {60 * cell_s:.0f} s |"
        )
        print(lines[-1], file=sys.stderr)
        assert plane.epsilon <= 0.01
        ratios_50.append(50 * one_s / line_s)
        ratios_900.append(60 * cell_s / plane_s)
    print("\n" + "\n".join(lines))
    assert min(ratios_50) >= 20
    assert min(ratios_900) >= 1


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-s", "-p", "no:cacheprovider"]))
