"""LatencyTable: rows of latency and memory for one device, with the card that says where they come from.

On disk a table is a folder `<device>.<runtime>.<precision>/` with `table.csv` (one row per part x shape x options x
precision x compute unit) and `card.json` (the device, the runtime, the protocol, the provenance). Latencies are in
milliseconds, memory in bytes. `latency_tables/schema.json` is the JSON schema of both.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from s2search import registry
from s2search.block import Scenario, Shape
from s2search.cost import Pipeline
from s2search.document import read_json
from s2search.errors import S2SearchError, TableError, UnknownNameError
from s2search.preset import video_size

if TYPE_CHECKING:
    import pandas as pd

SCHEMA: Literal["s2search.table/1"] = "s2search.table/1"
DEFAULT_TABLE = "iphone-16-pro-max.coreml.w4a8"

ProvenanceKind = Literal["measured", "published", "derived", "estimated"]
Role = Literal["block", "commit", "switch", "fixed"]
ROLES: tuple[Role, ...] = ("block", "commit", "switch", "fixed")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Size = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the latencies of blocks come from: the kind, the source, and one sentence for people."""

    kind: ProvenanceKind
    source: str
    statement: str


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of a table's columns: there is no choice, but a file says so."""

    latency: Literal["ms"] = "ms"
    memory: Literal["bytes"] = "bytes"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a table's rows were measured on (or derived from), and how.

    `threads` is null where the runtime decides. `protocol` records the profiler's own configuration and findings.
    `pipeline` is what runs once per chunk beside the transformer; without it a table cannot answer `fps` budgets.
    `common_std_relative` is the standard deviation of the factor that all latencies share, from run to run or from
    device to device, as a fraction of latency; null where it was not measured.
    """

    schema: Literal["s2search.table/1"] = SCHEMA
    device: str
    chip: str
    os: str
    runtime: str
    runtime_version: str
    threads: int | None
    power_mode: str
    date: str
    code_version: str
    preset: str
    provenance: Provenance
    protocol: dict[str, Any]
    units: Units = dataclasses.field(default_factory=lambda: Units())
    pipeline: Pipeline | None = None
    assumptions: list[str] = dataclasses.field(default_factory=list)
    common_std_relative: float | None = None

    def __post_init__(self) -> None:
        common = self.common_std_relative
        if common is not None and not 0 <= common <= 1:
            raise TableError(
                f"common_std_relative of the card is {common}",
                allowed="a fraction of latency from 0 to 1",
                remedy="correct the card, or leave it out",
            )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part at one shape: its latency (milliseconds, median over samples) and its memory (bytes).

    `role` says how a plan uses it: a `block` may stand at a layer, a `switch` is paid between streams, a `fixed` part
    is paid once in every layout; a `commit` is no part of a forward pass, but what a block takes to add a finished
    chunk to its streaming state, with the block's own weights and state. Latencies are those after drift was taken out,
    where it was; `latency_raw_ms` is the median before. `latency_error_ms` is the standard error of the median,
    `latency_std_ms` the deviation of samples. `launch_us` is what starting a sample costs beside its calls, where that
    can be told from noise. `order` is the position in which the row was first measured, and `measured_at` the time;
    both are null where nothing was measured.
    """

    role: Role
    part: str
    options: str = ""
    scenario: Scenario
    frames: Size
    height: Size
    width: Size
    context_frames: Count = 0
    channels: Size
    heads: Size
    feed_forward: Size
    text_tokens: Size
    text_channels: Size
    precision: str
    compute_unit: str
    latency_ms: float
    latency_p10_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_mean_ms: float | None = None
    latency_std_ms: float | None = None
    latency_raw_ms: float | None = None
    latency_error_ms: float | None = None
    launch_us: float | None = None
    samples: Count = 0
    order: int | None = None
    measured_at: str | None = None
    weight_bytes: Count
    state_bytes: Count
    peak_bytes: Count
    latency_provenance: ProvenanceKind
    bytes_provenance: ProvenanceKind
    note: str = ""

    def __post_init__(self) -> None:
        for field in LATENCY_COLUMNS:
            value = getattr(self, field)
            if value is None:
                continue
            least = _LEAST_BLOCK_MS if field == "latency_ms" and self.role == "block" else 0.0
            if not least <= value <= _MOST_MS:
                raise TableError(
                    f"{field} of {self.label} is {value}",
                    allowed=f"milliseconds from {least:g} to {_MOST_MS:g}",
                    remedy="measure the row again or remove it",
                )
        p10, p90 = self.latency_p10_ms, self.latency_p90_ms
        if p10 is not None and p90 is not None and not p10 <= self.latency_ms <= p90:
            raise TableError(
                f"the median of {self.label} ({self.latency_ms} ms) lies outside its p10 to p90 ({p10} to {p90} ms)",
                remedy="measure the row again or remove it",
            )
        if self.role == "commit" and self.scenario != "stream":
            raise TableError(
                f"{self.label} is a row of the scenario {self.scenario!r}",
                allowed="stream: nothing else has a state",
                remedy="correct its scenario or its role",
            )
        self.shape  # noqa: B018  a shape that contradicts itself is refused here, with its line
        if self.samples == 0 and self.latency_provenance == "measured":
            raise TableError(f"{self.label} is called measured but has no samples", remedy="state its true provenance")

    @property
    def part_label(self) -> str:
        """The part as people write it."""
        return f"{self.part}[{self.options}]" if self.options else self.part

    @property
    def label(self) -> str:
        """What was timed, as people write it: the part, or `lcha commit`."""
        return f"{self.part_label} commit" if self.role == "commit" else self.part_label

    @property
    def shape(self) -> Shape:
        """The shape of the measured call."""
        return Shape(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Shape)})

    @property
    def key(self) -> tuple[object, ...]:
        """What makes a row unique in its table."""
        part = f"{self.part} commit" if self.role == "commit" else self.part
        return (part, self.options, self.scenario, self.shape, self.precision, self.compute_unit)


_LEAST_BLOCK_MS = 0.001  # a block below the microsecond that plans count in would be free
_MOST_MS = 1e9
LATENCY_COLUMNS = (
    "latency_ms",
    "latency_p10_ms",
    "latency_p90_ms",
    "latency_mean_ms",
    "latency_std_ms",
    "latency_raw_ms",
    "latency_error_ms",
)
COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_LATER = ("latency_raw_ms", "latency_error_ms", "launch_us")  # a table without them keeps its bytes and its digest
_REQUIRED = {f.name for f in dataclasses.fields(Row) if f.default is dataclasses.MISSING}


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
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise TableError(f"the table {self.name!r} has no rows", remedy="measure at least one block")
        seen: dict[tuple[object, ...], int] = {}
        for number, row in enumerate(self.rows, start=2):
            if row.key in seen:
                raise TableError(
                    f"lines {seen[row.key]} and {number} of the table {self.name!r} both give {row.label} "
                    f"({row.scenario}, {row.shape.grid}, {row.precision}, {row.compute_unit})",
                    remedy="keep one of them",
                )
            seen[row.key] = number

    @functools.cached_property
    def digest(self) -> str:
        """A hash of card and rows, independent of file formatting, row order and the table's name."""
        # By `asdict`, since msgspec leaves a default out of what it encodes where it also left it out when decoding.
        rows = sorted(msgspec.json.encode(_stated(row), order="sorted") for row in self.rows)
        card = dataclasses.asdict(self.card)
        if card["common_std_relative"] is None:
            del card["common_std_relative"]  # a table that says nothing of it keeps the digest from before it existed
        content = hashlib.sha256(msgspec.json.encode(card, order="sorted"))
        for row in rows:
            content.update(b"\n" + row)
        return f"sha256:{content.hexdigest()}"

    def scope(
        self,
        scenario: Scenario,
        *,
        video: tuple[int, int] | None = None,
        precision: str | None = None,
        compute_unit: str | None = None,
    ) -> Scope:
        """Settle which rows belong together: one shape, precision and compute unit.

        Args:
            scenario: `stream` (a chunk with its window) or `clip` (bidirectional).
            video: Token rows and columns of a latent frame; needed only where the table holds several.
            precision: Needed only where the table holds several.
            compute_unit: Needed only where the table holds several.

        Raises:
            MissingRowError, TableError: The table has no such rows, or more than one possibility is left.
        """
        blocks = [row for row in self.rows if row.role == "block"]
        rows = self._only(blocks, "scenario", scenario)
        rows = self._only(rows, "precision", precision)
        rows = self._only(rows, "compute_unit", compute_unit)
        models = {_without_grid(row.shape) for row in rows}
        if len(models) > 1:
            raise TableError(
                f"the {scenario} rows of {self.name!r} belong to {len(models)} models or chunk lengths",
                remedy="keep one model per table",
            )
        grids = sorted({(row.height, row.width) for row in rows})
        if video is None and len(grids) > 1:
            sizes = ", ".join(video_size(*grid) for grid in grids)
            raise TableError(
                f"the {scenario} rows of {self.name!r} hold {len(grids)} video sizes: {sizes}",
                remedy=f"choose one, for example --video {video_size(*grids[0])}",
            )
        height, width = video or grids[0]
        return Scope(
            scenario=scenario,
            shape=dataclasses.replace(rows[0].shape, height=height, width=width),
            precision=rows[0].precision,
            compute_unit=rows[0].compute_unit,
        )

    def _only(self, rows: list[Row], field: str, value: str | None) -> list[Row]:
        """Keep the rows with a value; without one, insist that there is just one value."""
        there = sorted({getattr(row, field) for row in rows})
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
        return [row for row in rows if getattr(row, field) == value]

    def in_scope(self, scope: Scope, *, any_grid: bool = False) -> list[Row]:
        """Return what a forward pass of one scope is made of; with `any_grid`, of every video size beside it."""
        return [row for row in self._in_scope(scope, any_grid=any_grid) if row.role != "commit"]

    def commits_in_scope(self, scope: Scope) -> list[Row]:
        """Return the rows of one scope that say what committing a chunk takes; a table may have none."""
        return [row for row in self._in_scope(scope, any_grid=False) if row.role == "commit"]

    def _in_scope(self, scope: Scope, *, any_grid: bool) -> list[Row]:
        return [
            row
            for row in self.rows
            if (row.scenario, row.precision, row.compute_unit) == (scope.scenario, scope.precision, scope.compute_unit)
            and _without_grid(row.shape) == _without_grid(scope.shape)
            and (any_grid or row.shape == scope.shape)
        ]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LatencyTable:
        """Read a table's folder.

        Raises:
            TableError: A file is missing or malformed; the message names the file, the line and the value.
        """
        path = Path(folder)
        return cls(
            name=path.resolve().name,
            card=read_json(path / "card.json", Card, what=f"card of schema {SCHEMA}", error=TableError),
            rows=_parse_rows(read_text(path / "table.csv"), where=str(path / "table.csv")),
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the table's folder, all or nothing.

        Raises:
            TableError: The folder already holds a table; nothing is overwritten.
        """
        write_folder(Path(folder), self.card, self.to_csv())

    def to_csv(self) -> str:
        """Return `table.csv` as text; null stands as an empty cell."""
        text = io.StringIO()
        used = {column for row in self.rows for column in _stated(row)}
        columns = [column for column in COLUMNS if column in used]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_stated(row) for row in self.rows)
        return text.getvalue()

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame, one column per field of `Row`."""
        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(row) for row in self.rows], columns=list(COLUMNS))

    @classmethod
    def from_pandas(cls, name: str, card: Card, frame: pd.DataFrame) -> LatencyTable:
        """Check a data frame with the columns of `Row` and make it a table; missing values become null."""
        text = frame.to_csv(index=False)
        return cls(name=name, card=card, rows=_parse_rows(text, where=f"the data frame {name!r}"))


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


def open_table(name_or_folder: str) -> LatencyTable:
    """Load a table by its installed name, by the first words of that name, or by its folder.

    Raises:
        UnknownNameError: There is no such table and no such folder.
        TableError: The folder does not hold a valid table.
    """
    if name_or_folder and (os.sep in name_or_folder or Path(name_or_folder).is_dir()):
        if not Path(name_or_folder).is_dir():
            raise TableError(f"there is no table folder {name_or_folder!r}", remedy="check the path")
        return LatencyTable.load(name_or_folder)
    tables = installed_tables()
    matches = [name for name in tables if name == name_or_folder or name.startswith(name_or_folder + ".")]
    if len(matches) != 1:
        raise UnknownNameError("table", name_or_folder, tables)
    return LatencyTable.load(tables[matches[0]])


def installed_tables() -> dict[str, Path]:
    """Return every table that an installed distribution ships: name -> folder."""
    found = {}
    for name in registry.installed("tables"):
        for root in _roots(registry.load("tables", name)):
            found.update({card.parent.name: card.parent for card in sorted(root.glob("*/card.json"))})
    return found


def write_folder(folder: Path, card: object, rows: str) -> None:
    """Write `table.csv` and `card.json`, all or nothing.

    Raises:
        TableError: The folder already holds a table, or cannot be written.
    """
    refuse_existing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            new_card, new_rows = Path(scratch, "card.json"), Path(scratch, "table.csv")
            new_card.write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
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


def _roots(package: Any) -> Iterable[Path]:
    """Return the folders of a data package."""
    root = files(package)
    return [Path(str(entry)).parent for entry in root.iterdir() if entry.name == "schema.json"] or [Path(str(root))]


def _stated(row: Row) -> dict[str, Any]:
    """Return a row's cells, but not those of later columns that it leaves empty."""
    cells = dataclasses.asdict(row)
    return {column: value for column, value in cells.items() if value is not None or column not in _LATER}


def _without_grid(shape: Shape) -> Shape:
    return dataclasses.replace(shape, height=1, width=1)


def read_text(path: Path) -> str:
    """Read a file as UTF-8, with or without a byte-order mark.

    Raises:
        TableError: It is not there, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TableError(
            f"there is no file {str(path)!r}", remedy="a table folder holds table.csv and card.json"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{str(path)!r} cannot be read: {error}", remedy="check the file") from error


def _parse_rows(text: str, *, where: str) -> tuple[Row, ...]:
    reader = csv.DictReader(io.StringIO(text), restkey="", strict=True)
    try:
        check_columns(reader.fieldnames or (), where=where)
        return tuple(parse_row(cells, where=f"line {reader.line_num} of {where}") for cells in reader)
    except csv.Error as error:
        raise TableError(f"{where} is not a CSV file: {error}", remedy="correct the file") from error


def check_columns(columns: Iterable[str], *, where: str) -> None:
    """Raise unless these are the columns of a table's rows; optional ones may be missing."""
    found = set(columns)
    if missing := sorted(_REQUIRED - found):
        raise TableError(f"{where} lacks the column {missing[0]!r}", remedy="add it", missing=missing)
    if unknown := sorted(found - set(COLUMNS)):
        raise TableError(f"{where} has the unknown column {unknown[0]!r}", remedy="remove it", unknown=unknown)


def parse_row(cells: Mapping[str, str | None], *, where: str) -> Row:
    """Check the cells of one line and make them a row.

    Raises:
        TableError: It begins with `where` and names the cell.
    """
    if "" in cells or None in cells.values():
        raise TableError(f"{where} has too many or too few cells", remedy="correct the line")
    filled = {column: cell for column, cell in cells.items() if cell != ""}
    try:
        return msgspec.convert(filled, Row, strict=False)
    except (msgspec.ValidationError, S2SearchError) as error:
        raise TableError(f"{where}: {error}", remedy="correct the line") from error
