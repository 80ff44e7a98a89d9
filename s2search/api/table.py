"""The command `table`: open measurements; judge, read, compare, join and evaluate them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.values import PathText, plugin_of, table_of
from s2search.document import check_folder
from s2search.errors import InputError
from s2search.tables.foreign import ImportedTable, open_measurements
from s2search.tables.table import DEFAULT_TABLE, LatencyTable

if TYPE_CHECKING:
    from s2search.lint.base import Finding
    from s2search.readers.base import Reader
    from s2search.tables.compare import Comparison
    from s2search.tables.listing import TableList
    from s2search.tables.merge import Overlap
    from s2search.transfer.evaluate import Evaluation
    from s2search.transfer.evaluate_transfer import TransferEvaluation

#: A table of either kind, its folder, or its installed name.
Measurements = PathText | LatencyTable | ImportedTable


def table(table: PathText = DEFAULT_TABLE) -> LatencyTable:
    """Open a latency table by its installed name, by the first words of that name, or by its folder.

    >>> import s2search
    >>> s2search.table("iphone-16-pro-max").card.provenance.kind
    'derived'
    """
    return table_of(table)


def table_list() -> TableList:
    """Return the installed tables: names, devices, evidence, and what they can be asked.

    >>> import s2search
    >>> [table.name for table in s2search.table_list().tables if table.pipeline]
    ['iphone-16-pro-max.coreml.w4a8']
    """
    from s2search.tables.listing import list_tables

    return list_tables()


def table_show(table: Measurements) -> LatencyTable | ImportedTable:
    """Open measurements of either kind: a table to plan with, or one that was imported."""
    return open_measurements(table) if isinstance(table, str | os.PathLike) else table


def table_retabulate(folder: PathText) -> LatencyTable:
    """Make a measured table again from its raw samples, with today's statistics and drift correction."""
    from s2search.measurement.retabulate import retabulate

    return retabulate(Path(folder))


def table_lint(path: PathText) -> list[Finding]:
    """Find what is wrong with a table, row by row: its folder, an installed one, or a CSV with latency_ms."""
    from s2search.lint.linter import lint

    return lint(path)


def table_evaluate(layouts: PathText, *, seed: int = 0) -> Evaluation:
    """Say how well measured layouts (a CSV) predict held-out ones, with and without drift."""
    from s2search.lint.misleading import misleading
    from s2search.transfer.evaluate import evaluate
    from s2search.transfer.runs import read_layouts

    measured = read_layouts(Path(layouts))
    return dataclasses.replace(evaluate(measured, seed=seed), findings=tuple(misleading(Path(layouts))))


def table_import(reader: str | Reader, file: PathText, out: PathText) -> ImportedTable:
    """Read what others publish, with its provenance, into a new folder; no row is dropped or mended."""
    _refuse_folder(Path(out))
    found: ImportedTable = plugin_of("readers", reader).read(Path(file))
    found.save(Path(out))
    return type(found).load(Path(out))


def table_compare(before: Measurements, after: Measurements) -> Comparison:
    """Compare two tables, row by row: ratios with their uncertainty, ranks, and where the cards differ."""
    from s2search.tables.compare import compare

    return compare(table_show(before), table_show(after))


def table_merge(
    tables: Sequence[Measurements], out: PathText, *, overlap: Overlap = "refuse"
) -> LatencyTable | ImportedTable:
    """Join tables of one device, runtime and precision into a new folder.

    Args:
        tables: What to join; every row says which one it comes from.
        out: The new table's folder.
        overlap: What becomes of a row that several have: `refuse`, `newer` or `pool`.
    """
    from s2search.tables.merge import merge

    _refuse_folder(Path(out))
    joined = merge([table_show(one) for one in tables], name=Path(out).resolve().name, overlap=overlap)
    joined.save(Path(out))
    return joined


def table_transfer(
    known: PathText | Sequence[PathText], target: PathText, *, shots: int = 10, draws: int = 30, seed: int = 0
) -> TransferEvaluation:
    """Say how well a few timings of a device, with known devices' models, predict the rest.

    Args:
        known: CSVs of layouts on known devices, as for `table_evaluate`.
        target: CSV of layouts on the device to predict.
        shots: Layouts to time on the target.
        draws: Draws of candidates to choose those from.
        seed: Draws the candidates.
    """
    from s2search.lint.misleading import misleading
    from s2search.reporting.progress import progress_bar
    from s2search.transfer.evaluate_transfer import evaluate_transfer, fit_known
    from s2search.transfer.runs import read_layouts

    paths = [Path(one) for one in ([known] if isinstance(known, str | os.PathLike) else known)]
    with progress_bar("known devices") as progress:
        devices = fit_known(paths, Path(target), progress)
    timed = read_layouts(Path(target))
    with progress_bar("draws") as progress:
        found = evaluate_transfer(devices, timed, shots=shots, draws=draws, seed=seed, progress=progress)
    said = [sentence for path in (*paths, Path(target)) for sentence in misleading(path)]
    return dataclasses.replace(found, findings=tuple(said))


def _refuse_folder(out: Path) -> None:
    """Refuse a folder that is there, before anything is computed."""
    if out.exists() or out.is_symlink():
        raise InputError(f"{str(out)!r} already exists", remedy="choose another folder, or move it away")
    check_folder(out)
