"""Rules on the rows of a table: the times and bytes of each part, next to those of its kin."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2search import registry
from s2search.block import PRECISIONS, Block, Part, Stream
from s2search.errors import S2SearchError
from s2search.lint.base import UNITS_APART, Complaint, Rule
from s2search.lint.relations import slower_than_less_work, worlds_apart_from_most
from s2search.tables.card import Card
from s2search.tables.columns import Bool, Column, Groups, Int
from s2search.tables.placement import is_misplaced, unit_asked_by
from s2search.tables.row import SHAPE_COLUMNS, Row
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable

_BITS = (0.5, 128.0)  # per parameter: beyond these no precision lies, and bytes are kilobytes, megabytes or bits
_PASS = ("scenario", *SHAPE_COLUMNS, "precision", "compute_unit")  # what the rows of one forward pass share
#: Parameters do not depend on the token grid.
_MODEL = ("part", "options", "channels", "heads", "feed_forward", "text_tokens", "text_channels")
_FAMILIES = ("blocks", "parts")
_ROLES = {"down": "switch", "up": "switch", "stem": "fixed", "head": "fixed"}


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A table as its files give it: rows and their lines, with what they may contradict.

    `others` are tables that it could be a copy of; `samples_digest` is that of the raw samples beside it, if any.
    """

    name: str
    card: Card
    rows: Rows
    line_N: Int
    others: tuple[LatencyTable, ...] = ()
    samples_digest: str | None = None
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    _parts: dict[tuple[str, str], Part | None] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, table: LatencyTable, *, others: tuple[LatencyTable, ...] = ()) -> Suspect:
        """Return a table in memory; its rows count from line 2, as in the file it would make."""
        lines = np.arange(2, 2 + len(table.rows))
        return cls(name=table.name, card=table.card, rows=table.rows, line_N=lines, others=others)

    def numbered(self, chosen: Bool | Int) -> Iterator[tuple[int, Row]]:
        """Return some rows with their lines: those of a mask, or by their places."""
        return zip(self.line_N[chosen].tolist(), self.rows.take(chosen), strict=True)

    def cells(self, chosen: Int, *columns: Column) -> Iterator[tuple[Any, ...]]:
        """Return the lines of some rows with their cells in some columns, without making a `Row` of each."""
        return zip(self.line_N[chosen].tolist(), *(column.take(chosen).cells for column in columns), strict=True)

    def part(self, part: str, options: str) -> Part | None:
        """Return an installed part, or none: a table may hold parts that are not installed."""
        if (part, options) not in self._parts:
            self._parts[part, options] = _part(part, options)
        return self._parts[part, options]


def _negative(table: Suspect) -> Iterator[Complaint]:
    rows = table.rows
    for line, row in table.numbered(rows.have(latency_provenance="measured") & (rows.numbers("latency_ms") <= 0)):
        yield line, f"{row.label} is called measured and takes {row.latency_ms:g} ms; no operation takes zero time"


def _non_monotone(table: Suspect) -> Iterator[Complaint]:
    same = ("role", "part", "options", "scenario", "heads", "text_channels", "precision", "compute_unit")
    ones, others = slower_than_less_work(table.rows, table.rows.groups(*same))
    labels = table.rows.labels.take(ones).cells
    here, there = (table.cells(places, table.rows.grids, table.rows.columns["latency_ms"]) for places in (ones, others))
    for label, (line, grid, ms), (other_line, other_grid, other_ms) in zip(labels, here, there, strict=True):
        yield (
            line,
            f"{label} at {grid} takes {ms:g} ms, and line {other_line} at {other_grid}, which is less work, takes "
            f"{other_ms:g} ms",
        )


def _units(table: Suspect) -> Iterator[Complaint]:
    for what, expected in (("latency", "ms"), ("memory", "bytes")):
        if (stated := table.units.get(what, expected)) != expected:
            yield None, f"the card says {what} in {stated[:20]!r}; a table's {what} is in {expected}"
    latency_ms_N = table.rows.numbers("latency_ms")
    # A tiny deviation is no wrong unit.
    for field, least in (("latency_mean_ms", 1 / UNITS_APART), ("latency_std_ms", 0.0)):
        value_N = table.rows.numbers(field)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio_N = value_N / latency_ms_N
        apart_N = (latency_ms_N > 0) & (value_N != 0) & ((ratio_N <= least) | (ratio_N >= UNITS_APART))
        for line, row in table.numbered(apart_N):
            yield line, f"{field} of {row.label} is {getattr(row, field):g} where latency_ms is {row.latency_ms:g}"
    yield from _bits(table)
    timed = np.flatnonzero(latency_ms_N > 0)
    rows = table.rows.take(timed)
    same = rows.groups("role", "part", "options", "precision", "compute_unit", "channels")
    ones, others = worlds_apart_from_most(rows, same)
    for (line, row), other in zip(table.numbered(timed[ones]), rows.take(others), strict=True):
        yield (
            line,
            f"{row.label} at {row.grid} takes {row.latency_ms:g} ms, and at {other.grid} "
            f"{other.latency_ms:g} ms: further apart than the sizes explain",
        )


def _bits(table: Suspect) -> Iterator[Complaint]:
    installed = {part for family in _FAMILIES for part in registry.installed(family)}
    known_N = table.rows.where(installed.__contains__, "part")
    weighed = np.flatnonzero(known_N & (table.rows.numbers("weight_bytes") > 0))
    rows = table.rows.take(weighed)
    models = rows.groups(*_MODEL)
    parameters_G = np.array([_parameters(table, row) for row in rows.take(models.first_G)], np.float64)
    with np.errstate(divide="ignore"):
        bits_N = 8 * rows.numbers("weight_bytes") / parameters_G[models.group_N]
    odd = np.flatnonzero(np.isfinite(bits_N) & ~((bits_N >= _BITS[0]) & (bits_N <= _BITS[1])))
    for bits, (line, row) in zip(bits_N[odd].tolist(), table.numbered(weighed[odd]), strict=True):
        yield (
            line,
            f"weight_bytes of {row.label} is {row.weight_bytes:,}, which is {bits:.3g} bits for each parameter",
        )


def _missing_switches(table: Suspect) -> Iterator[Complaint]:
    return _missing(table, ("down", "up"), least_streams=2)


def _missing_fixed(table: Suspect) -> Iterator[Complaint]:
    return _missing(table, ("stem", "head"), least_streams=1)


def _missing(table: Suspect, parts: Sequence[str], *, least_streams: int) -> Iterator[Complaint]:
    """Yield the first block of each forward pass that lacks parts, where blocks run in so many streams."""
    groups = table.rows.groups(*_PASS)
    there_PG = [groups.have(table.rows.have(part=part)) for part in parts]
    lack_G = ~np.logical_and.reduce(there_PG)
    blocks = np.flatnonzero(table.rows.have(role="block") & lack_G[groups.group_N])
    group_N, rows = groups.group_N[blocks], table.rows.take(blocks)
    stream_N = rows.told(lambda *part: _stream(table.part(*part), *part), "part", "options").code_N
    different = Groups.of(group_N * (1 + stream_N.max(initial=0)) + stream_N).first_G
    streams_G = np.bincount(group_N[different], minlength=len(groups))
    with_blocks, first = np.unique(group_N, return_index=True)
    lacking = streams_G[with_blocks] >= least_streams
    told = (table.rows.columns[name] for name in ("scenario", "precision", "compute_unit"))
    first_blocks = table.cells(blocks[first[lacking]], table.rows.grids, *told)
    there = zip(*(there_G[with_blocks[lacking]].tolist() for there_G in there_PG), strict=True)
    for (line, grid, scenario, precision, compute_unit), has in zip(first_blocks, there, strict=True):
        missing = " and no ".join(itertools.compress(parts, map(operator.not_, has)))
        yield (
            line,
            f"the {scenario} rows at {grid}, {precision}, {compute_unit}, of which this is the first block, have no "
            f"{missing}",
        )


def _wrong_role(table: Suspect) -> Iterator[Complaint]:
    is_block_N = table.rows.have(role="block")
    blocks = {*table.rows.take(is_block_N).different("part"), *registry.installed("blocks")}

    def expected(role: str, part: str) -> str:
        return _ROLES.get(part, "block" if part in blocks else role)

    odd = np.flatnonzero(~is_block_N | table.rows.where(_ROLES.__contains__, "part"))
    for line, row in table.numbered(odd):
        kind = expected(row.role, row.part)
        if row.role != kind and (row.role, kind) != ("commit", "block"):
            harm = (
                "every layout would pay for it, beside its layers" if row.role == "fixed" else "plans would misuse it"
            )
            yield line, f"{row.part_label} is a {kind} part, and its role says {row.role}: {harm}"


def _mixed_scenarios(table: Suspect) -> Iterator[Complaint]:
    rows = table.rows
    block_N, clip_N = rows.have(role="block") | rows.have(role="commit"), rows.have(scenario="clip")
    past_N, state_N = rows.numbers("context_frames") > 0, rows.numbers("state_bytes") > 0
    for line, row in table.numbered(block_N & clip_N & past_N):
        yield line, f"{row.label} is a clip row with {row.context_frames} context frames; a clip has no past"
    for line, row in table.numbered(block_N & clip_N & ~past_N & state_N):
        yield line, f"{row.label} is a clip row with {row.state_bytes:,} bytes of streaming state: memory of a stream"
    for line, row in table.numbered(block_N & ~clip_N & past_N & ~state_N):
        if _keeps_state(table.part(row.part, row.options), row):
            yield line, f"{row.label} is a stream row without streaming state: memory of a clip"


def _misplaced(table: Suspect) -> Iterator[Complaint]:
    """Yield rows that another unit did than the one they are filed under; `all` and what is not known may be right."""
    misplaced_N = table.rows.where(lambda unit, ran: is_misplaced(unit_asked_by(unit), ran), "compute_unit", "unit_ran")
    for line, row in table.numbered(misplaced_N):
        asked = f" and was asked to run on {row.unit_asked}" if row.unit_asked else ""
        yield line, f"{row.label} at {row.grid} is filed under {row.compute_unit}{asked}, and ran on {row.unit_ran}"


def _part(part: str, options: str) -> Part | None:
    for family in _FAMILIES:
        try:
            if part in registry.installed(family):
                found = registry.create(family, registry.label_of(part, options))
                return found if isinstance(found, Part) else None
        except S2SearchError:
            return None
    return None


def _parameters(table: Suspect, row: Row) -> int:
    """Count the parameters of an installed part; 0 at a shape that is none for it."""
    part = table.part(row.part, row.options)
    try:
        return 0 if part is None else part.parameters(row.shape).count
    except S2SearchError:
        return 0


def _keeps_state(part: Part | None, row: Row) -> bool:
    """Whether a block has streaming state at a row's shape; what is not installed may have none."""
    try:
        precision = PRECISIONS.get(row.precision, PRECISIONS["float16"])
        return isinstance(part, Block) and part.state_bytes(row.shape, precision) > 0
    except S2SearchError:
        return False  # this shape is none for the block


def _stream(part: Part | None, name: str, _options: str) -> Stream | str:
    """Return the stream of a block; one that is not installed counts as a stream of its own."""
    return part.stream if isinstance(part, Block) else name


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
        name="misplaced_row",
        check=_misplaced,
        remedy="time it where it runs on that unit, or file it under the unit that it ran on",
    ),
    Rule(
        name="mixed_scenarios",
        check=_mixed_scenarios,
        remedy="take latency and memory from the same scenario, or measure the row again",
    ),
)
