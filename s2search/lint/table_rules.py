"""Rules on the rows of a table: the times and bytes of each part, next to those of its kin."""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

from s2search import registry
from s2search.block import PRECISIONS, Block, Part, Shape, Stream
from s2search.errors import S2SearchError
from s2search.lint.base import UNITS_APART, Complaint, Rule
from s2search.lint.kin import slower_than_less_work, worlds_apart_from_most
from s2search.tables.card import Card
from s2search.tables.row import SHAPE_COLUMNS, Row
from s2search.tables.table import LatencyTable

_BITS = (0.5, 128.0)  # per parameter: beyond these no precision lies, and bytes are kilobytes, megabytes or bits
_PASS = ("scenario", *SHAPE_COLUMNS, "precision", "compute_unit")  # what the rows of one forward pass share
#: Parameters do not depend on the token grid.
_MODEL = attrgetter("part", "options", "channels", "heads", "feed_forward", "text_tokens", "text_channels")
_ROLES = {"down": "switch", "up": "switch", "stem": "fixed", "head": "fixed"}


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A table as its files give it: rows by line, with what they may contradict.

    `others` are tables that it could be a copy of; `samples_digest` is that of the raw samples beside it, if any.
    """

    name: str
    card: Card
    rows: Mapping[int, Row]
    others: tuple[LatencyTable, ...] = ()
    samples_digest: str | None = None
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    _parts: dict[tuple[str, str], Part | None] = dataclasses.field(default_factory=dict, repr=False)
    _kin: dict[tuple[str, ...], list[list[tuple[int, Row]]]] = dataclasses.field(default_factory=dict, repr=False)

    def part(self, row: Row) -> Part | None:
        """Return the installed part of a row, or none: a table may hold parts that are not installed."""
        name = row.part, row.options
        if name not in self._parts:
            self._parts[name] = _part(row)
        return self._parts[name]

    def kin(self, *fields: str) -> list[list[tuple[int, Row]]]:
        """Group rows that agree in these fields, once for all rules that ask for them."""
        if fields not in self._kin:
            groups: dict[tuple[object, ...], list[tuple[int, Row]]] = defaultdict(list)
            for key, numbered in zip(map(attrgetter(*fields), self.rows.values()), self._numbered, strict=True):
                groups[key].append(numbered)
            self._kin[fields] = list(groups.values())
        return self._kin[fields]

    @functools.cached_property
    def _numbered(self) -> list[tuple[int, Row]]:
        return list(self.rows.items())


def _negative(table: Suspect) -> Iterator[Complaint]:
    for line, row in table.rows.items():
        if row.latency_ms <= 0 and row.latency_provenance == "measured":
            yield line, f"{row.label} is called measured and takes {row.latency_ms:g} ms; no operation takes zero time"


def _non_monotone(table: Suspect) -> Iterator[Complaint]:
    same = ("role", "part", "options", "scenario", "heads", "text_channels", "precision", "compute_unit")
    for group in table.kin(*same):
        for (line, row), (other_line, other) in slower_than_less_work(group):
            yield (
                line,
                f"{row.label} at {row.shape.grid} takes {row.latency_ms:g} ms, and line {other_line} at "
                f"{other.shape.grid}, which is less work, takes {other.latency_ms:g} ms",
            )


def _units(table: Suspect) -> Iterator[Complaint]:
    for what, expected in (("latency", "ms"), ("memory", "bytes")):
        if (stated := table.units.get(what, expected)) != expected:
            yield None, f"the card says {what} in {stated[:20]!r}; a table's {what} is in {expected}"
    parameters_of: dict[tuple[object, ...], int] = {}
    for line, row in table.rows.items():
        for field, value in (("latency_mean_ms", row.latency_mean_ms), ("latency_std_ms", row.latency_std_ms)):
            small = field == "latency_std_ms"  # a tiny deviation is no wrong unit
            if (
                value
                and row.latency_ms > 0
                and not ((0 if small else 1 / UNITS_APART) < value / row.latency_ms < UNITS_APART)
            ):
                yield line, f"{field} of {row.label} is {value:g} where latency_ms is {row.latency_ms:g}"
        if not row.weight_bytes or (part := table.part(row)) is None:
            continue
        if (model := _MODEL(row)) not in parameters_of:
            parameters_of[model] = _parameters(part, row.shape)
        if (parameters := parameters_of[model]) and not _BITS[0] <= (
            bits := 8 * row.weight_bytes / parameters
        ) <= _BITS[1]:
            yield (
                line,
                f"weight_bytes of {row.label} is {row.weight_bytes:,}, which is {bits:.3g} bits for each parameter",
            )
    for group in table.kin("role", "part", "options", "precision", "compute_unit", "channels"):
        for (line, row), (_, other) in worlds_apart_from_most([pair for pair in group if pair[1].latency_ms > 0]):
            yield (
                line,
                f"{row.label} at {row.shape.grid} takes {row.latency_ms:g} ms, and at {other.shape.grid} "
                f"{other.latency_ms:g} ms: further apart than the sizes explain",
            )


def _missing_switches(table: Suspect) -> Iterator[Complaint]:
    for group in table.kin(*_PASS):
        blocks = [(line, row) for line, row in group if row.role == "block"]
        if len({_stream(table.part(row), row) for _, row in blocks}) > 1:
            yield from _missing(("down", "up"), blocks, group)


def _missing_fixed(table: Suspect) -> Iterator[Complaint]:
    for group in table.kin(*_PASS):
        yield from _missing(("stem", "head"), [pair for pair in group if pair[1].role == "block"], group)


def _missing(
    parts: tuple[str, ...], blocks: list[tuple[int, Row]], group: list[tuple[int, Row]]
) -> Iterator[Complaint]:
    there = {row.part for _, row in group}
    if blocks and (missing := [part for part in parts if part not in there]):
        line, row = blocks[0]
        yield (
            line,
            f"the {row.scenario} rows at {row.shape.grid}, {row.precision}, {row.compute_unit}, of which this is the "
            f"first block, have no {' and no '.join(missing)}",
        )


def _wrong_role(table: Suspect) -> Iterator[Complaint]:
    blocks = {row.part for row in table.rows.values() if row.role == "block"} | set(registry.installed("blocks"))
    for line, row in table.rows.items():
        expected = _ROLES.get(row.part, "block" if row.part in blocks else row.role)
        if row.role != expected and (row.role, expected) != ("commit", "block"):
            harm = (
                "every layout would pay for it, beside its layers" if row.role == "fixed" else "plans would misuse it"
            )
            yield line, f"{row.part_label} is a {expected} part, and its role says {row.role}: {harm}"


def _mixed_scenarios(table: Suspect) -> Iterator[Complaint]:
    for line, row in table.rows.items():
        if row.role not in ("block", "commit"):
            continue
        if row.scenario == "clip" and row.context_frames:
            yield line, f"{row.label} is a clip row with {row.context_frames} context frames; a clip has no past"
        elif row.scenario == "clip" and row.state_bytes:
            yield (
                line,
                f"{row.label} is a clip row with {row.state_bytes:,} bytes of streaming state: memory of a stream",
            )
        elif (
            row.scenario == "stream"
            and row.context_frames
            and not row.state_bytes
            and _keeps_state(table.part(row), row)
        ):
            yield line, f"{row.label} is a stream row without streaming state: memory of a clip"


def _part(row: Row) -> Part | None:
    for family in ("blocks", "parts"):
        try:
            if row.part in registry.installed(family):
                part = registry.create(family, row.part_label)
                return part if isinstance(part, Part) else None
        except S2SearchError:
            return None
    return None


def _parameters(part: Part, shape: Shape) -> int:
    """Count the parameters of a part; 0 at a shape that is none for it."""
    try:
        return part.parameters(shape).count
    except S2SearchError:
        return 0


def _keeps_state(part: Part | None, row: Row) -> bool:
    """Whether a block has streaming state at a row's shape; what is not installed may have none."""
    try:
        precision = PRECISIONS.get(row.precision, PRECISIONS["float16"])
        return isinstance(part, Block) and part.state_bytes(row.shape, precision) > 0
    except S2SearchError:
        return False  # this shape is none for the block


def _stream(part: Part | None, row: Row) -> Stream | str:
    """Return the stream of a block; one that is not installed counts as a stream of its own."""
    return part.stream if isinstance(part, Block) else row.part


ROW_RULES: tuple[Rule[Suspect], ...] = (
    Rule(name="negative_latency", check=_negative, remedy="measure the row again, or state its true provenance"),
    Rule(
        name="non_monotone",
        check=_non_monotone,
        remedy="measure both rows again in one campaign; if they stay apart, state the deviation in latency_std_ms",
    ),
    Rule(
        name="unit_mismatch", check=_units, remedy="convert latencies to milliseconds and memory to bytes in every row"
    ),
    Rule(
        name="missing_switch_rows",
        check=_missing_switches,
        remedy="measure down and up at this shape; without them no plan may use both resolutions",
        misleads=False,  # such a plan is refused
    ),
    Rule(
        name="missing_fixed_rows",
        check=_missing_fixed,
        remedy="measure stem and head at this shape, or add rows of 0 ms that say where they are included",
        misleads=False,  # every plan is refused
    ),
    Rule(name="wrong_role", check=_wrong_role, remedy="correct the role of the row"),
    Rule(
        name="mixed_scenarios",
        check=_mixed_scenarios,
        remedy="take latency and memory from the same scenario, or measure the row again",
    ),
)
