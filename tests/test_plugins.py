"""A third party's distribution is really pip-installed, and then found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2search import registry
from s2search.errors import PluginError

PACKAGE = Path(__file__).parent / "plugin_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(folder),
        str(PACKAGE),
    ]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=300, capture_output=True)
    return folder


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def test_an_installed_plugin_is_listed_with_its_distribution(site: Path) -> None:
    listed = run(site, "-m", "s2search", "plugins").stdout
    for name in ("shift", "prefer_early", "marks", "greedy"):
        assert any(name in line and "s2search-example 1.2.3" in line for line in listed.splitlines())


def test_an_installed_score_and_solver_make_a_plan(site: Path) -> None:
    words = ["plan", "--budget", "260ms", "--score", "prefer_early", "--solver", "greedy"]
    done = run(site, "-m", "s2search", *words)
    assert done.returncode == 0, done.stderr
    assert "L12S16" in done.stdout
    assert "made up: the first candidate" in done.stdout


def test_an_installed_quality_keeps_its_contract_and_calls_designs_within_error_equal(site: Path) -> None:
    program = """
from dataclasses import replace
from s2search.quality.base import Setting, compare
from s2search.quality.file import open_quality
from s2search.testing.qualities import check_quality
four = Setting(preset="s2dit-tiny", depth=4, channels=64, video="64x32", steps=4, chunk_frames=3, window_chunks=2,
               commit="clean_pass", precision="float32")
quality = open_quality("marks[error=0.3]")
settings = [replace(four, steps=steps) for steps in (4, 2, 1, 3)]
check_quality(quality, settings)
judged = [quality.judge(setting) for setting in settings]
print(quality.label, *(compare(judged[0], other) for other in judged))
"""
    done = run(site, "-c", program)
    assert done.stdout == "marks[error=0.3] equal equal better incomparable\n", done.stderr


def test_an_installed_latency_model_prices_a_plan_which_records_it_with_its_options(site: Path) -> None:
    words = ["plan", "--layout", "L4S8L4S8L4", "--latency-model", "throttled[factor=2]", "--json"]
    done = run(site, "-m", "s2search", *words)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["blocks"]["lcha"]["latency_ms"] == 2 * 15.675
    assert plan["provenance"]["latency_model"] == "throttled"
    assert plan["provenance"]["latency_model_options"] == "factor=2.0"


def test_an_installed_reader_passes_the_conformance_suite_and_imports_a_file(site: Path, tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_text("part,run,seconds\nencoder,first,0.25\n")
    check = (
        "from pathlib import Path; from s2search import registry; from s2search.testing.readers import check_reader; "
        f"check_reader(registry.create('readers', 'stopwatch'), Path({str(tmp_path / 'times.csv')!r}).read_bytes())"
    )
    done = run(site, "-c", check)
    assert done.returncode == 0, done.stderr
    words = ["table", "import", "stopwatch[device=a phone]", str(tmp_path / "times.csv"), "--out", str(tmp_path / "t")]
    done = run(site, "-m", "s2search", *words)
    assert done.returncode == 0, done.stderr
    assert "encoder,first,250.0" in (tmp_path / "t/table.csv").read_text()


def test_an_installed_block_is_a_candidate_like_any_other(site: Path) -> None:
    done = run(site, "-m", "s2search", "plan", "--candidates", "lcha,shift[reach=2]", "--score", "prefer_early")
    assert done.returncode == 2
    assert "has no row for 'shift[reach=2]'" in done.stderr


def test_an_installed_solver_passes_or_fails_the_conformance_suite_like_ours(site: Path) -> None:
    check = "from s2search import registry; from s2search.testing.solvers import check_solver; "
    assert run(site, "-c", check + "check_solver(registry.create('solvers', 'dynamic'))").returncode == 0
    greedy = run(site, "-c", check + "check_solver(registry.create('solvers', 'greedy'))")
    assert greedy.returncode == 1
    assert "AssertionError" in greedy.stderr


@pytest.mark.slow
def test_an_installed_exporter_and_its_inspector_pass_the_conformance_suites_and_are_verified(
    site: Path, tmp_path: Path
) -> None:
    check = (
        "from pathlib import Path; from s2search import registry; "
        "from s2search.testing.exporters import check_exporter, tiny_model; "
        "from s2search.testing.inspectors import check_inspector; "
        f"folder = Path({str(tmp_path)!r}); model = tiny_model('SL'); "
        "check_exporter(registry.create('exporters', 'listing'), model, folder / 'a', least_snr_db=100, chunks=2); "
        "check_inspector(registry.create('inspectors', 'listing'), model, folder / 'b')"
    )
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    done = run(site, "-c", check)
    assert done.returncode == 0, done.stderr
    done = run(site, "-m", "s2search", "verify", str(tmp_path / "a/package"), "--chunks", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = {one["name"]: one["status"] for one in json.loads(done.stdout)["checks"]}
    assert {found[name] for name in ("weights", "parity.denoise", "stream.clean_pass")} == {"passed"}
    assert {found[name] for name in ("blocks", "lint", "placement")} == {"not_run"}


@pytest.mark.slow
def test_an_installed_codec_keeps_the_contract_and_its_decoder_is_exported_and_verified(
    site: Path, tmp_path: Path
) -> None:
    check = "from s2search import registry; from s2search.testing.codecs import check_codec; "
    done = run(site, "-c", check + "check_codec(registry.create('codecs', 'average[gain=2]'))")
    assert done.returncode == 0, done.stderr
    out = str(tmp_path / "decoder")
    words = ("--part", "average[gain=2]", "--exporter", "coreml", "--video", "64x48", "--out", out)
    done = run(site, "-m", "s2search", "export", *words)
    assert done.returncode == 0, done.stderr
    done = run(site, "-m", "s2search", "verify", out, "--chunks", "2", "--json")
    assert done.returncode == 0, done.stdout
    weights = next(one for one in json.loads(done.stdout)["checks"] if one["name"] == "weights")
    assert weights["why"].startswith("all 1 tensors of the source are stored")


def test_without_the_distribution_its_plugins_are_unknown() -> None:
    assert "shift" not in registry.installed("blocks")


def test_two_distributions_may_not_offer_the_same_name(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "rival-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[s2search.solvers]\ngreedy = rival:Greedy\n")
    paths = os.pathsep.join([str(site), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-m", "s2search", "plan", "--solver", "greedy"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "two solver plugins are called 'greedy'" in done.stderr


def test_a_plugin_that_cannot_be_imported_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    broken = {"lost": EntryPoint(name="lost", value="nowhere_at_all:Thing", group="s2search.solvers")}
    monkeypatch.setattr(registry, "installed", lambda group: broken)
    with pytest.raises(PluginError, match=r"the solver 'lost' \(nowhere_at_all:Thing of unknown\) cannot be loaded"):
        registry.create("solvers", "lost")
