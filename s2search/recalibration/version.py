"""A new version of a table: corrected rows, and a card that says where they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from s2search.cost import format_bytes
from s2search.recalibration.correction import TableCorrection
from s2search.recalibration.memory import MemoryCorrection, MemoryParts
from s2search.recalibration.result import Recalibration
from s2search.registry import own_version
from s2search.tables.card import Provenance
from s2search.tables.row import Row
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable, Scope

_DIGITS = 6  # of milliseconds: a nanosecond
_MOVED = ("latency_ms", "latency_p10_ms", "latency_p90_ms", "latency_mean_ms")
_SCALED = ("latency_std_ms", "latency_error_ms")


def corrected_table(
    table: LatencyTable, scope: Scope, correction: TableCorrection, blocks: Collection[str], name: str
) -> LatencyTable:
    """Return a table with the rows of one scope corrected; commits and other scopes stay as they are.

    Args:
        table: The old version.
        scope: Which rows.
        correction: What becomes of them.
        blocks: The labels of those that layouts had. What no layout had is not corrected, and next to rows that are it
            would be cheap or dear for no reason: its rows in this scope are left out.
        name: Of the new table.
    """
    inside = {row.key for row in table.in_scope(scope)}
    commits = {row.key for row in table.commits_in_scope(scope)}
    rows = Rows.of(
        _corrected(row, correction) if row.key in inside else row
        for row in table.rows
        if row.key not in inside | commits or row.role not in ("block", "commit") or row.part_label in blocks
    )
    return dataclasses.replace(table, name=name, rows=rows)


def with_memory(table: LatencyTable, scope: Scope, correction: MemoryCorrection, parts: MemoryParts) -> LatencyTable:
    """Return a table whose rows of one scope promise the memory that whole packages took; commits stay as they are.

    What the runtime takes once is held by the heaviest of the parts that every layout has.
    """
    inside = {row.key for row in table.in_scope(scope)}
    fixed = [row for row in table.in_scope(scope) if row.role == "fixed"]
    carrier = max(fixed, key=lambda row: row.held_bytes).key

    def corrected(row: Row) -> Row:
        held = correction.held_factor * row.held_bytes + (correction.runtime_bytes if row.key == carrier else 0.0)
        alone = parts.alone.get(row.label)
        return dataclasses.replace(
            row,
            resident_bytes=round(held),
            peak_bytes=round(correction.peak_bytes(row.label, parts)),
            bytes_provenance="derived",
            **(alone.columns if alone else {}),
        )

    rows = Rows.of(corrected(row) if row.key in inside else row for row in table.rows)
    return dataclasses.replace(table, rows=rows)


def record(new: LatencyTable, old: LatencyTable, found: Recalibration) -> LatencyTable:
    """Return the new table with its provenance; earlier recalibrations stay, in order."""
    provenance = Provenance(
        kind=old.card.provenance.kind if found.refusal else "derived",  # of latencies
        source=f"s2search recalibrate {old.name} ({old.digest})",
        statement=(
            f"{old.card.provenance.statement}; recalibrated on {found.date} from {old.digest[7:19]} by "
            f"{found.fitted.layouts} whole layouts ({found.scope}): {_told(found)}"
        ),
    )
    card = dataclasses.replace(
        old.card,
        date=found.date,
        code_version=f"s2search {own_version()}",
        provenance=provenance,
        protocol={
            **old.card.protocol,
            "marked": [
                *old.card.marks,
                *(f"recalibration: {mark}" for mark in found.marked),
            ],
            "recalibrated": [*old.card.protocol.get("recalibrated", ()), _entry(old, found)],
        },
    )
    return dataclasses.replace(new, card=card)


def _told(found: Recalibration) -> str:
    """Return what was corrected, in one line."""
    latency = "latency as it was" if found.refusal else correction_text(found.correction)
    if found.memory is None or not found.memory.supported:
        return latency
    return f"{latency}; memory: {memory_text(found.memory.correction)}"


def memory_text(correction: MemoryCorrection) -> str:
    """Return a correction of memory in one line.

    >>> memory_text(MemoryCorrection(kind="held", runtime_bytes=7_400_000.0, held_factor=1.5))
    'runtime +7.4 MB, held x1.50'
    """
    if correction.kind == "none":
        return "none"
    said = [f"runtime +{format_bytes(round(correction.runtime_bytes))}"]
    if correction.kind != "runtime":
        said.append(f"held x{correction.held_factor:.2f}")
    if correction.kind in ("peaks", "measured"):
        of = "peaks" if correction.kind == "peaks" else "calls of each row alone"
        said.append(f"{of} x{correction.peak_factor:.2f}")
    return ", ".join(said)


def correction_text(correction: TableCorrection) -> str:
    """Return a correction in one line.

    >>> from s2search.recalibration.correction import TableCorrection
    >>> correction_text(TableCorrection(kind="hand_over", offset_ms={"lcha": 0.25, "ssa": 0.25}))
    'lcha +0.250 ms, ssa +0.250 ms'
    """
    if correction.kind == "none":
        return "none"
    if correction.kind == "factor":
        return f"all parts x{correction.factor:.4f}"
    offsets = ", ".join(f"{label} {ms:+.3f} ms" for label, ms in correction.offset_ms.items())
    return offsets if correction.factor == 1.0 else f"all parts x{correction.factor:.4f}, then {offsets}"


def _entry(old: LatencyTable, found: Recalibration) -> dict[str, Any]:
    return {
        "table": old.name,
        "digest": old.digest,
        "date": found.date,
        "runtime": found.runtime,
        "scope": found.scope,
        "correction": dataclasses.asdict(TableCorrection() if found.refusal else found.correction),
        **_memory_entry(found),
        "cross_validated": dict(found.cross_validated),
        "fitted": dataclasses.asdict(found.fitted),
        "held_out": dataclasses.asdict(found.held_out),
        "judgement": dataclasses.asdict(found.judgement),
        "layouts": [
            {"layout": one.layout, "held_out": one.held_out, "measured_ms": round(one.measured_ms, _DIGITS)}
            for one in found.layouts
        ],
        "marked": list(found.marked),
        "samples_digest": found.samples_digest,
    }


def _memory_entry(found: Recalibration) -> dict[str, Any]:
    """Return what became of memory; nothing where it was not corrected."""
    if found.memory is None or not found.memory.supported:
        return {}
    entry = dataclasses.asdict(found.memory)
    entry["layouts"] = [
        {"layout": one.layout, "held_out": one.held_out, "measured_bytes": one.measured_bytes}
        for one in found.memory.layouts
    ]
    return {"memory": entry}


def _corrected(row: Row, correction: TableCorrection) -> Row:
    offset_ms = correction.offset_ms.get(row.label, 0.0)
    if correction.factor == 1.0 and not offset_ms:
        return row
    moved = {field: correction.factor * ms + offset_ms for field in _MOVED if (ms := getattr(row, field)) is not None}
    scaled = {field: correction.factor * ms for field in _SCALED if (ms := getattr(row, field)) is not None}
    note = f"recalibrated from {row.latency_ms:g} ms"
    return dataclasses.replace(
        row,
        **{field: round(max(0.0, ms), _DIGITS) for field, ms in {**moved, **scaled}.items()},
        samples=0,  # those are the old table's, as is what they were before drift was taken out
        latency_raw_ms=None,
        order=None,
        measured_at=None,
        latency_provenance="derived",
        note=f"{row.note}; {note}" if row.note else note,
    )
