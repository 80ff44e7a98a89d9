"""`table.csv` as rows: columns are read at once; a line that may be wrong is read by itself, for what is said of it."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from s2search.dates import span
from s2search.errors import TableError
from s2search.tables.columns import Bool, Column, Int
from s2search.tables.placement import is_share_text
from s2search.tables.records import Records, read_records
from s2search.tables.row import (
    COLUMN_TYPES,
    COLUMNS,
    COUNT_COLUMNS,
    DEFAULTS,
    FLOAT_COLUMNS,
    LATENCY_COLUMNS,
    LEAST_BLOCK_MS,
    MEMORY_COLUMNS,
    MOST_MS,
    as_count,
    check_columns,
    parse_row,
    ragged,
)
from s2search.tables.rows import Rows


def parse_rows(text: str, *, where: str) -> Rows:
    """Read the text of a `table.csv`.

    Raises:
        TableError: It names the line, and begins with `where`.
    """
    if not text.strip():
        raise TableError(f"{where} is empty", remedy="measure the table again, or restore the file")
    found: list[Rows] = []
    try:
        header, blocks = read_records(text)
        check_columns(header, where=where)
        for block in blocks:
            read = read_block(block, where=where)
            wrong = {block.number_N[n]: error for n, error in read.wrong.items()}
            wrong |= {number: ragged(f"line {number} of {where}") for number in block.ragged}
            if wrong:
                raise wrong[min(wrong)]
            found.append(read.rows)
    except csv.Error as error:
        raise TableError(f"{where} is not a CSV file: {error}", remedy="correct the file") from error
    return Rows.joined(found)


@dataclass(frozen=True, kw_only=True)
class Read:
    """The rows that lines of a block hold, the line of each, and what is wrong with the others, by their places."""

    rows: Rows
    line_N: Int
    wrong: dict[int, TableError]


def read_block(block: Records, *, where: str = "") -> Read:
    """Read lines whose columns are those of rows: see `check_columns`."""
    line_N = np.array(block.number_N, np.int64)
    good_N = np.ones(len(line_N), np.bool_)
    try:
        rows = Rows({name: _column(name, block.cells.get(name), len(line_N)) for name in COLUMNS})
        wrong = _wrong(block, np.flatnonzero(_doubtful(rows)), where)
        good_N[list(wrong)] = False
        return Read(rows=rows.take(good_N) if wrong else rows, line_N=line_N[good_N], wrong=wrong)
    except (LookupError, msgspec.ValidationError):
        wrong = _wrong(block, np.arange(len(line_N)), where)
        good_N[list(wrong)] = False
        read = read_block(block.only(good_N))
        return Read(rows=read.rows, line_N=read.line_N, wrong=wrong)


def _wrong(block: Records, doubtful: Int, where: str) -> dict[int, TableError]:
    wrong = {}
    for n in doubtful.tolist():
        try:
            parse_row(block.line(n), where=f"line {block.number_N[n]} of {where}" if where else "")
        except TableError as error:
            wrong[n] = error
    return wrong


def _column(name: str, cells: Column | None, count: int) -> Column:
    """Return what the cells of a column mean, each different one read once; a column may be missing.

    Raises:
        LookupError: A cell is empty that must not be, or is a number that none may be.
        msgspec.ValidationError: A cell is none of this column.
    """
    if cells is None:
        return Column([DEFAULTS[name]], np.zeros(count, np.int64))
    texts = [as_count(cell) if "." in cell and name in COUNT_COLUMNS else cell for cell in cells.value_V if cell]
    values: list[Any] = msgspec.convert(texts, list[COLUMN_TYPES[name]], strict=False)  # type: ignore[valid-type]
    if name in FLOAT_COLUMNS and not all(map(math.isfinite, (value for value in values if value is not None))):
        raise LookupError(name)
    if len(values) < len(cells.value_V):
        values.insert(cells.value_V.index(""), DEFAULTS[name])
    column = Column(values, cells.code_N)
    return column if name in FLOAT_COLUMNS else column.merged()


def _doubtful(rows: Rows) -> Bool:
    """Return which rows may be none: all that `Row` refuses, and perhaps others; it is asked about each of these."""
    ms = {name: rows.numbers(name) for name in LATENCY_COLUMNS}
    latency_ms_N = ms["latency_ms"]
    doubt_N = rows.have(role="commit") & ~rows.have(scenario="stream")
    doubt_N |= rows.have(role="block") & (latency_ms_N < LEAST_BLOCK_MS)
    for ms_N in ms.values():
        doubt_N |= (ms_N < 0) | (ms_N > MOST_MS)
    doubt_N |= (rows.numbers("launch_us") < 0) | (rows.numbers("launch_us") > 1000 * MOST_MS)
    doubt_N |= rows.where(lambda at: at is not None and span(at) is None, "measured_at")
    doubt_N |= ~rows.where(is_share_text, "unit_ran")
    doubt_N |= rows.have(memory_counter=None) & ~rows.where(lambda *all_: set(all_) == {None}, *MEMORY_COLUMNS)
    doubt_N |= (ms["latency_p10_ms"] > latency_ms_N) | (latency_ms_N > ms["latency_p90_ms"])
    doubt_N |= rows.numbers("channels") % rows.numbers("heads") != 0
    doubt_N |= rows.have(latency_provenance="measured") & (rows.numbers("samples") == 0)
    return doubt_N
