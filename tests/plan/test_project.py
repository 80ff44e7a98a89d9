"""The project file: it asks where the command line does not, and the answer names it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import s2search
from s2search.errors import InputError
from s2search.planner.frontier import Frontier
from s2search.planner.plan import Plan
from s2search.planner.project import Project
from tests.conftest import Outcome

Run = Callable[..., Outcome]
ASKS = """
table = "h100"
video = "512x288"
depth = 8
budget = ["4.5ms", "3GB"]
"""
TOLD = "asked by s2search.toml (table, depth, budget, video)"


@pytest.fixture
def asks(tmp_path: Path) -> Path:
    (tmp_path / "s2search.toml").write_text(ASKS)
    return tmp_path


def test_a_plan_alone_answers_what_the_file_asks_and_names_it(s2search: Run, asks: Path) -> None:
    done = s2search("plan", "--out", "plan.json")
    assert done.code == 0
    assert TOLD in done.out
    plan = Plan.load(asks / "plan.json")
    assert (plan.provenance.project, plan.depth, plan.latency_ms.budget) == (TOLD.removeprefix("asked by "), 8, 4.5)
    assert json.loads(s2search("plan", "--json").out)["provenance"]["project"] == plan.provenance.project


def test_the_command_line_goes_before_the_file_option_by_option(s2search: Run, asks: Path) -> None:
    done = s2search("plan", "--budget", "6ms", "--json")
    plan = json.loads(done.out)
    assert (plan["latency_ms"]["budget"], plan["memory_bytes"]["budget"]) == (6.0, None)
    assert plan["provenance"]["project"] == "s2search.toml (table, depth, video)"


def test_a_front_takes_the_files_memory_budgets_only(s2search: Run, asks: Path) -> None:
    front = json.loads(s2search("frontier", "--json").out)
    assert {plan["memory_bytes"]["budget"] for plan in front["plans"]} == {3_000_000_000}
    assert {plan["provenance"]["project"] for plan in front["plans"]} == {TOLD.removeprefix("asked by ")}
    (asks / "s2search.toml").write_text('table = "h100"\nvideo = "512x288"\ndepth = 4\nbudget = "9ms"\n')
    assert "asked by s2search.toml (table, depth, video)" in s2search("frontier").out


def test_without_a_file_nothing_is_said_of_one(s2search: Run) -> None:
    assert "asked by" not in s2search("plan", "--depth", "4").out


def test_an_error_in_what_the_file_asks_names_the_file(s2search: Run, asks: Path) -> None:
    done = s2search("plan", "--budget", "0.1ms")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert done.err.endswith("; asked by s2search.toml (table, depth, video)\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('budgets = "3ms"', "no key of the project file 's2search.toml' is called 'budgets' (did you mean 'budget'?)"),
        ("[plan]\ndepth = 3", "is called 'plan'"),
        ('depth = "x"', "depth of the project file 's2search.toml' is 'x'"),
        ("depth = 2.5", "depth of the project file 's2search.toml' is '2.5'"),
        ('scenario = "clips"', "scenario of the project file 's2search.toml' is 'clips'"),
        ("budget = [3]", "budget of the project file"),
        ("table = ", "is not TOML"),
        ("max-switches = 3\nmax_switches = 4", "gives a key twice"),
        ('table = "nope"', "no table is called 'nope'"),
    ],
)
def test_a_file_that_cannot_be_meant_gets_one_line(s2search: Run, tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "s2search.toml").write_text(text)
    for command in ("plan", "frontier"):
        done = s2search(command)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert complaint in done.err
        assert "s2search.toml" in done.err


def test_a_folder_of_that_name_and_a_mark_at_its_beginning(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "s2search.toml").write_bytes(b"\xef\xbb\xbf" + b"depth = 4\n")
    assert "asked by s2search.toml (depth)" in s2search("plan").out
    (tmp_path / "s2search.toml").unlink()
    (tmp_path / "s2search.toml").mkdir()
    assert s2search("plan").code == 2


def test_other_commands_do_not_read_it(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "s2search.toml").write_text("nonsense")
    assert s2search("table", "list").code == 0


def test_python_reads_it_when_it_is_given(asks: Path) -> None:
    stated = s2search.project(asks / "s2search.toml")
    assert stated == {"table": "h100", "video": "512x288", "depth": 8, "budget": ["4.5ms", "3GB"]}
    assert s2search.plan(**stated).depth == 8
    with pytest.raises(InputError, match="cannot be read"):
        s2search.project(asks / "no.toml")


def test_its_keys_are_the_options_of_plan_and_frontier_that_say_what_is_asked() -> None:
    asked = {name for call in (s2search.plan, s2search.frontier) for name in inspect.signature(call).parameters}
    assert set(Project.__dataclass_fields__) == asked - {"like", "max_changes", "layout", "explain", "compare"}


def test_who_asked_changes_no_digest(s2search: Run, asks: Path) -> None:
    s2search("plan", "--out", "plan.json")
    (asks / "s2search.toml").unlink()
    s2search("plan", "--table", "h100", "--video", "512x288", "--depth", "8", "--budget", "4.5ms", "--budget", "3GB",
             "--out", "same.json")  # fmt: skip
    assert Plan.load(asks / "plan.json").digest == Plan.load(asks / "same.json").digest


def test_a_front_is_a_file_too(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "front.json").write_text(s2search("frontier", "--depth", "4", "--json").out)
    front = Frontier.load(tmp_path / "front.json")
    assert front.plans[0].depth == 4
    assert front.to_json() == (tmp_path / "front.json").read_text()
