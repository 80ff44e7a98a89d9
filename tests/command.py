"""The command line as a function: in this process, which takes no start of Python, or in one of its own."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TextIO
from unittest import mock

import pytest
import typer

# All commands with their options, which Typer makes anew at every call.
_commands = functools.cache(typer.main.get_command)


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


def run_here(words: Sequence[str], folder: Path) -> Outcome:
    """Run a command in a folder, in this process, 80 columns wide.

    An exception that `main` does not turn into a line is raised: it is a bug, and its traceback says where.
    """
    from s2search.cli.main import main

    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        _own_process(words),
        mock.patch.object(typer.main, "get_command", side_effect=_commands),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        main()
    assert isinstance(left.value.code, int)
    return Outcome(left.value.code, *map(_written, (out, err)))


def run_program_here(text: str, folder: Path) -> str:
    """Run a program in a folder, in this process, 80 columns wide, and return what it prints."""
    out = TextIOWrapper(BytesIO(), encoding="utf-8")
    with _own_process([]), chdir(folder), redirect_stdout(out):
        exec(compile(text, "<program>", "exec"), {"__name__": "__main__"})
    return _written(out)


def run_apart(words: Sequence[str], folder: Path) -> Outcome:
    """Run a command in a folder as a user does, in a process of its own, 80 columns wide."""
    done = subprocess.run(
        [sys.executable, "-m", "s2search", *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def interruptible() -> None:
    """Let a process hear Ctrl-C, which it does not where tests run in the background: `preexec_fn=interruptible`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _own_process(words: Sequence[str]) -> Iterator[None]:
    """Give a command what a process of its own would have, and let it change nothing for the tests that follow."""
    import torch

    threads, random = torch.get_num_threads(), torch.get_rng_state()
    with (
        mock.patch.object(sys, "argv", ["s2search", *words]),
        mock.patch.dict(os.environ, COLUMNS="80"),
        warnings.catch_warnings(),
    ):
        warnings.resetwarnings()  # pytest makes errors of them; Python shows most, and hides what follows
        for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", hidden)
        warnings.showwarning = _show_warning
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_rng_state(random)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning where a user sees it; pytest keeps them for itself."""
    (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _written(stream: TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()
