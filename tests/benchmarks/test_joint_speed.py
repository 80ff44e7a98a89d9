"""Layout and precisions in one search: dynamic as `plan --precisions` asks it, dynamic as it is, milp and plain HiGHS.

python tests/benchmarks/test_joint_speed.py     # prints the line of docs/benchmarks.md, in some minutes

Invented costs and noise: 28 layers of 2 blocks in 3 precisions, and 5 slots for stem, head, switches and text.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import pytest

from s2search.errors import InfeasibleError
from s2search.planner.joint_plan import sooner
from s2search.solver.base import Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.milp import Milp
from tests.benchmarks.plain_highs import PlainHighs
from tests.plan.joint_cases import Case, drawn

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

SEEDS = range(30)
SOLVERS: dict[str, Solver] = {"dynamic": sooner(Dynamic()), "milp": Milp(), "HiGHS": PlainHighs()}


def question(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    return drawn(rng, depth=28, least_db=float(rng.uniform(16, 30)), tightness=float(rng.uniform(0.1, 0.5)))


def timed(case: Case, solver: Solver) -> tuple[float, float | None, bool]:
    """Return processor seconds of the whole search, its score, and whether it was handed over."""
    joint, start = case.joint, time.process_time()
    try:
        found = joint.solve(solver)
    except InfeasibleError:
        return time.process_time() - start, None, False
    assert found.optimal
    return time.process_time() - start, found.score, "handed over" in found.method


def test_the_joint_search_takes_about_as_long_as_highs() -> None:
    timed(question(0), SOLVERS["dynamic"])  # the first call imports
    taken: dict[str, list[float]] = {name: [] for name in SOLVERS}
    handed = 0
    for seed in SEEDS:
        case = question(seed)
        found = {name: timed(case, solver) for name, solver in SOLVERS.items()}
        scores = [score for _, score, _ in found.values()]
        assert len({score is None for score in scores}) == 1
        assert scores[0] is None or scores == pytest.approx([scores[0]] * len(scores), abs=1e-6)
        handed += found["dynamic"][2]
        for name, (seconds, _, _) in found.items():
            taken[name].append(seconds)
        print(seed, {name: f"{seconds:.2f} s" for name, (seconds, _, _) in found.items()}, file=sys.stderr)
    for name, seconds in taken.items():
        print(f"{name}: median {1e3 * statistics.median(seconds):.0f} ms, slowest {max(seconds):.1f} s")
    ratio = statistics.geometric_mean(h / d for h, d in zip(taken["HiGHS"], taken["dynamic"], strict=True))
    print(f"handed over {handed} of {len(SEEDS)}; HiGHS / dynamic {ratio:.2f}")
    assert ratio > 1 / 4
    assert max(taken["dynamic"]) < 30


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-s", "-p", "no:cacheprovider"]))
