"""Recalibration: random layouts timed whole, the table corrected by a third of them and judged by the others.

The new table is a version of its own: its card says from which digest it came, by which layouts, and what was
corrected; its rows are derived, no longer measured. The old one stays as it is. Where the held-out layouts do not
support a correction, there is no new table.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from s2search import registry
from s2search.block import Block
from s2search.errors import InputError
from s2search.measurement.base import Item, Profiler
from s2search.measurement.interleaved import Clock, Progress, utc_now
from s2search.measurement.layouts import FIT_EVERY, draw_layouts
from s2search.measurement.samples import Protocol
from s2search.preset import Preset
from s2search.recalibration.answer import answer_of
from s2search.recalibration.attribution import Now, Parts
from s2search.recalibration.bench import Bench
from s2search.recalibration.correction import LEAST_LAYOUTS
from s2search.recalibration.evidence import ProgramEvidence, WholeProgram
from s2search.recalibration.memory import MemoryParts
from s2search.recalibration.models import MODEL_PROFILERS, ModelBench
from s2search.recalibration.packages import PackageBench, exporters_by_profiler
from s2search.recalibration.result import Recalibration
from s2search.recalibration.timing import Subject, Timings, time_interleaved
from s2search.space import Space
from s2search.tables.table import LatencyTable, Scope, refuse_existing

#: Begins a stage of the work, by its name.
Stages = Callable[[str], AbstractContextManager[Progress]]

_JOURNAL = "recalibration"  # folder inside the new table's: samples.jsonl, and packages while it goes on


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured.

    Attributes:
        preset: Sizes of the model that the table was measured for; its depth is that of the layouts.
        layouts: How many; one of three is for the fit, the others are held out.
        candidates: Blocks that occur in them; by default all of the table's.
        rounds: How often everything is timed.
        seed: Draws layouts, weights and orders.
    """

    preset: Preset
    layouts: int = 30
    candidates: tuple[Block, ...] = ()
    rounds: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layouts < (least := LEAST_LAYOUTS * FIT_EVERY):
            raise InputError(
                f"{self.layouts} layouts are too few: one of {FIT_EVERY} is for the fit, and the others judge it",
                allowed=f"at least {least}",
                remedy=f"give --layouts {least} or more",
            )


def _silent(stage: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total, label: None)


def bench_of(table: LatencyTable, runtime: str | None = None) -> Bench:
    """Return what times whole models as a table's rows were timed: the same runtime and threads.

    Raises:
        InputError: The table was measured with another runtime, or with one that does not run here.
    """
    told = dict(table.card.protocol.get("profiler") or {})
    name = str(told.pop("name", "a runtime that it does not state"))
    exporters = exporters_by_profiler()
    if name not in (*exporters, *MODEL_PROFILERS) or runtime not in (None, name):
        raise InputError(
            f"the table {table.name!r} was measured with {name}" + (f", not with {runtime}" if runtime else ""),
            allowed=f"tables that s2search measured with one of: {', '.join((*exporters, *MODEL_PROFILERS))}",
            remedy="measure a table with that runtime: s2search measure --profiler onnxruntime",
        )
    profiler = registry.build(registry.load("profilers", name), told, described_as=f"profiler {name!r}")
    if name in MODEL_PROFILERS:
        return ModelBench(profiler=profiler)
    return PackageBench(profiler=profiler, exporter=exporters[name])


def recalibrate(
    table: LatencyTable,
    scope: Scope,
    settings: Settings,
    out: str | os.PathLike[str],
    bench: Bench,
    *,
    progress: Stages = _silent,
    clock: Clock = utc_now,
) -> Recalibration:
    """Time random layouts, correct the table by a third of them, and write the new version if the others support it.

    Args:
        table: The old version, which is left as it is.
        scope: A stream's.
        settings: What to measure.
        out: The new table's folder. If it holds an unfinished recalibration of the same settings, that one is finished.
        bench: What exports and times packages.
        progress: Called with the name of each stage; gives what is told how far that stage is.
        clock: The time of day.

    Raises:
        InputError: The table does not fit the settings or this machine.
        TableError: The folder already holds a table.
    """
    folder = Path(out)
    refuse_existing(folder)
    preset = _checked(table, scope, settings, bench.profiler)
    space = _space(table, scope, settings)
    layouts = draw_layouts(space, settings.layouts, settings.seed)
    packages = [folder / _JOURNAL / "packages" / f"{number:02d}" for number in range(len(layouts))]
    grid = (scope.shape.height, scope.shape.width)
    with progress("exporting") as report:
        for number, (choice_L, package) in enumerate(zip(layouts, packages, strict=True)):
            report(number, len(layouts), space.write_layout(choice_L))
            labels = [space.candidates[c].label for c in choice_L]
            bench.write(labels, preset, grid, package, seed=settings.seed + number)
        report(len(layouts), len(layouts), "done")
    items = _items(table, scope)
    texts = [space.write_layout(choice_L) for choice_L in layouts]
    subjects = [
        Subject(key=item.key, facts={"role": item.role}, prepare=partial(bench.profiler.prepare, item))
        for item in items
    ]
    subjects += [
        Subject(
            key=_key(number),
            facts={"layout": text, "table": table.digest},
            prepare=partial(bench.prepare, package, grid),
        )
        for number, (text, package) in enumerate(zip(texts, packages, strict=True))
    ]
    with progress("timing") as report:
        found = time_interleaved(
            bench.profiler,
            subjects,
            folder / _JOURNAL / "samples.jsonl",
            preset=preset.name,
            protocol=Protocol(rounds=settings.rounds, seed=settings.seed),
            progress=report,
            clock=clock,
        )
    answer = answer_of(table, scope, _evidence(table, scope, bench, space, layouts, items, found), folder)
    shutil.rmtree(folder / _JOURNAL / "packages", ignore_errors=True)
    return answer


def _evidence(
    table: LatencyTable,
    scope: Scope,
    bench: Bench,
    space: Space,
    layouts: Sequence[tuple[int, ...]],
    items: Sequence[Item],
    found: Timings,
) -> ProgramEvidence:
    """Return what was timed: every third layout is for the fit, and parts were timed alone, again."""
    before = Parts.of(table, scope)
    alone = {item.label: one for item in items if (one := found.resident.get(item.key))}
    return ProgramEvidence(
        programs=[
            WholeProgram(
                text=space.write_layout(choice_L),
                counts=before.counts([space.candidates[c] for c in choice_L]),
                measured_ms=found.items[_key(number)].corrected.median_ms,
                error_ms=found.items[_key(number)].error_ms,
                held_out=bool(number % FIT_EVERY),
                taken=found.resident.get(_key(number)),
            )
            for number, choice_L in enumerate(layouts)
        ],
        now=Now.alone(before, _parts_now(before, items, found)),
        blocks=frozenset(block.label for block in space.candidates),
        memory=MemoryParts.of(table, scope, alone),
        runtime=bench.profiler.name,
        chip=bench.profiler.device().chip,
        date=found.date,
        drift_percent=found.drift_percent,
        marked=found.marked,
        samples_digest=found.samples_digest,
    )


def _checked(table: LatencyTable, scope: Scope, settings: Settings, profiler: Profiler) -> Preset:
    """Return the preset with the table's chunk and window; raise unless the table is of this model and machine."""
    shape, preset = scope.shape, settings.preset
    if scope.scenario != "stream":
        raise InputError(f"the scope is a {scope.scenario}", allowed="stream: what packages do")
    chunks = max(1, shape.context_frames // shape.frames - preset.sink_chunks)
    preset = dataclasses.replace(preset, layout="", chunk_frames=shape.frames, window_chunks=chunks)
    own = preset.shape("16x16", "stream")
    for field in dataclasses.fields(own):
        here, there = getattr(own, field.name), getattr(shape, field.name)
        if field.name not in ("height", "width") and here != there:
            raise InputError(
                f"{field.name} of the preset {preset.name!r} is {here}, and of the table {table.name!r} {there}",
                remedy="name the preset that the table was measured for",
            )
    device: Any = profiler.device()
    for name in ("chip", "runtime"):
        here, there = getattr(device, name), getattr(table.card, name)
        if here != there:
            raise InputError(
                f"the table {table.name!r} was measured on the {name} {there!r}, and here it is {here!r}",
                remedy="recalibrate where the table was measured, or measure a table here",
            )
    return preset


def _space(table: LatencyTable, scope: Scope, settings: Settings) -> Space:
    labels = [row.label for row in table.in_scope(scope) if row.role == "block"]
    candidates = settings.candidates or tuple(registry.create("blocks", label) for label in labels)
    for block in candidates:
        if block.label not in labels:
            raise InputError(
                f"the table {table.name!r} has no row of {block.label!r}", allowed=f"it has: {', '.join(labels)}"
            )
    return Space(candidates=candidates, depth=settings.preset.depth)


def _items(table: LatencyTable, scope: Scope) -> tuple[Item, ...]:
    """Return the parts to be timed again, a block first; a buffer that takes no time is left out."""
    rows = [row for row in table.in_scope(scope) if row.latency_ms > 0]
    return tuple(
        Item(
            role=row.role,
            part=registry.create("blocks" if row.role == "block" else "parts", row.label),
            scenario=scope.scenario,
            shape=scope.shape,
        )
        for row in sorted(rows, key=lambda row: row.role != "block")
    )


def _parts_now(before: Parts, items: Sequence[Item], found: Timings) -> Parts:
    timed = {item.label: found.items[item.key] for item in items}
    return Parts(
        role=before.role,
        latency_ms={**before.latency_ms, **{label: one.corrected.median_ms for label, one in timed.items()}},
        error_ms={label: one.error_ms for label, one in timed.items() if not math.isnan(one.error_ms)},
    )


def _key(number: int) -> str:
    return f"layout {number:02d}"
