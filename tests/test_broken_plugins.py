"""Plugins of third parties that are broken: each is named with its distribution, and takes nothing else down."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import numpy as np
import pytest

from s2search import registry
from s2search.block import Stream
from s2search.errors import CheckError, PluginError
from s2search.solver.base import Choice, Solver
from s2search.solver.problem import Problem
from tests.command import run_here


class Stranger(Distribution):
    name = "stranger"
    version = "1.0"

    def read_text(self, filename):
        return "Name: stranger\nVersion: 1.0\n" if filename == "METADATA" else None

    def locate_file(self, path):
        return Path(path)


@pytest.fixture
def offer(monkeypatch, tmp_path):
    """Install an entry point of a module with this text."""
    before, found = registry._entries(), list[EntryPoint]()
    monkeypatch.syspath_prepend(str(tmp_path))

    def offered(family, name, text, attribute="X"):
        module = f"stranger_{family}_{len(found)}"
        (tmp_path / f"{module}.py").write_text(text)
        entry = EntryPoint(name, f"{module}:{attribute}", f"s2search.{family}")._for(Stranger())
        found.append(entry)
        monkeypatch.setattr(registry, "_entries", lambda: (*before, *found))
        registry.installed.cache_clear()

    yield offered
    for name in [name for name in sys.modules if name.startswith("stranger_")]:
        del sys.modules[name]
    monkeypatch.undo()
    registry.installed.cache_clear()


PLAN = ["plan", "--budget", "10fps"]


@pytest.mark.parametrize("text", ["1 / 0", "import sys; sys.exit(3)", "import nowhere_at_all", "X = 5", "", "def"])
def test_a_broken_collection_of_tables_takes_no_command_down_and_is_listed(offer, tmp_path, text):
    whole = run_here(PLAN, tmp_path)
    offer("tables", "theirs", text)
    done = run_here(PLAN, tmp_path)
    assert (done.code, done.out) == (0, whole.out), done.err
    if text != "X = 5":
        listed = run_here(["plugins"], tmp_path)
        assert listed.code == 0
        assert "BROKEN" in listed.out
        assert "of stranger 1.0" in " ".join(listed.out.split())


def test_a_clash_of_names_stops_that_name_alone_and_says_what_to_uninstall(offer, tmp_path):
    offer("solvers", "milp", "class X: pass")
    assert run_here(PLAN, tmp_path).code == 0
    with pytest.raises(
        PluginError, match=r"two solver plugins are called 'milp'.*s2search.*stranger 1.0.*pip uninstall"
    ):
        registry.load("solvers", "milp")


RAISING = """
from dataclasses import dataclass
from s2search.solver.base import Solver
@dataclass(frozen=True, kw_only=True)
class X(Solver):
    def _choose(self, problem):
        {statement}
"""


@pytest.mark.parametrize("statement", ["raise RuntimeError('a\\nb')", "1 / 0", "raise SystemExit(0)"])
def test_what_a_hook_raises_is_one_line_with_the_plugins_name(offer, tmp_path, statement):
    offer("solvers", "theirs", RAISING.format(statement=statement))
    done = run_here([*PLAN, "--solver", "theirs"], tmp_path)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "the solver 'theirs' of stranger 1.0 fails with" in done.err


def problem():
    scores = np.array([[1.0, 2.0]] * 3)
    zeros = np.zeros((3, 2), np.int64)
    return Problem(
        score_LC=scores,
        latency_us_LC=np.array([[1, 2]] * 3, np.int64),
        memory_bytes_LC=zeros,
        peak_bytes_LC=zeros,
        allowed_LC=np.ones((3, 2), np.bool_),
        stream_C=np.zeros(2, np.int64),
        switch_us_SS=np.zeros((len(Stream), len(Stream)), np.int64),
        latency_budget_us=5,
    )


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (None, "says that no layout fits, and one of"),
        (Choice(choice_L=(1, 1, 1), upper_bound=10**12), "outside the budgets"),
        (Choice(choice_L=(1, 1, 0), upper_bound=0), "claims that none scores above"),
        (Choice(choice_L=(0, 0), upper_bound=10**12), "chose 2 layers"),
        (Choice(choice_L=(0, 0, 9), upper_bound=10**12), "chose 3 layers of candidates"),
    ],
)
def test_an_answer_that_contradicts_what_is_known_is_refused(answer, line):
    class Wrong(Solver):
        name = "wrong"

        def _choose(self, problem):
            return answer

    with pytest.raises(CheckError, match=line):
        Wrong().solve(problem())
