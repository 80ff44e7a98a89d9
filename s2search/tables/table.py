"""LatencyTable: rows of latency and memory for one device, with the card that says where they come from.

On disk a table is a folder `<device>.<runtime>.<precision>/` with `table.csv` (one row per part x shape x options x
precision x compute unit) and `card.json` (the device, the runtime, the protocol, the provenance). Latencies are in
milliseconds, memory in bytes. `latency_tables/schema.json` is the JSON schema of both.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from s2search import registry
from s2search.block import Scenario, Shape
from s2search.border.regular_file import read_regular, read_regular_text
from s2search.document import as_json, check_folder, read_json
from s2search.errors import MissingRowError, TableError, UnknownNameError, require
from s2search.preset import token_grid, video_size
from s2search.tables.card import SCHEMA, Card
from s2search.tables.reading import parse_rows
from s2search.tables.row import SHAPE_COLUMNS, Row
from s2search.tables.rows import Rows
from s2search.tables.writing import rows_as_csv, rows_as_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from rich.console import RenderableType

_Found = TypeVar("_Found")

DEFAULT_TABLE = "iphone-16-pro-max.coreml.w4a8"
_SUSTAINED = ".sustained"  # after the name of the table that was measured cold
_AT_ONCE = 256  # rows that a cache holds as JSON
_MODEL = tuple(column for column in SHAPE_COLUMNS if column not in ("height", "width"))


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Rows and card of one device, checked. The name is that of its folder.

    >>> table = open_table("iphone-16-pro-max.coreml.w4a8")
    >>> table.card.provenance.kind
    'derived'
    >>> [row.latency_ms for row in table.rows if row.label == "lcha"]
    [15.675, 32.142]
    """

    name: str
    card: Card
    rows: Rows

    @property
    def folder(self) -> Path | None:
        """The folder that it was read from, where its samples are; None for a table that was made or changed here."""
        found: Path | None = self.__dict__.get("_folder")
        return found

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", Rows.of(self.rows))  # rows may be given as any sequence
        if not self.rows:
            raise TableError(f"the table {self.name!r} has no rows", remedy="measure at least one block")
        keys = self.rows.keys
        first_N = keys.first_G[keys.group_N]
        for n in np.flatnonzero(first_N != np.arange(len(first_N))):
            row = self.rows[n]
            raise TableError(
                f"lines {first_N[n] + 2} and {n + 2} of the table {self.name!r} both give {row.label} "
                f"({row.scenario}, {row.shape.grid}, {row.precision}, {row.compute_unit})",
                remedy="keep one of them",
            )

    @functools.cached_property
    def digest(self) -> str:
        """A hash of card and rows, independent of file formatting, row order and the table's name."""
        # By `asdict`, since msgspec leaves a default out of what it encodes where it also left it out when decoding.
        rows = sorted(rows_as_json(self.rows))  # by code points, as UTF-8 sorts
        card = dataclasses.asdict(self.card)
        for name in ("common_std_relative", "application"):
            if card[name] is None:
                del card[name]  # a table that says nothing of it keeps the digest from before it existed
        content = hashlib.sha256(msgspec.json.encode(card, order="sorted"))
        for first in range(0, len(rows), _AT_ONCE):
            content.update("\n".join(["", *rows[first : first + _AT_ONCE]]).encode())
        return f"sha256:{content.hexdigest()}"

    def scope(
        self,
        scenario: Scenario,
        *,
        video: str | tuple[int, int] | None = None,
        precision: str | None = None,
        compute_unit: str | None = None,
    ) -> Scope:
        """Settle which rows belong together: one shape, precision and compute unit.

        Args:
            scenario: `stream` (a chunk with its window) or `clip` (bidirectional).
            video: Video size (`512x288`), or token rows and columns of a latent frame; needed only where the table
                holds several.
            precision: Needed only where the table holds several.
            compute_unit: Needed only where the table holds several.

        Raises:
            MissingRowError, TableError: The table has no such rows, or more than one possibility is left.
        """
        rows = self._only(self.rows.having(role="block"), "scenario", scenario)
        rows = self._only(rows, "precision", precision)
        rows = self._only(rows, "compute_unit", compute_unit)
        if (models := len(rows.groups(*_MODEL))) > 1:
            raise TableError(
                f"the {scenario} rows of {self.name!r} belong to {models} models or chunk lengths",
                remedy="keep one model per table",
            )
        grids = sorted(rows.different("height", "width"))
        if video is None and len(grids) > 1:
            sizes = ", ".join(video_size(*grid) for grid in grids)
            raise TableError(
                f"the {scenario} rows of {self.name!r} hold {len(grids)} video sizes: {sizes}",
                remedy=f"choose one, for example --video {video_size(*grids[0])}",
            )
        height, width = token_grid(video) if isinstance(video, str) else video or grids[0]
        first = rows[0]
        return Scope(
            scenario=scenario,
            shape=dataclasses.replace(first.shape, height=height, width=width),
            precision=first.precision,
            compute_unit=first.compute_unit,
        )

    def _only(self, rows: Rows, field: str, value: str | None) -> Rows:
        """Keep the rows with a value; without one, insist that there is just one value."""
        there = sorted(rows.different(field))
        option = f"--{field.replace('_', '-')}"
        if value is None:
            if len(there) > 1:
                raise TableError(
                    f"the table {self.name!r} holds {len(there)} values of {field}: {', '.join(there)}",
                    remedy=f"choose one with {option}",
                )
            return rows
        if value not in there:
            raise TableError(
                f"the table {self.name!r} has no rows with {field} {value!r}",
                allowed=f"it has: {', '.join(there) or 'none'}",
                remedy=f"choose one of these with {option}, or measure the rows that are missing",
            )
        return rows.having(**{field: value})

    def in_scope(self, scope: Scope, *, any_grid: bool = False) -> Rows:
        """Return what a forward pass of one scope is made of; with `any_grid`, of every video size beside it."""
        return self._in_scope(scope, any_grid=any_grid, commits=False)

    def commits_in_scope(self, scope: Scope) -> Rows:
        """Return the rows of one scope that say what committing a chunk takes; a table may have none."""
        return self._in_scope(scope, any_grid=False, commits=True)

    def like_scope(self, scope: Scope) -> Rows:
        """Return the forward passes of one scenario, precision and compute unit, at any shape."""

        def find() -> Rows:
            place = {field: getattr(scope, field) for field in ("scenario", "precision", "compute_unit")}
            found = self.rows.having(**place)
            return found.take(~found.have(role="commit"))

        return self.remember(("like", scope.scenario, scope.precision, scope.compute_unit), find)

    def _in_scope(self, scope: Scope, *, any_grid: bool, commits: bool) -> Rows:
        def find() -> Rows:
            shape = {field: getattr(scope.shape, field) for field in (_MODEL if any_grid else SHAPE_COLUMNS)}
            place = {field: getattr(scope, field) for field in ("scenario", "precision", "compute_unit")}
            found = self.rows.having(**place, **shape)
            return found.take(found.have(role="commit") == commits)

        return self.remember((scope, any_grid, commits), find)

    def remember(self, what: object, find: Callable[[], _Found]) -> _Found:
        """Return what `find` finds in this table; it is asked once, since one answer asks for it a dozen times."""
        if what not in self._found:
            self._found[what] = find()
        found: _Found = self._found[what]
        return found

    @functools.cached_property
    def _found(self) -> dict[object, Any]:
        return {}

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LatencyTable:
        """Read a table's folder.

        Raises:
            TableError: A file is missing or malformed; the message names the file, the line and the value.
        """
        path = Path(folder)
        table = cls(
            name=path.resolve().name,
            card=read_json(path / "card.json", Card, what=f"card of schema {SCHEMA}", error=TableError),
            rows=parse_rows(read_text(path / "table.csv"), where=str(path / "table.csv")),
        )
        object.__setattr__(table, "_folder", path)  # no field: where a table lies changes nothing that it says
        return table

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the table's folder, all or nothing.

        Raises:
            TableError: The folder already holds a table; nothing is overwritten.
        """
        write_folder(Path(folder), self.card, self.to_csv())

    def to_csv(self) -> str:
        """Return `table.csv` as text; null stands as an empty cell."""
        return rows_as_csv(self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame, one column per field of `Row`."""
        require("pandas")
        import pandas as pd

        return pd.DataFrame({name: column.cells for name, column in self.rows.columns.items()})

    @classmethod
    def from_pandas(cls, name: str, card: Card, frame: pd.DataFrame) -> LatencyTable:
        """Check a data frame with the columns of `Row` and make it a table; missing values become null."""
        text = frame.to_csv(index=False)
        return cls(name=name, card=card, rows=parse_rows(text, where=f"the data frame {name!r}"))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw one line per part, its latencies along it, on axes or as a picture of its own."""
        from s2search.reporting import shown

        return shown.plot_table(self, ax)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.table_html(self)

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.table_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def __repr__(self) -> str:
        marked = ", marked" if self.card.marks else ""
        return f"<LatencyTable {self.name}: {len(self.rows)} rows, {self.card.provenance.kind}{marked}>"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What all rows behind one plan share: scenario, shape, precision, compute unit."""

    scenario: Scenario
    shape: Shape
    precision: str
    compute_unit: str

    def __str__(self) -> str:
        video = video_size(self.shape.height, self.shape.width)
        return f"{self.scenario}, {video}, {self.shape.frames} latent frames, {self.precision}, {self.compute_unit}"


def open_table(name_or_folder: str | os.PathLike[str]) -> LatencyTable:
    """Load a table by its installed name, by the first words of that name, or by its folder.

    Raises:
        UnknownNameError: There is no such table and no such folder.
        TableError: The folder does not hold a valid table, or the name means an installed table as well.
    """
    if (folder := table_folder(name_or_folder)) is not None:
        _refuse_folder_of_tables(folder)
        return LatencyTable.load(folder)
    name = os.fspath(name_or_folder)
    if os.sep in name or not isinstance(name_or_folder, str):
        raise TableError(f"there is no table folder {name!r}", remedy="check the path")
    raise UnknownNameError("table", name, installed_tables())


def _refuse_folder_of_tables(folder: Path) -> None:
    """Refuse a folder that holds tables and is none, such as what `kit ingest` writes them below."""
    if (folder / "card.json").exists():
        return
    if inside := sorted(str(card.parent) for card in folder.glob("*/card.json")):
        raise TableError(f"{str(folder)!r} holds tables and is none", allowed=", ".join(inside), remedy="name one")


def table_folder(name_or_folder: str | os.PathLike[str]) -> Path | None:
    """Return the folder that a text means: that of an installed table, or itself; None where it is neither.

    A path that is no text, or has a separator, is a folder and no name.

    Raises:
        TableError: It means both, and the two differ.
    """
    here = Path(name_or_folder)
    if not isinstance(name_or_folder, str) or not name_or_folder or os.sep in name_or_folder:
        return here if name_or_folder and here.is_dir() else None
    there = installed_folder(name_or_folder)
    if there is None:
        return here if here.is_dir() else None
    files = ("card.json", "table.csv")
    if any((here / file).exists() for file in files) and not all(_same(here / file, there / file) for file in files):
        raise meant_twice(name_or_folder, there.name, "folder")
    return there


def installed_folder(name: str) -> Path | None:
    """Return the folder of an installed table by its name, or by the first words of it where no other begins so."""
    tables = installed_tables()
    begun = [known for known in tables if known.startswith(f"{name}.")]
    matches = [known for known in begun if not known.endswith(_SUSTAINED)] or begun
    found = name if name in tables else matches[0] if len(matches) == 1 else None
    return None if found is None else tables[found]


def sustained_beside(table: LatencyTable) -> LatencyTable:
    """Return the table of the same device that was measured under sustained load: itself, or the one beside it.

    The one beside it is called as it is, with `.sustained` after that: a folder beside its own, or an installed one.

    Raises:
        TableError: Nobody measured one.
    """
    if table.card.sustained:
        return table
    name, beside = f"{table.name}{_SUSTAINED}", None
    if table.folder is not None:
        beside = table.folder.resolve().parent / name
    if beside is None or not (beside / "card.json").is_file():
        beside = installed_tables().get(name)
    found = None if beside is None else LatencyTable.load(beside)
    if found is not None and found.card.sustained and _one_device(found.card, table.card):
        return found
    raise TableError(
        f"the table {table.name!r} was not measured under sustained load, and "
        + (f"beside it is no {name!r}" if found is None else f"{name!r} is none of its device under that load"),
        remedy="measure one (measure --sustained 5m, kit build --sustained 5m), or leave out @sustained",
    )


def in_precision(table: LatencyTable, scenario: Scenario, precision: str) -> LatencyTable:
    """Return the table of the same device that has rows of blocks in a precision: itself, or the one beside it.

    The one beside it is called as it is, with that precision in place of its own: a folder beside its own, or an
    installed one. `kit ingest` writes one table for each precision.

    Raises:
        MissingRowError: Nobody measured one.
        TableError: The one beside it cannot be read.
    """
    own = table.rows.having(role="block", scenario=scenario).different("precision")
    if precision in own:
        return table
    names = [table.name.replace(f".{label}", f".{precision}") for label in own if f".{label}" in table.name]
    for name in names:
        beside = None if table.folder is None else table.folder.resolve().parent / name
        if beside is None or not (beside / "card.json").is_file():
            beside = installed_tables().get(name)
        found = None if beside is None else LatencyTable.load(beside)
        if found is not None and _one_device(found.card, table.card):
            return found
    beside_it = f", and beside it is no {names[0]!r} of its device" if names else ""
    raise MissingRowError(
        f"the table {table.name!r} has no {scenario} rows of blocks in {precision}{beside_it}",
        allowed=f"it has: {', '.join(sorted(own)) or 'none'}",
        remedy="measure one (kit build --precision), or leave that precision out",
    )


def _one_device(one: Card, other: Card) -> bool:
    same = ("device", "chip", "runtime", "preset")
    return all(getattr(one, name) == getattr(other, name) for name in same)


def meant_twice(name: str, installed: str, what: str) -> TableError:
    """Return the error that a name means a file or folder here, and an installed table."""
    other = f"{installed} for the installed table" if name != installed else f"rename the {what} for the installed one"
    return TableError(
        f"{name!r} is a {what} here, and also the installed table {installed!r}",
        remedy=f"write .{os.sep}{name} for the {what}, or {other}",
    )


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and read_regular(one) == read_regular(other)


def installed_tables() -> dict[str, Path]:
    """Return every table that an installed distribution ships: name -> folder.

    A collection that cannot be loaded offers none, and leaves the others alone: `s2search plugins` says why.
    """
    found = {}
    for name in registry.installed("tables"):
        for root in _roots_of(name):
            found.update({card.parent.name: card.parent for card in sorted(root.glob("*/card.json"))})
    return found


def _roots_of(collection: str) -> list[Path]:
    try:
        return list(_roots(registry.load("tables", collection)))
    except Exception:  # `load` names it; here whatever its value does when it is looked at
        return []


def write_folder(folder: Path, card: object, rows: str) -> None:
    """Write `table.csv` and `card.json`, all or nothing.

    Raises:
        TableError: The folder already holds a table, or cannot be written.
    """
    refuse_existing(folder)
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            new_card, new_rows = Path(scratch, "card.json"), Path(scratch, "table.csv")
            new_card.write_text(as_json(card), encoding="utf-8")
            new_rows.write_text(rows, encoding="utf-8", newline="")
            shutil.move(new_rows, folder / "table.csv")
            shutil.move(new_card, folder / "card.json")  # last: a folder with a card is a whole table
    except OSError as error:
        raise TableError(
            f"the table's folder {str(folder)!r} cannot be written: {error.strerror}",
            remedy="make room, or choose another folder",
        ) from error


def refuse_existing(folder: Path) -> None:
    """Raise if a folder already holds a table."""
    if (folder / "card.json").exists() or (folder / "table.csv").exists():
        raise TableError(
            f"the folder {str(folder)!r} already holds a table", remedy="choose another folder, or move it away"
        )


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of `card.json` and of a row of `table.csv`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "card": msgspec.json.schema(Card),
        "row": msgspec.json.schema(Row),
    }


def _roots(collection: Any) -> Iterable[Path]:
    """Return the folders of a collection of tables: a folder, or a package that holds them."""
    root = collection if isinstance(collection, Path) else files(collection)
    return [Path(str(entry)).parent for entry in root.iterdir() if entry.name == "schema.json"] or [Path(str(root))]


def read_text(path: Path) -> str:
    """Read a file as UTF-8, with or without a byte-order mark.

    Raises:
        TableError: It is not there, or is no text.
    """
    try:
        return read_regular_text(path)
    except FileNotFoundError:
        raise TableError(
            f"there is no file {str(path)!r}", remedy="a table folder holds table.csv and card.json"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{str(path)!r} cannot be read: {error}", remedy="check the file") from error
