"""A runtime whose latencies are known: parts take what TRUE_MS says, and whole packages the sum and a hand-over.

What scatters does so by the number of samples on disk, so that two runs agree to the last digit exactly if every sample
was taken once, in the same order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from s2search import registry
from s2search.block import Stream
from s2search.exporters.resident import Resident
from s2search.measurement.base import Device, Memory, Prepared, Profiler
from s2search.measurement.campaign import measure
from s2search.measurement.items import campaign_items
from s2search.measurement.samples import Protocol
from s2search.preset import Preset
from s2search.recalibration.packages import Bench
from s2search.recalibration.recalibrate import Settings, recalibrate
from s2search.space import parse_blocks
from s2search.tables.row import ROLES

PRESET = Preset(
    name="fake-model", depth=6, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=3, chunk_frames=1
)
TRUE_MS = {"lcha": 2.0, "ssa": 1.0, "full": 1.5, "down": 0.2, "up": 0.15, "stem": 0.3, "head": 0.25}
RUNTIME, ALONE_CALLS = 9_000, {"lcha": 2_000, "ssa": 600, "full": 4_000}


def taken(load, calls):
    """Return what a process takes that loads so much, and whose calls add so much."""
    return Resident(counter="fake", load_bytes=load, first_bytes=load, steady_bytes=load, peak_bytes=load + calls)


ALONE = {label: taken(RUNTIME + 110, ALONE_CALLS.get(label, 10)) for label in TRUE_MS}
MEMORY = Memory(weight_bytes=100, state_bytes=10, peak_bytes=1000)


@dataclass(frozen=True, kw_only=True)
class FakeProfiler(Profiler):
    name: ClassVar[str] = "onnxruntime"
    method: ClassVar[str] = "arithmetic"

    threads: int = 1

    def why_not(self):
        return None

    def roles(self):
        return ROLES

    def device(self):
        facts = dict.fromkeys(("device", "chip", "os", "runtime", "runtime_version", "power_mode"), "fake")
        return Device(**facts, threads=1, precision="float32", compute_unit="cpu")

    @contextmanager
    def session(self):
        yield

    def prepare(self, item):
        return Constant(TRUE_MS[item.part.label])


@dataclass(frozen=True)
class Constant(Prepared):
    ms: float

    def time_ms(self, repetitions):
        return self.ms

    def memory(self):
        return MEMORY


@dataclass(frozen=True)
class Scattered(Prepared):
    """Takes so long at the median, scatters uniformly by `noise` of it to either side, and `drift` more a sample."""

    ms: float
    noise: float
    samples: Path
    drift: float = 0.0
    taken: Resident | None = None

    def resident(self):
        return self.taken

    def time_ms(self, repetitions):
        done = self.samples.read_bytes().count(b'"kind":"sample"')
        scatter = hashlib.sha256(b"%d" % done).digest()[0] / 127.5 - 1
        return self.ms * (1 + self.noise * scatter) * (1 + self.drift * done)

    def memory(self):
        return MEMORY


@dataclass(frozen=True, kw_only=True)
class ScatteredProfiler(FakeProfiler):
    samples: ClassVar[Path]
    noise: float = 0.0
    slower: dict[str, float] = dataclasses.field(default_factory=dict)
    drift: float = 0.0
    tells_memory: bool = False

    def prepare(self, item):
        label = item.part.label
        ms, taken = TRUE_MS[label] * self.slower.get(label, 1.0), ALONE[label] if self.tells_memory else None
        return Scattered(ms, self.noise, self.samples, self.drift, taken)


@dataclass(frozen=True, kw_only=True)
class FakeBench(Bench):
    """Attributes: what every layer, every switch and every block of a kind takes more in a whole, and a factor.

    `contaminated` layouts, by number, take three times as long; `drift` is what every further sample takes more;
    `memory_of` says what the package of a layout takes, and that rows tell what they take alone.
    """

    out: Path
    per_layer_ms: float = 0.0
    per_switch_ms: float = 0.0
    per_block_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    factor: float = 1.0
    noise: float = 0.01
    slower: dict[str, float] = dataclasses.field(default_factory=dict)
    contaminated: tuple[int, ...] = ()
    drift: float = 0.0
    memory_of: Callable[[list[str]], Resident | None] | None = None

    @property
    def samples(self):
        return self.out / "recalibration" / "samples.jsonl"

    @property
    def profiler(self):
        ScatteredProfiler.samples = self.samples
        return ScatteredProfiler(
            noise=self.noise, slower=self.slower, drift=self.drift, tells_memory=self.memory_of is not None
        )

    def write(self, layout, preset, grid, folder, *, seed):
        if folder.exists():
            return
        folder.mkdir(parents=True)
        (folder / "layout.json").write_text(json.dumps([list(layout), seed]))

    def prepare(self, folder, grid):
        layout, _ = json.loads((folder / "layout.json").read_text())
        times = 3.0 if int(folder.name) in self.contaminated else 1.0
        taken = self.memory_of(layout) if self.memory_of else None
        return Scattered(times * self.true_ms(layout), self.noise, self.samples, self.drift, taken)

    def true_ms(self, layout):
        """The plain loop of the definition."""
        ms, stream = TRUE_MS["stem"] + TRUE_MS["head"], Stream.HIGH
        for label in layout:
            here = registry.create("blocks", label).stream
            if here != stream:
                ms += TRUE_MS["down" if here == Stream.LOW else "up"] + self.per_switch_ms
            ms += TRUE_MS[label] * self.slower.get(label, 1.0)
            ms += self.per_layer_ms + self.per_block_ms.get(label, 0.0)
            stream = here
        if stream != Stream.HIGH:
            ms += TRUE_MS["up"] + self.per_switch_ms
        return self.factor * ms


def noon():
    return datetime(2026, 1, 2, 12, tzinfo=UTC)


def fake_table(folder, scenarios=("stream",)):
    """Measure the parts, without noise, by the campaign of real tables."""
    items = campaign_items(PRESET, "64x32", scenarios=scenarios, candidates=parse_blocks("lcha,ssa,full"))
    return measure(FakeProfiler(), items, folder, preset=PRESET.name, protocol=Protocol(rounds=3), clock=noon)


def run(
    table, out, *, layouts=30, rounds=9, bench=None, progress=lambda stage: nullcontext(lambda *told: None), **truth
):
    return recalibrate(
        table,
        table.scope("stream"),
        Settings(preset=PRESET, layouts=layouts, rounds=rounds),
        out,
        bench or FakeBench(out=Path(out), **truth),
        progress=progress,
        clock=noon,
    )
