"""dynamic against HiGHS (scipy's milp, zero relative gap) on the same problems, in turn, in one run.

python tests/benchmarks/test_solver_speed.py     # prints the table of the README, in some minutes
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from s2search.errors import CheckError, InfeasibleError
from s2search.solver.base import Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.problem import Problem
from s2search.testing.problems import random_problem
from tests.benchmarks.plain_highs import PlainHighs

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

FAMILIES = [(28, 2), (28, 4), (28, 8), (48, 6), (64, 8), (100, 8)]
COSTS = ("identical", "noisy", "random")
BUDGETS = {"tight": 0.15, "middle": 0.4, "loose": 0.75}
TIME_LIMIT_S = 10.0


@dataclass(frozen=True)
class Timing:
    """One problem solved by both; a score is None where there was no answer in time."""

    layers: int
    candidates: int
    costs: str
    dynamic_s: float
    highs_s: float
    dynamic_score: float | None
    highs_score: float | None


def solve(solver: Solver, problem: Problem) -> tuple[float, float | None]:
    start = time.process_time()
    try:
        score = solver.solve(problem).score
    except InfeasibleError:
        score = -math.inf
    except CheckError:
        score = None
    return time.process_time() - start, score


def timings(families: list[tuple[int, int]]) -> Iterator[Timing]:
    rng = np.random.default_rng(2026)
    for layers, candidates in families:
        for costs in COSTS:
            for tightness in BUDGETS.values():
                for peaks in (False, True):
                    problem = random_problem(
                        rng, layers=layers, candidates=candidates, costs=costs, tightness=tightness, peaks=peaks
                    )
                    dynamic_s, dynamic_score = solve(Dynamic(), problem)
                    highs_s, highs_score = solve(PlainHighs(time_limit_s=TIME_LIMIT_S), problem)
                    yield Timing(layers, candidates, costs, dynamic_s, highs_s, dynamic_score, highs_score)


def table(results: list[Timing]) -> str:
    lines = [
        "| layers x candidates | costs | dynamic | HiGHS | slowest dynamic | slowest HiGHS | HiGHS / dynamic |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((r.layers, r.candidates, r.costs) for r in results):
        rows = [r for r in results if (r.layers, r.candidates, r.costs) == key]
        dynamic, highs = [r.dynamic_s for r in rows], [r.highs_s for r in rows]
        late = "> " if any(r.highs_score is None for r in rows) else ""
        ratio = statistics.geometric_mean(h / d for h, d in zip(highs, dynamic, strict=True))
        lines.append(
            f"| {key[0]} x {key[1]} | {key[2]} | {1e3 * statistics.median(dynamic):.0f} ms "
            f"| {1e3 * statistics.median(highs):.0f} ms | {1e3 * max(dynamic):.0f} ms "
            f"| {late}{1e3 * max(highs):.0f} ms | {late}{ratio:.1f} |"
        )
    return "\n".join(lines)


def test_dynamic_finds_what_highs_finds_sooner() -> None:
    solve(Dynamic(), random_problem(np.random.default_rng(0), layers=8, candidates=3))  # the first call imports
    solve(PlainHighs(), random_problem(np.random.default_rng(0), layers=8, candidates=3))
    results = []
    for timing in timings(FAMILIES):
        results.append(timing)
        print(f"{timing}", file=sys.stderr)
    print("\n" + table(results))
    for r in results:
        assert r.dynamic_score is not None
        assert r.highs_score is None or r.dynamic_score == pytest.approx(r.highs_score, abs=1e-6), r
    hard = [r.highs_s / r.dynamic_s for r in results if r.highs_s > 0.05]
    print(f"where HiGHS needs over 50 ms ({len(hard)} of {len(results)}): {statistics.geometric_mean(hard):.1f} x")
    assert statistics.geometric_mean(hard) >= 5
    answered = [r for r in results if r.highs_score is not None]
    slow = [r for r in answered if r.dynamic_s > max(0.05, 1.5 * r.highs_s)]
    late = [f"{r.dynamic_s:.1f} s" for r in results if r.highs_score is None and r.dynamic_s > TIME_LIMIT_S]
    print(f"slower than 1.5 x HiGHS and 50 ms: {len(slow)} of {len(answered)} that HiGHS answered")
    print(f"without an answer of HiGHS in {TIME_LIMIT_S:g} s: {len(results) - len(answered)}; dynamic late: {late}")
    assert not slow, slow


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-s", "-p", "no:cacheprovider"]))
