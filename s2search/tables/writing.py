"""Rows as the text of `table.csv`, and as the JSON that a table's digest is made of: column by column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from s2search.tables.columns import Column
from s2search.tables.row import COLUMNS, MEMORY_COLUMNS
from s2search.tables.rows import Rows

# A table without them keeps its bytes and its digest.
_LATER = (
    *("latency_raw_ms", "latency_error_ms", "launch_us", "unit_asked", "unit_ran"),
    *("resident_bytes", *MEMORY_COLUMNS, "memory_counter"),
)
_AT_ONCE = 4096  # rows that a cache holds, written together


def rows_as_csv(rows: Rows) -> str:
    """Return `table.csv` as text; null stands as an empty cell."""
    text = io.StringIO()
    columns = [(n, rows.columns[n]) for n in COLUMNS if n not in _LATER or set(rows.columns[n].different) != {None}]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    writer.writerows(zip(*(column.cells for _, column in columns), strict=True))
    return text.getvalue()


def rows_as_json(rows: Rows) -> Iterator[str]:
    """Yield each row as JSON, its keys sorted, without those of later columns that it leaves empty."""
    pieces, before = list[Column](), "{"
    for name in sorted(COLUMNS):
        column, begin = rows.columns[name], f'"{name}":' if before == "{" else f',"{name}":'
        texts = [begin + text for text in _json_texts(column.value_V)]
        if name in _LATER:
            texts = ["" if text == f"{begin}null" else text for text in texts]
        if len(set(texts)) == 1:
            before += texts[0]
        else:
            pieces.append(Column([before + text for text in texts], column.code_N))
            before = ""
    pieces.append(Column([before + "}"], np.zeros(len(rows), np.int64)))
    for first in range(0, len(rows), _AT_ONCE):
        block = slice(first, first + _AT_ONCE)
        yield from map("".join, zip(*(piece.take(block).cells for piece in pieces), strict=True))


def _json_texts(values: Sequence[Any]) -> list[str]:
    """Return each value as JSON; numbers all at once."""
    if any(isinstance(value, str) for value in values):
        return [msgspec.json.encode(value).decode() for value in values]
    return msgspec.json.encode(values).decode()[1:-1].split(",")
