from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.api.frontier import frontier
from s2search.planner.plan import Plan
from s2search.tables.table import DEFAULT_TABLE, installed_tables
from tests.conftest import Outcome

Run = Callable[..., Outcome]

PLAN = ["plan", "--depth", "8"]
NEAR = ["--like", "plan.json", "--max-changes"]

BAD_INPUTS = [
    (["--count", "ssa"], "'ssa' cannot be read; write for example ssa=16"),
    (["--count", "ssa=-1"], "'ssa=-1' cannot be read"),
    (["--count", "ssa>=4"], "'ssa>=4' cannot be read"),
    (["--count", "ssa=3..1"], "write ssa=1..3"),
    (["--count", "ssa=3", "--count", "ssa=1..3"], "'ssa' is counted twice"),
    (["--count", "full=3"], "'full' in a count is not a candidate; candidates: lcha, ssa"),
    (["--count", "ssa=3", "--count", "lcha=3"], "the counts ask for 6 layers, and there are 8"),
    (["--count", "ssa=9"], "ssa is to take 9 layers; 0 to 8"),
    (["--count", "ssa=3", "--group-size", "2"], "0 to 8 in steps of 2"),
    (["--first", "lcha*5", "--last", "ssa*4"], "5 first and 4 last layers are fixed, and there are 8"),
    (["--first", "lchaa*5"], "did you mean 'lcha'?"),
    (["--first", ""], "''"),
    (["--first", "lcha,ssa", "--group-size", "2"], "different blocks into one group of 2"),
    (["--max-switches", "-1"], "max_switches is -1"),
    (["--max-switches", "few"], "'few'"),
    (["--max-changes", "3"], "give --like plan.json with --max-changes"),
    (["--like", "plan.json"], "give --max-changes 3 with --like"),
    ([*NEAR, "-1"], "max_changes is -1"),
    ([*NEAR, "2", "--depth", "9"], "has 8 layers, not 9"),
    ([*NEAR, "2", "--candidates", "ssa"], "'lcha' in the layout to stay near is not a candidate; candidates: ssa"),
    (["--like", "nowhere.json", "--max-changes", "1"], "'nowhere.json' cannot be read"),
    (["--table", "iphone-16-pro-max", "--table", DEFAULT_TABLE], f"the table '{DEFAULT_TABLE}' is given twice"),
    (["--table", "iphone-16-pro-max", "--table", "h100", "--budget", "9ms"], "--table iphone-16-pro-max:9ms"),
    (["--table", "iphone-16-pro-max", "--table", "amd-epyc"], "channels 2048 and 'amd-epyc.torch-cpu.float32' has 512"),
    (["--table", "iphone-16-pro-max", "--table", "h100:10fps"], "has no pipeline part"),
    (["--table", "iphone-16-pro-max:75ms,80ms"], "2 latency budgets: 75ms and 80ms"),
    (["--table", "iphone-16-pro-max:75"], "the budget '75' has no unit"),
    (["--table", "nowhere:75ms"], "no table is called 'nowhere'"),
    (["--budget", "75ms", "diff", "plan.json", "plan.json"], "--budget is given before 'diff'"),
    (["diff", "plan.json"], "'after'"),
    (["difff"], "'difff'"),
]


@pytest.fixture
def planned(s2search: Run) -> Run:
    """Return the command line in a folder that holds `plan.json`: 3 lcha, 5 ssa."""
    assert s2search(*PLAN, "--budget", "75ms", "--out", "plan.json").code == 0
    return s2search


@pytest.fixture(scope="session")
def plan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans") / "plan.json"


@pytest.mark.parametrize(
    ("words", "named"), BAD_INPUTS, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_bad_constraints_get_one_line(
    s2search: Run, tmp_path: Path, plan_file: Path, words: list[str], named: str
) -> None:
    if not plan_file.exists():
        assert s2search(*PLAN, "--budget", "75ms", "--out", str(plan_file)).code == 0
    shutil.copy(plan_file, tmp_path / "plan.json")
    outcome = s2search(*(["plan"] if "diff" in words else PLAN), *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.err.splitlines()) == 1
    assert named in outcome.err


def test_counts_ends_and_switches_are_kept_and_shown(s2search: Run, tmp_path: Path) -> None:
    words = ["--count", "lcha=3..5", "--count", "ssa=4", "--first", "L2", "--last", "lcha", "--max-switches", "2"]
    outcome = s2search(*PLAN, *words, "--out", "plan.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 to 5 lcha, 4 ssa, first lcha*2, last lcha, at most 2 switches" in outcome.out
    plan = Plan.load(tmp_path / "plan.json")
    assert plan.written in {"L2S4L2", "L3S4L"}
    assert plan.constraints.counts == {"lcha": (3, 5), "ssa": (4, 4)}
    assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80


def test_a_hand_written_layout_says_what_it_does_not_keep(s2search: Run) -> None:
    outcome = s2search(*PLAN, "--layout", "L4S4", "--count", "ssa=5", "--first", "ssa")
    assert outcome.code == 1
    assert "NOT KEPT: 5 ssa (it has 4); first ssa" in outcome.out


def test_a_plan_stays_near_another(planned: Run, tmp_path: Path) -> None:
    outcome = planned(*PLAN, "--budget", "200ms", *NEAR, "2", "--out", "near.json")
    assert outcome.code == 0
    assert "at most 2 changed layers" in outcome.out
    assert "one that changes the fewest layers" in outcome.out
    old, new = Plan.load(tmp_path / "plan.json"), Plan.load(tmp_path / "near.json")
    assert new.counts == {"lcha": 5, "ssa": 3}
    changed = [str(i) for i, (a, b) in enumerate(zip(old.layout, new.layout, strict=True)) if a != b]
    assert f"counted from 0: {', '.join(changed)}" in outcome.out
    assert len(changed) == 2


def test_one_layout_for_two_devices_says_which_binds(s2search: Run) -> None:
    words = ["--table", "iphone-16-pro-max:10fps,75ms,600MB", "--table", "h100:4ms"]
    outcome = s2search(*PLAN, *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "latency 3.668 ms of 4.000 ms" in outcome.out
    assert "binds    h100.torch-cuda-graphs-compiled.bfloat16 (score -0.265250 without it)" in outcome.out
    assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80
    plan = json.loads(s2search(*PLAN, *words, "--json").out)
    assert [device["binds"] for device in plan["devices"]] == [False, True]
    assert [device["latency_ms"]["budget"] for device in plan["devices"]] == [75.0, 4.0]
    assert plan["latency_ms"] == plan["devices"][0]["latency_ms"]
    assert plan["rate"]["budget"] == 10


def test_budgets_behind_one_table_add_to_the_others(s2search: Run) -> None:
    one = s2search(*PLAN, "--table", "iphone-16-pro-max:75ms", "--budget", "600MB", "--json")
    assert one.out == s2search(*PLAN, "--budget", "75ms", "--budget", "600MB", "--json").out


def test_a_colon_in_a_folders_name_is_no_budget(s2search: Run, tmp_path: Path) -> None:
    for name in ("a:b", "c:75ms"):
        shutil.copytree(installed_tables()[DEFAULT_TABLE], tmp_path / name)
        assert s2search(*PLAN, "--table", f"./{name}").code == 0
    outcome = s2search(*PLAN, "--table", "./a:b:75ms", "--json")
    assert json.loads(outcome.out)["latency_ms"]["budget"] == 75


def test_a_front_keeps_constraints(s2search: Run, tmp_path: Path) -> None:
    words = ["--depth", "8", "--points", "6", "--out", "front.csv"]
    assert s2search("frontier", *words, "--count", "lcha=0..3", "--max-switches", "4").code == 0
    lines = (tmp_path / "front.csv").read_text().splitlines()[1:]
    assert [line.split(",")[3] for line in lines][-1] == "3"
    assert all(line.rsplit(",", 1)[1].count("S") <= 3 for line in lines)


def test_a_plan_and_itself_differ_in_nothing(planned: Run) -> None:
    for words in ([], ["--exit-code"]):
        outcome = planned("plan", "diff", "plan.json", "plan.json", *words)
        assert (outcome.code, outcome.out) == (0, "nothing changed\n")


def test_a_difference_shows_layers_rows_and_reasons(planned: Run, tmp_path: Path) -> None:
    shutil.copytree(installed_tables()[DEFAULT_TABLE], tmp_path / "new")
    rows = (tmp_path / "new/table.csv").read_text()
    (tmp_path / "new/table.csv").write_text(rows.replace("15.675", "18.0"))
    assert planned(*PLAN, "--table", "new", "--budget", "70ms", "--out", "new.json", *NEAR, "2").code == 0
    outcome = planned("plan", "diff", "plan.json", "new.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert "1 of 8 changed, counted from 0" in outcome.out
    assert "lcha -> ssa" in outcome.out
    assert "lcha latency  15.7 ms  ->  18.0 ms  +14.8%" in outcome.out
    assert "a row moved: lcha latency (+14.8%)" in outcome.out
    assert "the old layout would now take 76.5 ms, 6.465 ms over the latency budget" in outcome.out
    assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80
    found = json.loads(planned("plan", "diff", "plan.json", "new.json", "--json").out)
    assert found["schema"] == "s2search.plan_difference/1"
    assert len(found["layers"]) == 1
    assert planned("plan", "diff", "plan.json", "new.json", "--exit-code").code == 1
    assert planned("plan", "diff", "plan.json", "nowhere.json", "--exit-code").code == 2


@pytest.mark.parametrize("solver", ["dynamic", "milp", "exhaustive"])
def test_null_in_a_score_file_forbids_a_block_at_a_layer_for_every_solver(s2search, tmp_path, solver):
    scores = {"lcha": [None, -1.0, -1.0, -2.0], "ssa": [-9.0, None, -1.5, -3.0]}
    (tmp_path / "score.json").write_text(
        json.dumps({"schema": "s2search.score/1", "name": "n", "statement": "s", "scores": scores})
    )
    words = ["plan", "--depth", "4", "--score", "score.json"]
    done = s2search(*words, "--budget", "1s", "--solver", solver, "--explain", "--json")
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert (plan["written"], plan["score"], plan["ties"]) == ("SL3", -13.0, 1)
    assert "NaN" not in done.out
    for swap in plan["explanation"]["swaps"]:
        assert (swap["instead"], swap["first"]) not in (("lcha", 0), ("ssa", 1))
    refused = s2search(*words, "--budget", "1s", "--layout", "L4")
    assert "'score.json' forbids 'lcha' at layer 0" in refused.err
    front = frontier(depth=4, score=tmp_path / "score.json", candidates="lcha,ssa")
    for one in (*front.plans, *front.references.values()):
        assert one.written.startswith("SL")
