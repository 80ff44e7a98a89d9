from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import pytest

from s2search.api.values import solver_of
from s2search.errors import CheckError, InfeasibleError, InputError, ScoreError
from s2search.solver.dynamic import Dynamic
from s2search.solver.nsga2 import Nsga2
from s2search.solver.problem import UNLIMITED, FurtherDevice, Problem
from s2search.solver.variation import Pricing, child, nondominated, repair, seeds
from s2search.testing.problems import random_problem
from s2search.testing.solvers import check_solver

QUICK = Nsga2(trials=80, population=20)


def problem_of(layers: int = 8, candidates: int = 3, *, seed: int = 0, tightness: float = 0.5) -> Problem:
    return random_problem(np.random.default_rng(seed), layers=layers, candidates=candidates, tightness=tightness)


def constrained() -> Problem:
    problem = problem_of(10, 3, tightness=0.7)
    device = FurtherDevice(
        name="other",
        latency_us_LC=problem.latency_us_LC[::-1].copy(),
        memory_bytes_LC=problem.memory_bytes_LC,
        peak_bytes_LC=problem.peak_bytes_LC,
        switch_us_SS=problem.switch_us_SS,
        latency_budget_us=problem.latency_budget_us,
    )
    allowed_LC = problem.allowed_LC.copy()
    allowed_LC[0, 1] = allowed_LC[5, 2] = False
    return dataclasses.replace(
        problem,
        allowed_LC=allowed_LC,
        counts={0: 4, 2: (2, 3)},
        max_switches=4,
        reference_L=(0,) * 5 + (1,) * 5,
        max_changes=6,
        devices=(device,),
    )


def plain_front(problem: Problem) -> set[tuple[float, int, int]]:
    """The definition, word for word: the prices that no other admitted price dominates."""
    layers, candidates = problem.score_LC.shape
    layouts = [layout for layout in itertools.product(range(candidates), repeat=layers) if problem.admits(layout)]
    prices = {(p.score, p.latency_us, p.total_bytes) for p in map(problem.price, layouts)}
    return {a for a in prices if not any(b != a and b[0] >= a[0] and b[1] <= a[1] and b[2] <= a[2] for b in prices)}


def test_nsga2_keeps_the_contract_of_solvers() -> None:
    check_solver(Nsga2(trials=40, population=10), exact=False)


@pytest.mark.parametrize("seed", range(4))
def test_pricing_many_layouts_equals_pricing_each(seed: int) -> None:
    problem = constrained()
    pricing, rng = Pricing(problem), np.random.default_rng(seed)
    layouts = [pricing.random(rng) for _ in range(200)]
    layouts += [repair(pricing, layout, rng) for layout in layouts]
    spent = [[resource.spent(problem, layout) for resource in problem.resources] for layout in layouts]
    assert pricing.spent_NR(np.array(layouts)).tolist() == spent
    scores = [problem.price(layout).fixed_point_score for layout in layouts]
    assert pricing.score_N(np.array(layouts)).tolist() == scores
    admitted = [problem.admits(layout) for layout in layouts]
    assert (pricing.violation_N(np.array(layouts)) == 0).tolist() == admitted
    assert set(admitted) == {True, False}


def test_repair_never_breaks_more_and_mostly_mends() -> None:
    pricing, rng = Pricing(constrained()), np.random.default_rng(0)
    before = [pricing.random(rng) for _ in range(100)]
    after = [repair(pricing, layout, rng) for layout in before]
    assert (pricing.violation_N(np.array(after)) <= pricing.violation_N(np.array(before))).all()
    assert (
        (pricing.violation_N(np.array(after)) == 0).mean() > 0.5 > (pricing.violation_N(np.array(before)) == 0).mean()
    )


def test_seeds_and_children_stand_only_where_they_are_allowed() -> None:
    problem = constrained()
    pricing, rng = Pricing(problem), np.random.default_rng(0)
    first = seeds(pricing, rng, most=30)
    assert len(first) == len(set(first)) <= 30
    assert problem.admits(first[0])
    children = [child(pricing, (first[0], first[-1]), rng) for _ in range(200)]
    for layout in (*first, *children):
        assert all(problem.allowed_LC[layer, c] for layer, c in enumerate(layout))
    assert len(set(children)) > 20


def test_the_seeds_hold_the_fastest_the_smallest_and_the_best_layout() -> None:
    problem = dataclasses.replace(problem_of(), latency_budget_us=UNLIMITED, memory_budget_bytes=UNLIMITED)
    prices = [problem.price(layout) for layout in seeds(Pricing(problem), np.random.default_rng(0), most=1000)]
    every = [problem.price(layout) for layout in itertools.product(range(3), repeat=8)]
    assert min(p.latency_us for p in prices) == min(p.latency_us for p in every)
    assert min(p.memory_bytes for p in prices) == min(p.memory_bytes for p in every)
    assert max(p.fixed_point_score for p in prices) == max(p.fixed_point_score for p in every)


def test_of_points_that_dominate_each_other_only_the_best_are_kept() -> None:
    points = np.array([[1.0, 5, 5], [2.0, 5, 5], [2.0, 5, 5], [3.0, 9, 1], [0.5, 1, 1], [2.5, 9, 2]])
    assert nondominated(points) == [4, 1, 3]


def test_the_front_of_a_small_problem_is_the_exact_one() -> None:
    problem = problem_of(4, 3, tightness=0.8)
    found = Nsga2(trials=81, population=20).front(problem)
    assert {(s.score, s.latency_us, s.memory_bytes + s.peak_bytes) for s in found} == plain_front(problem)
    assert len(found) > 2
    assert [s.score for s in found] == sorted(s.score for s in found)
    assert found[-1].score == QUICK.solve(problem).score


def test_every_constraint_is_kept() -> None:
    problem = constrained()
    found = Nsga2(trials=150, population=30).front(problem)
    assert found
    assert all(problem.admits(s.choice_L) for s in found)


def test_groups_take_the_same_candidate() -> None:
    problem = dataclasses.replace(problem_of(8, 2), group_size=2)
    asked: list[tuple[int, ...]] = []

    def score(layout: tuple[int, ...]) -> float:
        asked.append(layout)
        return float(sum(layout))

    for solution in (QUICK.solve(problem), *QUICK.front(problem, score=score)):
        assert problem.admits(solution.choice_L)
    assert all(len(layout) == 8 and layout[::2] == layout[1::2] for layout in asked)


def test_the_same_seed_gives_the_same_search_and_another_seed_another() -> None:
    problem = problem_of(12, 4)
    assert QUICK.front(problem) == QUICK.front(problem)
    problem = random_problem(np.random.default_rng(0), layers=12, candidates=2, costs="identical")  # has few seeds
    asked: dict[int, list[tuple[int, ...]]] = {0: [], 1: []}
    for seed, layouts in asked.items():
        dataclasses.replace(QUICK, seed=seed).front(problem, score=lambda layout, to=layouts: to.append(layout) or 1.0)
    assert asked[0] != asked[1]


def test_evolution_improves_on_its_first_generation() -> None:
    problem = random_problem(np.random.default_rng(1), layers=20, candidates=4, costs="noisy")
    pricing = Pricing(problem)
    first = max(
        problem.price(layout).score
        for layout in seeds(pricing, np.random.default_rng(0), most=20)
        if problem.admits(layout)
    )
    best = Nsga2(trials=300, population=20).solve(problem)
    assert first < best.score <= Dynamic().solve(problem).score + 1e-9


def test_a_score_that_is_not_additive_is_searched_and_asked_once_per_layout() -> None:
    """Rewards neighbours that alternate, which no sum over layers can say; the best is known."""
    problem = dataclasses.replace(
        problem_of(8, 2), latency_budget_us=UNLIMITED, memory_budget_bytes=UNLIMITED, score_LC=np.zeros((8, 2))
    )
    asked: list[tuple[int, ...]] = []

    def alternation(layout: tuple[int, ...]) -> float:
        asked.append(layout)
        return float(sum(a != b for a, b in itertools.pairwise(layout)))

    found = Nsga2(trials=200, population=20).front(problem, score=alternation)
    assert found[-1].score == 7.0
    assert not found[-1].optimal
    assert len(asked) == len(set(asked)) > 100


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ScoreError, match=r"the score of the layout \(.*\) is nan; finite numbers"):
        QUICK.front(problem_of(), score=lambda layout: float("nan"))


def test_a_problem_without_an_answer_is_proven_so_before_any_trial() -> None:
    done: list[int] = []
    solver = dataclasses.replace(QUICK, progress=lambda n, total, label: done.append(n))
    with pytest.raises(InfeasibleError, match="the fastest of"):
        solver.solve(dataclasses.replace(problem_of(), latency_budget_us=0))
    assert not done


def test_finding_nothing_is_an_error_with_a_remedy() -> None:
    """Bytes and time of the other device leave one layout of 2^20: each bit has to be right."""
    problem = problem_of(20, 2, tightness=1.0)
    other = 2 ** np.arange(20)[:, None] * np.array([[0, 1]])
    target = 0b1011_0110_0101_1101_0011
    device = FurtherDevice(
        name="other",
        latency_us_LC=np.where(np.arange(2) == 1, other, 0),
        memory_bytes_LC=np.where(np.arange(2) == 0, other.max(axis=1, keepdims=True), 0),
        peak_bytes_LC=np.zeros((20, 2), np.int64),
        switch_us_SS=np.zeros((2, 2), np.int64),
        latency_budget_us=target,
        memory_budget_bytes=2**20 - 1 - target,
    )
    with pytest.raises(CheckError, match="was found in 3 trials; give nsga2 more trials"):
        Nsga2(trials=3, population=2).solve(dataclasses.replace(problem, devices=(device,)))


@pytest.mark.parametrize(("option", "value"), [("trials", 0), ("population", 1), ("seed", -1)])
def test_an_option_that_makes_no_sense_is_refused(option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{option} of nsga2 is {value}"):
        Nsga2(**{option: value})  # type: ignore[arg-type]


def test_progress_counts_to_the_end() -> None:
    calls: list[tuple[int, int, str]] = []
    dataclasses.replace(QUICK, progress=lambda *call: calls.append(call)).solve(problem_of())
    assert [done for done, _, _ in calls] == list(range(81))
    assert calls[-1][1] == 80
    assert calls[-1][2].startswith("best score ")


def test_the_face_gives_a_bar_to_a_solver_that_reports_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    from s2search import registry

    monkeypatch.setattr(registry, "create", lambda family, text: QUICK)
    with solver_of("nsga2") as chosen:
        assert isinstance(chosen, Nsga2)
        assert chosen.progress is not QUICK.progress
        assert chosen.trials == QUICK.trials


def test_a_search_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    dataclasses.replace(QUICK, trials=3, storage=f"sqlite:///{tmp_path}/search.db").solve(problem_of(3, 2))
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() != optuna.logging.CRITICAL


JOIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_nsga2 import problem_of
from s2search.solver.nsga2 import Nsga2
def score(layout):
    print("".join(map(str, layout)), time.time(), end=" ", flush=True)
    time.sleep(0.02)
    print(time.time(), flush=True)
    return float(len(set(layout)))
Nsga2(trials=int(sys.argv[3]), population=8, storage=sys.argv[2], study="shared").front(problem_of(4, 3), score=score)
"""


def join(url: str, trials: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", JOIN, str(Path(__file__).parent), url, str(trials)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Scored(NamedTuple):
    """A layout scored by one process: when that began and ended, and the same of its neighbours."""

    layout: str
    began: float
    ended: float
    before_ended: float
    next_began: float


def scored(output: str) -> list[Scored]:
    lines = [line.split() for line in output.splitlines()]
    layouts = [line[0] for line in lines]
    began = [float(line[1]) for line in lines]
    ended = [float(line[2]) for line in lines]
    rows = zip(layouts, began, ended, [-math.inf, *ended[:-1]], [*began[1:], math.inf], strict=True)
    return [Scored(*row) for row in rows]


def test_two_processes_search_together_in_one_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    processes = [join(url, 24), join(url, 24)]
    outputs = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
        outputs.append(scored(out))
    study = optuna.load_study(study_name="shared", storage=url)
    assert 24 <= len(study.trials) <= 25
    # What a process knows it neither proposes nor scores again.
    assert sum(len(output) for output in outputs) == len(study.trials)
    assert min(len(output) for output in outputs) >= 2
    for mine in outputs:
        assert len({one.layout for one in mine}) == len(mine)
    for left, right in itertools.product(*outputs):
        if left.layout == right.layout:
            first, second = sorted((left, right), key=lambda one: one.began)
            # A process looks at what is known between two layouts; what the other had told by then it leaves alone.
            assert second.before_ended <= first.next_began


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/search.db"
    killed = join(url, 10_000)
    assert killed.stdout is not None
    before = [killed.stdout.readline() for _ in range(8)]
    os.kill(killed.pid, signal.SIGKILL)
    before += killed.communicate()[0].splitlines()
    begun = [line.split()[0] for line in before]
    finished = len(
        optuna.load_study(study_name="shared", storage=url).get_trials(states=[optuna.trial.TrialState.COMPLETE])
    )
    assert 7 <= finished <= len(begun)
    out, err = join(url, finished + 4).communicate(timeout=300)
    assert err == ""
    after = {one.layout for one in scored(out)}
    assert len(after) == 4
    assert not after & {*begun[:finished]}


def test_a_finished_search_answers_from_its_storage_at_once(tmp_path: Path) -> None:
    solver = Nsga2(trials=12, population=5, storage=f"sqlite:///{tmp_path}/search.db")
    problem = problem_of(4, 3)
    first = solver.front(problem)
    calls: list[int] = []
    again = dataclasses.replace(solver, progress=lambda done, total, label: calls.append(done))
    assert again.front(problem) == first
    assert calls == [12]


def test_a_study_of_another_problem_is_refused(tmp_path: Path) -> None:
    solver = Nsga2(trials=3, population=2, storage=f"sqlite:///{tmp_path}/search.db", study="mine")
    solver.solve(problem_of(3, 2))
    other = problem_of(3, 2)
    other = dataclasses.replace(other, latency_budget_us=other.latency_budget_us + 1)
    with pytest.raises(CheckError, match="the study 'mine' in the storage belongs to another problem; give another"):
        solver.solve(other)
    dataclasses.replace(solver, study=None).solve(other)


def test_a_shared_score_of_whole_layouts_needs_a_name(tmp_path: Path) -> None:
    solver = dataclasses.replace(QUICK, storage=f"sqlite:///{tmp_path}/search.db")
    with pytest.raises(InputError, match="the search has no name; give study="):
        solver.front(problem_of(), score=lambda layout: 0.0)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("search.db", "Could not parse"),
        ("sqlite:////no/such/folder/search.db", "unable to open database file"),
        ("nosuchdatabase://host/search", "nosuchdatabase"),
        ("postgresql+nosuchdriver://me:secret@host/search", "nosuchdriver"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line_without_the_password(url: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        dataclasses.replace(QUICK, storage=url).solve(problem_of())
    assert len(str(caught.value).splitlines()) == 1
    assert "secret" not in str(caught.value) + repr(dataclasses.replace(QUICK, storage=url))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.db").write_text("not a database, but long enough to be taken for one " * 40)
    with pytest.raises(InputError, match="file is not a database"):
        dataclasses.replace(QUICK, storage=f"sqlite:///{tmp_path}/search.db").solve(problem_of())


def test_importing_the_solver_does_not_import_optuna() -> None:
    program = "import sys, s2search.solver.nsga2; assert 'optuna' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
