"""A deterministic device for the real campaign; run as a program, it measures a table into the folder it is given.

The machine warms up: a call takes longer the more samples are on disk, and scatters by their number. So two campaigns
agree to the last digit exactly if every sample was taken once, in the same order.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from s2search.measurement.base import Device, Memory, Prepared, Profiler
from s2search.measurement.campaign import measure
from s2search.measurement.samples import Protocol
from s2search.tables.row import ROLES
from s2search.testing.profilers import miniature_items

PROTOCOL = Protocol(rounds=6, seed=3, least_sample_ms=20.0)


def base_ms(item):
    return 0.5 + hashlib.sha256(item.key.encode()).digest()[0] / 100


@dataclass(frozen=True, kw_only=True)
class FakeProfiler(Profiler):
    name: ClassVar[str] = "fake"
    method: ClassVar[str] = "arithmetic"

    drift: float = 0.0
    noise: float = 0.0
    missing: str | None = None
    timeable: ClassVar[tuple[str, ...]] = ROLES

    def why_not(self):
        return self.missing

    def roles(self):
        return self.timeable

    def device(self):
        facts = dict.fromkeys(("device", "chip", "os", "runtime", "runtime_version", "power_mode"), "fake")
        return Device(**facts, threads=1, precision="float32", compute_unit="cpu")

    @contextmanager
    def session(self):
        yield

    def prepare(self, item):
        return FakePrepared(self, item)


@dataclass(kw_only=True)
class Machine:
    """What the fake device stands on: the file of samples, and whoever watches or disturbs it."""

    samples: Path | None = None
    timed: list[str] = field(default_factory=list)
    disturb: Callable[[int], None] = lambda done: None

    @property
    def done(self):
        if self.samples is None or not self.samples.exists():
            return 0
        return self.samples.read_bytes().count(b'"kind":"sample"')


MACHINE = Machine()


class FakePrepared(Prepared):
    def __init__(self, profiler, item):
        self.profiler, self.item = profiler, item

    def time_ms(self, repetitions):
        done = MACHINE.done
        MACHINE.disturb(done)
        if repetitions > 1:  # warm-up calls come one by one
            MACHINE.timed.append(self.item.key)
        scatter = hashlib.sha256(b"%d" % done).digest()[0] / 255 - 0.5
        return base_ms(self.item) * (1 + self.profiler.drift * done) * (1 + self.profiler.noise * scatter)

    def memory(self):
        streams = self.item.role in ("block", "commit") and self.item.scenario == "stream"
        return Memory(weight_bytes=100, state_bytes=10 if streams else 0, peak_bytes=1000)


def noon():
    return datetime(2026, 1, 2, 12, tzinfo=UTC)


def run(out, *, profiler=FakeProfiler(drift=0.001, noise=0.1), items=None, protocol=PROTOCOL, **options):
    """Measure with every sample of 2 calls or more, so that the fake can tell samples from warm-ups."""
    MACHINE.samples = Path(out, "samples.jsonl")
    return measure(profiler, items or miniature_items(), out, preset="fake", protocol=protocol, clock=noon, **options)


if __name__ == "__main__":
    run(sys.argv[1])
