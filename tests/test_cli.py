from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.api.plan import plan
from s2search.cli.options import say
from s2search.lint.linter import lint
from s2search.planner.plan import Plan
from s2search.tables.table import LatencyTable, installed_tables
from tests.command import interruptible
from tests.conftest import Outcome

Run = Callable[..., Outcome]

BAD_INPUTS = [
    (["plan", "--budget", "260"], 2, "'260' has no unit"),
    (["plan", "--budget", "260parsec"], 2, "'parsec'"),
    (["plan", "--budget", "nanms"], 2, "'nanms'"),
    (["plan", "--budget", "-5ms"], 2, "'-5ms'"),
    (["plan", "--budget", "1e999ms"], 2, "'1e999ms'"),
    (["plan", "--budget", "260ms", "--budget", "0.2s"], 2, "260ms and 0.2s"),
    (["plan", "--budget", "1000fps"], 3, "at most 20.4 fps"),
    (["plan", "--budget", "10fps", "--scenario", "clip"], 2, "--scenario stream"),
    (["plan", "--budget", "100ms"], 3, "raise the latency budget to 125.804 ms"),
    (["plan", "--budget", "200MB"], 3, "raise the memory budget to"),
    (["plan", "--table", "iphone-99"], 2, "no table is called 'iphone-99'"),
    (["plan", "--table", "./nowhere"], 2, "no table folder './nowhere'"),
    (["plan", "--depth", "abc"], 2, "'abc'"),
    (["plan", "--depth", "0"], 2, "the depth is 0"),
    (["plan", "--group-size", "3"], 2, "groups of 3; group sizes: 1, 2, 4, 7, 14, 28"),
    (["plan", "--candidates", "lcha,ssaa"], 2, "did you mean 'ssa'?"),
    (["plan", "--candidates", "full"], 2, "has no row for 'full'"),
    (["plan", "--candidates", "lcha[gate=maybe]"], 2, "gate=maybe; allowed: true or false"),
    (["plan", "--candidates", "lcha,lcha[gate=false]"], 2, "give --score FILE"),
    (["plan", "--score", "nope"], 2, "no score is called 'nope'"),
    (["plan", "--score", "nope.json"], 2, "'nope.json'"),
    (["plan", "--solver", "dynamite"], 2, "did you mean 'dynamic'?"),
    (["plan", "--solver", "exhaustive"], 2, "268,435,456"),
    (["plan", "--latency-model", "lokup"], 2, "did you mean 'lookup'?"),
    (["plan", "--scenario", "both"], 2, "'both'"),
    (["plan", "--commit", "never"], 2, "'never'"),
    (["plan", "--near", "-0.001"], 2, "is -0.001; 0 or a positive number"),
    (["plan", "--near", "nan"], 2, "is nan; 0 or a positive number"),
    (["plan", "--near", "1e999"], 2, "is inf; 0 or a positive number"),
    (["plan", "--near", "close"], 2, "'close'"),
    (["plan", "--near", "0.001", "--layout", "L4S8L4S8L4"], 2, "--layout does not search"),
    (["plan", "--near", "0.001", "--budget", "260ms", "--confidence", "0.95"], 2, "leave out one of the two"),
    (["plan", "--budget", "260ms", "--time-limit", "10fps"], 2, "'10fps' is not a duration; such as 90s or 5m"),
    (["plan", "--solver", "nsga2", "--time-limit", "10s"], 2, "the solver 'nsga2' takes no time limit"),
    (["plan", "--layout", "L4S8"], 2, "has 12 layers, not 28"),
    (["plan", "--layout", "L4X24"], 2, "'X'"),
    (["plan", "--layout", "4L"], 2, "'4L'"),
    (["plan", "--layout", ""], 2, "''"),
    (["plan", "--layout", "L99999999999999999999S1"], 2, "at most 1000"),
    (["plan", "--depth", "99999999999"], 2, "1 to 1000"),
    (["plan", "--table", ""], 2, "no table is called ''"),
    (["plan", "--out", ""], 2, "cannot be written"),
    (["plan", "--out", "."], 2, "cannot be written"),
    (["plan", "--out", "ok.json", "--figure", "plan.xyz"], 2, "'.xyz'"),
    (["plan", "--out", "/dev/full"], 2, "not a regular file"),
    (["frontier", "--out", "ok.csv", "--figure", "noext"], 2, "'noext'"),
    (["plan", "--video", "640x360"], 2, "'640x360'"),
    (["plan", "--video", "512x144"], 2, "nothing at this shape"),
    (["plan", "--precision", "int2"], 2, "'int2'"),
    (["plan", "--budgets", "260ms"], 2, "--budgets"),
    (["plan", "--out", "no/such/folder.json"], 2, "no/such/folder.json"),
    (["plan", "--figure", "plan.bmpx"], 2, "plan.bmpx"),
    (["frontier", "--out", "f.csv", "--budget", "260ms"], 2, "260ms"),
    (["frontier", "--out", "f.csv", "--points", "1"], 2, "'1'"),
    (["plann"], 2, "'plann'"),
    ([], 2, "Missing command"),
]


@pytest.mark.parametrize(
    ("words", "code", "named"), BAD_INPUTS, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_bad_input_gets_one_line_and_leaves_nothing_behind(
    s2search: Run, tmp_path: Path, words: list[str], code: int, named: str
) -> None:
    outcome = s2search(*words)
    assert (outcome.code, outcome.out) == (code, "")
    assert len(outcome.err.splitlines()) == 1
    assert named in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["plan", "--budget", "260ms"], 0),
        (["plan", "--budget", "260ms", "--layout", "L28"], 1),
        (["plan", "--budget", "260"], 2),
        (["plan", "--budget", "100ms"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_real_command_answers_as_it_does_in_this_process(
    s2search: Run, s2search_process: Run, words: list[str], code: int
) -> None:
    assert s2search_process(*words) == (outcome := s2search(*words))
    assert outcome.code == code


def test_the_main_job_prints_a_sandwich_that_fits_80_columns(s2search: Run) -> None:
    outcome = s2search("plan", "--budget", "260ms")
    assert (outcome.code, outcome.err) == (0, "")
    assert "12 lcha + 16 ssa = 28 layers" in outcome.out
    assert "derived from published" in outcome.out
    assert "not a measurement" in outcome.out
    assert "30,421,755 layouts tie" in outcome.out
    assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80


def test_ties_and_near_ties_are_named_as_far_as_they_fit_a_line(s2search: Run) -> None:
    outcome = s2search("plan", "--budget", "260ms", "--near", "0.001")
    assert (outcome.code, outcome.err) == (0, "")
    assert "others: L12S16, L11SLS15, L11S2LS14" in outcome.out
    assert "34,597,290 layouts score less, by at most 0.001" in outcome.out
    assert "such as L11S17 -0.265071, " in outcome.out
    assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80


def test_a_rate_prints_its_arithmetic(s2search: Run) -> None:
    outcome = s2search("plan", "--budget", "10fps")
    assert "(12/10 s - 4 ms - 80 ms) / 4 = 279 ms" in outcome.out
    assert "13 lcha + 15 ssa" in outcome.out
    clean = s2search("plan", "--budget", "10fps", "--commit", "clean_pass")
    assert "(12/10 s - 4 ms - 80 ms) / 5 = 223.2 ms" in clean.out
    assert "8 lcha + 20 ssa" in clean.out


def test_json_has_the_promised_keys_and_is_the_saved_plan(s2search: Run, tmp_path: Path) -> None:
    outcome = s2search("plan", "--budget", "260ms", "--budget", "1.3GB", "--json", "--out", "plan.json")
    plan = json.loads(outcome.out)
    assert plan["schema"] == "s2search.plan/1"
    assert len(plan["layout"]) == 28
    assert plan["counts"] == {"lcha": 12, "ssa": 16}
    assert {"predicted", "low", "high", "budget", "slack"} <= plan["latency_ms"].keys()
    assert {"predicted", "budget", "slack"} <= plan["memory_bytes"].keys()
    assert {"score", "upper_bound", "optimal", "ties", "provenance"} <= plan.keys()
    assert Plan.load(tmp_path / "plan.json").to_json() == outcome.out


def test_block_options_are_shown_and_read_back(s2search: Run, tmp_path: Path) -> None:
    scores = {"lcha": -0.0093, "lcha[gate=false]": -0.0092, "ssa": -0.0096}
    content = {"schema": "s2search.score/1", "name": "mine", "statement": "made up [/]", "scores": scores}
    (tmp_path / "score.json").write_text(json.dumps(content))
    words = ["plan", "--candidates", "lcha,lcha[gate=false],ssa", "--score", "score.json", "--budget", "260ms"]
    outcome = s2search(*words, "--out", "plan.json")
    assert "lcha[gate=false]" in outcome.out
    assert "made up [/]" in outcome.out
    written = Plan.load(tmp_path / "plan.json").written
    assert s2search(*words, "--layout", written).code == 0


def test_a_layout_is_priced_even_where_the_solver_cannot_search(s2search: Run) -> None:
    outcome = s2search("plan", "--layout", "L4S8L4S8L4", "--solver", "exhaustive", "--budget", "260ms")
    assert outcome.code == 0
    assert "12 lcha + 16 ssa" in outcome.out


def test_a_hand_written_layout_over_its_budget_is_shown_and_fails_the_check(s2search: Run) -> None:
    assert s2search("plan", "--layout", "L4S8L4S8L4", "--budget", "260ms").code == 0
    over = s2search("plan", "--layout", "L28", "--budget", "260ms")
    assert over.code == 1
    assert "OVER by 178.9 ms" in over.out


@pytest.mark.parametrize("solver", ["dynamic", "milp", "allocation"])
def test_every_solver_answers_the_main_job(s2search: Run, solver: str) -> None:
    outcome = s2search("plan", "--budget", "260ms", "--solver", solver)
    assert outcome.code == 0
    assert "12 lcha + 16 ssa" in outcome.out


def test_figures_and_fronts_are_written(s2search: Run, tmp_path: Path) -> None:
    assert s2search("plan", "--budget", "10fps", "--figure", "plan.png").code == 0
    assert s2search("frontier", "--out", "front.csv", "--figure", "front.svg", "--points", "8").code == 0
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "front.svg").read_text()
    assert len((tmp_path / "front.csv").read_text().splitlines()) > 5


def test_a_measurement_survives_ctrl_c_and_is_never_overwritten(s2search: Run, tmp_path: Path) -> None:
    words = ["measure", "--out", "mine", "--candidates", "ssa", "--scenario", "stream", "--rounds", "60"]
    command = [sys.executable, "-m", "s2search", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, preexec_fn=interruptible) as process:
        samples = tmp_path / "mine" / "samples.jsonl"
        while not samples.exists() or samples.read_bytes().count(b"\n") < 20:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode().splitlines() == [
        "s2search: interrupted; the samples so far are kept: the same command goes on where it stopped"
    ]
    kept = samples.read_bytes()
    assert s2search(*words[:-1], "50").err.startswith("s2search: 'mine/samples.jsonl' belongs to another campaign")
    assert s2search(*words).code == 0
    assert samples.read_bytes().startswith(kept.rpartition(b"\n")[0])
    again = s2search(*words)
    assert again.code == 2
    assert "already holds a table" in again.err
    assert s2search("plan", "--table", "./mine", "--candidates", "ssa").code == 0


def test_plugins_lists_every_family_with_its_distribution(s2search: Run) -> None:
    out = s2search("plugins").out
    for word in ("blocks", "lcha", "solvers", "dynamic", "profilers", "torch_cpu", "iphone-16-pro-max.coreml.w4a8"):
        assert word in out
    assert "s2search 0." in out


def test_narrow_and_plain_terminals_are_served(tmp_path: Path) -> None:
    environment = {**os.environ, "COLUMNS": "50", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "s2search", "plan", "--budget", "260ms"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    strips = [line for line in done.stdout.splitlines() if line.startswith(("high res", "low res"))]
    assert len(strips) == 4
    assert max(len(line.rstrip()) for line in strips) <= 50


def test_a_reader_who_closes_the_pipe_early_sees_no_traceback(s2search: Run) -> None:
    command = f"{sys.executable} -m s2search plan --json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_files_of_other_programs_are_read_or_named(s2search, tmp_path):
    table = tmp_path / "table"
    shutil.copytree(installed_tables()["amd-epyc.torch-cpu.float32"], table)
    comma = (table / "table.csv").read_text()
    rows = list(csv.reader(io.StringIO(comma)))
    (table / "card.json").write_bytes(b"\xef\xbb\xbf" + (table / "card.json").read_bytes())
    digest = LatencyTable.load(table).digest
    for mark in ";\t":
        with (table / "table.csv").open("w", newline="") as file:
            csv.writer(file, delimiter=mark, lineterminator="\n").writerows(rows)
        assert LatencyTable.load(table).digest == digest
        assert lint(table / "table.csv") == []
    (table / "table.csv").write_text("")
    assert "table.csv is empty" in s2search("table", "show", "table").err
    cell = rows[0].index("weight_bytes")
    (table / "table.csv").write_text("\n".join([",".join(rows[0]), ",".join([*rows[1][:cell], "9" * 302])]) + "\n")
    assert "line 2 of" in s2search("table", "show", "table").err
    (tmp_path / "sizes.toml").write_bytes(b"\xef\xbb\xbfdepth = 4\n")
    assert "is not a preset: Object missing" in s2search("measure", "--preset", "sizes.toml", "--out", "x").err


def test_a_budget_of_bytes_without_a_unit_says_so(s2search):
    assert "write for example 1.1GB, or B for bytes" in s2search("plan", "--budget", "1100000000").err
    assert "write for example 260ms" in s2search("plan", "--budget", "260").err


def test_a_dash_is_no_place_to_write(s2search, tmp_path):
    assert "'-' cannot be written" in s2search("plan", "--budget", "260ms", "--out", "-").err
    assert "'-' cannot be written" in s2search("frontier", "--out", "-").err
    assert not (tmp_path / "-").exists()


def test_what_is_listed_is_called_what_it_is(s2search, tmp_path):
    (tmp_path / "score.json").write_text('{"schema": "s2search.score/1", "nam": 1}')
    for words, listed in (
        (["--layout", "L4X4"], "candidates: "),
        (["--score", "score.json"], "its keys: "),
    ):
        err = s2search("plan", "--budget", "260ms", *words).err
        assert listed in err, err
        assert "installed" not in err


def test_sixty_columns_cut_no_number_and_no_line_ends_with_blanks(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    say(plan(depth=4, budget="40ms", explain=True))
    out = capsys.readouterr().out
    assert "deviations" in out
    for line in out.splitlines():
        assert len(line) <= 60
        assert "…" not in line
        assert line == line.rstrip()
