"""A progress bar with time left, on stderr, for work of minutes; a line a minute where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from s2search.border.printable import printable
from s2search.reporting.console import PrintableConsole

_LINE_EVERY_S = 60


@contextmanager
def progress_bar(
    title: str, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function of (done, total, what comes next) that moves the bar, or now and then prints a line."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[label]}", style="dim", markup=False),
    )
    console = PrintableConsole(stderr=True)
    if not console.is_terminal:
        yield _lines(title, clock)
        return
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, label="")
        yield lambda done, total, label: bar.update(task, completed=done, total=total, label=label)


def notice(line: str) -> None:
    """Print a line to stderr that people should know of while work goes on; a bar stays below it."""
    sys.stderr.write(f"s2search: {printable(line)}\n")
    sys.stderr.flush()


def _lines(title: str, clock: Callable[[], float]) -> Callable[[int, int, str], None]:
    last_s = clock()

    def show(done: int, total: int, label: str) -> None:
        nonlocal last_s
        if (now_s := clock()) - last_s >= _LINE_EVERY_S:
            last_s = now_s
            sys.stderr.write(f"{title}: {done} of {total}{label and f', {printable(label)}'}\n")
            sys.stderr.flush()

    return show
