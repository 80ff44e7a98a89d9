"""What all tests share: reproducible hypothesis, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.command import Outcome, run_apart, run_here

settings.register_profile("reproducible", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("reproducible")


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
