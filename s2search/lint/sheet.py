"""A CSV file as cells and line numbers, with nothing thrown away that a linter must judge."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from s2search.document import separator
from s2search.errors import TableError

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
        if not text.strip():
            raise TableError(f"{where} is empty", remedy="give a CSV file with a column 'latency_ms'")
        reader = csv.reader(io.StringIO(text), strict=True, delimiter=separator(text))
        try:
            columns = next(reader, [])
            lines = tuple(_line(columns, cells, reader.line_num) for cells in reader if cells)
        except csv.Error as error:
            raise TableError(f"{where} is not a CSV file: {error}", remedy="correct the file") from error
        if "latency_ms" not in columns:
            raise TableError(
                f"{where} has no column 'latency_ms'",
                allowed=f"its first line is {','.join(columns)[:80]!r}",
                remedy="give the column of latencies in milliseconds this name",
            )
        if len(set(columns)) < len(columns):
            twice = Counter(columns).most_common(1)[0][0]
            raise TableError(f"{where} has two columns {twice[:60]!r}", remedy="rename or remove one")
        if not lines:
            raise TableError(f"{where} has no rows", remedy="measure at least one")
        return cls(columns=tuple(columns), lines=lines)


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


def _line(columns: list[str], cells: list[str], at: int) -> SheetLine:
    return SheetLine(number=at, cells=dict(zip(columns, cells, strict=False)), ragged=len(cells) != len(columns))
