"""Rules on the rows of a table: the times and bytes of each part, next to those of its kin."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from s2search import registry
from s2search.block import PRECISIONS, Block, Part, Stream
from s2search.errors import S2SearchError
from s2search.lint.base import Complaint, Rule
from s2search.tables.card import Card
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable

_SIZES = ("frames", "height", "width", "context_frames", "channels", "feed_forward", "text_tokens")
_NOISE = 0.05  # of a latency, where no deviation is stated
_DEVIATIONS = 3.0
UNITS_APART = 100.0  # beyond any spread and below the 1000 between two units
_BITS = (0.5, 128.0)  # per parameter: beyond these no precision lies, and bytes are kilobytes, megabytes or bits
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

    def kin(self, *fields: str) -> list[list[tuple[int, Row]]]:
        """Group rows that agree in these fields."""
        groups: dict[tuple[object, ...], list[tuple[int, Row]]] = defaultdict(list)
        for line, row in self.rows.items():
            groups[tuple(getattr(row, field) for field in fields)].append((line, row))
        return list(groups.values())


def _negative(table: Suspect) -> Iterator[Complaint]:
    for line, row in table.rows.items():
        if row.latency_ms <= 0 and row.latency_provenance == "measured":
            yield line, f"{row.label} is called measured and takes {row.latency_ms:g} ms; no operation takes zero time"


def _non_monotone(table: Suspect) -> Iterator[Complaint]:
    same = ("role", "part", "options", "scenario", "heads", "text_channels", "precision", "compute_unit")
    for group in table.kin(*same):
        for line, row in group:
            for other_line, other in group:
                if (
                    row.latency_ms > 0
                    and _larger(row, other)
                    and other.latency_ms - row.latency_ms > _noise_ms(row, other)
                ):
                    yield (
                        line,
                        f"{row.label} at {row.shape.grid} takes {row.latency_ms:g} ms, and line {other_line} at "
                        f"{other.shape.grid}, which is less work, takes {other.latency_ms:g} ms",
                    )
                    break


def _units(table: Suspect) -> Iterator[Complaint]:
    for what, expected in (("latency", "ms"), ("memory", "bytes")):
        if (stated := table.units.get(what, expected)) != expected:
            yield None, f"the card says {what} in {stated[:20]!r}; a table's {what} is in {expected}"
    for line, row in table.rows.items():
        for field in ("latency_mean_ms", "latency_std_ms"):
            value = getattr(row, field)
            small = field == "latency_std_ms"  # a tiny deviation is no wrong unit
            if (
                value
                and row.latency_ms > 0
                and not ((0 if small else 1 / UNITS_APART) < value / row.latency_ms < UNITS_APART)
            ):
                yield line, f"{field} of {row.label} is {value:g} where latency_ms is {row.latency_ms:g}"
        parameters = _parameters(row)
        if parameters and row.weight_bytes and not _BITS[0] <= (bits := 8 * row.weight_bytes / parameters) <= _BITS[1]:
            yield (
                line,
                f"weight_bytes of {row.label} is {row.weight_bytes:,}, which is {bits:.3g} bits for each parameter",
            )
    for group in table.kin("role", "part", "options", "precision", "compute_unit", "channels"):
        timed = [(line, row) for line, row in group if row.latency_ms > 0]
        for i, (line, row) in enumerate(timed):
            odd = [other for j, (_, other) in enumerate(timed) if j != i and _worlds_apart(row, other)]
            # Of just two rows either may be wrong; the later one is named.
            if 2 * len(odd) > len(timed) - 1 and (len(timed) > 2 or i == 1):
                yield (
                    line,
                    f"{row.label} at {row.shape.grid} takes {row.latency_ms:g} ms, and at {odd[0].shape.grid} "
                    f"{odd[0].latency_ms:g} ms: further apart than the sizes explain",
                )


def _missing_switches(table: Suspect) -> Iterator[Complaint]:
    for group in table.kin("scenario", "shape", "precision", "compute_unit"):
        blocks = [(line, row) for line, row in group if row.role == "block"]
        if len({_stream(row) for _, row in blocks}) > 1:
            yield from _missing(("down", "up"), blocks, group)


def _missing_fixed(table: Suspect) -> Iterator[Complaint]:
    for group in table.kin("scenario", "shape", "precision", "compute_unit"):
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
        elif row.scenario == "stream" and row.context_frames and not row.state_bytes and _keeps_state(row):
            yield line, f"{row.label} is a stream row without streaming state: memory of a clip"


def _larger(row: Row, other: Row) -> bool:
    """Whether one call of a row is more work than of the other: larger in one size, and smaller in none."""
    pairs = [(getattr(row, size), getattr(other, size)) for size in _SIZES]
    return all(mine >= its for mine, its in pairs) and any(mine > its for mine, its in pairs)


def _noise_ms(row: Row, other: Row) -> float:
    """Return the milliseconds by which two rows may differ by chance."""
    spread = [one.latency_std_ms or 0.0 for one in (row, other)]
    return max(_NOISE * other.latency_ms, _DEVIATIONS * math.hypot(*spread))


def _worlds_apart(row: Row, other: Row) -> bool:
    """Whether two latencies differ by more than 100 times what lies between no growth and quadratic growth."""
    small, large = sorted((row, other), key=lambda one: one.shape.tokens)
    growth = float(large.shape.tokens) * (large.frames + large.context_frames)
    growth /= small.shape.tokens * (small.frames + small.context_frames)
    growth *= max(1.0, large.height * large.width / (small.height * small.width))
    return not 1 / UNITS_APART < large.latency_ms / small.latency_ms < UNITS_APART * max(growth, 1.0)


def _part(row: Row) -> Part | None:
    """Return the installed part of a row, or none: a table may hold parts that are not installed."""
    for family in ("blocks", "parts"):
        try:
            if row.part in registry.installed(family):
                part = registry.create(family, row.part_label)
                return part if isinstance(part, Part) else None
        except S2SearchError:
            return None
    return None


def _parameters(row: Row) -> int:
    """Count the parameters of an installed part at a row's shape; 0 where that is not known."""
    part = _part(row)
    try:
        return part.parameters(row.shape).count if part else 0
    except S2SearchError:
        return 0  # this shape is none for the part


def _keeps_state(row: Row) -> bool:
    """Whether a block has streaming state at a row's shape; what is not installed may have none."""
    part = _part(row)
    try:
        precision = PRECISIONS.get(row.precision, PRECISIONS["float16"])
        return isinstance(part, Block) and part.state_bytes(row.shape, precision) > 0
    except S2SearchError:
        return False  # this shape is none for the block


def _stream(row: Row) -> Stream | str:
    """Return the stream of a block; one that is not installed counts as a stream of its own."""
    part = _part(row)
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
