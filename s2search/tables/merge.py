"""Join tables of one device, runtime and precision; every row says which table it comes from.

What two tables both have is refused by default. `newer` keeps the row that was measured later, and `pool` takes both
together: the latency is the mean of both, weighted by their timings, and the deviation is that of all timings,

    s^2 = sum of n_i (s_i^2 + (m_i - m)^2) / sum of n_i,

with the deciles left out, since those of the whole do not follow from those of its parts.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Literal, TypeVar

import numpy as np

from s2search.dates import is_later, latest, oldest
from s2search.errors import TableError
from s2search.tables.card import Card, Provenance
from s2search.tables.columns import Column
from s2search.tables.foreign import NOT_STATED, ImportedCard, ImportedRow, ImportedTable
from s2search.tables.placement import parse_shares, ran_on, shares_text
from s2search.tables.row import Row
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable

Overlap = Literal["refuse", "newer", "pool"]
Table = LatencyTable | ImportedTable

_SAME = ("device", "chip", "os", "runtime", "runtime_version", "threads", "power_mode", "preset", "pipeline")
_SAME_IMPORTED = ("device", "runtime", "precision", "compute_unit")
_CHOOSE = "choose with --overlap newer or --overlap pool, or remove the rows from one of them"
_T = TypeVar("_T")
_Row = TypeVar("_Row", Row, ImportedRow)


def merge(tables: Sequence[Table], *, name: str, overlap: Overlap = "refuse") -> Table:
    """Return one table with the rows of all, in their order.

    Args:
        tables: Two or more of one kind.
        name: The name of the result.
        overlap: What to do with a row that several tables have.

    Raises:
        TableError: They differ in a field that rows of one table share, or overlap; the message names what.
    """
    if len(tables) < 2:
        raise TableError(f"{len(tables)} tables are too few to merge", remedy="name two or more")
    if ours := [table for table in tables if isinstance(table, LatencyTable)]:
        if len(ours) < len(tables):
            raise TableError("some of the tables are imported and some are not", remedy="merge tables of one kind")
        return _merge_ours(ours, name, overlap)
    return _merge_imported([table for table in tables if isinstance(table, ImportedTable)], name, overlap)


def _merge_ours(tables: Sequence[LatencyTable], name: str, overlap: Overlap) -> LatencyTable:
    for field in _SAME:
        _agree(tables, field, lambda table, field=field: getattr(table.card, field))  # type: ignore[misc]
    stated = [table for table in tables if table.card.application is not None]  # a campaign of blocks states none
    if stated:
        _agree(stated, "application", lambda table: table.card.application)
    _agree(tables, "provenance", lambda table: table.card.provenance.kind)
    _agree(tables, "precision", lambda table: ", ".join(sorted(table.rows.different("precision"))))
    _agree(tables, "the form of what was timed", lambda table: ", ".join(_form(table.card).values()) or "not stated")
    rows = Rows.joined([_noted(table.rows, f"from {table.name} ({table.digest[7:19]})") for table in tables])
    date_N = [table.card.date for table in tables for _ in range(len(table.rows))]
    first_N = rows.keys.first_G[rows.keys.group_N]
    settled: dict[int, tuple[Row, str]] = {}  # what becomes of a row that several have, by its first place
    again = np.flatnonzero(first_N != np.arange(len(first_N)))
    firsts = first_N[again].tolist()
    for n, first, row, before in zip(again, firsts, rows.take(again), rows.take(firsts), strict=True):
        place = f"{row.label} ({row.scenario}, {row.grid}, {row.precision}, {row.compute_unit})"
        earlier = settled.get(first) or _dated(before, date_N[first])
        settled[first] = _settled(earlier, _dated(row, date_N[n]), place, overlap, _pooled)
    chosen_N = np.arange(len(rows))
    chosen_N[list(settled)] = len(rows) + np.arange(len(settled))
    both = Rows.joined([rows, Rows.of([row for row, _ in settled.values()])])
    return LatencyTable(name=name, card=_card(tables), rows=both.take(chosen_N[np.sort(rows.keys.first_G)]))


def _noted(rows: Rows, origin: str) -> Rows:
    note = rows.columns["note"]
    noted = [f"{note}; {origin}" if note else origin for note in note.value_V]
    return rows.changed(note=Column(noted, note.code_N))


def _dated(row: Row, date: str) -> tuple[Row, str]:
    return row, row.measured_at or date


def _card(tables: Sequence[LatencyTable]) -> Card:
    cards = [table.card for table in tables]
    marks = [f"{table.name}: {mark}" for table in tables for mark in table.card.marks]
    stated = [card.application for card in cards if card.application is not None]
    common = [card.common_std_relative for card in cards if card.common_std_relative is not None]
    protocol: dict[str, Any] = {
        "method": "merged from several campaigns",
        **_form(cards[0]),
        "merged": [
            {"table": table.name, "digest": table.digest, "date": table.card.date, "protocol": table.card.protocol}
            for table in tables
        ],
    }
    if drifts := [drift for card in cards if (drift := _drift_left(card)) is not None]:
        protocol["sentinel_drift_percent"] = max(drifts, key=abs)
    if marks:
        protocol["marked"] = marks
    return dataclasses.replace(
        cards[0],
        application=stated[0] if stated else None,
        date=latest(card.date for card in cards),
        code_version=oldest(card.code_version for card in cards),  # the linter judges a table by its oldest part
        provenance=_provenance(tables, [card.provenance for card in cards]),
        protocol=protocol,
        assumptions=_unique(line for card in cards for line in card.assumptions),
        common_std_relative=max(common) if common else None,
    )


def _form(card: Card) -> dict[str, str]:
    """Return the layout of a Core ML package and who keeps its state, where a kit or the profiler noted it."""
    profiler = card.protocol.get("profiler")
    told = card.protocol | (profiler if isinstance(profiler, dict) else {})
    return {name: str(told[name]) for name in ("layout", "state") if name in told}


def _drift_left(card: Card) -> float | None:
    """Return the sentinel's drift in per cent: what was left of it, where it was taken out."""
    names = ("sentinel_drift_corrected_percent", "sentinel_drift_percent")
    said = (card.protocol.get(name) for name in names)
    return next((drift for drift in said if isinstance(drift, int | float)), None)


def _pooled(first: Row, second: Row, place: str) -> Row:
    if first.latency_provenance != second.latency_provenance:
        raise TableError(f"{place} is {first.latency_provenance} in one table, {second.latency_provenance} in another")
    if (first.weight_bytes, first.state_bytes) != (second.weight_bytes, second.state_bytes):
        raise TableError(f"{place} has other weights or another state in each table", remedy="keep one of them")
    one, other = (_Timings.of(row.latency_ms, row.latency_std_ms, row.samples, place) for row in (first, second))
    both, means = one.with_(other), (first.latency_mean_ms, second.latency_mean_ms)
    ran = _ran_together(first, second, place)
    mean = None if None in means else _weighted(means, (one.samples, other.samples))  # type: ignore[arg-type]
    return dataclasses.replace(
        first,
        unit_ran=ran,
        latency_ms=both.mean_ms,
        latency_std_ms=both.std_ms,
        latency_mean_ms=mean,
        latency_p10_ms=None,
        latency_p90_ms=None,
        samples=both.samples,
        measured_at=latest(filter(None, (first.measured_at, second.measured_at, ""))) or None,
        peak_bytes=max(first.peak_bytes, second.peak_bytes),
        note=f"{first.note}; {second.note}",
    )


def _ran_together(first: Row, second: Row, place: str) -> str | None:
    """Return where both ran, weighted by their timings; not known where it is not known of one."""
    if first.unit_ran is None or second.unit_ran is None:
        return None
    if ran_on(first.unit_ran) != ran_on(second.unit_ran):
        raise TableError(
            f"{place} ran on {first.unit_ran} in one table, and on {second.unit_ran} in another",
            remedy="choose --overlap newer, or remove the row from one of them",
        )
    work: Counter[str] = Counter()
    for row in (first, second):
        work.update({unit: share * row.samples for unit, share in parse_shares(row.unit_ran or "").items()})
    return shares_text(work)


def _merge_imported(tables: Sequence[ImportedTable], name: str, overlap: Overlap) -> ImportedTable:
    for field in _SAME_IMPORTED:
        _agree(tables, field, lambda table, field=field: _place(table, field))  # type: ignore[misc]
    if tables[0].card.device == NOT_STATED:
        raise TableError(
            "the device of these tables is not stated, so they may be of several",
            remedy="import them again with FORMAT[device=...]",
        )
    columns = _columns(tables)
    sources = _unique(source for table in tables for source in table.card.sources)
    card = _imported_card(tables, columns, sources)
    found: dict[tuple[str, ...], tuple[ImportedRow, str]] = {}
    for table in tables:
        for row in table.rows:
            told, source = table.about(row), table.card.sources[row.source]
            mine = dataclasses.replace(
                row, about=tuple(told.get(column, "") for column in columns), source=sources.index(source)
            )
            key = card.key(mine)
            if key not in found:
                found[key] = (mine, table.card.date)
            else:
                settled = _settled(found[key], (mine, table.card.date), table.label(row), overlap, _pooled_imported)
                found[key] = settled
    return ImportedTable(name=name, card=card, rows=tuple(row for row, _ in found.values()))


def _place(table: ImportedTable, field: str) -> str:
    """Return what the card says of a place, or what all rows say together."""
    if field in table.card.facts:
        return "found out by row"
    return ", ".join(sorted({table.place(row)[field] for row in table.rows}))


def _columns(tables: Sequence[ImportedTable]) -> dict[str, str]:
    """Return all columns; two tables that mean different things by one name are refused."""
    columns: dict[str, str] = {}
    for table in tables:
        for column, meaning in table.card.columns.items():
            fact = column in table.card.facts
            other = [one.card for one in tables if column in one.card.columns and (column in one.card.facts) != fact]
            if columns.setdefault(column, meaning) != meaning or other:
                raise TableError(f"the column {column!r} means another thing in {table.name!r}", remedy="merge others")
    return columns


def _imported_card(tables: Sequence[ImportedTable], columns: dict[str, str], sources: list[Any]) -> ImportedCard:
    cards = [table.card for table in tables]
    dates = {card.date for card in cards}
    unstated = [field for field in _SAME_IMPORTED if getattr(cards[0], field) == NOT_STATED]
    taken = [f"{', '.join(unstated)}: not stated, and taken for the same in all merged tables"] if unstated else []
    return dataclasses.replace(
        cards[0],
        date=dates.pop() if len(dates) == 1 else NOT_STATED,
        code_version=oldest(card.code_version for card in cards),
        provenance=_provenance(tables, [card.provenance for card in cards]),
        sources=sources,
        told=_unique(field for card in cards for field in card.told),
        columns=columns,
        facts=_unique(fact for card in cards for fact in card.facts),
        assumptions=[*_unique(line for card in cards for line in card.assumptions), *taken],
    )


def _pooled_imported(first: ImportedRow, second: ImportedRow, place: str) -> ImportedRow:
    if first.latency_ms is None or second.latency_ms is None:
        raise TableError(f"{place} has no latency to pool", remedy="choose --overlap newer")
    one, other = (
        _Timings.of(ms, row.latency_std_ms, row.samples or 0, place)
        for row, ms in ((first, first.latency_ms), (second, second.latency_ms))
    )
    both = one.with_(other)
    least = [size for size in (first.memory_least_bytes, second.memory_least_bytes) if size is not None]
    most = [size for size in (first.memory_bytes, second.memory_bytes) if size is not None]
    return dataclasses.replace(
        first,
        latency_ms=both.mean_ms,
        latency_std_ms=both.std_ms,
        samples=both.samples,
        memory_least_bytes=min(least, default=None),
        memory_bytes=max(most, default=None),
        note="; ".join(filter(None, (first.note, second.note, f"pooled with source {second.source}"))),
    )


@dataclasses.dataclass(frozen=True)
class _Timings:
    """How often something was timed, with which mean and deviation."""

    mean_ms: float
    std_ms: float
    samples: int

    @classmethod
    def of(cls, latency_ms: float, std_ms: float | None, samples: int, place: str) -> _Timings:
        if std_ms is None or samples == 0:
            raise TableError(
                f"{place} cannot be pooled: a table does not say how often it was timed, or with which deviation",
                remedy="choose --overlap newer, or remove the row from one of them",
            )
        return cls(latency_ms, std_ms, samples)

    def with_(self, other: _Timings) -> _Timings:
        """Return both together."""
        counts = (self.samples, other.samples)
        mean = _weighted((self.mean_ms, other.mean_ms), counts)
        squares = [one.std_ms**2 + (one.mean_ms - mean) ** 2 for one in (self, other)]
        return _Timings(mean, math.sqrt(_weighted(squares, counts)), sum(counts))


def _weighted(values: Sequence[float], weights: Sequence[int]) -> float:
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _settled(
    first: tuple[_Row, str],
    second: tuple[_Row, str],
    place: str,
    overlap: Overlap,
    pooled: Callable[[_Row, _Row, str], _Row],
) -> tuple[_Row, str]:
    """Return what becomes of a row that two tables have, with when it was measured."""
    if overlap == "refuse":
        raise TableError(f"two of the tables give {place}", remedy=_CHOOSE)
    same = _numbers(first[0]) == _numbers(second[0])  # one measurement twice, or a buffer that nobody times
    if overlap == "pool":
        return (first[0] if same else pooled(first[0], second[0], place)), latest((first[1], second[1]))
    for late, early in ((first, second), (second, first)):
        if is_later(late[1], early[1]):
            return late
    if same:
        return first
    raise TableError(
        f"neither of two rows of {place} is known to be newer: {first[1]} and {second[1]}",
        remedy="choose --overlap pool, or state the date when importing: FORMAT[date=2026-01-31]",
    )


_NUMBERS = {
    kind: attrgetter(*(field.name for field in dataclasses.fields(kind) if field.name not in ("note", where)))
    for kind, where in ((Row, "order"), (ImportedRow, "source"))
}


def _numbers(row: Row | ImportedRow) -> object:
    """Return a row without what says where in which table it stood."""
    return _NUMBERS[type(row)](row)


def _agree(tables: Sequence[_T], field: str, value: Callable[[_T], object]) -> None:
    """Raise where a field that all rows of a table share is not the same in all."""
    first, *others = tables
    for other in others:
        if value(other) != value(first):
            names = (getattr(table, "name", "") for table in (first, other))
            here, there = (f"{str(value(table))[:200]!r}" for table in (first, other))
            raise TableError(
                "the tables {!r} and {!r} differ in {}: {} and {}".format(*names, field, here, there),
                remedy="merge tables of one device, runtime and precision; compare others with table compare",
            )


def _provenance(tables: Sequence[Table], provenances: Sequence[Provenance]) -> Provenance:
    return Provenance(
        kind=provenances[0].kind,
        source="merged from " + ", ".join(f"{table.name} ({table.digest[7:19]})" for table in tables),
        statement="; ".join(_unique(one.statement for one in provenances)),
    )


def _unique(values: Any) -> list[Any]:
    """Return values in order, each once."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
