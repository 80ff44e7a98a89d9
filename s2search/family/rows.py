"""A table of any columns, as text: which row a slot, an alternative or a fixed part has, and the numbers in it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import NoReturn

from s2search.border.regular_file import open_regular
from s2search.errors import InputError, TableError, UnknownNameError
from s2search.family.quantities import number
from s2search.readers.strict import decode, first_repeated, read_csv

#: What a cell must say, by column.
Cells = Mapping[str, str]

_MOST_BYTES = 256 * 2**20
_LOOSE = 6  # columns that may be left empty in a row for several slots


@dataclass(frozen=True, kw_only=True, eq=False)
class FamilyRows:
    """The rows of a CSV file that a family reads.

    `line_N` are their lines in the file, `left_out` how many were left out since a number in them is negative.
    """

    path: str
    digest: str
    columns: tuple[str, ...]
    cell_NK: tuple[tuple[str, ...], ...]
    line_N: tuple[int, ...]
    in_file: int
    left_out: int = 0
    _index: dict[tuple[str, ...], dict[tuple[str, ...], list[int]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FamilyRows:
        """Read a file: UTF-8, with or without a byte-order mark; commas, semicolons or tabs.

        Raises:
            TableError: It cannot be read, is no such table, has a column without a name, or one name twice.
        """
        content = _content(path)
        try:
            header, lines = read_csv(decode(content))
            columns = [name.strip() for name in header]
            if "" in columns:
                raise TableError(f"column {columns.index('') + 1} has no name", remedy="name every column")
            if (twice := first_repeated(columns)) is not None:
                raise TableError(f"it has the column {twice[:60]!r} twice", remedy="rename one of them")
            if not lines:
                raise TableError("it has no rows", remedy="add a row for every alternative")
        except TableError as error:
            raise TableError(
                f"the table {str(path)!r} cannot be used: {error.problem}", allowed=error.allowed, remedy=error.remedy
            ) from error
        return cls(
            path=str(path),
            digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
            columns=tuple(columns),
            cell_NK=tuple(tuple(cell.strip() for cell in cells) for _, cells in lines),
            line_N=tuple(line for line, _ in lines),
            in_file=len(lines),
        )

    def only(self, where: Cells) -> FamilyRows:
        """Return the rows with these cells.

        Raises:
            TableError: There is none, or no such column.
        """
        at = [(self.column(name), value) for name, value in where.items()]
        kept = [n for n, cells in enumerate(self.cell_NK) if all(cells[k] == value for k, value in at)]
        if not kept:
            raise TableError(
                f"no row of the table {self.path!r} has {told(where)}", remedy="correct `where` under [rows]"
            )
        return self._keeping(kept, self.left_out)

    def without_negative(self, columns: Sequence[str]) -> FamilyRows:
        """Return the rows without those that have a negative number in one of these columns."""
        at = [self.column(name) for name in columns]
        kept = [
            n
            for n, cells in enumerate(self.cell_NK)
            if not any(cells[k].startswith("-") and (number(cells[k]) or 0) < 0 for k in at)
        ]
        return self._keeping(kept, self.left_out + len(self.cell_NK) - len(kept))

    def _keeping(self, kept: Sequence[int], left_out: int) -> FamilyRows:
        return FamilyRows(
            path=self.path,
            digest=self.digest,
            columns=self.columns,
            cell_NK=tuple(self.cell_NK[n] for n in kept),
            line_N=tuple(self.line_N[n] for n in kept),
            in_file=self.in_file,
            left_out=left_out,
        )

    def column(self, name: str) -> int:
        """Return where a column is.

        Raises:
            UnknownNameError: There is none of this name.
        """
        if name not in self.columns:
            raise UnknownNameError(f"column of the table {self.path!r}", name, self.columns, listed_as="columns")
        return self.columns.index(name)

    def find(self, cells: Cells, *, loose: Iterable[str] = ()) -> int | None:
        """Return the row with these cells; of `loose` columns, one that says it goes before one that leaves it empty.

        Raises:
            TableError: Several rows have them.
        """
        index = self._by(tuple(cells))
        open_columns = [name for name in loose if ("",) in self._by((name,))][:_LOOSE]
        for many in range(len(open_columns) + 1):
            for emptied in combinations(open_columns, many):
                wanted = ("" if name in emptied else value for name, value in cells.items())
                found = index.get(tuple(wanted), ())
                if len(found) > 1:
                    self._refuse_twice(found, cells)
                if found:
                    return found[0]
        return None

    def _refuse_twice(self, found: Sequence[int], cells: Cells) -> NoReturn:
        first, second = (self.line_N[n] for n in found[:2])
        differing = [
            name
            for k, name in enumerate(self.columns)
            if self.cell_NK[found[0]][k] != self.cell_NK[found[1]][k] and name not in cells
        ]
        apart = f", which differ in {', '.join(differing[:4])}" if differing else ", which are the same"
        raise TableError(
            f"{len(found)} rows of the table {self.path!r} have {told(cells)}: lines {first} and {second}{apart}",
            remedy="say more in `rows` or `where` of the family, or remove all but one",
        )

    def all_with(self, cells: Cells) -> list[int]:
        """Return all rows with these cells."""
        return self._by(tuple(cells)).get(tuple(cells.values()), [])

    def combinations(self, columns: Sequence[str], cells: Cells, *, loose: Iterable[str] = ()) -> set[tuple[str, ...]]:
        """Return what stands in some columns of the rows with these cells, where `loose` ones may be empty."""
        at = [(self.column(name), {value, ""} if name in loose else {value}) for name, value in cells.items()]
        wanted = [self.column(name) for name in columns]
        return {tuple(row[k] for k in wanted) for row in self.cell_NK if all(row[k] in values for k, values in at)}

    def _by(self, names: tuple[str, ...]) -> dict[tuple[str, ...], list[int]]:
        if names not in self._index:
            at = [self.column(name) for name in names]
            index = self._index.setdefault(names, {})
            for n, cells in enumerate(self.cell_NK):
                index.setdefault(tuple(cells[k] for k in at), []).append(n)
        return self._index[names]

    def text(self, n: int, column: str) -> str:
        """Return a cell."""
        return self.cell_NK[n][self.column(column)]

    def value(self, n: int, column: str, *, signed: bool = False) -> Fraction:
        """Return the number in a cell.

        Raises:
            TableError: It is none, or negative where it must not be.
        """
        text = self.text(n, column)
        found = number(text)
        where = f"{column} in line {self.line_N[n]} of the table {self.path!r}"
        if found is None:
            raise TableError(
                f"{where} is {text[:40]!r}",
                allowed="a finite decimal number such as 1.25, from 1e-18 to 1e18 in size, or 0",
                remedy="correct it, or remove the row",
            )
        if found < 0 and not signed:
            raise TableError(
                f"{where} is {text[:40]}",
                allowed="0 or more: nothing gives back what others use",
                remedy='correct it, or say negative = "leave out" under [rows] of the family',
            )
        return found


def told(cells: Cells) -> str:
    """Write cells for a message.

    >>> told({"layer": "3", "op": "full"})
    "layer '3', op 'full'"
    """
    return ", ".join(f"{name} {value!r}" for name, value in cells.items()) or "no condition"


def _content(path: str | os.PathLike[str]) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise TableError(
            f"the table {str(path)!r} cannot be read: {error.strerror}", remedy="name a CSV file"
        ) from error
    except ValueError as error:
        raise InputError(f"the table {str(path)!r} cannot be read: {error}", remedy="name a CSV file") from error
    if len(content) > _MOST_BYTES:
        raise TableError(f"the table {str(path)!r} is larger than {_MOST_BYTES >> 20} MiB", remedy="keep what is used")
    return content
