"""What a reader is: it makes an `ImportedTable` of one file that another project publishes.

A reader states what the file states and nothing else: units become milliseconds and bytes, a variance becomes a
standard deviation, and what is missing is "not stated". It drops no row and mends none; a latency below zero is kept,
for the linter to find. What contradicts itself is refused. Files are untrusted: no reader unpickles, follows an alias
or calls what a file names, and whatever the bytes are, it returns a valid table or raises `TableError` with one line.
A reader keeps no state and may be used from several threads.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from s2search.border.regular_file import open_regular
from s2search.errors import InputError, S2SearchError, TableError
from s2search.readers.strict import MOST_BYTES
from s2search.registry import Plugin, own_version
from s2search.tables.card import Provenance
from s2search.tables.foreign import BY_ROW, NOT_STATED, PLACES, ImportedCard, ImportedRow, ImportedTable, Source

_MOST_COLUMNS = 200


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a file says.

    Attributes:
        rows: Its rows, in its order.
        columns: Its own columns: name -> what the cells hold, with the unit.
        facts: Those columns that do not tell a row from others.
        stated: Those of device, runtime, precision, compute_unit and date that it states for all rows.
        assumptions: What a reader of the table must know: how units were converted, what was left out and how often.
    """

    rows: list[ImportedRow]
    columns: dict[str, str]
    facts: tuple[str, ...] = ()
    stated: dict[str, str] = dataclasses.field(default_factory=dict)
    assumptions: list[str] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Reader(Plugin, abc.ABC):
    """Reads one format.

    Args:
        device: What was measured on, where the file does not say; of a file of several, the one whose rows to keep.
        runtime: What ran the measured parts; see `device`.
        precision: The number format of the measured parts; see `device`.
        compute_unit: The part of the chip that ran them; see `device`.
        date: When it was measured, such as 2026-01 or 2026-01-31, where the file does not say.
        origin: Where the file was published: an address, a repository and a commit.
    """

    #: Whose numbers these are, and who counted or timed what: one sentence for the card.
    statement: ClassVar[str]

    device: str = ""
    runtime: str = ""
    precision: str = ""
    compute_unit: str = ""
    date: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        if self.date and not re.fullmatch(r"\d{4}(-\d\d){0,2}", self.date):
            raise InputError(
                f"the date is {self.date[:40]!r}", allowed="2026, 2026-01 or 2026-01-31", remedy="correct it"
            )

    @abc.abstractmethod
    def parse(self, content: bytes) -> Reading:
        """Return what a file of this format says.

        Raises:
            TableError: It is no such file; the message need not name it.
        """

    def read(self, path: Path) -> ImportedTable:
        """Read a file.

        Raises:
            TableError: It cannot be read or is no such file; the message names it, the place in it and the value.
        """
        return self.table(_content(path), file=path.name)

    def table(self, content: bytes, *, file: str) -> ImportedTable:
        """Read the content of a file of that name.

        Raises:
            TableError: It is no such file.
        """
        try:
            return self._table(self.parse(content), content, file)
        except S2SearchError as error:
            problem = f"{file!r} cannot be read as {self.name}: {error.problem}"
            raise TableError(problem, allowed=error.allowed, remedy=error.remedy) from error

    def _table(self, reading: Reading, content: bytes, file: str) -> ImportedTable:
        rows, told, columns = reading.rows, [], dict(reading.columns)
        stated = {field: reading.stated.get(field, NOT_STATED) for field in (*PLACES, "date")}
        for field in stated:
            asked = getattr(self, field)
            if field in reading.facts and not asked:
                stated[field] = BY_ROW
                continue
            if field in columns:
                rows, stated[field] = _placed(rows, list(columns), field, asked)
                if stated[field] != BY_ROW:
                    del columns[field]
            if asked and stated[field] == NOT_STATED:
                stated[field] = asked
                told.append(field)
            elif asked and stated[field] != asked:
                raise TableError(f"it states the {field} {stated[field]!r}, and not {asked!r}", remedy="leave one out")
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        card = ImportedCard(
            device=stated["device"],
            runtime=stated["runtime"],
            precision=stated["precision"],
            compute_unit=stated["compute_unit"],
            date=stated["date"],
            code_version=f"s2search {own_version()}",
            provenance=Provenance(kind="published", source=self.origin or NOT_STATED, statement=self.statement),
            sources=[Source(file=file, format=self.name, digest=digest, origin=self.origin or NOT_STATED)],
            told=told,
            columns=columns,
            facts=[fact for fact in reading.facts if fact in columns],
            assumptions=reading.assumptions,
        )
        return ImportedTable(name=Path(file).stem, card=card, rows=tuple(rows))


def few(columns: Sequence[str]) -> list[str]:
    """Return columns, unless they are so many that a row each would fill the memory.

    Raises:
        TableError: They are more than any format has.
    """
    if len(columns) > _MOST_COLUMNS:
        raise TableError(f"it states {len(columns):,} different facts", allowed=f"at most {_MOST_COLUMNS}")
    return list(columns)


def _placed(rows: list[ImportedRow], columns: list[str], field: str, asked: str) -> tuple[list[ImportedRow], str]:
    """Keep the rows of a place, if one is asked for; where one is left, the card states it, and its column goes."""
    column = columns.index(field)
    there = sorted({row.about[column] for row in rows})
    if there == [NOT_STATED]:
        asked = ""
    if asked and asked not in there:
        raise TableError(
            f"no row has the {field.replace('_', ' ')} {asked!r}",
            allowed=f"it has: {', '.join(there)}"[:2000],
            remedy="choose one of these",
        )
    kept = [row for row in rows if row.about[column] == asked] if asked else rows
    if len(there) > 1 and not asked:
        return kept, BY_ROW
    without = [replace(row, about=(*row.about[:column], *row.about[column + 1 :])) for row in kept]
    return without, asked or (there[0] if there else NOT_STATED)


def _content(path: Path) -> bytes:
    """Read a file that is not too large; a device or a pipe is no file."""
    try:
        if not path.is_file():
            problem = "is no file" if path.exists() else "does not exist"
            raise TableError(f"{str(path)!r} {problem}", remedy="name a file")
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TableError(f"{str(path)!r} cannot be read: {error}", remedy="check the path") from error
    if len(content) > MOST_BYTES:
        raise TableError(f"{str(path)!r} is larger than {MOST_BYTES >> 20} MiB", remedy="split the file")
    return content
