"""No layout fits: the answer and its explanation come in time, whatever the problem."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest

from s2search.errors import InfeasibleError
from s2search.solver import dynamic
from s2search.solver.dynamic import Dynamic
from s2search.solver.exact import program
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.problem import Problem
from s2search.solver.questions import infeasible
from s2search.solver.questions.infeasible import anything_fits, smallest_relaxations
from s2search.testing.problems import random_problem, with_random_constraints
from tests.benchmarks.families import further_devices, parallel_strategies


def refused(problem: Problem) -> tuple[InfeasibleError, float]:
    """Return why no layout fits, and the seconds of processor time that it took to say so."""
    start = time.process_time()
    with pytest.raises(InfeasibleError) as error:
        Dynamic().solve(problem)
    return error.value, time.process_time() - start


def strategies(seed: int, layers: int, candidates: int, tightness: float) -> Problem:
    return parallel_strategies(np.random.default_rng(seed), layers, candidates, tightness)


def devices(seed: int, tightness: float) -> Problem:
    return further_devices(3)(np.random.default_rng(seed), 28, 3, tightness)


@pytest.mark.parametrize("seed", range(2))
def test_parallel_strategies_that_do_not_fit_are_explained_in_seconds(seed: int) -> None:
    error, seconds = refused(strategies(seed, 28, 6, 0.1))
    assert seconds < 10
    assert {"latency", "memory"} == {*error.fields["relaxations"], *error.fields["not_computed"]}


def test_three_further_devices_that_nothing_fits_are_explained_in_seconds() -> None:
    error, seconds = refused(devices(0, 0.2))
    assert seconds < 20
    for name in error.fields["not_computed"]:
        assert name in error.remedy.partition("; not computed: ")[2]
        assert name not in error.fields["relaxations"]


def test_where_labels_do_not_suffice_highs_says_what_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    for _ in range(8):
        problem = with_random_constraints(rng, random_problem(rng, layers=4, candidates=3, tightness=0.15))
        by_labels, fits = smallest_relaxations(problem), anything_fits(problem)
        assert fits == (Exhaustive().best(problem) is not None)
        with monkeypatch.context() as without_labels:
            without_labels.setattr(infeasible, "least_use", _nothing_proven)
            by_highs = smallest_relaxations(problem, within_s=60)
            assert anything_fits(problem) == fits
        assert not by_labels.not_computed
        assert not by_highs.not_computed
        assert {name: one.needed for name, one in by_highs.found.items()} == {
            name: one.needed for name, one in by_labels.found.items()
        }


def test_what_highs_had_no_time_to_say_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_fits = strategies(0, 8, 3, -0.1)
    assert program.fits(nothing_fits, deadline=time.monotonic() + 60) is False
    assert not dynamic._may_fit(nothing_fits)
    monkeypatch.setattr(program, "least", lambda *_, **__: program.Least(layout=None, proven=False))
    assert program.fits(nothing_fits, deadline=0.0) is None
    assert dynamic._may_fit(nothing_fits)


def test_what_there_was_no_time_for_is_said_and_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = dataclasses.replace(strategies(0, 6, 3, 0.3), latency_budget_us=1, memory_budget_bytes=1)
    monkeypatch.setattr(infeasible, "least_use", _nothing_proven)
    monkeypatch.setattr(infeasible, "_EXPLAINING_S", 0.0)
    asked = smallest_relaxations(problem, within_s=0.0)
    assert (asked.found, asked.not_computed) == ({}, ("latency", "memory"))


def _nothing_proven(*_: object, **__: object) -> None:
    from s2search.errors import CheckError

    raise CheckError("the labels ran out")


@pytest.mark.parametrize("closed", ["", "os.close(2)", "os.close(1); sys.stdout = None", "os.close(1); os.close(2)"])
def test_what_a_library_prints_goes_to_stderr_whatever_is_closed(closed):
    program = (
        f"import ctypes, os, sys; from s2search.solver.exact.program import _silent\n{closed}\n"
        "with _silent(): ctypes.CDLL(None).puts(b'by C')\n"
        f"if not {closed!r}: os.write(1, b'ours')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "" if closed else "ours"), done.stderr
    assert closed or done.stderr == "by C\n"
