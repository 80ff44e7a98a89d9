"""What all tests share: reproducible hypothesis, and the command line as a function."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.command import Outcome, run_apart, run_here

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side, a thread each: threads that wait for a core spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job, which its children would inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Laws are tried on few examples by `make test`, and on many by `make slow-laws`.
settings.register_profile("few", derandomize=True, deadline=None, print_blob=True, max_examples=40)
settings.register_profile("many", parent=settings.get_profile("few"), max_examples=400)
settings.load_profile("few")


#: What tests are run in one process, for what they share takes long to make: packages to break, and the import of
#: executorch.
_TOGETHER = re.compile(r"tests/(?:verify/|export/test_(?=forged|package)|(?=.*(?:executorch|test_adb)))")


class _ByFile(LoadFileScheduling):
    """Keeps the tests of a file in one process, so that what they share is made once, and so those of some folders."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        shared = _TOGETHER.match(file) if "not slow" in self.config.option.markexpr else None
        return shared.group() if shared else file


def pytest_collection_finish() -> None:
    """Look no more for garbage among all that was imported, which stays, and seldom among the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile:
    """Give the scheduler of `pytest -n 2`."""
    return _ByFile(config, log)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Tiny tensors run faster on one thread, and always in the same order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def s2search(tmp_path: Path) -> Callable[..., Outcome]:
    """Run the command line in an empty folder, in this process."""
    return lambda *words: run_here(words, tmp_path)


@pytest.fixture
def s2search_process(tmp_path: Path) -> Callable[..., Outcome]:
    """Run the command line as `s2search` does, but in a process of its own."""
    return lambda *words: run_apart(words, tmp_path)
