"""Ctrl-C: what is kept is said, and none is lost inside an import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.__main__ import main as begin
from s2search.cli import interrupted
from s2search.cli.examples import EXAMPLES
from tests.command import interruptible
from tests.conftest import Outcome

#: A library that takes every exception of its own imports for a missing one, as coremltools does.
SWALLOWING = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10**6): pass
except BaseException:
    swallowed = True
whole = True
"""
IMPORTING = """
import sys
from s2search.mil.library import load_coremltools
try:
    load_coremltools()
except KeyboardInterrupt:
    library = sys.modules["coremltools"]
    sys.exit(42 if library.whole and not hasattr(library, "swallowed") else 1)
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "coremltools" / "optimize").mkdir(parents=True)
    (tmp_path / "coremltools" / "__init__.py").write_text(SWALLOWING)
    (tmp_path / "coremltools" / "optimize" / "__init__.py").write_text("")
    (tmp_path / "coremltools" / "optimize" / "coreml.py").write_text("")
    return tmp_path


def left_with(code: str, library: Path) -> int:
    """Run a program that finds this coremltools, and return its exit code."""
    environment = {"PYTHONPATH": str(library)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=False, timeout=60, preexec_fn=interruptible
    ).returncode


def test_ctrl_c_while_coremltools_is_imported_comes_after_the_import(library: Path) -> None:
    assert left_with(IMPORTING, library) == 42


def test_a_kits_runner_waits_for_the_import_as_well(library: Path) -> None:
    place = library / "coremltools" / "models" / "ml_program" / "experimental"
    place.mkdir(parents=True)
    (place / "perf_utils.py").write_text("MLModelBenchmarker = None")
    code = IMPORTING.replace(
        "s2search.mil.library import load_coremltools", "s2search.kit.runner.cold import _libraries"
    )
    code = code.replace("load_coremltools()", "_libraries()")
    assert left_with(code, library) == 42


def test_an_ignored_ctrl_c_stays_ignored(library: Path) -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + IMPORTING + "sys.exit(7)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(library)}, check=False, timeout=60)
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("sensitivity", "--out", "s.json"), "the figures so far are kept: the same command goes on where it stopped"),
        (("kit", "build", "--out", "k"), "the packages so far are kept: the same command goes on where it stopped"),
        (("table", "lint", "amd-epyc"), "files are written whole or not at all: repeat the command"),
    ],
)
def test_the_line_after_ctrl_c_says_what_the_command_keeps(
    s2search: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], line: str
) -> None:
    monkeypatch.setattr("s2search.cli.main.app", lambda **_: 130)
    done = s2search(*words)
    assert (done.code, done.err) == (130, f"s2search: interrupted; {line}\n")


def test_every_command_that_is_named_there_exists() -> None:
    assert interrupted._KEPT.keys() <= EXAMPLES.keys()


def test_ctrl_c_while_the_commands_are_imported_is_one_line(monkeypatch, capsys):
    class Interrupting:
        @staticmethod
        def find_spec(name, *_):
            if name == "s2search.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "s2search.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting, *sys.meta_path])
    with pytest.raises(SystemExit) as left:
        begin()
    assert left.value.code == 130
    assert capsys.readouterr() == ("", "s2search: interrupted; nothing was begun\n")
