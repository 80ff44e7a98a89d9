"""The doors to coremltools and its like: what they say on the way is nothing that a user of s2search can heed."""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from s2search.errors import require

#: What coremltools imports where it is installed, for conversions that nobody here asks of it.
UNASKED = ("executorch", "libsvm", "sklearn", "tensorflow", "torchao", "torchaudio", "torchvision", "xgboost")


def load_coremltools() -> Any:
    """Import coremltools without what it says about torch's version, and about not being on a Mac."""
    with quiet_coremltools(), interrupted_afterwards(), hidden(*UNASKED):
        import coremltools
        import coremltools.optimize.coreml
    return coremltools


@contextlib.contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Hold a Ctrl-C back until the end of an import, then let it do what it would have done.

    coremltools tries many libraries as it is imported, and takes whatever is raised meanwhile, a Ctrl-C as well, for a
    missing one; where its own are loaded by halves the process has ended in a segmentation fault.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def hidden(*libraries: str) -> Iterator[None]:
    """Let libraries that are not imported yet seem to be missing: executorch and what it brings take 8 seconds."""
    names = [name for name in libraries if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # null is Python's own mark of a missing module
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and log lines of torch and of converters, which nothing here can heed; errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Silence progress bars and advice of coremltools and what it imports; errors are raised, not printed."""
    require("coremltools")
    from tqdm import tqdm  # type: ignore[import-untyped]  # comes with coremltools

    shown = tqdm.__init__
    tqdm.__init__ = functools.partialmethod(shown, disable=True)
    try:
        with quiet():
            yield
    finally:
        tqdm.__init__ = shown
