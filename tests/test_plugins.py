"""A third party's distribution is really pip-installed, and then found."""

from __future__ import annotations

import os
import re
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
    for name in ("shift", "prefer_early", "greedy"):
        assert any(name in line and "s2search-example 1.2.3" in line for line in listed.splitlines())


def test_an_installed_score_and_solver_make_a_plan(site: Path) -> None:
    words = ["plan", "--budget", "260ms", "--score", "prefer_early", "--solver", "greedy"]
    done = run(site, "-m", "s2search", *words)
    assert done.returncode == 0, done.stderr
    assert "L12S16" in done.stdout
    assert "made up: the first candidate" in done.stdout


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


def test_the_exporter_of_contributing_is_the_one_that_is_installed() -> None:
    shown = re.findall(r"```python\n(.*?)```", (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    assert (PACKAGE / "s2search_example/listing.py").read_text() in shown


@pytest.mark.slow
def test_an_installed_exporter_passes_the_conformance_suite_and_is_verified_but_for_its_weights(
    site: Path, tmp_path: Path
) -> None:
    check = (
        "from pathlib import Path; from s2search import registry; from s2search.verification.verify import verify; "
        "from s2search.testing.exporters import check_exporter, tiny_model; "
        f"folder = Path({str(tmp_path)!r}); "
        "check_exporter(registry.create('exporters', 'listing'), tiny_model('SL'), folder, least_snr_db=100); "
        "print(*(f'{one.name}={one.status}' for one in verify(folder / 'package').checks))"
    )
    done = run(site, "-c", check)
    assert done.returncode == 0, done.stderr
    for words in ("weights=not_run", "parity.denoise=passed", "stream.clean_pass=passed", "blocks=not_run"):
        assert words in done.stdout


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
    with pytest.raises(PluginError, match=r"the solver 'lost' \(nowhere_at_all:Thing\) cannot be loaded"):
        registry.create("solvers", "lost")
