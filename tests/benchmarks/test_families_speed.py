"""dynamic against HiGHS and CP-SAT (one worker) on families that nobody made for it, in turn, in processor time.

python -m tests.benchmarks.test_families_speed     # prints the table of docs/benchmarks.md, in half an hour
python -m tests.benchmarks.test_families_speed "similar weights"     # of some families
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from s2search.errors import CheckError
from s2search.solver.dynamic import Dynamic
from s2search.solver.problem import UNLIMITED, Problem
from tests.benchmarks import families
from tests.benchmarks.plain_highs import PlainHighs

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

TIME_LIMIT_S = 30.0
NOTHING_FITS = -1e300
TIGHTNESS = (0.25, 0.5, 0.75)
#: What makes a problem, layers, candidates, and how many problems of each tightness.
FAMILIES: dict[str, tuple[families.Make, int, int, int]] = {
    "uncorrelated, one budget": (families.uncorrelated(1), 100, 10, 1),
    "uncorrelated, two budgets": (families.uncorrelated(2), 48, 6, 2),
    "weakly correlated, one budget": (families.weakly_correlated(1), 200, 16, 1),
    "weakly correlated, two budgets": (families.weakly_correlated(2), 48, 6, 1),
    "strongly correlated": (families.strongly_correlated, 100, 10, 1),
    "inverse strongly correlated": (families.inverse_strongly_correlated, 100, 10, 1),
    "subset-sum, one budget": (families.subset_sum(1), 48, 6, 7),
    "subset-sum, two budgets": (families.subset_sum(2), 48, 6, 7),
    "subset-sum, three budgets": (families.subset_sum(3), 48, 6, 2),
    "subset-sum, two budgets, more layers": (families.subset_sum(2), 100, 10, 2),
    "similar weights": (families.similar_weights, 48, 6, 2),
    "Sinha and Zoltners": (families.sinha_zoltners, 100, 10, 1),
    "mean-correlated, three budgets": (families.mean_correlated(3), 28, 6, 1),
    "score like latency": (families.score_like_latency, 48, 6, 1),
    "score like latency, equal layers": (families.score_like_latency_of_equal_layers, 48, 6, 3),
    "parallel strategies": (families.parallel_strategies, 28, 4, 3),
    "three further devices": (families.further_devices(3), 28, 3, 2),
    "loose budgets, 64 layers": (families.loose_budgets, 64, 8, 9),
    "loose budgets, 100 layers": (families.loose_budgets, 100, 8, 9),
}
#: Families that HiGHS solves in less time, and how many times as long dynamic may take: a list that only shrinks.
LOST: dict[str, float] = {}
#: How long dynamic may take on any problem: so many times as long as HiGHS, or so many seconds.
MOST_RATIO, MOST_S = 2.5, 0.1
#: Problems that once broke this, by family, seed and tightness, beside the families' own.
FURTHER = (
    ("subset-sum, two budgets", 500, 0.15),
    ("subset-sum, two budgets", 501, 0.15),
    ("subset-sum, two budgets", 507, 0.16),
    ("subset-sum, two budgets", 511, 0.13),
    ("three further devices", 4003, 0.35),
)
MOST_BYTES = 500e6
_TRIES = 3  # of problems that break the bound: other work on the machine makes processor time longer


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Processor time, the best score, and what none scores above: None, and infinite, without an answer."""

    seconds: float
    score: float | None
    bound: float = math.inf

    @property
    def proven(self) -> bool:
        return self.score == self.bound


@dataclass(frozen=True, kw_only=True)
class Result:
    """One problem, solved by each."""

    family: str
    seed: int
    tightness: float
    answers: dict[str, Answer]

    @property
    def key(self) -> tuple[str, int, float]:
        """Which problem it is."""
        return self.family, self.seed, self.tightness

    @property
    def is_slow(self) -> bool:
        """Whether dynamic takes longer than it may, or does not prove what HiGHS does."""
        dynamic, highs = self.answers["dynamic"], self.answers["HiGHS"]
        return dynamic.seconds > max(MOST_S, MOST_RATIO * highs.seconds) or (highs.proven and not dynamic.proven)


Solve = Callable[[Problem], tuple[float | None, float]]


def timed(solve: Solve, problem: Problem) -> Answer:
    start = time.process_time()
    score, bound = solve(problem)
    return Answer(seconds=time.process_time() - start, score=score, bound=bound)


def by_dynamic(problem: Problem) -> tuple[float | None, float]:
    try:
        solution = Dynamic(time_limit_s=TIME_LIMIT_S).best(problem)
    except CheckError:
        return None, math.inf
    return (NOTHING_FITS, NOTHING_FITS) if solution is None else (solution.score, solution.upper_bound)


def by_highs(problem: Problem) -> tuple[float | None, float]:
    try:
        solution = PlainHighs(time_limit_s=TIME_LIMIT_S).best(problem)
    except CheckError:
        return None, math.inf
    return (NOTHING_FITS, NOTHING_FITS) if solution is None else (solution.score, solution.score)


def by_cp_sat(problem: Problem) -> tuple[float | None, float]:
    """Ask CP-SAT the same question in the same whole numbers, with one worker."""
    from ortools.sat.python import cp_model

    model, (layers, candidates), streams = cp_model.CpModel(), problem.score_LC.shape, len(problem.switch_us_SS)
    x = [[model.new_bool_var("") for _ in range(candidates)] for _ in range(layers)]
    f = [[[model.new_bool_var("") for _ in range(streams)] for _ in range(streams)] for _ in range(layers + 1)]
    for x_C in x:
        model.add_exactly_one(x_C)
    model.add(sum(f[0][problem.first_stream]) == 1)
    model.add(sum(f[layers][s][problem.last_stream] for s in range(streams)) == 1)
    for f_SS in f:
        model.add(sum(sum(f_S) for f_S in f_SS) == 1)
    for layer in range(layers):
        for s in range(streams):
            here = sum(x[layer][c] for c in range(candidates) if problem.stream_C[c] == s)
            model.add(sum(f[layer][before][s] for before in range(streams)) == here)
            model.add(sum(f[layer + 1][s]) == here)
    pairs = [(layer, c) for layer in range(layers) for c in range(candidates)]
    for layer, c in pairs:
        if not problem.allowed_LC[layer, c]:
            model.add(x[layer][c] == 0)
    for resource in problem.resources:
        if resource.limit >= UNLIMITED:
            continue
        used = sum(int(resource.use_LC[layer, c]) * x[layer][c] for layer, c in pairs)
        used += sum(
            int(resource.switch_SS[s, t]) * f_SS[s][t] for f_SS in f for s in range(streams) for t in range(streams)
        )
        peak = model.new_int_var(0, int(resource.peak_LC.max()), "")
        for layer, c in pairs:
            if resource.peak_LC[layer, c]:
                model.add(peak >= int(resource.peak_LC[layer, c])).only_enforce_if(x[layer][c])
        model.add(used + peak <= int(resource.limit))
    model.maximize(sum(int(problem.fixed_point_score_LC[layer, c]) * x[layer][c] for layer, c in pairs))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = TIME_LIMIT_S
    ended = solver.solve(model)
    if ended == cp_model.INFEASIBLE:
        return NOTHING_FITS, NOTHING_FITS
    if ended not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, math.inf
    score = problem.price(tuple(next(c for c in range(candidates) if solver.value(x_C[c])) for x_C in x)).score
    return score, score if ended == cp_model.OPTIMAL else math.inf


def solvers() -> dict[str, Solve]:
    found: dict[str, Solve] = {"dynamic": by_dynamic, "HiGHS": by_highs}
    if find_spec("ortools") is None:
        print("CP-SAT is left out: ortools is not installed", file=sys.stderr)
        return found
    return found | {"CP-SAT": by_cp_sat}


def results(names: Iterable[str] = FAMILIES, seed: int = 2026) -> list[Result]:
    found, asked = [], solvers()
    for solve in asked.values():  # the first call imports
        solve(families.uncorrelated(1)(np.random.default_rng(0), 6, 3, 0.5))
    for family in names:
        asked_for = [(seed + n, tightness) for n, tightness in enumerate(TIGHTNESS * FAMILIES[family][3])]
        asked_for += [(other_seed, tightness) for of, other_seed, tightness in FURTHER if of == family]
        for its_seed, tightness in asked_for:
            problem = problem_of(family, its_seed, tightness)
            result = Result(
                family=family,
                seed=its_seed,
                tightness=tightness,
                answers={name: timed(solve, problem) for name, solve in asked.items()},
            )
            for _ in range(_TRIES - 1):
                if result.is_slow:
                    result = again(result, problem)
            print(result, file=sys.stderr, flush=True)
            found.append(result)
    return found


def problem_of(family: str, seed: int, tightness: float) -> Problem:
    make, layers, candidates, _ = FAMILIES[family]
    return make(np.random.default_rng(seed), layers, candidates, tightness)


def again(result: Result, problem: Problem) -> Result:
    """Return a result with the shorter of two times of dynamic and of HiGHS."""
    answers = dict(result.answers)
    for name, solve in (("dynamic", by_dynamic), ("HiGHS", by_highs)):
        answers[name] = min(answers[name], timed(solve, problem), key=lambda answer: answer.seconds)
    return dataclasses.replace(result, answers=answers)


def table(found: list[Result]) -> str:
    """Return the slowest of each solver by family, and the geometric mean of dynamic's time over HiGHS's."""
    names = list(found[0].answers)
    lines = [
        f"| family | layers x candidates | problems | {' | '.join(names)} | dynamic / HiGHS |",
        f"|---|---|---|{'---|' * len(names)}---|",
    ]
    for family in dict.fromkeys(result.family for result in found):
        rows, (_, layers, candidates, _) = own(found, family), FAMILIES[family]
        lines.append(
            f"| {family} | {layers} x {candidates} | {len(rows)} | {slowest(rows, names)} | {ratio(rows):.2f} |"
        )
    for result in found:
        if result.key in FURTHER:
            _, layers, candidates, _ = FAMILIES[result.family]
            told = f"{result.family}, seed {result.seed}, {result.tightness:.0%}"
            lines.append(
                f"| {told} | {layers} x {candidates} | 1 | {slowest([result], names)} | {ratio([result]):.2f} |"
            )
    return "\n".join(lines)


def own(found: list[Result], family: str) -> list[Result]:
    """Return the results of a family's own problems."""
    return [result for result in found if result.family == family and result.key not in FURTHER]


def slowest(rows: list[Result], names: list[str]) -> str:
    """Return the longest time of each solver; `>` where it did not prove all of its answers."""
    cells = []
    for name in names:
        answers = [result.answers[name] for result in rows]
        late = "" if all(answer.proven for answer in answers) else "> "
        cells.append(f"{late}{1e3 * max(answer.seconds for answer in answers):,.0f} ms")
    return " | ".join(cells)


def ratio(rows: list[Result]) -> float:
    """Return dynamic's time over HiGHS's, the geometric mean."""
    return statistics.geometric_mean(
        result.answers["dynamic"].seconds / result.answers["HiGHS"].seconds for result in rows
    )


def test_no_rival_finds_more_cp_sat_finds_the_same_and_highs_takes_longer_but_where_it_is_known_to_win() -> None:
    found = results()
    print("\n" + table(found))
    for result in found:
        best = result.answers["dynamic"]
        assert best.score is not None
        for name, answer in result.answers.items():
            if answer.score is not None:  # HiGHS's tolerances let it end below the optimum: similar weights
                assert answer.score <= best.bound + 1e-6, result
                if name == "CP-SAT" and answer.proven:
                    assert answer.score >= best.score - 1e-6, result
    assert LOST.keys() < FAMILIES.keys()
    assert all(ratio(own(found, family)) <= LOST.get(family, 1.0) for family in FAMILIES), table(found)
    assert not [result for result in found if result.is_slow], table(found)


def peak_bytes(family: str, seed: int, tightness: float) -> int:
    """Return the most memory that solving a problem takes, of a process that does nothing else (Linux)."""
    words = [sys.executable, "-m", "tests.benchmarks.test_families_speed", "memory", family, str(seed), str(tightness)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("family", FAMILIES)
def test_memory_stays_within_500_megabytes(family: str) -> None:
    most = max(peak_bytes(family, 2026 + n, tightness) for n, tightness in enumerate(TIGHTNESS))
    print(f"{family}: {most / 1e6:.0f} MB")
    assert most < MOST_BYTES


def main(words: list[str]) -> None:
    if words[:1] != ["memory"]:
        print(table(results(words or FAMILIES)))
        return
    by_dynamic(problem_of(words[1], int(words[2]), float(words[3])))
    status = Path("/proc/self/status").read_text()  # getrusage would count what the parent held when it started this
    print(1024 * int(status.split("VmHWM:")[1].split()[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
