"""How much time passed between samples: by a clock that nobody sets, not by the time of day.

A sample carries its time of day (`at`) and, where it was taken on a real machine, the seconds of a clock that runs
since the machine was started (`clock_s`). That one is the same for all processes, goes on while the machine sleeps, and
is set by nobody. Where it is missing (files of before, a clock in a test) or begins anew (the machine was started
again), the times of day tell: one that was set back counts for no time, and takes with it the jump forward that it
undoes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Protocol as Interface

from s2search.dates import instant

#: A pause from which a device comes back cooler, seconds.
BREAK_S = 30.0


class Timed(Interface):
    """A sample, as far as time goes; see `Sample` for its fields."""

    @property
    def at(self) -> str:
        """The time of day at its end."""

    @property
    def clock_s(self) -> float | None:
        """The seconds of a clock that nobody sets, at its end."""

    @property
    def ms(self) -> float:
        """Milliseconds of one call."""

    @property
    def round(self) -> int:
        """The pass over all items."""


def clock_s() -> float:
    """Return the seconds since the machine was started, those asleep included."""
    # Linux counts sleep only in CLOCK_BOOTTIME, macOS already in CLOCK_MONOTONIC.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def elapsed_s(samples: Sequence[Timed]) -> list[float]:
    """Return for every sample the seconds since the first one; they never fall.

    Raises:
        InputError: A time of day is none.
    """
    steps, forward = [0.0], list[int]()
    days = [instant(sample.at) for sample in samples]
    for number, (before, sample) in enumerate(pairwise(samples), start=1):
        if None not in (before.clock_s, sample.clock_s) and before.clock_s <= sample.clock_s:  # type: ignore[operator]
            steps.append(sample.clock_s - before.clock_s)  # type: ignore[operator]
            continue
        step = _seconds(days[number - 1], days[number])
        if before.clock_s is not None:
            step = max(step, pause_s(sample) + 1)  # the machine was started again
        elif step > pause_s(sample):
            forward.append(number)
        elif step < 0 and (undone := next((n for n in reversed(forward) if abs(steps[n] + step) <= BREAK_S), None)):
            steps[undone] = 0.0
            forward.remove(undone)
        steps.append(max(0.0, step))
    total, found = 0.0, []
    for step in steps[: len(samples)]:
        total += step
        found.append(total)
    return found


def pause_s(sample: Timed) -> float:
    """Return the seconds before a sample's end from which they hold a break."""
    return BREAK_S + sample.ms / 1000


def passed_s(samples: Sequence[Timed]) -> float:
    """Return the seconds from the first to the last sample, by those two alone."""
    if not samples:
        return 0.0
    first, last = samples[0], samples[-1]
    if None not in (first.clock_s, last.clock_s):
        return max(0.0, last.clock_s - first.clock_s)  # type: ignore[operator]
    return max(0.0, _seconds(instant(first.at), instant(last.at)))


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
