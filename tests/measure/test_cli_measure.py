"""`s2search measure` and `s2search table retabulate`, as they are typed; a recorded table stands in for the device."""

import json
import shutil

from s2search.tables.table import installed_tables

PLAY = ["measure", "--profiler", "replay", "--preset", "s2dit-small", "--scenario", "stream", "--out", "t"]


def test_pairs_are_an_option(s2search, tmp_path):
    outcome = s2search(*PLAY, "--candidates", "lcha,ssa", "--rounds", "4", "--pairs")
    assert outcome.code == 0, outcome.err
    pairs = json.loads((tmp_path / "t/card.json").read_text())["protocol"]["pair_ratios"]
    assert {(pair["first"], pair["then"]) for pair in pairs} == {
        ("stream lcha 3x9x16", "stream ssa 3x9x16"),
        ("stream ssa 3x9x16", "stream lcha 3x9x16"),
    }


def test_a_sustained_run_is_an_option(s2search, tmp_path):
    outcome = s2search(*PLAY, "--candidates", "lcha,ssa", "--sustained", "0.5s")
    assert outcome.code == 0, outcome.err
    protocol = json.loads((tmp_path / "t/card.json").read_text())["protocol"]
    assert protocol["sustained_s"] == 0.5
    assert protocol["mode"].startswith("sustained for 0.5 s: rounds ")


def test_a_duration_that_is_none_is_refused_in_one_line(s2search, tmp_path):
    outcome = s2search(*PLAY, "--sustained", "long")
    assert (outcome.code, outcome.err) == (2, "s2search: 'long' is not a duration; such as 90s or 5m; correct it\n")
    assert not (tmp_path / "t").exists()


def test_a_profiler_that_cannot_run_here_says_why_in_one_line(s2search):
    outcome = s2search("measure", "--profiler", "replay[table=nothing]", "--out", "t")
    assert outcome.code == 2
    assert outcome.err.startswith("s2search: the profiler 'replay' cannot run here: no table is called 'nothing'")
    assert outcome.err.count("\n") == 1


def test_a_table_is_made_again_from_its_samples(s2search, tmp_path):
    name = "h100.torch-cuda-graphs-compiled.bfloat16"
    shutil.copytree(installed_tables()[name], tmp_path / name)
    outcome = s2search("table", "retabulate", name)
    assert outcome.code == 0, outcome.err
    assert "lcha" in outcome.out
    assert "latency_raw_ms" in (tmp_path / name / "table.csv").read_text()
