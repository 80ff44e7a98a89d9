"""What two tables say of the same parts: ratios with their uncertainty, and what differs beyond it.

The relative standard error of a latency is that of a median of n timings, 1.2533 s / (m sqrt n) (the normal's
asymptotic value), where s is what 10th and 90th percentile say (they are 2.563 s apart; outliers do not move them),
else the stated deviation; n is 1 where a spread is stated and the number of timings is not. What all latencies of a
table share from run to run (`common_std_relative`) is added. A ratio's relative error is the root of the sum of both
squares. A row differs where its log ratio is further from 0 than the errors explain, at 95 % for *all* rows
together (Bonferroni), by Student's t: a deviation from n timings is itself uncertain, with n - 1 degrees of freedom,
from deciles with 0.63 (n - 1), and those of both tables together by Welch and Satterthwaite.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import msgspec
import numpy as np

from s2search.document import Document
from s2search.errors import TableError
from s2search.tables.columns import Column, Float
from s2search.tables.foreign import PLACES, ImportedTable
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable

_CONFIDENCE = 0.95
_MEDIAN = math.sqrt(math.pi / 2)
_DECILES = 2 * NormalDist().inv_cdf(0.9)
#: 1 / (2 v), where v / n is the relative variance of a deviation taken from deciles of n normal timings.
_DECILES_TELL = 0.63
_LEAST_RANKED = 3

Table = LatencyTable | ImportedTable


@dataclass(frozen=True, kw_only=True)
class ComparedTime:
    """One latency of a table in milliseconds, and how sure it is; null where that is not known."""

    latency_ms: float
    error: Error | None


@dataclass(frozen=True, kw_only=True)
class ComparedTimes:
    """The latencies of a table, and what each is of: texts by field, of which some are empty."""

    about: Mapping[str, Column]
    times: Sequence[ComparedTime]

    def names(self, hidden: Collection[str]) -> list[str]:
        """Return what each latency is of for people, without the fields that say nothing."""
        shown = {field: column for field, column in self.about.items() if field == "part" or field not in hidden}
        texts = [_shown(field, column) for field, column in shown.items()]
        return [", ".join(filter(None, cells)) for cells in zip(*texts, strict=True)]


@dataclass(frozen=True)
class Error:
    """A relative standard error, and the degrees of freedom that it was estimated with."""

    relative: float
    freedom: float = math.inf

    def with_(self, other: Error) -> Error:
        """Return the error of a product or ratio of two independent numbers (Satterthwaite 1946, Welch 1947)."""
        total = math.hypot(self.relative, other.relative)
        spent = sum(one.relative**4 / one.freedom for one in (self, other))
        return Error(total, total**4 / spent if spent > 0 else math.inf)


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One part in both tables. `ratio` is after over before; null where one of them takes no time or less.

    `ratio_std` is the ratio's standard error, null where a table states no spread of timings; `differs` is null then
    too.
    """

    part: str
    before_ms: float
    after_ms: float
    ratio: float | None
    ratio_std: float | None
    differs: bool | None


@dataclass(frozen=True, kw_only=True)
class Comparison(Document):
    """Two tables, row by row.

    Attributes:
        before: The first table, by name and digest.
        after: The second one.
        rows: Parts in both, in the order of the first.
        only_before: Parts that only the first has.
        only_after: Parts that only the second has.
        ratio: Geometric mean of the ratios; null without any.
        spearman: Rank correlation of the latencies in both; null for fewer than three rows, or equal latencies.
        card: Fields of the cards that differ: name -> (before, after).
    """

    before: TableName
    after: TableName
    rows: list[ComparedRow]
    only_before: list[str]
    only_after: list[str]
    ratio: float | None
    spearman: float | None
    card: dict[str, tuple[str, str]]
    schema: Literal["s2search.table_comparison/1"] = "s2search.table_comparison/1"


@dataclass(frozen=True, kw_only=True)
class TableName:
    """A table by its name and digest, and what was wrong with the run that measured it."""

    name: str
    digest: str
    marks: tuple[str, ...] = ()


def compare(before: Table, after: Table) -> Comparison:
    """Compare two tables of one kind, by what both say of the same part.

    Device, runtime, precision and compute unit tell rows apart only where they must: two tables of a device each are
    compared part by part, and `card` says where those places differ.

    Raises:
        TableError: One holds parts of this project, and the other what somebody else measured.

    >>> from s2search.tables.table import open_table
    >>> found = compare(open_table("amd-epyc"), open_table("amd-epyc"))
    >>> found.ratio, any(row.differs for row in found.rows)
    (1.0, False)
    """
    if type(before) is not type(after):
        theirs = before if isinstance(before, ImportedTable) else after
        raise TableError(f"{theirs.name!r} is imported and the other table is not", remedy="compare tables of one kind")
    first, second, places = _by_part(before, after)
    pairs = [(part, timing, second[part]) for part, timing in first.items() if part in second]
    doubt = (1 - _CONFIDENCE) / 2 / max(1, len(pairs))
    rows = [_compared(part, a, b, doubt) for part, a, b in pairs]
    cards = _card_differences(before, after)
    logs = [math.log(row.ratio) for row in rows if row.ratio is not None]
    return Comparison(
        before=_named(before),
        after=_named(after),
        rows=rows,
        only_before=[part for part in first if part not in second],
        only_after=[part for part in second if part not in first],
        ratio=math.exp(math.fsum(logs) / len(logs)) if logs else None,
        spearman=_spearman([row.before_ms for row in rows], [row.after_ms for row in rows]),
        card=cards | {f"{place} of rows": values for place, values in places.items() if cards.get(place) != values},
    )


def timings(table: Table) -> ComparedTimes:
    """Return the latencies of a table; rows of memory alone have none."""
    return _our_timings(table) if isinstance(table, LatencyTable) else _their_timings(table)


def _our_timings(table: LatencyTable) -> ComparedTimes:
    rows, common = table.rows, table.card.common_std_relative or 0.0
    errors: list[Error | None] = [None] * len(rows)  # the deviation of a derived latency is no spread of timings
    measured_N = rows.have(latency_provenance="measured")
    for n, row in zip(np.flatnonzero(measured_N), rows.take(measured_N), strict=True):
        errors[n] = _error_of(row, common)
    times = zip(rows.columns["latency_ms"].cells, errors, strict=True)
    tokens = rows.told("{}x{}x{}".format, "frames", "height", "width")
    about = {"part": rows.labels, "scenario": rows.columns["scenario"], "tokens": tokens}
    return ComparedTimes(
        about=about | {field: rows.told(str, field) for field in _TOLD_APART},
        times=[ComparedTime(latency_ms=ms, error=error) for ms, error in times],
    )


_TOLD_APART = (
    *("context_frames", "channels", "heads", "feed_forward", "text_tokens", "text_channels"),
    *("precision", "compute_unit"),
)


def _their_timings(table: ImportedTable) -> ComparedTimes:
    about: dict[str, list[str]] = {}
    times = []
    for row in table.rows:
        if row.latency_ms is not None:
            for name, cell in ({"part": row.part} | table.about(row) | table.place(row)).items():
                if name not in table.card.facts:
                    about.setdefault(name, []).append(cell)
            error = _error(row.latency_ms, row.latency_std_ms, row.samples or 1)
            times.append(ComparedTime(latency_ms=row.latency_ms, error=error))
    return ComparedTimes(about={name: Column.of(cells) for name, cells in about.items()}, times=times)


def _error_of(row: Row, common: float) -> Error | None:
    if row.latency_p10_ms is not None and row.latency_p90_ms is not None:
        std_ms: float | None = (row.latency_p90_ms - row.latency_p10_ms) / _DECILES
        own = _error(row.latency_ms, std_ms, row.samples, efficiency=_DECILES_TELL)
    else:
        own = _error(row.latency_ms, row.latency_std_ms, row.samples)
    return None if own is None else own.with_(Error(common))


def _error(latency_ms: float, std_ms: float | None, samples: int, efficiency: float = 1.0) -> Error | None:
    if std_ms is None or latency_ms <= 0:
        return None
    if samples <= 1:
        return Error(std_ms / latency_ms)  # of how many timings is not known
    return Error(_MEDIAN * std_ms / math.sqrt(samples) / latency_ms, efficiency * (samples - 1))


def _by_part(
    before: Table, after: Table
) -> tuple[dict[str, ComparedTime], dict[str, ComparedTime], dict[str, tuple[str, str]]]:
    """Return the latencies of both by what they are of, and the places that those names leave out and that differ.

    Left out is what is the same throughout both tables, and each place without which all names still differ.
    """
    tables = timings(before), timings(after)
    fields = dict.fromkeys(field for found in tables for field in found.about if field != "part")
    values = {
        field: [set(found.about[field].different) if field in found.about else {""} for found in tables]
        for field in fields
    }
    hidden = frozenset(field for field, (here, there) in values.items() if here == there and len(here) == 1)
    names = functools.cache(lambda hidden: tuple(found.names(hidden) for found in tables))
    for place in PLACES:
        if all(len(set(its)) == len(its) for its in names(hidden | {place})):
            hidden |= {place}
    first, second = (dict(zip(its, found.times, strict=True)) for its, found in zip(names(hidden), tables, strict=True))
    differing = {
        field: (", ".join(sorted(values[field][0])), ", ".join(sorted(values[field][1])))
        for field in PLACES
        if field in hidden and values.get(field) and values[field][0] != values[field][1]
    }
    return first, second, differing


_UNNAMED = ("part", "scenario", "tokens", *PLACES)


def _shown(field: str, column: Column) -> list[str]:
    texts = [cell and (cell if field in _UNNAMED else f"{field} {cell}") for cell in column.value_V]
    return Column(texts, column.code_N).cells


def _compared(part: str, before: ComparedTime, after: ComparedTime, doubt: float) -> ComparedRow:
    ratio = after.latency_ms / before.latency_ms if before.latency_ms > 0 < after.latency_ms else None
    error = before.error.with_(after.error) if ratio is not None and before.error and after.error else None
    differs = None
    if ratio is not None and error is not None:
        differs = abs(math.log(ratio)) > error.relative * _bound(error, doubt)
    return ComparedRow(
        part=part,
        before_ms=before.latency_ms,
        after_ms=after.latency_ms,
        ratio=ratio,
        ratio_std=None if ratio is None or error is None else ratio * error.relative,
        differs=differs,
    )


def _bound(error: Error, doubt: float) -> float:
    """Return how many standard errors a difference must have to be doubted so little."""
    from scipy.special import stdtrit

    return -float(stdtrit(error.freedom, doubt))


def _spearman(before: Sequence[float], after: Sequence[float]) -> float | None:
    """Return the rank correlation, or null where there are too few rows, or none to tell apart."""
    if len(before) < _LEAST_RANKED or len(set(before)) == 1 or len(set(after)) == 1:
        return None
    return float(np.corrcoef(np.column_stack([_ranks(before), _ranks(after)]), rowvar=False)[1, 0])


def _ranks(values: Sequence[float]) -> Float:
    """Return the place of each value in their order; equal ones share the mean of theirs."""
    _, value_N, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[value_N])


def _named(table: Table) -> TableName:
    marks = table.card.marks if isinstance(table, LatencyTable) else ()
    return TableName(name=table.name, digest=table.digest, marks=marks)


def _card_differences(before: Table, after: Table) -> dict[str, tuple[str, str]]:
    """Return what the cards say differently; what is nested by its path, such as `protocol.rounds`."""
    first, second = (dict(_leaves("", dataclasses.asdict(table.card))) for table in (before, after))
    return {
        field: (first.get(field, "none"), second.get(field, "none"))
        for field in dict.fromkeys((*first, *second))
        if first.get(field) != second.get(field)
    }


def _leaves(path: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [leaf for key, inner in value.items() for leaf in _leaves(f"{path}.{key}" if path else str(key), inner)]
    if value is None:
        return []
    return [(path, value if isinstance(value, str) else msgspec.json.encode(value).decode())]
