from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from rich.console import Console
from typer.testing import CliRunner

from s2search.cli.main import app
from s2search.recalibration import recalibrate as module
from s2search.recalibration.version import correction_text
from s2search.reporting.recalibration import recalibration_text
from tests.recalibration.fake_bench import PRESET, FakeBench, fake_table, run

PRESET_TOML = "\n".join(
    f"{name} = {value}" for name, value in vars(PRESET).items() if isinstance(value, int) and name != "sink_chunks"
)


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A command line on the fake runtime."""
    fake_table(tmp_path / "old")
    (tmp_path / "fake-model.toml").write_text(PRESET_TOML)
    out = tmp_path / "new"
    monkeypatch.setattr(module, "bench_of", lambda table, runtime: FakeBench(out=out, per_layer_ms=0.3))
    return [
        "recalibrate", str(tmp_path / "old"), "--preset", str(tmp_path / "fake-model.toml"), "--out", str(out),
        "--layouts", "15", "--rounds", "9",
    ]  # fmt: skip


def test_recalibrate_prints_what_it_found_and_writes_the_table(words, tmp_path):
    done = CliRunner().invoke(app, [*words, "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    found = json.loads(done.stdout)
    assert found["schema"] == "s2search.recalibration/1"
    assert found["held_out"]["after_median"] < found["held_out"]["before_median"]
    assert found["correction"]["kind"].startswith("hand_over")
    assert found["judgement"]["supported"]
    assert set(found["miss_shares"]) == {"drift", "blocks", "switches", "fixed", "changes", "hand_over"}
    assert len(found["layouts"]) == 15
    assert found["goal_met"] is False
    assert (tmp_path / "new" / "card.json").exists()


def test_depth_and_candidates_are_those_asked_for(words):
    more = ["--depth", "5", "--candidates", "lcha,ssa", "--json"]
    done = CliRunner().invoke(app, [*words, *more], standalone_mode=False)
    assert done.exception is None, done.exception
    for one in json.loads(done.stdout)["layouts"]:
        assert set(one["layout"]) <= set("LS2345")


def test_a_report_fits_80_columns_and_says_when_nothing_is_gained(tmp_path):
    table = fake_table(tmp_path / "old")
    for out, truth in (("gain", {"per_layer_ms": 0.3}), ("none", {})):
        found = run(table, tmp_path / out, progress=lambda stage: nullcontext(lambda *told: None), **truth)
        console = Console(width=80, record=True, file=None)
        with console.capture() as shown:
            console.print(recalibration_text(found, correction_text(found.correction)))
        text = shown.get()
        assert max(map(len, text.splitlines())) <= 80
        assert text.count("held out") == 21
        assert ("is left as it is" in text) == (out == "none")
        assert ("lcha +0.29" in text) == (out == "gain")


def test_errors_are_one_line(s2search, tmp_path):
    fake_table(tmp_path / "old")
    for more, problem in (
        (["old", "--out", "new"], "--preset FILE.toml"),
        (["old", "--out", "new", "--preset", "s2dit-tiny", "--layouts", "4"], "4 layouts are too few"),
        (["old", "--out", "new", "--preset", "s2dit-tiny", "--runtime", "executorch"], "not with executorch"),
        (["iphone-16-pro-max.coreml.w4a8", "--out", "new"], "was measured with a runtime that it does not state"),
        (["old", "--out", "old", "--preset", "s2dit-tiny"], "already holds a table"),
    ):
        done = s2search("recalibrate", *more)
        assert done.code != 0
        assert problem in done.err, done.err
        assert len(done.err.splitlines()) == 1, done.err
