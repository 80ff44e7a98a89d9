"""Read a table's folder or a CSV file as it stands, and run the rules over it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from s2search.border.regular_file import read_regular
from s2search.document import read_json
from s2search.errors import S2SearchError, TableError
from s2search.lint.base import Finding, Findings, in_order, one_line, run
from s2search.lint.card_rules import TABLE_RULES
from s2search.lint.csv_rules import CSV_RULES
from s2search.lint.sheet import Sheet, SheetLine, read_sheet
from s2search.lint.table_rules import Suspect
from s2search.tables.card import SCHEMA, Card
from s2search.tables.columns import Int
from s2search.tables.foreign import NO_OPERATION, ImportedCard, check_header, is_imported
from s2search.tables.foreign import SCHEMA as IMPORTED
from s2search.tables.foreign import parse_row as parse_imported_row
from s2search.tables.reading import Read, read_block
from s2search.tables.records import Records
from s2search.tables.row import check_columns
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable, installed_folder, installed_tables, meant_twice, read_text, table_folder

_UNREADABLE = "correct the line or remove it"


def lint(path: str | os.PathLike[str]) -> list[Finding]:
    """Return everything that is wrong with a table: a folder, an installed table's name, or a CSV file.

    Rows that a table may not hold (a negative latency) are findings here, not errors, so that all of them are named.

    Raises:
        InputError: There is no such file or table, or it is not CSV with a column `latency_ms`, or its card is no card.
    """
    place = Path(path)
    try:
        there = place.is_file()
    except OSError as error:
        raise TableError(f"{str(path)!r} cannot be read: {error.strerror}", remedy="check the path") from error
    named = isinstance(path, str) and os.sep not in path
    if there and named and (installed := installed_folder(str(path))) is not None:
        raise meant_twice(str(path), installed.name, "file")
    place = place if there else table_folder(path) or place
    if place.is_dir():
        return _lint_folder(place)
    if place.name == "table.csv" and place.with_name("card.json").exists():
        return _lint_folder(place.parent)
    return run(CSV_RULES, Sheet.parse(read_text(place), where=str(place)))


def lint_table(table: LatencyTable, *, others: tuple[LatencyTable, ...] = ()) -> list[Finding]:
    """Return what is wrong with a table in memory; its rows count from line 2, as in the file it would make.

    >>> from s2search.tables.table import open_table
    >>> lint_table(open_table("iphone-16-pro-max"))
    []
    """
    return run(TABLE_RULES, Suspect.of(table, others=others))


def to_json(findings: list[Finding]) -> str:
    """Return findings as JSON text (schema `s2search.table_findings/1`)."""
    return Findings(findings=findings).to_json()


def _lint_folder(folder: Path) -> list[Finding]:
    return _lint_imported(folder) if is_imported(folder) else _lint_table(folder)


def _lint_imported(folder: Path) -> list[Finding]:
    """Judge what others measured by the rules for any CSV file, save rows of memory alone and of nothing done."""
    where = str(folder / "table.csv")
    card = read_json(folder / "card.json", ImportedCard, what=f"card of schema {IMPORTED}", error=TableError)
    sheet = Sheet.parse(read_text(folder / "table.csv"), where=where)
    check_header(sheet.columns, card, where=where)
    timed = [line for line in sheet.lines if line.ragged or _is_timed(line)]
    findings = run(CSV_RULES, Sheet(columns=sheet.columns, lines=tuple(timed)))
    found = {finding.row for finding in findings if finding.rule == "unreadable_row"}
    seen: dict[tuple[str, ...], int] = {}
    for line in sheet.lines:
        if line.number in found:
            continue
        try:
            row = parse_imported_row(list(line.cells.values()), where="")
        except TableError as error:
            findings.append(_finding(line.number, "unreadable_row", error.problem.lstrip(": "), _UNREADABLE))
            continue
        if (first := seen.setdefault(card.key(row), line.number)) != line.number:
            message = f"gives the part of line {first} again, with the same facts"
            findings.append(_finding(line.number, "duplicated_row", message, "keep one of the two"))
    return in_order(findings)


def _is_timed(line: SheetLine) -> bool:
    cells = line.cells
    if line.latency_ms == 0 and cells["note"] == NO_OPERATION:
        return False
    return bool(cells["latency_ms"] or not cells["memory_bytes"])


def _lint_table(folder: Path) -> list[Finding]:
    where = str(folder / "table.csv")
    card, units = _card(folder / "card.json")
    header, blocks = read_sheet(read_text(folder / "table.csv"), where=where)
    check_columns(header, where=where)
    rows, line_N, findings = _rows(header, blocks)
    samples = folder / "samples.jsonl"
    suspect = Suspect(
        name=folder.resolve().name,
        card=card,
        rows=rows,
        line_N=line_N,
        others=_others(folder),
        samples_digest=f"sha256:{hashlib.sha256(read_regular(samples)).hexdigest()}" if samples.is_file() else None,
        units=units,
    )
    return run(TABLE_RULES, suspect, findings)


def _card(path: Path) -> tuple[Card, dict[str, str]]:
    """Read a card; wrong units are judged by a rule, so they do not stop the reading."""
    try:
        return read_json(path, Card, what=f"card of schema {SCHEMA}", error=TableError), {}
    except TableError:
        try:
            content = json.loads(read_regular(path))
            units = content.pop("units")
            card = msgspec.convert(content, Card)
            stated = {str(key): str(value) for key, value in units.items()}
        except (
            OSError,
            ValueError,
            KeyError,
            AttributeError,
            TypeError,
            RecursionError,
            msgspec.MsgspecError,
            S2SearchError,
        ):
            stated = {}
        if not stated:
            raise
        return card, stated


def _rows(header: Sequence[str], blocks: Iterable[Records]) -> tuple[Rows, Int, list[Finding]]:
    """Return the rows that can be read, with their lines, and what is wrong with the others."""
    read: list[Read] = []
    findings: list[Finding] = []
    for block in blocks:
        for number in block.ragged:
            message = f"has too many or too few cells for {len(header)} columns"
            findings.append(_finding(number, "unreadable_row", message, _UNREADABLE))
        read.append(read_block(block))
        for n, error in read[-1].wrong.items():
            findings.append(_unreadable(SheetLine(number=block.number_N[n], cells=block.line(n)), error))
    rows = Rows.joined([part.rows for part in read])
    line_N = np.concatenate([part.line_N for part in read])
    first_N = rows.keys.first_G[rows.keys.group_N]
    again_N = first_N != np.arange(len(first_N))
    for n in np.flatnonzero(again_N):
        row = rows[n]
        message = f"gives {row.label} ({row.scenario}, {row.shape.grid}) again, after line {line_N[first_N[n]]}"
        findings.append(_finding(int(line_N[n]), "duplicated_row", message, "keep one of the two"))
    return rows.take(~again_N), line_N[~again_N], findings


def _unreadable(line: SheetLine, error: TableError) -> Finding:
    latency, block = line.latency_ms, line.cells["role"] == "block"
    if latency is not None and (latency < 0 or (block and latency == 0)):
        message = f"latency_ms of {line.cells['part'][:40]} is {latency:g}; no operation takes zero time or less"
        return _finding(line.number, "negative_latency", message, "measure the row again or remove it")
    return _finding(line.number, "unreadable_row", error.problem.lstrip(": "), _UNREADABLE)


def _finding(row: int, rule: str, message: str, remedy: str) -> Finding:
    return Finding(row=row, rule=rule, message=one_line(message), remedy=remedy)


def _others(folder: Path) -> tuple[LatencyTable, ...]:
    """Return the tables that this one could be a copy of: those beside it, and those that are installed."""
    beside = {card.parent.resolve() for card in folder.resolve().parent.glob("*/card.json")}
    found = []
    for place in sorted((beside | {path.resolve() for path in installed_tables().values()}) - {folder.resolve()}):
        try:
            found.append(LatencyTable.load(place))
        except S2SearchError:
            continue  # another table's faults are not this one's
    return tuple(found)
