"""Rules on what a card says of its rows: their origin, their spread, their age, and whose they are."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from s2search.dates import is_later, release, span
from s2search.lint.base import UNITS_APART, Complaint, Rule
from s2search.lint.sheet import number
from s2search.lint.table_rules import ROW_RULES, Suspect
from s2search.preset import PRESETS
from s2search.registry import own_version
from s2search.tables.foreign import NOT_STATED
from s2search.tables.row import SHAPE_COLUMNS, Row
from s2search.tables.table import Scope

_STRENGTH = {"estimated": 0, "derived": 1, "published": 2, "measured": 3}
_MOST_DRIFT_PERCENT = 5.0
_LEAST_COPIED = 4
_SAME = 1e-4  # relative; timings of two devices do not keep one ratio so closely over several rows
_EXACT = 1e-6
_LEAST_SAMPLES = 3
_PLACE = attrgetter("part", "options", "scenario", *SHAPE_COLUMNS)


def _duplicated_device(table: Suspect) -> Iterator[Complaint]:
    if not table.others:
        return
    mine = {_place(row): (line, row.latency_ms) for line, row in table.rows.items() if row.latency_ms > 0}
    for other in table.others:
        if (other.card.device, other.card.chip) == (table.card.device, table.card.chip):
            continue
        its = {_place(row): row.latency_ms for row in other.rows if row.latency_ms > 0}
        pairs = [(*mine[place], latency) for place, latency in its.items() if place in mine]
        if len(pairs) < _LEAST_COPIED:
            continue
        ratios = [latency / its_latency for _, latency, its_latency in pairs]
        factor, lines = ratios[0], sorted(line for line, _, _ in pairs)
        same = max(ratios) - min(ratios) <= _SAME * max(ratios)
        if same and (table.card.provenance.kind == "measured" or abs(factor - 1) <= _SAME):
            times = "" if abs(factor - 1) <= _SAME else f" times {factor:.4g}"
            yield (
                lines[0],
                f"{len(lines)} latencies (lines {', '.join(map(str, lines[:12]))}{', ...' if len(lines) > 12 else ''}) "
                f"are those of {other.card.device}, {other.card.chip} ({other.name}){times}",
            )


def _drift(table: Suspect) -> Iterator[Complaint]:
    measured = [(line, row) for line, row in table.rows.items() if row.latency_provenance == "measured"]
    protocol = table.card.protocol
    drift = number(str(protocol.get("sentinel_drift_corrected_percent", protocol.get("sentinel_drift_percent"))))
    spreads = [
        100 * row.latency_std_ms / row.latency_ms for _, row in measured if row.latency_std_ms and row.latency_ms
    ]
    if drift is not None:
        if abs(drift) > _MOST_DRIFT_PERCENT:
            yield (
                None,
                f"the sentinel drifted by {drift:g} % during the campaign; at most {_MOST_DRIFT_PERCENT:g} % is noise",
            )
        elif spreads and abs(drift) > (typical := statistics.median(spreads)):
            yield (
                None,
                f"the sentinel drifted by {drift:g} %, more than the {typical:.2g} % that a row's samples spread",
            )
    for line, row in measured:
        p10, p90, mean = row.latency_p10_ms, row.latency_p90_ms, row.latency_mean_ms
        same_unit = mean is not None and mean < UNITS_APART * row.latency_ms
        if same_unit and None not in (p10, p90) and not p10 <= mean <= p90:  # type: ignore[operator]
            yield line, f"the mean of {row.label} ({mean:g} ms) lies outside its p10 to p90 ({p10:g} to {p90:g} ms)"


def _marked(table: Suspect) -> Iterator[Complaint]:
    for mark in table.card.marks:
        yield None, f"the run was marked when it was measured: {mark[:200]}"


def _synthetic(table: Suspect) -> Iterator[Complaint]:
    measured = {line for line, row in table.rows.items() if row.latency_provenance == "measured" and row.latency_ms > 0}
    for line in sorted(measured):
        row = table.rows[line]
        if row.samples >= _LEAST_SAMPLES and row.latency_std_ms == 0:
            yield line, f"{row.samples} samples of {row.label} have no spread at all; a clock has some"
    same = ("role", "part", "options", "scenario", "frames", "channels", "heads", "precision", "compute_unit")
    for group in table.kin(*same):
        timed = sorted(
            ((row.frames * row.height * row.width, line, row) for line, row in group if line in measured),
            key=lambda one: one[:2],
        )
        for (tokens, line, row), (more, further_line, further) in itertools.pairwise(timed):
            expected = row.latency_ms * more / tokens
            # Latencies are written to a nanosecond, and their growth multiplies that rounding.
            tolerance = _EXACT * (expected + more / tokens)
            if more > tokens and _digits(row) >= 4 and abs(further.latency_ms - expected) <= tolerance:
                yield (
                    further_line,
                    f"{further.label} at {further.shape.grid} takes exactly {more / tokens:g} times line {line}, "
                    "as its tokens do",
                )


def _stale(table: Suspect) -> Iterator[Complaint]:
    here, there = ((release(version) or ())[:2] for version in (own_version(), table.card.code_version))
    if table.card.code_version.startswith("s2search ") and here and there and there != here:
        age = "older" if there < here else "newer"
        yield None, f"made by {table.card.code_version[:40]}, which is {age} than the installed {own_version()}"


def _contradictions(table: Suspect) -> Iterator[Complaint]:
    card, kind = table.card, table.card.provenance.kind
    blocks = [(line, row) for line, row in table.rows.items() if row.role == "block"]
    if kind == "measured" and re.search(r"\bnot (a measurement|measured)\b", card.provenance.statement):
        yield None, f"the card is called measured, and its statement says: {card.provenance.statement[:80]!r}"
    kinds = {row.latency_provenance for _, row in blocks}
    if blocks and kind not in kinds:
        yield None, f"the card says {kind}, and no block row does"
    recalibrated = _recalibrated(card.protocol)
    for line, row in blocks:
        its = row.latency_provenance
        if recalibrated and str(_scope(row)) not in recalibrated:
            continue  # a recalibration corrects one scope; the others stay what they were
        if kind in kinds and (_STRENGTH[its] > _STRENGTH[kind] or (kind == "measured" != its)):
            yield line, f"{row.label} is called {its}, and the card says {kind}"
    if card.date != NOT_STATED and span(card.date) is None:
        yield None, f"the card's date is {card.date[:40]!r}, which is no date"
    for line, row in table.rows.items():
        if row.latency_provenance != "measured" and (row.samples or row.measured_at):
            yield line, f"{row.label} has samples or a time of measurement, and is called {row.latency_provenance}"
        elif row.measured_at and is_later(row.measured_at, card.date):
            yield line, f"{row.label} was measured at {row.measured_at[:30]}, after the card's date {card.date[:30]}"
    stated = card.protocol.get("samples_digest")
    if stated and table.samples_digest and stated != table.samples_digest:
        yield None, "samples.jsonl is not the file whose digest the card states"
    if (preset := PRESETS.get(card.preset)) is not None:
        for line, row in table.rows.items():
            if (row.channels, row.heads, row.feed_forward) != (preset.channels, preset.heads, preset.feed_forward):
                yield (
                    line,
                    f"{row.label} has {row.channels} channels, {row.heads} heads and a feed-forward of "
                    f"{row.feed_forward}, which is not the card's preset {preset.name}",
                )


def _recalibrated(protocol: Mapping[str, Any]) -> set[str]:
    """Return the scopes that recalibrations corrected, of a merged table those of all its parts."""
    entries = protocol.get("recalibrated")
    found = {str(one.get("scope")) for one in entries if isinstance(one, dict)} if isinstance(entries, list) else set()
    parts = protocol.get("merged")
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and isinstance(part.get("protocol"), dict):
            found |= _recalibrated(part["protocol"])
    return found


def _scope(row: Row) -> Scope:
    return Scope(scenario=row.scenario, shape=row.shape, precision=row.precision, compute_unit=row.compute_unit)


def _place(row: Row) -> tuple[object, ...]:
    return row.role == "commit", *_PLACE(row)


def _digits(row: Row) -> int:
    """Count the significant digits of a latency: a coarse clock hits round ratios by chance."""
    return len(f"{row.latency_ms:.9f}".replace(".", "").strip("0"))


TABLE_RULES = (
    *ROW_RULES,
    Rule(
        name="duplicated_device",
        check=_duplicated_device,
        remedy="measure this device, or name the device that the numbers come from",
    ),
    Rule(
        name="spread_hides_drift",
        check=_drift,
        remedy="measure again with the device warm and nothing else running; the spread must hold the drift",
    ),
    Rule(
        name="marked_run",
        check=_marked,
        remedy="measure again with the device cool, plugged in and nothing else running",
    ),
    Rule(
        name="synthetic_as_measured",
        check=_synthetic,
        remedy="call the rows derived or estimated; or measure them",
    ),
    Rule(
        name="stale_version",
        check=_stale,
        remedy="measure again, or derive the table again, with this version",
        misleads=False,
    ),
    Rule(
        name="provenance_contradiction",
        check=_contradictions,
        remedy="correct the card or the rows, so that both say where the numbers come from",
    ),
)
