"""Is the table to be trusted: what kind of numbers it has, what the linter finds, and how far apart timings lie."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from s2search.cost import format_bytes, format_us
from s2search.lint.base import Finding
from s2search.reporting.report.campaign import GivenPart, JudgedTable
from s2search.reporting.report.markup import Html, bullets, element, facts, folded, joined, paragraph, table, verdict
from s2search.reporting.report.origins import Origins
from s2search.reporting.terminal import spread_text
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable

_ROWS, _LINES = 60, 4
_MARKS = 20
_FEW = 30  # samples of a row, below which its deviation is known to no better than an eighth


def tables_html(tables: Sequence[GivenPart[JudgedTable]], origins: Origins) -> Html:
    """Return what there is to say of each table."""
    return joined(_table(given, origins) for given in tables)


def trust_lines(given: GivenPart[JudgedTable]) -> list[tuple[str, str]]:
    """Return in short whether a table can be relied on: the kind of each sentence (`good`, `doubt` or `bad`) and it."""
    card, findings = given.part.table.card, given.part.findings
    kind, statement = card.provenance.kind, card.provenance.statement
    lines = [("good" if kind == "measured" else "doubt", f"its numbers are {kind}: {statement}")]
    if card.marks:
        lines.append(("bad", f"the run marked itself: {card.marks[0][:200]}"))
    elif kind == "measured":
        lines.append(("good", "the run found nothing wrong with itself"))
    if findings:
        rules = ", ".join(dict.fromkeys(finding.rule for finding in findings))
        lines.append(("bad", f"the linter complains of {rules}"))
    else:
        lines.append(("good", "the linter finds nothing wrong"))
    return lines


def _table(given: GivenPart[JudgedTable], origins: Origins) -> Html:
    one, table_ = given.part, given.part.table
    card, file = table_.card, f"{given.name}, card.json"
    told = [
        ("Device", origins.number(f"{card.device}, {card.chip}; {card.os}", f"{file}: device, chip and os, as stated")),
        ("Runtime", origins.number(f"{card.runtime} {card.runtime_version}", f"{file}: runtime and runtime_version")),
        ("Evidence", f"{card.provenance.kind}: {card.provenance.statement}"),
        ("Source", origins.number(card.provenance.source, f"{file}: provenance.source")),
        ("Date", origins.number(card.date, f"{file}: date, when its rows were measured or derived")),
        *_samples(given, origins),
        *_protocol(given, origins),
    ]
    return joined(
        [
            element("h3", table_.name),
            *(verdict(kind, line) for kind, line in trust_lines(given)),
            facts(told),
            _findings(one.findings, given, origins),
            _marks(card.marks),
            _assumptions(card.assumptions),
            _rows(table_, given, origins),
        ]
    )


def _samples(given: GivenPart[JudgedTable], origins: Origins) -> Iterator[tuple[str, Html | str]]:
    """Yield how many samples rows have, how far they lie apart, and whether the raw ones are there."""
    rows, file = list(given.part.table.rows), f"{given.name}, table.csv"
    kinds = Counter(row.latency_provenance for row in rows)
    yield (
        "Rows",
        origins.number(
            ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
            f"{file}: counted by the column latency_provenance",
        ),
    )
    counts = [row.samples for row in rows if row.samples]
    if not counts:
        yield "Samples", "no row says how many timings it is of"
    else:
        few = sum(count < _FEW for count in counts)
        range_ = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        told = f"{range_} a row" + (f"; {few} rows have fewer than {_FEW}" if few else "")
        yield "Samples", origins.number(told, f"{file}: least and most of the column samples")
    apart = [row for row in rows if row.latency_p90_ms is not None and row.latency_p10_ms is not None]
    spreads = {
        row.label: (row.latency_p90_ms - row.latency_p10_ms) / row.latency_ms  # type: ignore[operator]
        for row in apart
        if row.latency_ms > 0
    }
    if not spreads:
        yield "Spread", "not stated: no row has percentiles"
    else:
        worst = max(spreads, key=lambda label: spreads[label])
        told = f"{statistics.median(spreads.values()):.1%} at the median, {spreads[worst]:.1%} at the most ({worst})"
        origin = f"{file}: 10th to 90th percentile of a row's timings, over its median; computed here"
        yield "Spread", origins.number(told, origin)
    beside = ", ".join(given.part.samples)
    yield (
        "Raw timings",
        f"beside the table: {beside}" if beside else "not beside the table: nobody can compute it again",
    )


def _protocol(given: GivenPart[JudgedTable], origins: Origins) -> Iterator[tuple[str, Html | str]]:
    """Yield what the run says of its own drift, one line per campaign."""
    card, said = given.part.table.card, False
    for place, protocol in _campaigns(card.protocol):
        file = f"{given.name}, card.json: {place}"
        for key, name in (("sentinel_drift_percent", "Drift"), ("spread_percent", "Spread of the sentinel")):
            value = protocol.get(key)
            if isinstance(value, int | float):
                bound = protocol.get("bounds")
                limit = bound.get(key.removeprefix("sentinel_")) if isinstance(bound, dict) else None
                told = f"{value:.3g} %" + (f", bound {limit:g} %" if isinstance(limit, int | float) else "")
                said = said or name == "Drift"
                yield name, origins.number(told, f"{file}.{key}, of the part that was timed again and again")
    if not said:
        yield "Drift", "not stated: nothing was timed again and again while the rows were measured"
    common = card.common_std_relative
    if common is not None:
        origin = f"{given.name}, card.json: common_std_relative, the deviation that all latencies share"
        yield "From run to run", origins.number(f"{common:.1%}", origin)


def _campaigns(protocol: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    merged = protocol.get("merged")
    if not isinstance(merged, list):
        return [("protocol", protocol)]
    inner = [(f"protocol.merged[{n}]", one.get("protocol")) for n, one in enumerate(merged) if isinstance(one, dict)]
    return [(place, one) for place, one in inner if isinstance(one, dict)]


def _findings(findings: Sequence[Finding], given: GivenPart[JudgedTable], origins: Origins) -> Html:
    if not findings:
        return Html()
    rows = []
    for rule, group in groupby(sorted(findings, key=lambda one: one.rule), key=lambda one: one.rule):
        found = list(group)
        first = [f"{'whole table' if one.row is None else f'line {one.row}'}: {one.message}" for one in found[:_LINES]]
        more = [f"and {len(found) - _LINES} more"] if len(found) > _LINES else []
        origin = f"s2search table lint of {given.name}: the rule {rule}, made when this page was"
        told = origins.lines("\n".join([*first, *more]), origin)
        rows.append((rule, origins.number(str(len(found)), origin), told, origins.number(found[0].remedy, origin)))
    return table("What the linter finds", ("rule", "times", "where", "what to do"), rows, last_words=2)


def _marks(marks: Sequence[str]) -> Html:
    if not marks:
        return Html()
    more = [f"and {len(marks) - _MARKS} further marks"] if len(marks) > _MARKS else []
    return joined([element("h4", "What the run says against itself"), bullets([*marks[:_MARKS], *more])])


def _assumptions(lines: Sequence[str]) -> Html:
    if not lines:
        return Html()
    return joined([element("h4", "What it assumes"), bullets(lines[:_MARKS])])


def _rows(table_: LatencyTable, given: GivenPart[JudgedTable], origins: Origins) -> Html:
    shown = list(table_.rows[:_ROWS])
    heads = ("part", "scenario", "tokens", "latency", "p10 to p90", "samples", "weights", "state", "peak", "evidence")
    rows = (_row(row, given, origins) for row in shown)
    found = table(f"Rows of {table_.name}", heads, rows, words=2, last_words=1)
    left = len(table_.rows) - len(shown)
    more = paragraph(f"{left:,} further rows stand in table.csv.", class_="small") if left > 0 else Html()
    return folded(
        f"All rows: {len(shown)}" if left <= 0 else f"The first {len(shown)} of {len(table_.rows):,} rows", found, more
    )


def _row(row: Row, given: GivenPart[JudgedTable], origins: Origins) -> list[str]:
    file = f"{given.name}, table.csv"
    timed = f"{file}: latency_ms, {row.latency_provenance}"
    held = f", {row.bytes_provenance}"
    spread = origins.number(spread_text(row), f"{file}: latency_p10_ms and latency_p90_ms, over the median")
    samples = origins.number(f"{row.samples}" if row.samples else "", f"{file}: samples")
    return [
        row.label,
        row.scenario,
        origins.number(row.shape.grid, f"{file}: frames, height and width of the row, in tokens"),
        origins.number(format_us(1000 * row.latency_ms), timed),
        spread or "not stated",
        samples or "not stated",
        origins.number(format_bytes(row.weight_bytes), f"{file}: weight_bytes{held}"),
        origins.number(format_bytes(row.state_bytes), f"{file}: state_bytes{held}"),
        origins.number(format_bytes(row.peak_bytes), f"{file}: peak_bytes{held}"),
        row.latency_provenance
        if row.latency_provenance == row.bytes_provenance
        else f"{row.latency_provenance}; bytes {row.bytes_provenance}",
    ]
