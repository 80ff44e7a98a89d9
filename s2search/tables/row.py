"""A row of a table: one part at one shape, with its latency and its memory; and rows as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from s2search import registry
from s2search.block import Scenario, Shape
from s2search.dates import span
from s2search.document import separator
from s2search.errors import S2SearchError, TableError
from s2search.tables.card import ProvenanceKind

Role = Literal["block", "commit", "switch", "fixed"]
ROLES: tuple[Role, ...] = ("block", "commit", "switch", "fixed")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Size = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


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
_COUNTS = {f.name for f in dataclasses.fields(Row) if f.type in ("Count", "Size", "Count | None")}
_REQUIRED = {f.name for f in dataclasses.fields(Row) if f.default is dataclasses.MISSING}


def rows_as_csv(rows: Sequence[Row]) -> str:
    """Return `table.csv` as text; null stands as an empty cell."""
    text = io.StringIO()
    used = {column for row in rows for column in stated_cells(row)}
    writer = csv.DictWriter(text, [column for column in COLUMNS if column in used], lineterminator="\n")
    writer.writeheader()
    writer.writerows(stated_cells(row) for row in rows)
    return text.getvalue()


def stated_cells(row: Row) -> dict[str, Any]:
    """Return a row's cells, but not those of later columns that it leaves empty."""
    cells = dataclasses.asdict(row)
    return {column: value for column, value in cells.items() if value is not None or column not in _LATER}


def parse_rows(text: str, *, where: str) -> tuple[Row, ...]:
    """Read the text of a `table.csv`.

    Raises:
        TableError: It names the line, and begins with `where`.
    """
    if not text.strip():
        raise TableError(f"{where} is empty", remedy="measure the table again, or restore the file")
    reader = csv.DictReader(io.StringIO(text), restkey="", strict=True, delimiter=separator(text))
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
    filled = {column: _as_count(cell) if column in _COUNTS else cell for column, cell in cells.items() if cell != ""}
    try:
        return msgspec.convert(filled, Row, strict=False)
    except (msgspec.ValidationError, S2SearchError) as error:
        raise TableError(f"{where}: {error}", remedy="correct the line") from error


def _as_count(cell: str | None) -> str | None:
    """Return a cell without the `.0` that data frames give to whole numbers."""
    whole, point, rest = (cell or "").partition(".")
    return whole if point and not rest.strip("0") else cell
