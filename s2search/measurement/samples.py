"""samples.jsonl: the raw data of a campaign, one JSON object per line, appended and synced sample by sample.

A journal (`s2search/journal.py`): the first line is the campaign's configuration; then one line per prepared item; then
the samples, in the order of the schedule. Where samples are jobs of a device lab, lines about these stand between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from s2search.errors import InputError
from s2search.exporters.resident import Resident
from s2search.journal import Journal, open_journal, read_journal
from s2search.measurement.base import Device, Memory


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a campaign measures.

    Attributes:
        rounds: Every item is sampled once per round, in a fresh order.
        most_warm_ups: The most calls of an item before the first sample of a process; see `measure.warm_up`.
        sentinel_every: The sentinel (the first block) is timed again before every so many rows.
        least_sample_ms: A sample repeats its call until it lasts about this long, milliseconds.
        seed: Seed of the orders.
        sustained_s: Go on for so many seconds without a break and keep the last third, when the device is as hot as it
            gets; None measures it as it comes (cold).
        pairs: Also time every ordered pair of blocks back to back.
    """

    rounds: int = 30
    most_warm_ups: int = 50
    sentinel_every: int = 5
    least_sample_ms: float = 2.0
    seed: int = 0
    sustained_s: float | None = None
    pairs: bool = False

    def __post_init__(self) -> None:
        for name in ("rounds", "most_warm_ups", "sentinel_every"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name} is {value}", allowed="at least 1", remedy="correct the protocol")
        if self.sustained_s is not None and not 0 < self.sustained_s < math.inf:
            raise InputError(
                f"a sustained run of {self.sustained_s} s", allowed="seconds above 0", remedy="correct the protocol"
            )


class Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower):
    """One line of samples.jsonl."""


class Campaign(Line, frozen=True, kw_only=True):
    """The configuration: two campaigns that differ in it must not share a file."""

    schema: Literal["s2search.samples/1"] = "s2search.samples/1"
    code_version: str
    preset: str
    profiler: dict[str, Any]
    device: Device
    protocol: Protocol
    items: list[dict[str, Any]]


class Ready(Line, frozen=True, kw_only=True, omit_defaults=True):
    """What was found when an item was first prepared.

    Attributes:
        item: Its key.
        memory: Its bytes.
        repetitions: How often a sample repeats its call.
        warm_ups: Calls until their time no longer fell.
        settled: Whether it stopped falling before the most calls that the protocol allows.
        placement: Operations by the unit that they run on, where the profiler can tell.
        unit_work: How much of the work ran on which unit, where it can tell.
        resident: What a process takes that runs it alone, where it was measured.
    """

    item: str
    memory: Memory
    repetitions: int
    warm_ups: int = 0
    settled: bool = True
    placement: dict[str, int] = {}
    unit_work: dict[str, float] = {}
    resident: Resident | None = None


class Sample(Line, frozen=True, kw_only=True, omit_defaults=True):
    """The milliseconds of one call of one item, the mean of its repetitions.

    Attributes:
        round: The pass over all items.
        item: Its key.
        sentinel: Whether it was timed to tell the drift.
        ms: Milliseconds of one call; of one call of each, for a pair.
        at: The time at its end (UTC, ISO 8601).
        clock_s: The seconds since the machine was started, at its end; durations are of this clock, which nobody sets.
        double: Whether it repeats its call twice as often as the sample just before it.
        then: The key of the block that followed in every repetition, for a pair; else empty.
        conditions: Heat and power of the device, where it tells.
        job: The id of the lab's job that the sample is, and the lab's name of the device that ran it; else empty.
    """

    round: int
    item: str
    sentinel: bool
    ms: float
    at: str
    clock_s: float | None = None
    double: bool = False
    then: str = ""
    conditions: dict[str, float] = {}
    job: str = ""
    device: str = ""

    @property
    def name(self) -> str:
        """What was timed: samples of one name belong together.

        >>> Sample(round=0, item="a", sentinel=False, ms=1.0, at="", then="b").name
        'a > b'
        """
        return f"{self.item} > {self.then}" if self.then else f"{self.item} twice" if self.double else self.item


class Wanted(Line, frozen=True, kw_only=True):
    """A job is about to be submitted to a lab, under a name that no other has: for that sample of its item."""

    item: str
    number: int
    name: str


class Submitted(Line, frozen=True, kw_only=True):
    """The lab has it, under its own id."""

    name: str
    job: str


class Dropped(Line, frozen=True, kw_only=True):
    """The lab ran it and it failed; its sample is another job's."""

    name: str


#: All lines but the first.
Entry = Ready | Sample | Wanted | Submitted | Dropped


class Samples:
    """What samples.jsonl holds so far, and its end, where lines are appended; `protocol` is as its first line says."""

    def __init__(self, journal: Journal[Entry]) -> None:
        self._journal, self.protocol = journal, journal.heading["protocol"]
        self.ready = {line.item: line for line in journal.lines if isinstance(line, Ready)}
        self.samples = [line for line in journal.lines if isinstance(line, Sample)]
        self.jobs = [line for line in journal.lines if isinstance(line, Wanted | Submitted | Dropped)]

    @property
    def path(self) -> Path:
        """The file."""
        return self._journal.path

    @property
    def digest(self) -> str:
        """A hash of the file."""
        return self._journal.digest

    def append(self, line: Entry) -> None:
        """Write one line and sync it to the disk.

        Raises:
            InputError: The disk does not take it; all earlier lines are safe.
        """
        self._journal.append(line)
        if isinstance(line, Ready):
            self.ready[line.item] = line
        elif isinstance(line, Sample):
            self.samples.append(line)
        else:
            self.jobs.append(line)


@contextmanager
def open_samples(path: Path, campaign: Campaign) -> Iterator[Samples]:
    """Open a campaign's samples.jsonl: make it, or go on with it; no other process can open it meanwhile.

    Raises:
        InputError: The file belongs to a different campaign, is in use, or has a line that is no line of a campaign.
    """
    with open_journal(path, campaign, Entry, of="campaign") as journal:
        yield Samples(journal)


def read_samples(path: Path) -> tuple[Campaign, Samples]:
    """Read a finished campaign's samples.jsonl, and change nothing.

    Raises:
        InputError: There is no such file, or it is none of a campaign.
    """
    remedy = "name the folder of a table that was measured by s2search"
    campaign, journal = read_journal(path, Campaign, Entry, of="campaign", remedy=remedy)
    return campaign, Samples(journal)
