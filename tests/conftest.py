"""What all tests share: reproducible hypothesis, and the command line as a function, in process or out of it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TextIO
from unittest import mock

import pytest
from hypothesis import settings

from s2search.cli.main import main

settings.register_profile("reproducible", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("reproducible")


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Tiny tensors run faster on one thread, and always in the same order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_in(folder: Path, *words: str) -> Outcome:
    """Run the command line in a folder, in this process, 80 columns wide.

    An exception that `main` does not turn into a line fails the test with its traceback.
    """
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
    with ExitStack() as process:
        for part in (chdir(folder), redirect_stdout(out), redirect_stderr(err), _own_process(words)):
            process.enter_context(part)
        with pytest.raises(SystemExit) as left:
            main()
    assert isinstance(left.value.code, int)
    return Outcome(left.value.code, *map(_written, (out, err)))


@pytest.fixture
def s2search(tmp_path: Path) -> Callable[..., Outcome]:
    """Run the command line in an empty folder, in this process."""
    return partial(run_in, tmp_path)


@pytest.fixture
def s2search_process(tmp_path: Path) -> Callable[..., Outcome]:
    """Run the command line as `s2search` does, but in a process of its own."""

    def run(*words: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "s2search", *words],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "80"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@contextmanager
def _own_process(words: tuple[str, ...]) -> Iterator[None]:
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
