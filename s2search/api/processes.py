"""The processes that divide a command's work, and the bar that the first of them shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s2search.training.parallel import Processes


@contextmanager
def joined(device: str, doing: str) -> Iterator[tuple[Processes, Callable[[int, int, str], None]]]:
    """Join the processes that torchrun started; the first one shows how far they are.

    Args:
        device: Of this process: cpu or cuda.
        doing: What the bar says.

    Raises:
        InputError: There is no such device.
    """
    from s2search.reporting.progress import progress_bar
    from s2search.training.parallel import processes
    from s2search.training.settings import EngineSettings

    with processes(EngineSettings(device=device)) as where:
        if not where.first:
            yield where, lambda done, total, label: None
            return
        with progress_bar(doing) as progress:
            yield where, progress
