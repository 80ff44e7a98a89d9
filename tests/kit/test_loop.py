"""From a phone to a promise and back, command by command: real packages, the runner, an imagined phone."""

from __future__ import annotations

from pathlib import Path

import pytest

import s2search
from s2search import registry
from s2search.kit.manifest import read_manifest
from s2search.measurement.layouts import layout_text, parts_of
from s2search.planner.plan import Plan
from tests.command import run_here
from tests.kit.conftest import Mac
from tests.kit.phone import Imitation, imitated, slots_of

PHONE = Imitation(seed=11, misplaced=("full",), throttled=(0.4, 0.5))
UNIT = "cpu_and_neural_engine"
SIZES = ["--preset", "s2dit-tiny", "--video", "64x48"]


def measured(folder: Path, **faults: object) -> Path:
    """Run a kit on the Mac with the phone."""
    mac = Mac(folder, write=lambda kit: read_manifest(kit)[0])
    mac.faults(**imitated(PHONE, mac.manifest), looks_until_back=8, **faults)
    mac.run(timeout=240)
    assert not mac.lines("failed")
    return mac.results


@pytest.mark.slow
def test_a_promise_is_broken_by_the_phone_and_mended(tmp_path):
    def run(*words: str, code: int = 0) -> str:
        done = run_here(words, tmp_path)
        assert done.code == code, done.err or done.out
        return done.out + done.err

    # What blocks take alone: the phone is unplugged twice, throttles, and has one block on its processor.
    run("kit", "build", "--out", "first/kit", *SIZES, "--candidates", "lcha,ssa,full", "--rounds", "8")
    results = measured(tmp_path / "first", unplug_at=[9, 40])
    assert results.read_text().count('"kind":"session"') == 3
    said = run("kit", "ingest", str(results), "--out", "tables", code=2)
    assert said.count("\n") == 1
    assert "full" in said
    assert "--keep-misplaced" in said
    run("kit", "ingest", str(results), "--out", "tables", "--keep-misplaced")
    table = f"tables/{next((tmp_path / 'tables').iterdir()).name}"

    # A plan on it, and the package that it becomes.
    asked = ["--depth", "8", "--candidates", "lcha,ssa", "--compute-unit", UNIT]
    run("plan", "--table", table, *asked, "--budget", "60ms", "--out", "plan.json")
    run(
        "export",
        "--preset",
        "s2dit-tiny",
        "--random-weights",
        "--plan",
        "plan.json",
        "--video",
        "64x48",
        "--exporter",
        "coreml",
        "--out",
        "package",
    )
    run("package", "lint", "package")

    # The package on the phone, among blocks in context and small layouts.
    run("kit", "build", "--out", "second/kit", *SIZES, "--candidates", "lcha,ssa", "--rounds", "12",
        "--contexts", "--layouts", "15", "--layout-depth", "4", "--package", "package")  # fmt: skip
    results = measured(tmp_path / "second")
    run("recalibrate", f"kit:{results}", "--table", table, "--depth", "8", "--out", "corrected")
    checked = run("plan", "check", "plan.json", "--table", "corrected", code=0)
    assert "holds" in checked

    plan = Plan.load(tmp_path / "plan.json")
    blocks = [registry.create("blocks", label) for label in plan.layout]
    level = PHONE.level(slots_of(read_manifest(tmp_path / "second/kit")[0]))
    truth_ms = level * PHONE.truth_ms(parts_of(blocks))
    asked_new = {"depth": 8, "candidates": "lcha,ssa", "compute_unit": UNIT, "budget": "1s"}
    new = s2search.plan(tmp_path / "corrected", layout=layout_text(blocks), **asked_new)
    assert new.latency_ms.predicted == pytest.approx(truth_ms, rel=0.03)
    assert plan.latency_ms.predicted > 1.03 * truth_ms
