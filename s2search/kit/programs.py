"""What whole programs took on a phone: blocks in context, small layouts, and the package that is shipped.

They were timed among the rows of a kit, round by round, and their drift is taken out by the same sentinel. None of them
is a row of a table: they say what parts take where they stand, and `s2search recalibrate` reads them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from s2search.block import Scenario, Shape
from s2search.border.regular_file import read_regular
from s2search.dates import instant
from s2search.errors import InputError
from s2search.exporters.resident import Resident
from s2search.kit.manifest import KitManifest, KitProgram, KitRow, ProgramKind, digest_of, read_manifest
from s2search.kit.results import ReadyLine, Results, results_file
from s2search.kit.runs import Missing, Run, broken_load, cold_run, sustained_run
from s2search.kit.tabulate import is_row_misplaced, marks_of, memory_of, ran_text
from s2search.measurement.correction import ItemTimes
from s2search.tables.placement import unit_asked_by

PROGRAMS_SCHEMA: Literal["s2search.kit_programs/1"] = "s2search.kit_programs/1"
_TAIL_PERCENT = 95


@dataclass(frozen=True, kw_only=True)
class ProgramTimes:
    """One whole program, timed; milliseconds and bytes.

    Attributes:
        kind: Why it was timed: a block in context, a random layout, or the package that is shipped.
        layout: Its layers, first to last: `lcha*2,ssa*4`; `space.layout_labels` reads it.
        function: Which of a package's functions: `first`, `denoise` or `commit`; else `denoise`.
        link: Which package of a chain it is, from 1; 0 where the model is in one.
        links: How many packages the model is in.
        counts: How often one call pays every part of a table, the two ends included.
        scenario: A stream's.
        shape: What a block of it is called with.
        precision: Of weights and activations.
        compute_unit: What Core ML might use.
        label: Its row's, which is its own among all rows of the kit.
        package: Digest of the program.
        exporter: What wrote it.
        times: Its samples, raw, and with drift taken out.
        sample_ms: All samples that count, as they were taken: each the mean of `repetitions` predictions.
        corrected_ms: The same with drift taken out.
        repetitions: Predictions of one sample.
        loads_ms: Loads in the app, the first one first; one for every launch that loaded it.
        first_calls_ms: The first prediction after each of them; empty where the phone did not tell.
        cold_loads_ms: Loads by coremltools' driver, in a fresh process; the first makes the device's own program.
        unit_asked: The unit that it was to run on.
        changes: How often the processor changes inside it, as Core ML plans it.
        unit_ran: Which unit did which share of the work; null where it is not known.
        misplaced: Whether another unit did more than the one that was asked: then its times are not that unit's.
        memory: By how much the app grew; null where the phone did not tell.
        weight_bytes: As stored.
        state_bytes: Of its whole streaming state.
    """

    kind: ProgramKind
    layout: str
    function: str
    link: int
    links: int
    counts: Mapping[str, int]
    scenario: Scenario
    shape: Shape
    precision: str
    compute_unit: str
    label: str
    package: str
    exporter: str
    times: ItemTimes
    sample_ms: tuple[float, ...]
    corrected_ms: tuple[float, ...]
    repetitions: int | None
    loads_ms: tuple[float, ...]
    first_calls_ms: tuple[float, ...]
    cold_loads_ms: tuple[float, ...]
    changes: int
    unit_asked: str
    unit_ran: str | None
    misplaced: bool
    memory: Resident | None
    weight_bytes: int
    state_bytes: int

    @property
    def p95_ms(self) -> float:
        """The 95th percentile of the samples as they were taken; of predictions where `repetitions` is 1."""
        return float(np.percentile(self.sample_ms, _TAIL_PERCENT))

    @property
    def placed(self) -> str:
        """Where it was to run and where it ran, in words."""
        return f"{self.label} was asked to run on {self.unit_asked} and ran on {self.unit_ran}"


@dataclass(frozen=True, kw_only=True)
class WholePrograms:
    """The whole programs of one run of a kit, and the parts that were timed among them.

    Attributes:
        schema: Of the file that it becomes.
        kit: A hash of the kit's manifest.
        results_digest: A hash of the samples' file.
        device: The phone's name.
        chip: Its chip.
        os: Its system.
        mode: Empty, or cold or sustained where a kit measures both.
        date: Of the last sample.
        programs: In the order of the manifest, misplaced ones among them.
        parts: Times of all rows of tables by their labels: what parts take now.
        missing: Programs that could not be timed, by label, and why.
        drift_percent: By how much the phone's slowest state exceeded its fastest.
        spread_percent: Of a typical row's samples around their median.
        marked: What is to be said against the run; empty for a good one.
    """

    schema: Literal["s2search.kit_programs/1"] = PROGRAMS_SCHEMA
    kit: str
    results_digest: str
    device: str
    chip: str
    os: str
    mode: str
    date: str
    programs: tuple[ProgramTimes, ...]
    parts: Mapping[str, ItemTimes]
    missing: Mapping[str, str]
    drift_percent: float
    spread_percent: float
    marked: tuple[str, ...]

    @property
    def misplaced(self) -> tuple[str, ...]:
        """One sentence for every program that did not run where the kit asked."""
        return tuple(one.placed for one in self.programs if one.misplaced)


def whole_programs(path: str | os.PathLike[str], *, sustained: bool = False) -> WholePrograms:
    """Return what whole programs took on a phone.

    Args:
        path: results.jsonl, beside the kit's manifest.json; or their folder.
        sustained: Under sustained load, its last third, instead of cold.

    Raises:
        InputError: The kit times no whole programs or no sustained load, a line is no result, or the campaign is not
            finished.
    """
    results_path = results_file(path)
    manifest, kit_digest = read_manifest(results_path.parent)
    if not manifest.programs:
        raise InputError(
            f"the kit of {str(path)!r} times no whole programs",
            remedy="build one with s2search kit build --layouts 15 --contexts, or --package DIR",
        )
    results = Results(results_path, manifest, kit_digest)
    run = cold_run(manifest, results)
    if sustained:
        if manifest.protocol.sustained_s is None:
            raise InputError(f"the kit of {str(path)!r} asks for no sustained load", remedy="read its cold samples")
        if broken := broken_load(manifest, results):
            raise InputError(f"{str(path)!r}: {broken[0]}", remedy="read its cold samples, or measure again")
        run = sustained_run(manifest, results, run)
    return programs_of(manifest, results, run)


def programs_of(manifest: KitManifest, results: Results, run: Run) -> WholePrograms:
    """Return the whole programs of one run, in the order of the manifest."""
    gone = {entry.row.id for entry in run.missing}
    campaign, correction = results.campaign, run.correction
    return WholePrograms(
        kit=campaign.kit,
        results_digest=digest_of(read_regular(results.path)),
        device=campaign.device,
        chip=campaign.chip,
        os=campaign.os,
        mode=run.mode,
        date=max(instant(sample.at) for sample in run.usable).date().isoformat(),
        programs=tuple(_times(manifest, results, row, run) for row in manifest.programs if row.id not in gone),
        parts={row.label: correction.items[row.label] for row in manifest.parts if row.id not in gone},
        missing=_missing(run.missing),
        drift_percent=round(correction.drift_percent, 3),
        spread_percent=round(correction.spread_percent, 3),
        marked=marks_of(results, correction),
    )


def _missing(entries: Sequence[Missing]) -> dict[str, str]:
    return {entry.row.label: entry.reason for entry in entries if entry.row.role == "layout"}


def _times(manifest: KitManifest, results: Results, row: KitRow, run: Run) -> ProgramTimes:
    assert isinstance(row.program, KitProgram)
    own = [
        (sample.ms, float(corrected_ms))
        for sample, corrected_ms in zip(run.usable, run.correction.corrected_ms_N, strict=True)
        if sample.row == row.id and not sample.sentinel
    ]
    ready = [line for line in results.lines if isinstance(line, ReadyLine) and line.row == row.id]
    cold = results.cold.get(row.id)
    return ProgramTimes(
        kind=row.program.kind,
        layout=row.program.layout,
        function=row.program.function,
        link=row.program.link,
        links=row.program.links,
        counts=row.program.counts,
        scenario=row.scenario,
        shape=row.shape,
        precision=row.precision,
        compute_unit=row.compute_unit,
        label=row.label,
        package=row.package,
        exporter=row.program.exporter,
        times=run.correction.items[row.label],
        sample_ms=tuple(ms for ms, _ in own),
        corrected_ms=tuple(corrected_ms for _, corrected_ms in own),
        repetitions=ready[-1].repetitions if ready else None,
        loads_ms=tuple(line.load_ms for line in ready),
        first_calls_ms=tuple(line.first_ms for line in ready if line.first_ms is not None),
        cold_loads_ms=tuple(cold.load_ms) if cold else (),
        changes=results.placement[row.id].changes if row.id in results.placement else 0,
        unit_asked=unit_asked_by(row.compute_unit),
        unit_ran=ran_text(results, row),
        misplaced=is_row_misplaced(results, row),
        memory=memory_of(results, row),
        weight_bytes=manifest.package(row).weight_bytes,
        state_bytes=row.state_bytes,
    )
