"""From a kit's results to latency tables: checked line by line, hot samples left out, drift corrected by the sentinel.

One table per precision, `<device>.coreml.<precision>`, and beside it `<device>.coreml.<precision>.sustained` where the
kit asks for sustained load. A row's latency is that of the steady loop on the phone; where
Core ML means to run it, and the cold samples, stand in the card. Rows that could not be measured are named in the card
and left out. A row that did not run where the kit asked is refused, or kept as one of the unit that it ran on. Whole
programs are no rows: what they took stands in programs.json beside each table, misplaced ones named. Reading the same
file again gives the same tables, to the byte.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2search.border.regular_file import read_regular
from s2search.cost import Pipeline
from s2search.document import as_json, write_text
from s2search.errors import InputError
from s2search.kit.manifest import KitManifest, read_manifest
from s2search.kit.programs import WholePrograms, programs_of
from s2search.kit.results import Results, results_file
from s2search.kit.runs import Missing, Run, broken_load, cold_run, sustained_run
from s2search.kit.tabulate import PROGRAMS, is_row_misplaced, marks_of, ran_text, tables_of
from s2search.tables.placement import unit_asked_by
from s2search.tables.table import LatencyTable, refuse_existing


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What a results.jsonl gave.

    Attributes:
        tables: One per precision, then those of sustained load.
        folders: Where they are.
        missing: Rows that could not be measured.
        marks: What is to be said against the whole run; empty for a good one.
        misplaced: Rows that were kept although they ran elsewhere: label, asked and ran.
        programs: Whole programs, cold, then under sustained load; empty where the kit times none.
    """

    tables: tuple[LatencyTable, ...]
    folders: tuple[Path, ...]
    missing: tuple[Missing, ...]
    marks: tuple[str, ...]
    misplaced: tuple[str, ...] = ()
    programs: tuple[WholePrograms, ...] = ()


def ingest(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    pipeline: Pipeline | None = None,
    keep_misplaced: bool = False,
) -> Ingested:
    """Make latency tables of a kit's results.

    Args:
        path: results.jsonl, beside the kit's manifest.json; or their folder.
        out: The folder of tables; each becomes a folder in it.
        pipeline: What runs once per chunk beside the transformer, for the cards.
        keep_misplaced: Keep rows that ran elsewhere than asked, as rows of the unit that they ran on.

    Raises:
        InputError: A line is no result, the campaign is not finished, nothing could be measured, or a row did not run
            where it was asked.
        TableError: A folder already holds another table.
    """
    results_path = results_file(path)
    manifest, kit_digest = read_manifest(results_path.parent)
    results = Results(results_path, manifest, kit_digest)
    cold = cold_run(manifest, results)
    runs, broken = [cold], broken_load(manifest, results)
    if manifest.protocol.sustained_s is not None and not broken:
        runs.append(sustained_run(manifest, results, cold))
    misplaced = _misplaced(manifest, results, runs)
    if misplaced and not keep_misplaced:
        raise _misplaced_error(misplaced)
    tables: list[LatencyTable] = []
    programs: list[WholePrograms] = []
    for run in runs:
        own = [
            dataclasses.replace(table, card=table.card.with_pipeline(pipeline))
            for table in tables_of(manifest, results, run)
        ]
        programs += [programs_of(manifest, results, run)] if manifest.programs else []
        for table in own:
            _save(table, Path(out) / table.name, programs[-1] if programs else None)
        tables += own
    missing = {entry.row.id: entry for run in reversed(runs) for entry in run.missing}
    marks = dict.fromkeys([*(mark for run in runs for mark in marks_of(results, run.correction)), *broken])
    return Ingested(
        tables=tuple(tables),
        folders=tuple(Path(out) / table.name for table in tables),
        missing=tuple(missing.values()),
        marks=tuple(marks),
        misplaced=misplaced,
        programs=tuple(programs),
    )


def _misplaced(manifest: KitManifest, results: Results, runs: Sequence[Run]) -> tuple[str, ...]:
    """Return one sentence for every row of a table that did not run where the kit asked."""
    gone = set.intersection(*({entry.row.id for entry in run.missing} for run in runs))
    return tuple(
        f"{row.label} was asked to run on {unit_asked_by(row.compute_unit)} and ran on {ran_text(results, row)}"
        for row in manifest.parts
        if row.id not in gone and is_row_misplaced(results, row)
    )


def _misplaced_error(misplaced: Sequence[str]) -> InputError:
    first, *others = misplaced
    more = f" (and {len(others)} more rows)" if others else ""
    return InputError(
        f"{first}{more}: its time is not one of the unit asked for",
        remedy="--keep-misplaced files it under the unit it ran on, and s2search recalibrate kit:... then finds it in "
        "larger programs; or time it in another form",
    )


def _save(table: LatencyTable, folder: Path, programs: WholePrograms | None) -> None:
    """Write a table; one that already exists and equal stays, and half a table of a killed process is finished."""
    try:
        _save_table(table, folder)
        if programs is not None:
            write_text(folder / PROGRAMS, as_json(programs))
    except OSError as error:
        raise InputError(
            f"the table {str(folder)!r} cannot be written: {error.strerror}",
            remedy="make room, or choose another folder; the same command then finishes it",
        ) from error


def _save_table(table: LatencyTable, folder: Path) -> None:
    if (folder / "card.json").exists() and LatencyTable.load(folder).digest == table.digest:
        return
    rows = folder / "table.csv"
    if not (folder / "card.json").exists() and rows.exists() and read_regular(rows) == table.to_csv().encode():
        rows.unlink()
    refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    table.save(folder)
