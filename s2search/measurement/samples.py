"""samples.jsonl: the raw data of a campaign, one JSON object per line, appended and synced sample by sample.

The first line is the campaign's configuration; then one line per prepared item; then the samples, in the order of the
schedule. A process that dies leaves at most one torn line at the end, which the next one drops: what is on disk is
always the beginning of the whole file, so the same command goes on where the last one stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import msgspec

from s2search.errors import InputError
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


def parse_seconds(text: str) -> float:
    """Read a duration in seconds or minutes.

    >>> parse_seconds("5m"), parse_seconds("90s")
    (300.0, 90.0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min)\s*", text)
    seconds = float(match[1]) * (1 if match[2] == "s" else 60) if match else 0.0
    if not seconds > 0:
        raise InputError(f"{text!r} is not a duration", allowed="such as 90s or 5m", remedy="correct it")
    return seconds


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
    """

    item: str
    memory: Memory
    repetitions: int
    warm_ups: int = 0
    settled: bool = True
    placement: dict[str, int] = {}


class Sample(Line, frozen=True, kw_only=True, omit_defaults=True):
    """The milliseconds of one call of one item, the mean of its repetitions.

    Attributes:
        round: The pass over all items.
        item: Its key.
        sentinel: Whether it was timed to tell the drift.
        ms: Milliseconds of one call; of one call of each, for a pair.
        at: The time at its end (UTC, ISO 8601).
        double: Whether it repeats its call twice as often as the sample just before it.
        then: The key of the block that followed in every repetition, for a pair; else empty.
        conditions: Heat and power of the device, where it tells.
    """

    round: int
    item: str
    sentinel: bool
    ms: float
    at: str
    double: bool = False
    then: str = ""
    conditions: dict[str, float] = {}

    @property
    def name(self) -> str:
        """What was timed: samples of one name belong together.

        >>> Sample(round=0, item="a", sentinel=False, ms=1.0, at="", then="b").name
        'a > b'
        """
        return f"{self.item} > {self.then}" if self.then else f"{self.item} twice" if self.double else self.item


class Journal:
    """What samples.jsonl holds so far, and its end, where lines are appended; `protocol` is as its first line says."""

    def __init__(self, path: Path, file: FileIO, lines: list[Ready | Sample], protocol: dict[str, Any]) -> None:
        self.path, self._file, self.protocol = path, file, protocol
        self.ready = {line.item: line for line in lines if isinstance(line, Ready)}
        self.samples = [line for line in lines if isinstance(line, Sample)]

    def append(self, line: Line) -> None:
        """Write one line and sync it to the disk.

        Raises:
            InputError: The disk does not take it; all earlier lines are safe.
        """
        left = msgspec.json.encode(line) + b"\n"
        try:
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(
                f"{str(self.path)!r} cannot be written: {error.strerror}",
                remedy="make room; the same command then goes on from the last finished sample",
                path=self.path,
            ) from error
        if isinstance(line, Ready):
            self.ready[line.item] = line
        elif isinstance(line, Sample):
            self.samples.append(line)

    @property
    def digest(self) -> str:
        """A hash of the file."""
        return f"sha256:{hashlib.sha256(self.path.read_bytes()).hexdigest()}"


@contextmanager
def open_journal(path: Path, campaign: Campaign) -> Iterator[Journal]:
    """Open a campaign's samples.jsonl: make it, or go on with it; no other process can open it meanwhile.

    Raises:
        InputError: The file belongs to a different campaign, is in use, or has a line that is no line of a campaign.
    """
    with _appendable(path) as file:
        _lock(file, path)
        lines = _read(file, path)
        if lines and (difference := _first_difference(_plain(lines[0]), _plain(campaign))):
            raise InputError(
                f"{str(path)!r} belongs to another campaign: {difference}",
                remedy="repeat the command that started it, or choose another folder",
                difference=difference,
            )
        journal = Journal(path, file, lines[1:], _plain(campaign)["protocol"])
        if not lines:
            journal.append(campaign)
        yield journal


def read_journal(path: Path) -> tuple[Campaign, Journal]:
    """Read a finished campaign's samples.jsonl, and change nothing.

    Raises:
        InputError: There is no such file, or it is none of a campaign.
    """
    try:
        file = FileIO(path, "r")
    except OSError as error:
        problem = f"{str(path)!r} cannot be read: {error.strerror}"
        raise InputError(problem, remedy="name the folder of a table that was measured by s2search") from error
    with file:
        content = file.readall() or b""
        lines = _lines(content[: content.rfind(b"\n") + 1], path)
        if not lines:
            raise InputError(f"{str(path)!r} is empty", remedy="restore the file")
        protocol = msgspec.json.decode(content.partition(b"\n")[0])["protocol"]
        return lines[0], Journal(path, file, lines[1:], protocol)


def _appendable(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileIO(path, "a+")
    except OSError as error:
        problem = f"{str(path)!r} cannot be written: {error.strerror}"
        raise InputError(problem, remedy="choose another folder") from error


def _lock(file: FileIO, path: Path) -> None:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        problem = f"another process is measuring into {str(path)!r}"
        raise InputError(problem, remedy="let it finish, or stop it") from None


def _read(file: FileIO, path: Path) -> list[Any]:
    """Return the whole lines, and cut a torn last one off the file."""
    file.seek(0)
    content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        file.truncate(len(whole))
    return _lines(whole, path)


def _lines(whole: bytes, path: Path) -> list[Any]:
    lines: list[Any] = []
    for number, line in enumerate(whole.splitlines(), start=1):
        kinds = Ready | Sample if lines else Campaign
        try:
            lines.append(msgspec.json.decode(line, type=kinds))
        except msgspec.DecodeError as error:
            raise InputError(
                f"line {number} of {str(path)!r} is not a line of a campaign: {error}",
                remedy="restore the file, or choose another folder",
            ) from error
    return lines


def _plain(campaign: Campaign) -> Any:
    return msgspec.json.decode(msgspec.json.encode(campaign))


def _first_difference(there: Any, here: Any, name: str = "") -> str:
    """Return the first field in which two JSON values differ, with both values; empty if they are equal.

    >>> _first_difference({"seed": 0, "protocol": {"rounds": 30}}, {"seed": 0, "protocol": {"rounds": 10}})
    'protocol.rounds is 30 there and 10 here'
    """
    if isinstance(there, list) and isinstance(here, list):
        there, here = ({str(i): value for i, value in enumerate(values)} for values in (there, here))
    if isinstance(there, dict) and isinstance(here, dict):
        for key in there | here:
            inner = f"{name}.{key}" if name else key
            if difference := _first_difference(there.get(key), here.get(key), inner):
                return difference
        return ""
    return "" if there == here else f"{name} is {_brief(there)} there and {_brief(here)} here"


def _brief(value: Any) -> str:
    if value is None:
        return "absent"
    return repr(value["key"] if isinstance(value, dict) and "key" in value else value)
