"""A CSV file as cells and line numbers, with nothing thrown away that a linter must judge."""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from s2search.errors import TableError
from s2search.tables.records import Records, read_records

_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class SheetLine:
    """One record: its line in the file, and its cells by column. `ragged` where it has too many or too few cells."""

    number: int
    cells: dict[str, str]
    ragged: bool = False

    def value(self, column: str) -> float | None:
        """Return a cell as a finite number, or null where it is none."""
        return number(self.cells.get(column, ""))

    @functools.cached_property
    def latency_ms(self) -> float | None:
        """The latency in milliseconds; null where the cell holds no finite number."""
        return self.value("latency_ms")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The header and the lines of one CSV file."""

    columns: tuple[str, ...]
    lines: tuple[SheetLine, ...]
    _found: dict[object, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def remember(self, what: object, find: Callable[[], _Found]) -> _Found:
        """Return what `find` finds in this sheet; it is asked once, since several rules need it."""
        if what not in self._found:
            self._found[what] = find()
        found: _Found = self._found[what]
        return found

    @classmethod
    def parse(cls, text: str, *, where: str) -> Sheet:
        """Read CSV text that has a column `latency_ms`.

        Raises:
            TableError: It is no CSV file, lacks that column, names a column twice, or has no rows.
        """
        columns, blocks = read_sheet(text, where=where)
        return cls(columns=tuple(columns), lines=tuple(line for block in blocks for line in _lines(columns, block)))


def read_sheet(text: str, *, where: str) -> tuple[list[str], Iterator[Records]]:
    """Return the header of CSV text that has a column `latency_ms`, and its lines.

    Raises:
        TableError: It is no CSV file, lacks that column, names a column twice, or has no rows.
    """
    if not text.strip():
        raise TableError(f"{where} is empty", remedy="give a CSV file with a column 'latency_ms'")
    try:
        columns, blocks = read_records(text)
        first = next(blocks, None)
    except csv.Error as error:
        raise _no_csv(error, where) from error
    if "latency_ms" not in columns:
        raise TableError(
            f"{where} has no column 'latency_ms'",
            allowed=f"its first line is {','.join(columns)[:80]!r}",
            remedy="give the column of latencies in milliseconds this name",
        )
    if len(set(columns)) < len(columns):
        twice = Counter(columns).most_common(1)[0][0]
        raise TableError(f"{where} has two columns {twice[:60]!r}", remedy="rename or remove one")
    if first is None:
        raise TableError(f"{where} has no rows", remedy="measure at least one")
    return columns, _checked(first, blocks, where)


def _checked(first: Records, further: Iterator[Records], where: str) -> Iterator[Records]:
    yield first
    try:
        yield from further
    except csv.Error as error:
        raise _no_csv(error, where) from error


def _no_csv(error: csv.Error, where: str) -> TableError:
    return TableError(f"{where} is not a CSV file: {error}", remedy="correct the file")


def _lines(columns: list[str], block: Records) -> list[SheetLine]:
    lines = [SheetLine(number=number, cells=block.line(n)) for n, number in enumerate(block.number_N)]
    ragged = block.ragged.items()
    lines += [SheetLine(number=n, cells=dict(zip(columns, cells, strict=False)), ragged=True) for n, cells in ragged]
    return sorted(lines, key=lambda line: line.number) if ragged else lines


def number(cell: str) -> float | None:
    """Return the finite number that a cell holds, or null.

    >>> number("1.5"), number("nan"), number("1_000"), number("")
    (1.5, None, None, None)
    """
    try:
        value = float(cell) if "_" not in cell else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
