"""A row of a table: one part at one shape, with its latency and its memory; and rows as CSV."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import itertools
import typing
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from s2search import registry
from s2search.block import Scenario, Shape
from s2search.dates import span
from s2search.errors import S2SearchError, TableError
from s2search.tables.card import ProvenanceKind
from s2search.tables.records import Records, read_records

Role = Literal["block", "commit", "switch", "fixed"]
ROLES: tuple[Role, ...] = ("block", "commit", "switch", "fixed")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Size = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


@dataclass(frozen=True, kw_only=True, slots=True)
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
    order: Count | None = None
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
        if self.launch_us is not None and not 0 <= self.launch_us <= 1000 * _MOST_MS:
            raise TableError(
                f"launch_us of {self.label} is {self.launch_us}",
                allowed=f"microseconds from 0 to {1000 * _MOST_MS:g}",
                remedy="measure the row again or leave it empty",
            )
        if self.measured_at is not None and span(self.measured_at) is None:
            raise TableError(
                f"measured_at of {self.label} is {self.measured_at[:60]!r}",
                allowed="ISO 8601, such as 2026-11-21T12:00:00+00:00",
                remedy="correct it or leave it empty",
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
        least_size = min(self.frames, self.height, self.width, self.channels, self.heads, self.context_frames + 1)
        if min(least_size, self.feed_forward, self.text_tokens, self.text_channels) < 1 or self.channels % self.heads:
            self.shape  # noqa: B018  a shape that contradicts itself is refused here, with its line
        if self.samples == 0 and self.latency_provenance == "measured":
            raise TableError(f"{self.label} is called measured but has no samples", remedy="state its true provenance")

    @property
    def part_label(self) -> str:
        """The part as people write it."""
        return registry.label_of(self.part, self.options)

    @property
    def label(self) -> str:
        """What was timed, as people write it: the part, or `lcha commit`."""
        return f"{self.part_label} commit" if self.role == "commit" else self.part_label

    @property
    def shape(self) -> Shape:
        """The shape of the measured call."""
        return Shape(**{name: getattr(self, name) for name in SHAPE_COLUMNS})

    @property
    def grid(self) -> str:
        """The token grid of the measured call, as people write it: see `Shape.grid`."""
        return f"{self.frames}x{self.height}x{self.width}"

    @property
    def key(self) -> tuple[object, ...]:
        """What makes a row unique in its table."""
        part = f"{self.part} commit" if self.role == "commit" else self.part
        return part, *_PLACE(self)


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
_FIELDS = {field.name: field for field in dataclasses.fields(Row)}
COLUMNS = tuple(_FIELDS)
SHAPE_COLUMNS = tuple(field.name for field in dataclasses.fields(Shape))
_PLACE = attrgetter("options", "scenario", "precision", "compute_unit", *SHAPE_COLUMNS)
_LATER = ("latency_raw_ms", "latency_error_ms", "launch_us")  # a table without them keeps its bytes and its digest
_COUNTS = {f.name for f in _FIELDS.values() if f.type in ("Count", "Size", "Count | None")}
_REQUIRED = {f.name for f in _FIELDS.values() if f.default is dataclasses.MISSING}


def rows_as_csv(rows: Sequence[Row]) -> str:
    """Return `table.csv` as text; null stands as an empty cell."""
    text = io.StringIO()
    columns = [(name, cells) for name, cells in _columns(rows) if name not in _LATER or set(cells) != {None}]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    writer.writerows(zip(*(cells for _, cells in columns), strict=True))
    return text.getvalue()


def rows_as_json(rows: Sequence[Row]) -> list[str]:
    """Return each row as JSON, its keys sorted, without those of later columns that it leaves empty."""
    pattern, varying = "{", []
    for n, (name, cells) in enumerate(sorted(_columns(rows))):
        begin, texts = f'{"," if n else ""}"{name}":', _json_texts(cells)  # the first is none of the later columns
        if name in _LATER and None in cells:
            begin, texts = "", ["" if text == "null" else begin + text for text in texts]
        if len(set(texts)) == 1:
            pattern += (begin + texts[0]).replace("%", "%%")
        else:
            pattern += begin + "%s"
            varying.append(texts)
    pattern += "}"
    return list(map(pattern.__mod__, zip(*varying, strict=True))) if varying else [pattern % ()] * len(rows)


def _columns(rows: Sequence[Row]) -> list[tuple[str, list[Any]]]:
    return [(name, list(map(attrgetter(name), rows))) for name in COLUMNS]


def _json_texts(cells: Sequence[Any]) -> list[str]:
    """Return each value as JSON; numbers all at once, and a text once however often it stands there."""
    if str in set(map(type, cells)):
        text = {cell: msgspec.json.encode(cell).decode() for cell in set(cells)}
        return [text[cell] for cell in cells]
    return msgspec.json.encode(cells).decode()[1:-1].split(",")


def parse_rows(text: str, *, where: str) -> tuple[Row, ...]:
    """Read the text of a `table.csv`.

    Raises:
        TableError: It names the line, and begins with `where`.
    """
    if not text.strip():
        raise TableError(f"{where} is empty", remedy="measure the table again, or restore the file")
    rows: list[Row] = []
    try:
        header, blocks = read_records(text)
        check_columns(header, where=where)
        for block in blocks:
            found = rows_of(block, where=where)
            wrong = [(n, row) for n, row in zip(block.number_N, found, strict=True) if isinstance(row, TableError)]
            wrong += [(number, _ragged(f"line {number} of {where}")) for number in block.ragged]
            if wrong:
                raise min(wrong, key=lambda numbered: numbered[0])[1]
            rows += (row for row in found if isinstance(row, Row))
    except csv.Error as error:
        raise TableError(f"{where} is not a CSV file: {error}", remedy="correct the file") from error
    return tuple(rows)


def rows_of(block: Records, *, where: str = "") -> Sequence[Row | TableError]:
    """Return the rows that lines hold, or why one holds none: all at once, and one by one where that fails."""
    try:
        return _made(len(block.number_N), {name: _values(name, block.cells.get(name)) for name in COLUMNS})
    except (LookupError, msgspec.ValidationError, S2SearchError):
        found: list[Row | TableError] = []
        for n, number in enumerate(block.number_N):
            try:
                found.append(parse_row(block.line(n), where=f"line {number} of {where}" if where else ""))
            except TableError as error:
                found.append(error)
        return found


def _values(name: str, cells: Sequence[str] | None) -> Iterable[Any]:
    """Return what the cells of a column mean, each different one read once; a column may be missing.

    Raises:
        LookupError: A cell is empty that must not be.
        msgspec.ValidationError: A cell is none of this column.
    """
    field = _FIELDS[name]
    if cells is None:
        return itertools.repeat(field.default)
    different = {cell: _as_count(cell) if name in _COUNTS else cell for cell in set(cells) - {""}}
    read = msgspec.convert(list(different.values()), list[_types()[name]], strict=False)  # type: ignore[misc]
    meaning = dict(zip(different, read, strict=True))
    if field.default is not dataclasses.MISSING:
        meaning[""] = field.default
    return map(meaning.__getitem__, cells)


def _made(count: int, values: Mapping[str, Iterable[Any]]) -> list[Row]:
    """Return checked rows of values by column; their slots are filled column by column, which takes no Python."""
    rows = [object.__new__(Row) for _ in range(count)]
    for name, cells in values.items():
        deque(map(Row.__dict__[name].__set__, rows, cells), maxlen=0)
    for row in rows:
        row.__post_init__()
    return rows


@functools.cache
def _types() -> dict[str, Any]:
    return typing.get_type_hints(Row, include_extras=True)


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
        raise _ragged(where)
    filled = {column: _as_count(cell) if column in _COUNTS else cell for column, cell in cells.items() if cell != ""}
    try:
        return msgspec.convert(filled, Row, strict=False)
    except (msgspec.ValidationError, S2SearchError) as error:
        raise TableError(f"{where}: {error}", remedy="correct the line") from error


def _ragged(where: str) -> TableError:
    return TableError(f"{where} has too many or too few cells", remedy="correct the line")


def _as_count(cell: str | None) -> str | None:
    """Return a cell without the `.0` that data frames give to whole numbers."""
    whole, point, rest = (cell or "").partition(".")
    return whole if point and not rest.strip("0") else cell
