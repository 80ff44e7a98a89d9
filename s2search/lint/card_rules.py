"""Rules on what a card says of its rows: their origin, their spread, their age, and whose they are."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from s2search.dates import is_later, release, span
from s2search.lint.base import UNITS_APART, Complaint, Rule
from s2search.lint.sheet import number
from s2search.lint.table_rules import ROW_RULES, Suspect
from s2search.preset import PRESETS
from s2search.registry import own_version
from s2search.tables.columns import Int
from s2search.tables.foreign import NOT_STATED
from s2search.tables.row import SHAPE_COLUMNS, Row
from s2search.tables.rows import Rows
from s2search.tables.table import Scope

_STRENGTH = {"estimated": 0, "derived": 1, "published": 2, "measured": 3}
_MOST_DRIFT_PERCENT = 5.0
_LEAST_COPIED = 4
_SAME = 1e-4  # relative; timings of two devices do not keep one ratio so closely over several rows
_EXACT = 1e-6
_LEAST_SAMPLES = 3
_PLACE = ("part", "options", "scenario", *SHAPE_COLUMNS)


def _duplicated_device(table: Suspect) -> Iterator[Complaint]:
    timed = np.flatnonzero(table.rows.numbers("latency_ms") > 0)
    mine = table.rows.take(timed)
    for other in table.others:
        if (other.card.device, other.card.chip) == (table.card.device, table.card.chip):
            continue
        its = other.rows.take(other.rows.numbers("latency_ms") > 0)
        pairs = _same_place(mine, its)
        if len(pairs) < _LEAST_COPIED:
            continue
        ratio_N = mine.numbers("latency_ms")[pairs[:, 0]] / its.numbers("latency_ms")[pairs[:, 1]]
        factor, lines = float(ratio_N[0]), sorted(table.line_N[timed[pairs[:, 0]]].tolist())
        same = ratio_N.max() - ratio_N.min() <= _SAME * ratio_N.max()
        if same and (table.card.provenance.kind == "measured" or abs(factor - 1) <= _SAME):
            times = "" if abs(factor - 1) <= _SAME else f" times {factor:.4g}"
            yield (
                lines[0],
                f"{len(lines)} latencies (lines {', '.join(map(str, lines[:12]))}{', ...' if len(lines) > 12 else ''}) "
                f"are those of {other.card.device}, {other.card.chip} ({other.name}){times}",
            )


def _same_place(mine: Rows, its: Rows) -> Int:
    """Return the pairs of rows that tell of the same part, in the order of the others; of several the last counts."""
    both = Rows.joined([mine, its], ("role", *_PLACE))
    commit = both.told(lambda role: role == "commit", "role")
    groups = both.changed(role=commit).groups("role", *_PLACE)
    mine_N, its_N = np.split(groups.group_N, [len(mine)])
    last_G, its_last_G = np.full(len(groups), -1), np.full(len(groups), -1)
    last_G[mine_N], its_last_G[its_N] = np.arange(len(mine)), np.arange(len(its))
    _, first = np.unique(its_N, return_index=True)
    pairs = np.column_stack([last_G, its_last_G])[its_N[np.sort(first)]]
    return np.asarray(pairs[pairs[:, 0] >= 0])


def _drift(table: Suspect) -> Iterator[Complaint]:
    rows, protocol = table.rows, table.card.protocol
    latency_ms_N, std_ms_N = rows.numbers("latency_ms"), rows.numbers("latency_std_ms")
    measured_N = rows.have(latency_provenance="measured")
    drift = number(str(protocol.get("sentinel_drift_corrected_percent", protocol.get("sentinel_drift_percent"))))
    spread_N = measured_N & (latency_ms_N != 0) & (np.nan_to_num(std_ms_N) != 0)
    if drift is not None:
        if abs(drift) > _MOST_DRIFT_PERCENT:
            yield (
                None,
                f"the sentinel drifted by {drift:g} % during the campaign; at most {_MOST_DRIFT_PERCENT:g} % is noise",
            )
        elif spread_N.any():
            typical = statistics.median((100 * std_ms_N[spread_N] / latency_ms_N[spread_N]).tolist())
            if abs(drift) > typical:
                yield (
                    None,
                    f"the sentinel drifted by {drift:g} %, more than the {typical:.2g} % that a row's samples spread",
                )
    mean_N, p10_N, p90_N = (rows.numbers(f"latency_{name}_ms") for name in ("mean", "p10", "p90"))
    outside_N = ((mean_N < p10_N) & (p90_N >= 0)) | ((mean_N > p90_N) & (p10_N >= 0))  # both are stated
    for line, row in table.numbered(measured_N & (mean_N < UNITS_APART * latency_ms_N) & outside_N):
        yield (
            line,
            f"the mean of {row.label} ({row.latency_mean_ms:g} ms) lies outside its p10 to p90 "
            f"({row.latency_p10_ms:g} to {row.latency_p90_ms:g} ms)",
        )


def _marked(table: Suspect) -> Iterator[Complaint]:
    for mark in table.card.marks:
        yield None, f"the run was marked when it was measured: {mark[:200]}"


def _synthetic(table: Suspect) -> Iterator[Complaint]:
    rows = table.rows
    timed_N = rows.have(latency_provenance="measured") & (rows.numbers("latency_ms") > 0)
    still_N = (rows.numbers("samples") >= _LEAST_SAMPLES) & (rows.numbers("latency_std_ms") == 0)
    for line, row in table.numbered(timed_N & still_N):
        yield line, f"{row.samples} samples of {row.label} have no spread at all; a clock has some"
    same = ("role", "part", "options", "scenario", "frames", "channels", "heads", "precision", "compute_unit")
    timed = np.flatnonzero(timed_N)
    group_N, latency_ms_N = rows.groups(*same).group_N[timed], rows.numbers("latency_ms")[timed]
    tokens_N = (rows.numbers("frames") * rows.numbers("height") * rows.numbers("width"))[timed]
    order = np.lexsort((timed, tokens_N, group_N))
    one, next_ = order[:-1], order[1:]
    growth_P = tokens_N[next_] / tokens_N[one]
    expected_P = latency_ms_N[one] * tokens_N[next_] / tokens_N[one]
    # Latencies are written to a nanosecond, and their growth multiplies that rounding.
    exact_P = abs(latency_ms_N[next_] - expected_P) <= _EXACT * (expected_P + growth_P)
    for p in np.flatnonzero(exact_P & (group_N[one] == group_N[next_]) & (growth_P > 1)):
        further = rows[timed[next_[p]]]
        if _digits(rows[timed[one[p]]]) >= 4:
            yield (
                int(table.line_N[timed[next_[p]]]),
                f"{further.label} at {further.grid} takes exactly {growth_P[p]:g} times line "
                f"{table.line_N[timed[one[p]]]}, as its tokens do",
            )


def _stale(table: Suspect) -> Iterator[Complaint]:
    here, there = ((release(version) or ())[:2] for version in (own_version(), table.card.code_version))
    if table.card.code_version.startswith("s2search ") and here and there and there != here:
        age = "older" if there < here else "newer"
        yield None, f"made by {table.card.code_version[:40]}, which is {age} than the installed {own_version()}"


def _contradictions(table: Suspect) -> Iterator[Complaint]:
    card, kind, rows = table.card, table.card.provenance.kind, table.rows
    block_N = rows.have(role="block")
    if kind == "measured" and re.search(r"\bnot (a measurement|measured)\b", card.provenance.statement):
        yield None, f"the card is called measured, and its statement says: {card.provenance.statement[:80]!r}"
    kinds = rows.columns["latency_provenance"].take(block_N).different
    if kinds and kind not in kinds:
        yield None, f"the card says {kind}, and no block row does"
    if kind in kinds:
        stronger_N = rows.where(
            lambda its: _STRENGTH[its] > _STRENGTH[kind] or kind == "measured" != its, "latency_provenance"
        )
        # A recalibration corrects one scope; the others stay what they were.
        recalibrated = _recalibrated(card.protocol)
        for line, row in table.numbered(block_N & stronger_N):
            if not recalibrated or str(_scope(row)) in recalibrated:
                yield line, f"{row.label} is called {row.latency_provenance}, and the card says {kind}"
    if card.date != NOT_STATED and span(card.date) is None:
        yield None, f"the card's date is {card.date[:40]!r}, which is no date"
    sampled_N = (rows.numbers("samples") > 0) | rows.where(bool, "measured_at")
    sampled_N &= ~rows.have(latency_provenance="measured")
    for line, row in table.numbered(sampled_N):
        yield line, f"{row.label} has samples or a time of measurement, and is called {row.latency_provenance}"
    late_N = rows.where(lambda at: bool(at) and is_later(at, card.date), "measured_at")
    for line, row in table.numbered(late_N & ~sampled_N):
        yield line, f"{row.label} was measured at {str(row.measured_at)[:30]}, after the card's date {card.date[:30]}"
    stated = card.protocol.get("samples_digest")
    if stated and table.samples_digest and stated != table.samples_digest:
        yield None, "samples.jsonl is not the file whose digest the card states"
    if (preset := PRESETS.get(card.preset)) is not None:
        sizes = preset.channels, preset.heads, preset.feed_forward
        other_N = rows.where(lambda *its: its != sizes, "channels", "heads", "feed_forward")
        for line, row in table.numbered(other_N):
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
