"""ImportedTable: what somebody else measured, as they state it, with where it comes from.

Other projects time other things than this one plans with: convolutions, encoders, whole models, on shapes that they do
not always state. So a foreign row is no `Row` of a `LatencyTable`; it names its part and says of it what its source
says, in the source's own columns, and nothing more. On disk it is a folder with `table.csv` and `card.json`, which
`table lint`, `compare`, `merge` and `show` read. Latencies are in milliseconds, memory in bytes.

Why: docs/decisions/tables.md, "Imported measurements are a table of their own, not rows of ours".
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from s2search.border.regular_file import read_regular
from s2search.document import read_json, separator, without_mark
from s2search.errors import S2SearchError, TableError, require
from s2search.tables.card import Provenance
from s2search.tables.table import LatencyTable, open_table, read_text, table_folder, write_folder

if TYPE_CHECKING:
    import pandas as pd

SCHEMA: Literal["s2search.imported_table/1"] = "s2search.imported_table/1"
NOT_STATED = "not stated"
#: What the card says of a place that is a column.
BY_ROW = "by row"
#: The note of a row that stands for doing nothing, which may take no time.
NO_OPERATION = "no operation"
#: What a row was measured on: stated by the card, or by a column of this name where rows differ.
PLACES = ("device", "runtime", "precision", "compute_unit")
#: The columns that every imported table has, after `part` and the source's own.
MEASURED = ("latency_ms", "latency_std_ms", "samples", "memory_least_bytes", "memory_bytes", "source", "note")
_MOST_MS = 1e9
_MOST_COUNT = 2**50
_LONGEST = 2000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The file that rows were read from: its name, format and digest, and where it was published."""

    file: str
    format: str
    digest: str
    origin: str = NOT_STATED


@dataclass(frozen=True, kw_only=True)
class ImportedCard:
    """Where imported rows come from.

    `device`, `runtime`, `precision` and `compute_unit` are "not stated" where neither the file nor the importer says,
    and "by row" where a column of that name does. `told` names the fields that the importer stated, not the file.
    `columns` says of each of the source's own columns what it holds and in which unit. Those of them that are `facts`
    (a version, a number of parameters) were found out of a row and do not tell it from others.
    """

    schema: Literal["s2search.imported_table/1"] = SCHEMA
    device: str = NOT_STATED
    runtime: str = NOT_STATED
    precision: str = NOT_STATED
    compute_unit: str = NOT_STATED
    date: str = NOT_STATED
    code_version: str
    provenance: Provenance
    sources: list[Source]
    told: list[str] = dataclasses.field(default_factory=list)
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    facts: list[str] = dataclasses.field(default_factory=list)
    assumptions: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        for column in self.columns:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", column) or column in ("part", *MEASURED):
                raise TableError(
                    f"{column[:60]!r} cannot be a column of an imported table",
                    allowed="small letters, digits and _, and not one of part, " + ", ".join(MEASURED),
                    remedy="rename it",
                )
        for place in PLACES:
            if (getattr(self, place) == BY_ROW) != (place in self.columns):
                raise TableError(
                    f"the card gives the {place} as {getattr(self, place)[:60]!r}",
                    allowed=f"{BY_ROW!r} where there is a column {place!r}, and only there",
                    remedy="correct the card",
                )
        if strange := [fact for fact in self.facts if fact not in self.columns]:
            raise TableError(
                f"the card calls {strange[0][:60]!r} a fact", allowed="a column", remedy="correct the card"
            )
        if not self.sources:
            raise TableError("the card names no source", remedy="import the table again")

    def key(self, row: ImportedRow) -> tuple[str, ...]:
        """Return what makes a row unique in its table."""
        told = zip(self.columns, row.about, strict=True)
        return (row.part, *(cell for column, cell in told if column not in self.facts))


@dataclass(frozen=True, kw_only=True)
class ImportedRow:
    """One measurement of somebody else's: what it is of, its latency (milliseconds) and memory (bytes).

    `about` holds the cells of the source's own columns, in the order of the card. Everything that the source does not
    state is null. A latency below zero is kept: it is what the source says, and the linter's business. `source` counts
    the card's sources from 0.
    """

    part: str
    about: tuple[str, ...] = ()
    latency_ms: float | None = None
    latency_std_ms: float | None = None
    samples: int | None = None
    memory_least_bytes: int | None = None
    memory_bytes: int | None = None
    source: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        for text in (self.part, *self.about, self.note):
            if len(text) > _LONGEST or not text.isprintable():
                raise TableError(
                    f"the text {text[:60]!r} is too long or cannot be printed",
                    allowed=f"{_LONGEST:,} printable characters",
                    remedy="correct the file",
                )
        for field, least in (("latency_ms", -_MOST_MS), ("latency_std_ms", 0.0)):
            value = getattr(self, field)
            if value is not None and not least <= value <= _MOST_MS:
                raise TableError(
                    f"{field} of {self.part} is {value}",
                    allowed=f"milliseconds from {least:g} to {_MOST_MS:g}",
                    remedy="correct the file",
                )
        for field in ("samples", "memory_least_bytes", "memory_bytes", "source"):
            value = getattr(self, field)
            if value is not None and not 0 <= value <= _MOST_COUNT:
                raise TableError(
                    f"{field} of {self.part} is {value}",
                    allowed=f"a whole number from 0 to {_MOST_COUNT}",
                    remedy="correct the file",
                )
        least_bytes, most_bytes = self.memory_least_bytes, self.memory_bytes
        if least_bytes is not None and (most_bytes is None or least_bytes > most_bytes):
            raise TableError(
                f"the memory of {self.part} goes from {least_bytes} to {most_bytes} bytes", remedy="correct the file"
            )
        if not self.part or (self.latency_ms is None and self.memory_bytes is None):
            raise TableError(f"a row of {self.part or 'no part'} has neither latency nor memory", remedy="remove it")


@dataclass(frozen=True, kw_only=True)
class ImportedTable:
    """Rows and card of somebody else's measurements. The name is that of its folder."""

    name: str
    card: ImportedCard
    rows: tuple[ImportedRow, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise TableError(f"the table {self.name!r} has no rows", remedy="import a file that has some")
        seen: set[tuple[str, ...]] = set()
        for row in self.rows:
            if len(row.about) != len(self.card.columns):
                raise TableError(f"a row of {row.part} has {len(row.about)} cells for {len(self.card.columns)} columns")
            if row.source >= len(self.card.sources):
                raise TableError(f"a row of {row.part} comes from source {row.source}, which the card does not name")
            if (key := self.card.key(row)) in seen:
                raise TableError(f"two rows give {self.label(row)}", remedy="keep one of them")
            seen.add(key)

    def label(self, row: ImportedRow) -> str:
        """Return a row's part with what tells it from others, for people."""
        told = (f"{name} {cell}" for name, cell in self.about(row).items() if cell and name not in self.card.facts)
        return ", ".join((row.part, *told))[:300]

    def about(self, row: ImportedRow) -> dict[str, str]:
        """Return the cells of a row in the source's own columns."""
        return dict(zip(self.card.columns, row.about, strict=True))

    def place(self, row: ImportedRow) -> dict[str, str]:
        """Return the device, runtime, precision and compute unit of a row."""
        cells = self.about(row)
        return {place: cells[place] if place in cells else getattr(self.card, place) for place in PLACES}

    @functools.cached_property
    def digest(self) -> str:
        """A hash of card and rows, independent of row order and the table's name."""
        content = hashlib.sha256(msgspec.json.encode(dataclasses.asdict(self.card), order="sorted"))
        for row in sorted(msgspec.json.encode(dataclasses.asdict(row), order="sorted") for row in self.rows):
            content.update(b"\n" + row)
        return f"sha256:{content.hexdigest()}"

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ImportedTable:
        """Read a table's folder.

        Raises:
            TableError: A file is missing or malformed; the message names the file, the line and the value.
        """
        path = Path(folder)
        card = read_json(path / "card.json", ImportedCard, what=f"card of schema {SCHEMA}", error=TableError)
        rows = _parse_rows(read_text(path / "table.csv"), card, where=str(path / "table.csv"))
        return cls(name=path.resolve().name, card=card, rows=tuple(rows))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the table's folder, all or nothing.

        Raises:
            TableError: The folder already holds a table, or cannot be written.
        """
        write_folder(Path(folder), self.card, self.to_csv())

    def to_csv(self) -> str:
        """Return `table.csv` as text; null stands as an empty cell."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("part", *self.card.columns, *MEASURED))
        for row in self.rows:
            writer.writerow((row.part, *row.about, *(getattr(row, column) for column in MEASURED)))
        return text.getvalue()

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame; the source's own columns are text."""
        require("pandas")
        import pandas as pd

        cells = [self.about(row) for row in self.rows]
        measured = [{column: getattr(row, column) for column in MEASURED} for row in self.rows]
        rows = [{"part": row.part} | about | one for row, about, one in zip(self.rows, cells, measured, strict=True)]
        return pd.DataFrame(rows)


def is_imported(folder: Path) -> bool:
    """Whether a folder's card says that it holds an imported table."""
    try:
        return msgspec.json.decode(without_mark(read_regular(folder / "card.json")), type=_AnyCard).schema == SCHEMA
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return False


def open_measurements(name_or_folder: str | os.PathLike[str]) -> LatencyTable | ImportedTable:
    """Load a table of either kind, by its folder or its installed name.

    Raises:
        UnknownNameError: There is no such table and no such folder.
        TableError: The folder does not hold a valid table.
    """
    if (folder := table_folder(name_or_folder)) is not None and is_imported(folder):
        return ImportedTable.load(folder)
    return open_table(name_or_folder)


def finite(text: str) -> float:
    """Return the finite number that a text holds.

    Raises:
        ValueError: It holds none, or one that is written in another way than 1.5 or 1e-3.

    >>> finite("1.5e3")
    1500.0
    """
    if len(text) > 60 or not text.isascii() or not _NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def whole(text: str) -> int:
    """Return the whole number from 0 that a text holds; data frames write 1000 as 1000.0.

    Raises:
        ValueError: It holds none.

    >>> whole("1000.0")
    1000
    """
    if not re.fullmatch(r"[0-9]{1,16}(\.0{0,20})?", text):
        raise ValueError(text[:60])
    return int(text.partition(".")[0])


def _parse_rows(text: str, card: ImportedCard, *, where: str) -> Iterator[ImportedRow]:
    reader = csv.reader(io.StringIO(text), strict=True, delimiter=separator(text))
    try:
        header = next(reader, [])
        check_header(header, card, where=where)
        for cells in reader:
            if len(cells) != len(header):
                raise TableError(
                    f"line {reader.line_num} of {where} has {len(cells)} cells, the first line {len(header)}",
                    remedy="correct the line",
                )
            yield parse_row(cells, where=f"line {reader.line_num} of {where}")
    except csv.Error as error:
        raise TableError(f"{where} is not a CSV file: {error}", remedy="correct the file") from error


def check_header(found: Sequence[str], card: ImportedCard, *, where: str) -> None:
    """Raise unless these are the columns that a card announces."""
    header = ["part", *card.columns, *MEASURED]
    if list(found) != header:
        wrong = next((one for one, right in zip(found, header, strict=False) if one != right), "end of line")
        raise TableError(
            f"{where} has the column {wrong[:60]!r} out of place",
            allowed=",".join(header)[:300],
            remedy="correct the first line",
        )


def parse_row(cells: Sequence[str], *, where: str) -> ImportedRow:
    """Check the cells of one line, as many as there are columns, and make them a row.

    Raises:
        TableError: It begins with `where` and names the cell.
    """
    given: dict[str, Any] = dict(zip(MEASURED, cells[-len(MEASURED) :], strict=True))
    try:
        for column, parse in _PARSERS.items():
            given[column] = parse(given[column]) if given[column] or column == "source" else None
        return ImportedRow(part=cells[0], about=tuple(cells[1 : -len(MEASURED)]), **given)
    except ValueError as error:
        raise TableError(f"{where} has {str(error)[:40]!r} where a number must be", remedy="correct it") from error
    except S2SearchError as error:
        raise TableError(f"{where}: {error.problem}", allowed=error.allowed, remedy=error.remedy) from error


@dataclass(frozen=True)
class _AnyCard:
    schema: str = ""


_PARSERS: dict[str, Any] = {
    "latency_ms": finite,
    "latency_std_ms": finite,
    "samples": whole,
    "memory_least_bytes": whole,
    "memory_bytes": whole,
    "source": whole,
}
