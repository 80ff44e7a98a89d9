"""A row of a table: one part at one shape, with its latency and its memory."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Literal

import msgspec

from s2search import registry
from s2search.block import Scenario, Shape
from s2search.dates import span
from s2search.errors import S2SearchError, TableError
from s2search.tables.card import ProvenanceKind
from s2search.tables.placement import is_share_text

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
    both are null where nothing was measured. `unit_asked` is the unit that was asked for (`any` where the runtime might
    choose), and `unit_ran` the share of the work that each unit did, such as `neural_engine:0.97,cpu:0.03`; null where
    it is not known.

    `weight_bytes`, `state_bytes` and `peak_bytes` are what the part is made of: stored weights, streaming state with a
    full window, activations at the worst moment. What a process really takes is measured apart, where it is: by how
    much `memory_counter` says that it grew since before the row was loaded, when it was loaded (`memory_load_bytes`),
    after the first call, when calls had become steady, and at most. `resident_bytes` is what a layout holds for each
    such row, all calls long, where whole packages corrected it; null where that is weights and state.
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
    unit_asked: str | None = None
    unit_ran: str | None = None
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
    resident_bytes: Count | None = None
    memory_load_bytes: Count | None = None
    memory_first_bytes: Count | None = None
    memory_steady_bytes: Count | None = None
    memory_peak_bytes: Count | None = None
    memory_counter: str | None = None
    latency_provenance: ProvenanceKind
    bytes_provenance: ProvenanceKind
    note: str = ""

    def __post_init__(self) -> None:
        for field in LATENCY_COLUMNS:
            value = getattr(self, field)
            if value is None:
                continue
            least = LEAST_BLOCK_MS if field == "latency_ms" and self.role == "block" else 0.0
            if not least <= value <= MOST_MS:
                raise TableError(
                    f"{field} of {self.label} is {value}",
                    allowed=f"milliseconds from {least:g} to {MOST_MS:g}",
                    remedy="measure the row again or remove it",
                )
        if self.launch_us is not None and not 0 <= self.launch_us <= 1000 * MOST_MS:
            raise TableError(
                f"launch_us of {self.label} is {self.launch_us}",
                allowed=f"microseconds from 0 to {1000 * MOST_MS:g}",
                remedy="measure the row again or leave it empty",
            )
        if self.measured_at is not None and span(self.measured_at) is None:
            raise TableError(
                f"measured_at of {self.label} is {self.measured_at[:60]!r}",
                allowed="ISO 8601, such as 2026-11-21T12:00:00+00:00",
                remedy="correct it or leave it empty",
            )
        if not is_share_text(self.unit_ran):
            raise TableError(
                f"unit_ran of {self.label} is {str(self.unit_ran)[:60]!r}",
                allowed="units with their shares, 1 in all, such as neural_engine:0.97,cpu:0.03",
                remedy="correct it or leave it empty",
            )
        if self.memory_counter is None and any(getattr(self, field) is not None for field in MEMORY_COLUMNS):
            raise TableError(
                f"memory of {self.label} was measured, and memory_counter is empty",
                allowed="the counter, such as phys_footprint",
                remedy="say which counter it was, or leave its memory empty",
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
    def held_bytes(self) -> int:
        """What a layout holds for this row all calls long: weights and state, or what whole packages say."""
        return self.weight_bytes + self.state_bytes if self.resident_bytes is None else self.resident_bytes

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
        return grid(self.frames, self.height, self.width)

    @property
    def key(self) -> tuple[object, ...]:
        """What makes a row unique in its table."""
        part = f"{self.part} commit" if self.role == "commit" else self.part
        return part, *_PLACE(self)


def grid(frames: int, height: int, width: int) -> str:
    """Return a token grid as people write it."""
    return f"{frames}x{height}x{width}"


LEAST_BLOCK_MS = 0.001  # a block below the microsecond that plans count in would be free
MOST_MS = 1e9
MEMORY_COLUMNS = ("memory_load_bytes", "memory_first_bytes", "memory_steady_bytes", "memory_peak_bytes")
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
KEY = ("options", "scenario", "precision", "compute_unit", *SHAPE_COLUMNS)
_PLACE = attrgetter(*KEY)
COUNT_COLUMNS = {f.name for f in _FIELDS.values() if f.type in ("Count", "Size", "Count | None")}
FLOAT_COLUMNS = (*LATENCY_COLUMNS, "launch_us")
DEFAULTS = {f.name: f.default for f in _FIELDS.values() if f.default is not dataclasses.MISSING}
COLUMN_TYPES = typing.get_type_hints(Row, include_extras=True)
_REQUIRED = set(COLUMNS) - DEFAULTS.keys()


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
        raise ragged(where)
    filled = {name: as_count(cell) if name in COUNT_COLUMNS else cell for name, cell in cells.items() if cell != ""}
    try:
        return msgspec.convert(filled, Row, strict=False)
    except (msgspec.ValidationError, S2SearchError) as error:
        raise TableError(f"{where}: {error}", remedy="correct the line") from error


def ragged(where: str) -> TableError:
    """Return the error that a line has too many or too few cells."""
    return TableError(f"{where} has too many or too few cells", remedy="correct the line")


def as_count(cell: str | None) -> str | None:
    """Return a cell without the `.0` that data frames give to whole numbers."""
    whole, point, rest = (cell or "").partition(".")
    return whole if point and not rest.strip("0") else cell
