"""What a layout costs, what may be spent, and how a rate or a time to first frames becomes a budget for one pass.

Latency is counted in integer microseconds and memory in integer bytes: float sums would make a layout that sits
exactly on its budget look infeasible.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from s2search.errors import QuantityError

CommitPolicy = Literal["reuse_last", "clean_pass"]
COMMIT_POLICIES: tuple[CommitPolicy, ...] = ("reuse_last", "clean_pass")

#: Denoising passes, or pixel frames, of a chunk.
MOST_STEPS = 10_000
_LARGEST = 10**15  # a microsecond or byte count beyond any device
_SURELY_BYTES = 10**6  # a number without a unit that is no latency in milliseconds
_UNITS: dict[str, tuple[Literal["latency", "memory", "rate"], Fraction]] = {
    "us": ("latency", Fraction(1)),
    "ms": ("latency", Fraction(1_000)),
    "s": ("latency", Fraction(1_000_000)),
    "B": ("memory", Fraction(1)),
    "KB": ("memory", Fraction(10**3)),
    "MB": ("memory", Fraction(10**6)),
    "GB": ("memory", Fraction(10**9)),
    "KiB": ("memory", Fraction(2**10)),
    "MiB": ("memory", Fraction(2**20)),
    "GiB": ("memory", Fraction(2**30)),
    "fps": ("rate", Fraction(1)),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Latency (microseconds), resident memory (weights and streaming state, bytes) and activation peak (bytes).

    Costs add up exactly: latency and memory are sums, the peak is the largest one.

    >>> Cost(latency_us=3, memory_bytes=10, peak_bytes=7) + Cost(latency_us=4, memory_bytes=5, peak_bytes=2)
    Cost(latency_us=7, memory_bytes=15, peak_bytes=7)
    """

    latency_us: int = 0
    memory_bytes: int = 0
    peak_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            latency_us=self.latency_us + other.latency_us,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
        )

    @property
    def total_bytes(self) -> int:
        """What must fit in memory at once: everything resident, and the largest activation peak."""
        return self.memory_bytes + self.peak_bytes


BudgetKind = Literal["latency", "memory", "rate", "first", "p95"]
_NAMED: tuple[Literal["first", "p95"], ...] = ("first", "p95")  # what a time may be, beside one forward pass
#: What begins as a budget does; behind a table's name and a colon it is one.
LOOKS_LIKE_BUDGET = re.compile(rf"\s*(?:(?:{'|'.join(_NAMED)})\s*:\s*)?[+-]?\.?\d[^:]*", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """An upper limit on one of five things.

    Attributes:
        kind: `latency` of a forward pass, `memory`, a `rate`, the time from the prompt to the `first` frames, or the
            95th percentile of a forward pass (`p95`).
        amount: Microseconds, bytes, or pixel frames per second of a rate.
        text: As it was asked.
        sustained: Whether it is to hold under sustained load, by the table that was measured so.
    """

    kind: BudgetKind
    amount: Fraction
    text: str
    sustained: bool = False

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a limit such as `260ms`, `1.1GB`, `10fps`, `first:800ms` or `p95:300ms`, or `10fps@sustained`.

        Raises:
            QuantityError: No number, no unit, an unknown unit, a value that is not positive and finite, a name that
                is neither `first` nor `p95` or stands before what is no time, or another load than `sustained`.

        >>> int(Budget.parse("0.26 s").amount), int(Budget.parse("900MiB").amount)
        (260000, 943718400)
        >>> Budget.parse("first:800ms").kind, Budget.parse("p95:0.3s").kind, Budget.parse("10fps@sustained").sustained
        ('first', 'p95', True)
        >>> Budget.parse("260")
        Traceback (most recent call last):
        s2search.errors.QuantityError: the budget '260' has no unit; units: us, ms, s, B, KB, MB, GB, KiB, MiB, GiB, fps; write for example 260ms, 1.1GB or 10fps
        >>> Budget.parse("p99:300ms")
        Traceback (most recent call last):
        s2search.errors.QuantityError: the budget 'p99:300ms' limits 'p99'; first:TIME, p95:TIME, or a quantity alone; write for example first:800ms or p95:300ms
        """  # noqa: E501
        quantity, at, load = text.partition("@")
        if at and load.strip().lower() != "sustained":
            raise QuantityError(
                f"the budget {text!r} is asked at {load.strip()!r}",
                allowed="@sustained, or nothing",
                remedy="write for example 10fps@sustained",
            )
        name, colon, rest = quantity.partition(":")
        plain = cls._quantity(rest if colon else quantity, text)
        named = next((kind for kind in _NAMED if colon and kind == name.strip().lower()), None)
        if colon and (named is None or plain.kind != "latency"):
            raise QuantityError(
                f"the budget {text!r} limits {name.strip()!r}" + ("" if named is None else f" by {rest.strip()}"),
                allowed="first:TIME, p95:TIME, or a quantity alone",
                remedy="write for example first:800ms or p95:300ms",
            )
        if at and plain.kind == "memory":
            raise QuantityError(
                f"the budget {text!r} is memory, which does not depend on the load",
                allowed="times and rates at @sustained",
                remedy=f"write {quantity.strip()}",
            )
        return cls(named or plain.kind, plain.amount, text.strip(), bool(at))

    @classmethod
    def _quantity(cls, quantity: str, text: str) -> Budget:
        """Read a number with its unit; errors name the whole text."""
        units = f"units: {', '.join(_UNITS)}"
        example = "write for example 260ms, 1.1GB or 10fps"
        match = re.fullmatch(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([A-Za-z]*)\s*", quantity)
        if match is None:
            raise QuantityError(
                f"the budget {text!r} is not a finite number with a unit", allowed=units, remedy=example
            )
        if not match[2]:
            like = "1.1GB, or B for bytes" if float(match[1]) >= _SURELY_BYTES else "260ms, 1.1GB or 10fps"
            raise QuantityError(f"the budget {text!r} has no unit", allowed=units, remedy=f"write for example {like}")
        spelling = {unit.lower(): unit for unit in _UNITS}
        if match[2].lower() not in spelling:
            raise QuantityError(f"the budget {text!r} has the unknown unit {match[2]!r}", allowed=units, remedy=example)
        kind, scale = _UNITS[spelling[match[2].lower()]]
        amount = Fraction(match[1]) * scale
        if not 0 < amount <= _LARGEST:
            raise QuantityError(f"the budget {text!r} is not a positive quantity of a sensible size", remedy=example)
        return cls(kind, amount, quantity.strip())


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What runs once per chunk beside the transformer, and how often the transformer runs.

    The first number is in pixel frames, times are in milliseconds. `steps` counts denoising passes; the commit policy
    `clean_pass` adds one pass that rewrites the streaming state, `reuse_last` adds none.

    >>> phone = Pipeline(chunk_frames=12, steps=4, text_ms=4.0, decoder_ms=80.0)
    >>> phone.forward_budget_us(Fraction(10), "reuse_last"), phone.forward_budget_us(Fraction(10), "clean_pass")
    (279000, 223200)
    >>> phone.chunk_us(260_000, "reuse_last")
    1124000
    """

    chunk_frames: int
    steps: int
    text_ms: float
    decoder_ms: float

    def __post_init__(self) -> None:
        for name in ("chunk_frames", "steps"):
            if not 1 <= getattr(self, name) <= MOST_STEPS:
                raise QuantityError(f"{name} of the pipeline is {getattr(self, name)}", allowed="1 to 10,000")
        for name in ("text_ms", "decoder_ms"):
            if not 0 <= getattr(self, name) <= 1e7:
                raise QuantityError(f"{name} of the pipeline is {getattr(self, name)}", allowed="0 to 1e7 ms")

    def forwards(self, commit: CommitPolicy) -> int:
        """Return how many forward passes one chunk takes."""
        return self.steps + (commit == "clean_pass")

    @property
    def once_per_chunk_us(self) -> int:
        """Text encoder and decoder, in microseconds."""
        return round(1000 * (self.text_ms + self.decoder_ms))

    def chunk_us(self, forward_us: int, commit: CommitPolicy) -> int:
        """Return the time of one whole chunk in microseconds, given the time of one forward pass."""
        return self.once_per_chunk_us + self.forwards(commit) * forward_us

    def frames_per_second(self, forward_us: int, commit: CommitPolicy) -> float:
        """Return the rate of finished pixel frames per second, given the time of one forward pass."""
        return 1e6 * self.chunk_frames / self.chunk_us(forward_us, commit)

    def most_fps(self, forward_us: int, commit: CommitPolicy) -> float:
        """Return the highest rate, in tenths of a frame per second, at which one forward pass may take so long."""
        return math.floor(10 * Fraction(1_000_000 * self.chunk_frames, self.chunk_us(forward_us, commit))) / 10

    def forward_budget_us(self, rate_fps: Fraction, commit: CommitPolicy) -> int:
        """Return the microseconds that one forward pass may take at a rate, rounded down.

        Raises:
            QuantityError: Text and decoder alone take longer than the rate allows.
        """
        left = Fraction(1_000_000 * self.chunk_frames) / rate_fps - self.once_per_chunk_us
        budget_us = int(left // self.forwards(commit))
        if budget_us <= 0:
            fastest = 1e6 * self.chunk_frames / max(self.once_per_chunk_us, 1)
            raise QuantityError(
                f"{float(rate_fps):g}fps leaves no time for the transformer: text and decoder take "
                f"{self.once_per_chunk_us / 1000:g} ms per chunk of {self.chunk_frames} frames",
                remedy=f"ask for less than {fastest:.1f}fps",
            )
        return budget_us

    def first_frames_us(self, forward_us: int, commit: CommitPolicy) -> int:
        """Return the time from the prompt to the first frames in microseconds, given that of one forward pass.

        The prompt is encoded, the first chunk denoised and decoded. A clean pass counts: a chunk's frames come with the
        state after it, so every stream here commits before it decodes. A pass counts as one with a full window, which
        the first chunk does not have, and decoding as that of a later chunk, which has more frames: the sum is an upper
        limit. Loading the model comes before the prompt and does not count.
        """
        return self.chunk_us(forward_us, commit)

    def first_budget_us(self, first_us: Fraction, commit: CommitPolicy) -> int:
        """Return the microseconds that one forward pass may take if the first frames may take so many, rounded down.

        Raises:
            QuantityError: Text and decoder alone take longer.

        >>> phone = Pipeline(chunk_frames=12, steps=4, text_ms=4, decoder_ms=80)
        >>> phone.first_budget_us(Fraction(800_000), "reuse_last")
        179000
        """
        budget_us = int((first_us - self.first_frames_us(0, commit)) // self.forwards(commit))
        if budget_us <= 0:
            raise QuantityError(
                f"first frames after {float(first_us) / 1000:g} ms leave no time for the transformer: text and decoder "
                f"take {self.once_per_chunk_us / 1000:g} ms",
                remedy="ask for first frames after a longer time",
            )
        return budget_us

    def first_arithmetic(self, first_us: Fraction, commit: CommitPolicy) -> str:
        """Return the arithmetic behind `first_budget_us` as a line for people."""
        return (
            f"({float(first_us) / 1000:g} ms - {self.text_ms:g} ms - {self.decoder_ms:g} ms)"
            f" / {self.forwards(commit)} = {self.first_budget_us(first_us, commit) / 1000:g} ms"
        )

    def arithmetic(self, rate_fps: Fraction, commit: CommitPolicy) -> str:
        """Return the arithmetic behind `forward_budget_us` as a line for people."""
        return (
            f"({self.chunk_frames}/{float(rate_fps):g} s - {self.text_ms:g} ms - {self.decoder_ms:g} ms)"
            f" / {self.forwards(commit)} = {self.forward_budget_us(rate_fps, commit) / 1000:g} ms"
        )


@dataclass(frozen=True, kw_only=True)
class ToldPipeline:
    """Numbers of a `Pipeline` that somebody told: they stand in for those of a table's card. None is not told."""

    steps: int | None = None
    text_ms: float | None = None
    decode_ms: float | None = None

    def over(self, pipeline: Pipeline | None, *, chunk_frames: int, table: str) -> Pipeline | None:
        """Return a card's pipeline with what was told in place of its own; without a card's, all must be told.

        Raises:
            QuantityError: Some was told and some is not known, or a number is out of range.

        >>> ToldPipeline(steps=2, text_ms=4, decode_ms=80).over(None, chunk_frames=12, table="mine").steps
        2
        """
        told = {"steps": self.steps, "text_ms": self.text_ms, "decoder_ms": self.decode_ms}
        given: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        if not given:
            return pipeline
        if pipeline is not None:
            return dataclasses.replace(pipeline, chunk_frames=chunk_frames, **given)
        options = {"steps": "--steps", "text_ms": "--text-ms", "decoder_ms": "--decode-ms"}
        missing = [options[name] for name in told if name not in given]
        if missing:
            raise QuantityError(
                f"the table {table!r} has no pipeline, and what is told lacks {' and '.join(missing)}",
                remedy="tell all of --steps, --text-ms and --decode-ms",
            )
        return Pipeline(chunk_frames=chunk_frames, **given)

    @property
    def statement(self) -> str:
        """What was told, for people; empty where nothing was."""
        told = [
            *([f"{self.steps} steps"] if self.steps is not None else []),
            *([f"text {self.text_ms:g} ms"] if self.text_ms is not None else []),
            *([f"decoder {self.decode_ms:g} ms"] if self.decode_ms is not None else []),
        ]
        return ", ".join(told)


NOTHING_TOLD = ToldPipeline()


def tightest(amounts: Iterable[int]) -> int | None:
    """Return the smallest limit, or None where there is none."""
    return min(amounts, default=None)


def format_us(microseconds: float) -> str:
    """Write a time as people read it.

    >>> format_us(259_988), format_us(850)
    ('260.0 ms', '0.850 ms')
    """
    milliseconds = microseconds / 1000
    return f"{milliseconds:.1f} ms" if abs(milliseconds) >= 10 else f"{milliseconds:.3f} ms"


def format_fps(frames_per_second: float) -> str:
    """Write a rate as people read it.

    >>> format_fps(20.44), format_fps(0.0123)
    ('20.4 FPS', '0.012 FPS')
    """
    digits = ".1f" if frames_per_second >= 1 else ".2g"
    return f"{frames_per_second:{digits}} FPS"


def format_bytes(count: float) -> str:
    """Write a memory size in decimal units.

    >>> format_bytes(1_100_000_000), format_bytes(5_767_168)
    ('1.10 GB', '5.8 MB')
    """
    if abs(count) >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if abs(count) >= 1e5 else f"{count / 1e3:.1f} kB"
