"""The rows of a table as columns: a `Row` is made when somebody asks for it.

A table may have 100,000 rows, of which a plan needs a dozen and a rule none: what is asked of all of them is asked of
each different value once, or of numbers at once.

Axes:  N rows  G groups of rows
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, overload

import numpy as np
from typing_extensions import override

from s2search import registry
from s2search.tables.columns import Bool, Column, Float, Groups
from s2search.tables.row import COLUMNS, FLOAT_COLUMNS, KEY, Row, grid

_AT_ONCE = 4096  # rows that a cache holds
_LARGEST = 2**62  # number of a group


class Rows(Sequence[Row]):
    """Checked rows, made of columns as they are asked for. It equals any sequence of the same rows.

    >>> from s2search.tables.table import open_table
    >>> rows = open_table("iphone-16-pro-max").rows
    >>> rows[0].part, [row.latency_ms for row in rows.labelled("lcha")]
    ('lcha', [15.675, 32.142])
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = columns
        self._numbers: dict[str, Float] = {}
        self._groups: dict[tuple[str, ...], Groups] = {}

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        """Return the columns of rows."""
        if isinstance(rows, Rows):
            return rows
        rows = tuple(rows)
        columns = {name: list(map(attrgetter(name), rows)) for name in COLUMNS}
        each = np.arange(len(rows))
        return cls({n: Column(cells, each) if n in FLOAT_COLUMNS else Column.of(cells) for n, cells in columns.items()})

    @classmethod
    def joined(cls, several: Sequence[Rows], names: Iterable[str] = COLUMNS) -> Rows:
        """Return the rows of several, one after another; with `names`, only these columns of them."""
        return cls({name: _joined([rows.columns[name] for rows in several], name) for name in names})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).code_N)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Row, ...]: ...
    @override
    def __getitem__(self, place: int | slice) -> Row | tuple[Row, ...]:
        if isinstance(place, slice):
            return tuple(self.take(place))
        row = object.__new__(Row)
        for name in COLUMNS:
            column = self.columns[name]
            object.__setattr__(row, name, column.value_V[column.code_N[place]])
        return row

    @override
    def __iter__(self) -> Iterator[Row]:
        for first in range(0, len(self), _AT_ONCE):
            yield from self.take(slice(first, first + _AT_ONCE))._made()

    def _made(self) -> list[Row]:
        """Return all rows; their slots are filled column by column, which takes no Python."""
        rows = [object.__new__(Row) for _ in range(len(self))]
        for name in COLUMNS:
            deque(map(Row.__dict__[name].__set__, rows, self.columns[name].cells), maxlen=0)
        return rows

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    @override
    def __hash__(self) -> int:
        return hash(tuple(self))

    @override
    def __repr__(self) -> str:
        return f"<{len(self):,} rows>"

    def take(self, chosen: Any) -> Rows:
        """Return some rows: a mask, a slice or their places."""
        return Rows({name: column.take(chosen) for name, column in self.columns.items()})

    def changed(self, **columns: Column) -> Rows:
        """Return the rows with other columns; nothing is checked."""
        return Rows({**self.columns, **columns})

    def numbers(self, name: str) -> Float:
        """Return a column as numbers; null is none."""
        if name not in self._numbers:
            column = self.columns[name]
            self._numbers[name] = np.array(column.value_V, np.float64)[column.code_N]  # None becomes nan
        return self._numbers[name]

    def groups(self, *fields: str) -> Groups:
        """Group the rows that agree in these columns, once for all that ask for them."""
        if fields not in self._groups:
            self._groups[fields] = _groups([self.columns[field] for field in fields])
        return self._groups[fields]

    def told(self, tell: Callable[..., Any], *fields: str) -> Column:
        """Return a column of what is told of other columns, which is asked once for the same values."""
        groups = self.groups(*fields)
        columns = [self.columns[field].take(groups.first_G).cells for field in fields]
        told = Column.of(list(itertools.starmap(tell, zip(*columns, strict=True))))
        return told.take(groups.group_N)

    def where(self, holds: Callable[..., bool], *fields: str) -> Bool:
        """Return for which rows something holds that is asked of these columns."""
        told = self.told(holds, *fields)
        return np.array(told.value_V, np.bool_)[told.code_N]

    def have(self, **cells: object) -> Bool:
        """Return which rows have these cells."""
        have_N = np.ones(len(self), np.bool_)
        for field, cell in cells.items():
            have_N &= self.columns[field].equals(cell)
        return have_N

    def having(self, **cells: object) -> Rows:
        """Return the rows with these cells."""
        return self.take(self.have(**cells))

    def different(self, *fields: str) -> list[Any]:
        """Return the different cells of a column, or those of several as tuples, as they first occur."""
        firsts = self.take(np.sort(self.groups(*fields).first_G))
        columns = [firsts.columns[field].cells for field in fields]
        return columns[0] if len(fields) == 1 else list(zip(*columns, strict=True))

    @functools.cached_property
    def keys(self) -> Groups:
        """Groups of rows that a table may hold only one of: see `Row.key`."""
        part = self.told(lambda role, part: f"{part} commit" if role == "commit" else part, "role", "part")
        return self.changed(part=part).groups("part", *KEY)

    @functools.cached_property
    def labels(self) -> Column:
        """What was timed, as people write it: see `Row.label`."""

        def label(role: str, part: str, options: str) -> str:
            return registry.label_of(part, options) + (" commit" if role == "commit" else "")

        return self.told(label, "role", "part", "options")

    @functools.cached_property
    def grids(self) -> Column:
        """The token grid of the measured call, as people write it: see `Row.grid`."""
        return self.told(grid, "frames", "height", "width")

    def labelled(self, label: str) -> Rows:
        """Return the rows with a label: see `Row.label`."""
        return self.take(self.labels.equals(label))


def _groups(columns: Sequence[Column]) -> Groups:
    number_N, most = np.zeros(len(columns[0].code_N), np.int64), 1
    for column in columns:
        if most * len(column.value_V) >= _LARGEST:
            number_N, most = Groups.of(number_N).group_N, len(number_N)
        if len(column.value_V) > 1:
            number_N = number_N * len(column.value_V) + column.code_N
        most *= max(1, len(column.value_V))
    return Groups.of(number_N)


def _joined(columns: Sequence[Column], name: str) -> Column:
    starts = itertools.accumulate((len(column.value_V) for column in columns), initial=0)
    codes = [start + column.code_N for start, column in zip(starts, columns, strict=False)]
    code_N = np.concatenate([np.zeros(0, np.int64), *codes])
    joined = Column(list(itertools.chain.from_iterable(column.value_V for column in columns)), code_N)
    return joined if name in FLOAT_COLUMNS else joined.merged()
