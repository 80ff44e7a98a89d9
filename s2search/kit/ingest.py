"""From a kit's results to latency tables: checked line by line, hot samples left out, drift corrected by the sentinel.

One table per precision, `<device>.coreml.<precision>`, and beside it `<device>.coreml.<precision>.sustained` where the
kit asks for sustained load. A row's latency is that of the steady loop on the phone; where
Core ML means to run it, and the cold samples, stand in the card. Rows that could not be measured are named in the card
and left out. A row that did not run where the kit asked is refused, or kept as one of the unit that it ran on. Reading
the same file again gives the same tables, to the byte.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2search.border.regular_file import read_regular
from s2search.cost import Pipeline
from s2search.errors import InputError
from s2search.kit.manifest import KitManifest, read_manifest
from s2search.kit.results import FailedLine, Results, SampleLine
from s2search.kit.sustained import sustained_samples
from s2search.kit.tabulate import Missing, Run, is_row_misplaced, marks_of, ran_text, tables_of
from s2search.measurement.correction import Timing, correct
from s2search.measurement.elapsed import elapsed_s
from s2search.tables.placement import unit_asked_by
from s2search.tables.table import LatencyTable, refuse_existing

_TOO_HOT = ("serious", "critical")
_DIGITS = 6  # of milliseconds: a nanosecond


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What a results.jsonl gave.

    Attributes:
        tables: One per precision, then those of sustained load.
        folders: Where they are.
        missing: Rows that could not be measured.
        marks: What is to be said against the whole run; empty for a good one.
        misplaced: Rows that were kept although they ran elsewhere: label, asked and ran.
    """

    tables: tuple[LatencyTable, ...]
    folders: tuple[Path, ...]
    missing: tuple[Missing, ...]
    marks: tuple[str, ...]
    misplaced: tuple[str, ...] = ()


def ingest(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    pipeline: Pipeline | None = None,
    keep_misplaced: bool = False,
) -> Ingested:
    """Make latency tables of a kit's results.

    Args:
        path: results.jsonl, beside the kit's manifest.json.
        out: The folder of tables; each becomes a folder in it.
        pipeline: What runs once per chunk beside the transformer, for the cards.
        keep_misplaced: Keep rows that ran elsewhere than asked, as rows of the unit that they ran on.

    Raises:
        InputError: A line is no result, the campaign is not finished, nothing could be measured, or a row did not run
            where it was asked.
        TableError: A folder already holds another table.
    """
    results_path = Path(path)
    manifest, kit_digest = read_manifest(results_path.parent)
    results = Results(results_path, manifest, kit_digest)
    cold = _cold(manifest, results)
    runs, broken = [cold], _broken_load(manifest, results)
    if manifest.protocol.sustained_s is not None and not broken:
        runs.append(_sustained(manifest, results, cold))
    misplaced = _misplaced(manifest, results, runs)
    if misplaced and not keep_misplaced:
        raise _misplaced_error(misplaced)
    tables = tuple(
        dataclasses.replace(table, card=table.card.with_pipeline(pipeline))
        for run in runs
        for table in tables_of(manifest, results, run)
    )
    folders = tuple(Path(out) / table.name for table in tables)
    for table, folder in zip(tables, folders, strict=True):
        _save(table, folder)
    missing = {entry.row.id: entry for run in reversed(runs) for entry in run.missing}
    marks = dict.fromkeys([*(mark for run in runs for mark in marks_of(results, run.correction)), *broken])
    return Ingested(
        tables=tables, folders=folders, missing=tuple(missing.values()), marks=tuple(marks), misplaced=misplaced
    )


def _misplaced(manifest: KitManifest, results: Results, runs: Sequence[Run]) -> tuple[str, ...]:
    """Return one sentence for every row of a table that did not run where the kit asked."""
    gone = set.intersection(*({entry.row.id for entry in run.missing} for run in runs))
    return tuple(
        f"{row.label} was asked to run on {unit_asked_by(row.compute_unit)} and ran on {ran_text(results, row)}"
        for row in manifest.rows
        if row.id not in gone and is_row_misplaced(results, row)
    )


def _misplaced_error(misplaced: Sequence[str]) -> InputError:
    first, *others = misplaced
    more = f" (and {len(others)} more rows)" if others else ""
    return InputError(
        f"{first}{more}: its time is not one of the unit asked for",
        remedy="time it in a larger program or in another form; or --keep-misplaced files it under the unit it ran on",
    )


def _cold(manifest: KitManifest, results: Results) -> Run:
    missing, usable = _usable(manifest, results)
    return Run(
        suffix="",
        mode="" if manifest.protocol.sustained_s is None else "cold: paused wherever the phone was too hot",
        taken=results.samples,
        usable=usable,
        correction=correct(_timings(manifest, usable)),
        missing=missing,
    )


def _broken_load(manifest: KitManifest, results: Results) -> list[str]:
    """Say why there is no sustained table, where the sentinel failed under load and so ties no groups together."""
    failed = results.given_up.get(manifest.sentinel)
    if manifest.protocol.sustained_s is None or failed is None:
        return []
    return [f"no sustained table: the sentinel {manifest.rows[manifest.sentinel].label}: {_reason(failed)}"]


def _sustained(manifest: KitManifest, results: Results, cold: Run) -> Run:
    failed = results.given_up
    usable = sustained_samples(manifest, results, failed)
    correction = correct(_timings(manifest, usable))
    sentinel = manifest.rows[manifest.sentinel].label
    cold_ms = cold.correction.items[sentinel].raw.median_ms
    hot_ms = [sample.ms for sample in usable if sample.sentinel]
    seen = {sample.row for sample in usable if not sample.sentinel}
    return Run(
        suffix=".sustained",
        mode=f"sustained for {manifest.protocol.sustained_s:g} s in every group, without a break: its last third; "
        f"the sentinel takes {100 * (float(np.median(hot_ms)) / cold_ms - 1):+.1f} % against the cold run",
        taken=[sample for stretch in results.stretches.values() for sample in stretch],
        usable=usable,
        correction=correction,
        missing=[
            Missing(row=row, reason=_reason(failed[row.id]) if row.id in failed else "not sampled in the last third")
            for row in manifest.rows
            if row.id not in seen
        ],
        cold=cold,
    )


def _usable(manifest: KitManifest, results: Results) -> tuple[list[Missing], list[SampleLine]]:
    """Return the rows that are in no table, and the samples of all others that were not taken too hot."""
    sampled = {sample.slot for sample in results.samples}
    unsampled = {slot.row for slot in manifest.order if slot.slot not in sampled}
    failed = {row: line for row, line in results.given_up.items() if row in unsampled}  # the others, when they were hot
    needed = [slot for slot in manifest.order if slot.row not in failed]
    if left := sum(slot.slot not in sampled for slot in needed):
        raise InputError(
            f"{str(results.path)!r} holds {len(needed) - left} of {len(needed)} samples",
            remedy="repeat `python3 -m runner run` on the Mac: it goes on where it stopped",
        )
    cool = [s for s in results.samples if s.row not in failed and not {s.thermal, s.thermal_after} & {*_TOO_HOT}]
    least = math.ceil(manifest.protocol.rounds / 2)
    counts = {row.id: sum(s.row == row.id and not s.sentinel for s in cool) for row in manifest.rows}
    missing = [
        Missing(row=row, reason=_reason(failed[row.id]))
        if row.id in failed
        else Missing(row=row, reason=f"throttled: {counts[row.id]} of {manifest.protocol.rounds} samples were cool")
        for row in manifest.rows
        if row.id in failed or counts[row.id] < least
    ]
    gone = {entry.row.id for entry in missing}
    if manifest.sentinel in gone or not any(row.role == "block" and row.id not in gone for row in manifest.rows):
        raise InputError(
            f"{str(results.path)!r} gives no table: {missing[0].row.label}: {missing[0].reason}",
            remedy="measure again: a cooler phone, smaller blocks, or another sentinel",
        )
    return missing, [sample for sample in cool if sample.row not in gone]


def _reason(line: FailedLine) -> str:
    return f"{line.reason.replace('_', ' ')} ({line.stage}): {line.message}"


def _timings(manifest: KitManifest, samples: Sequence[SampleLine]) -> list[Timing]:
    """Return samples for the correction."""
    return [
        Timing(
            item=manifest.rows[sample.row].label,
            ms=sample.ms,
            at_s=at_s,
            sentinel=sample.sentinel,
            round=sample.round,
        )
        for sample, at_s in zip(samples, elapsed_s(samples), strict=True)
    ]


def _save(table: LatencyTable, folder: Path) -> None:
    """Write a table; one that already exists and equal stays, and half a table of a killed process is finished."""
    try:
        if (folder / "card.json").exists() and LatencyTable.load(folder).digest == table.digest:
            return
        rows = folder / "table.csv"
        if not (folder / "card.json").exists() and rows.exists() and read_regular(rows) == table.to_csv().encode():
            rows.unlink()
        refuse_existing(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        table.save(folder)
    except OSError as error:
        raise InputError(
            f"the table {str(folder)!r} cannot be written: {error.strerror}",
            remedy="make room, or choose another folder; the same command then finishes it",
        ) from error
