"""From a kit's results to latency tables: checked line by line, hot samples left out, drift corrected by the sentinel.

One table per precision, `<device>.coreml.<precision>`, and beside it `<device>.coreml.<precision>.sustained` where the
kit asks for sustained load. A row's latency is that of the steady loop on the phone; where
Core ML means to run it, and the cold samples, stand in the card. Rows that could not be measured are named in the card
and left out. Reading the same file again gives the same tables, to the byte.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UnsetType

from s2search.card import Card, Provenance
from s2search.errors import InputError
from s2search.kit.manifest import KitRow, Manifest, digest_of, read_manifest
from s2search.kit.results import Failed, Hot, Results, Sample
from s2search.kit.sustained import seconds_of, sustained_samples
from s2search.measure.base import Device
from s2search.measure.correction import Correction, ItemTimes, Timing, correct
from s2search.measure.items import long_skip_row
from s2search.row import Row
from s2search.table import LatencyTable, refuse_existing

_TOO_HOT = ("serious", "critical")
_DIGITS = 6  # of milliseconds: a nanosecond


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A row that is in no table, and why."""

    row: KitRow
    reason: str


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What a results.jsonl gave.

    Attributes:
        tables: One per precision, then those of sustained load.
        folders: Where they are.
        missing: Rows that could not be measured.
        marks: What is to be said against the whole run; empty for a good one.
    """

    tables: tuple[LatencyTable, ...]
    folders: tuple[Path, ...]
    missing: tuple[Missing, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one kind of table is made of.

    Attributes:
        suffix: Of the tables' names.
        mode: What the cards say of it; empty where the kit asks for one kind only.
        taken: All samples of this kind.
        usable: Those that count.
        correction: Of those.
        missing: Rows that are in no such table.
        cold: The cold run, where this one is not.
    """

    suffix: str
    mode: str
    taken: Sequence[Sample | Hot]
    usable: Sequence[Sample]
    correction: Correction
    missing: Sequence[Missing]
    cold: _Run | None = None


def ingest(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Ingested:
    """Make latency tables of a kit's results.

    Args:
        path: results.jsonl, beside the kit's manifest.json.
        out: The folder of tables; each becomes a folder in it.

    Raises:
        InputError: A line is no result, the campaign is not finished, or nothing could be measured.
        TableError: A folder already holds another table.
    """
    results_path = Path(path)
    manifest, kit_digest = read_manifest(results_path.parent)
    results = Results(results_path, manifest, kit_digest)
    cold = _cold(manifest, results)
    runs, broken = [cold], _broken_load(manifest, results)
    if manifest.protocol.sustained_s is not None and not broken:
        runs.append(_sustained(manifest, results, cold))
    tables = tuple(table for run in runs for table in _tables(manifest, results, run))
    folders = tuple(Path(out) / table.name for table in tables)
    for table, folder in zip(tables, folders, strict=True):
        _save(table, folder)
    missing = {entry.row.id: entry for run in reversed(runs) for entry in run.missing}
    marks = dict.fromkeys([*(mark for run in runs for mark in _marks(results, run.correction)), *broken])
    return Ingested(tables=tables, folders=folders, missing=tuple(missing.values()), marks=tuple(marks))


def _cold(manifest: Manifest, results: Results) -> _Run:
    missing, usable = _usable(manifest, results)
    return _Run(
        suffix="",
        mode="" if manifest.protocol.sustained_s is None else "cold: paused wherever the phone was too hot",
        taken=results.samples,
        usable=usable,
        correction=correct(_timings(manifest, usable)),
        missing=missing,
    )


def _broken_load(manifest: Manifest, results: Results) -> list[str]:
    """Say why there is no sustained table, where the sentinel failed under load and so ties no groups together."""
    failed = results.given_up.get(manifest.sentinel)
    if manifest.protocol.sustained_s is None or failed is None:
        return []
    return [f"no sustained table: the sentinel {manifest.rows[manifest.sentinel].label}: {_reason(failed)}"]


def _sustained(manifest: Manifest, results: Results, cold: _Run) -> _Run:
    failed = results.given_up
    usable = sustained_samples(manifest, results, failed)
    correction = correct(_timings(manifest, usable))
    sentinel = manifest.rows[manifest.sentinel].label
    cold_ms = cold.correction.items[sentinel].raw.median_ms
    hot_ms = [sample.ms for sample in usable if sample.sentinel]
    seen = {sample.row for sample in usable if not sample.sentinel}
    return _Run(
        suffix=".sustained",
        mode=f"sustained for {manifest.protocol.sustained_s:g} s in every group, without a break: its last third; "
        f"the sentinel takes {100 * (float(np.median(hot_ms)) / cold_ms - 1):+.1f} % against the cold run",
        taken=[sample for stretch in results.stretches.values() for sample in stretch],
        usable=usable,
        correction=correction,
        missing=[
            Missing(row=row, reason=_reason(failed[row.id]) if row.id in failed else "not sampled in the last third")
            for row in manifest.rows
            if row.id not in seen
        ],
        cold=cold,
    )


def _usable(manifest: Manifest, results: Results) -> tuple[list[Missing], list[Sample]]:
    """Return the rows that are in no table, and the samples of all others that were not taken too hot."""
    sampled = {sample.slot for sample in results.samples}
    unsampled = {slot.row for slot in manifest.order if slot.slot not in sampled}
    failed = {row: line for row, line in results.given_up.items() if row in unsampled}  # the others, when they were hot
    needed = [slot for slot in manifest.order if slot.row not in failed]
    if left := sum(slot.slot not in sampled for slot in needed):
        raise InputError(
            f"{str(results.path)!r} holds {len(needed) - left} of {len(needed)} samples",
            remedy="repeat `python3 -m runner run` on the Mac: it goes on where it stopped",
        )
    cool = [s for s in results.samples if s.row not in failed and not {s.thermal, s.thermal_after} & {*_TOO_HOT}]
    least = math.ceil(manifest.protocol.rounds / 2)
    counts = {row.id: sum(s.row == row.id and not s.sentinel for s in cool) for row in manifest.rows}
    missing = [
        Missing(row=row, reason=_reason(failed[row.id]))
        if row.id in failed
        else Missing(row=row, reason=f"throttled: {counts[row.id]} of {manifest.protocol.rounds} samples were cool")
        for row in manifest.rows
        if row.id in failed or counts[row.id] < least
    ]
    gone = {entry.row.id for entry in missing}
    if manifest.sentinel in gone or not any(row.role == "block" and row.id not in gone for row in manifest.rows):
        raise InputError(
            f"{str(results.path)!r} gives no table: {missing[0].row.label}: {missing[0].reason}",
            remedy="measure again: a cooler phone, smaller blocks, or another sentinel",
        )
    return missing, [sample for sample in cool if sample.row not in gone]


def _reason(line: Failed) -> str:
    return f"{line.reason.replace('_', ' ')} ({line.stage}): {line.message}"


def _timings(manifest: Manifest, samples: Sequence[Sample]) -> list[Timing]:
    """Return samples for the correction. A clock that is set back in between stands still instead."""
    timings, last_s = [], -math.inf
    for sample in samples:
        last_s = max(last_s, seconds_of(sample.at))
        timings.append(
            Timing(
                item=manifest.rows[sample.row].label,
                ms=sample.ms,
                at_s=last_s,
                sentinel=sample.sentinel,
                round=sample.round,
            )
        )
    return timings


def _tables(manifest: Manifest, results: Results, run: _Run) -> tuple[LatencyTable, ...]:
    gone = {entry.row.id for entry in run.missing}
    tables = []
    for precision in dict.fromkeys(row.precision for row in manifest.rows):
        kept = [row for row in manifest.rows if row.precision == precision and row.id not in gone]
        if not any(row.role == "block" for row in kept):
            continue
        rows = [_row(manifest, results, row, run) for row in kept]
        units = dict.fromkeys((row.scenario, row.shape, row.compute_unit) for row in kept)
        for scenario, shape, unit in units:
            rows.append(long_skip_row(scenario, shape, _device(results, precision, unit)))
        card = _card(manifest, results, kept, run)
        tables.append(LatencyTable(name=_name(results, precision) + run.suffix, card=card, rows=tuple(rows)))
    return tuple(tables)


def _row(manifest: Manifest, results: Results, row: KitRow, run: _Run) -> Row:
    times: ItemTimes = run.correction.items[row.label]
    own = [(place, sample) for place, sample in enumerate(run.usable) if sample.row == row.id]
    return Row(
        role=row.role,
        part=row.part,
        options=row.options,
        scenario=row.scenario,
        **dataclasses.asdict(row.shape),
        precision=row.precision,
        compute_unit=row.compute_unit,
        latency_ms=round(times.corrected.median_ms, _DIGITS),
        latency_p10_ms=round(times.corrected.p10_ms, _DIGITS),
        latency_p90_ms=round(times.corrected.p90_ms, _DIGITS),
        latency_mean_ms=round(times.corrected.mean_ms, _DIGITS),
        latency_std_ms=round(times.corrected.std_ms, _DIGITS),
        latency_raw_ms=round(times.raw.median_ms, _DIGITS),
        latency_error_ms=None if math.isnan(times.error_ms) else round(times.error_ms, _DIGITS),
        samples=times.samples,
        order=own[0][0],
        measured_at=own[0][1].at,
        weight_bytes=manifest.package(row).weight_bytes,
        state_bytes=row.state_bytes,
        peak_bytes=row.peak_bytes,
        latency_provenance="measured",
        bytes_provenance="derived",
        note=_placement_text(results, row),
    )


def _placement_text(results: Results, row: KitRow) -> str:
    """Say where a row's operations shall run: `neural_engine 100, cpu 3`."""
    placement = results.placement.get(row.id)
    if placement is None:
        failed = results.failed.get(row.id)
        return f"placement not known: {failed.reason.replace('_', ' ')}" if failed else "placement not known"
    counts = sorted(placement.operations.items(), key=lambda entry: (-entry[1], entry[0]))
    return "operations: " + ", ".join(f"{device} {count}" for device, count in counts)


def _card(manifest: Manifest, results: Results, kept: Sequence[KitRow], run: _Run) -> Card:
    campaign, correction = results.campaign, run.correction
    protocol = {name: getattr(manifest.protocol, name) for name in manifest.protocol.__struct_fields__}
    if protocol["sustained_s"] is None:
        del protocol["sustained_s"]  # so that results of before give the table that they gave
    return Card(
        **_facts(results),
        date=run.usable[-1].at[:10],
        code_version=manifest.code_version,
        preset=manifest.preset,
        provenance=Provenance(
            kind="measured",
            source="s2search kit",
            statement=f"measured on {campaign.device} with Core ML; says nothing of other devices",
        ),
        protocol={
            "method": "mean of back-to-back predictions in one process on the phone, all inputs ready, no state kept; "
            "bytes: weights as stored, state and peak by formula",
            "order": "groups that fit memory; in each all rows in a fresh order every round",
            **protocol,
            **({"mode": run.mode} if run.mode else {}),
            "kit": campaign.kit,
            "results_digest": digest_of(results.path.read_bytes()),
            "tools": campaign.tools | manifest.converter,
            "sentinel": manifest.rows[manifest.sentinel].label,
            "launches": len(results.sessions),
            "samples": len(run.taken),
            "samples_used": len(run.usable),
            "thermal": _counts([sample.thermal for sample in run.taken]),
            "drift": {
                "corrected": correction.corrected,
                "drift_percent": round(correction.drift_percent, 3),
                "raw_drift_percent": round(correction.raw_drift_percent, 3),
                "residual_percent": round(correction.residual_percent, 3),
                "spread_percent": round(correction.spread_percent, 3),
            },
            "marks": list(_marks(results, correction)),
            **({} if isinstance(manifest.shots, UnsetType) else {"shots": msgspec.to_builtins(manifest.shots)}),
            "rows": {row.label: _findings(results, row) | _beside(row, run) for row in kept},
            "missing": {entry.row.label: entry.reason for entry in run.missing},
        },
    )


def _findings(results: Results, row: KitRow) -> dict[str, Any]:
    """Return what a row's columns have no room for."""
    ready, cold, placement = (
        results.ready.get(row.id),
        results.cold.get(row.id),
        results.placement.get(row.id),
    )
    return {
        "settled": ready and ready.settled,
        "warm_ups": ready and ready.warm_ups,
        "repetitions": ready and ready.repetitions,
        "load_ms": ready and ready.load_ms,
        "cold_load_ms": cold and cold.load_ms,
        "cold_predict_ms": cold and cold.predict_ms,
        "placement": placement and placement.operations,
        "elsewhere": placement and placement.elsewhere,
    }


def _beside(row: KitRow, run: _Run) -> dict[str, Any]:
    """Return a row's cold latency beside its sustained one; nothing in a cold table."""
    if run.cold is None:
        return {}
    cold = None if row.id in {entry.row.id for entry in run.cold.missing} else run.cold.correction.items[row.label]
    if cold is None:
        return {"cold_ms": None, "sustained_over_cold": None}
    cold_ms, hot_ms = cold.corrected.median_ms, run.correction.items[row.label].corrected.median_ms
    return {"cold_ms": round(cold_ms, _DIGITS), "sustained_over_cold": round(hot_ms / cold_ms, 4)}


def _marks(results: Results, correction: Correction) -> tuple[str, ...]:
    low_power = any(session.low_power_mode for session in results.sessions)
    return correction.marks + (("the phone was in Low Power Mode",) if low_power else ())


def _power(results: Results) -> str:
    if not results.sessions:
        return "not stated"
    low = any(session.low_power_mode for session in results.sessions)
    charging = all(session.charging for session in results.sessions)
    return f"low power mode {'on' if low else 'off'}, {'charging' if charging else 'on battery'}"


def _counts(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in dict.fromkeys(words)}


def _device(results: Results, precision: str, compute_unit: str) -> Device:
    return Device(**_facts(results), precision=precision, compute_unit=compute_unit)


def _facts(results: Results) -> dict[str, Any]:
    """Return what a card and a device say of the phone."""
    campaign = results.campaign
    return {
        "device": campaign.device,
        "chip": campaign.chip,
        "os": campaign.os,
        "runtime": "Core ML",
        "runtime_version": campaign.os,
        "threads": None,
        "power_mode": _power(results),
    }


def _name(results: Results, precision: str) -> str:
    device = re.sub(r"[^a-z0-9]+", "-", results.campaign.device.lower()).strip("-")
    return f"{device or 'phone'}.coreml.{precision}"


def _save(table: LatencyTable, folder: Path) -> None:
    """Write a table; one that is there already and equal stays, and half a table of a killed process is finished."""
    try:
        if (folder / "card.json").exists() and LatencyTable.load(folder).digest == table.digest:
            return
        rows = folder / "table.csv"
        if not (folder / "card.json").exists() and rows.exists() and rows.read_bytes() == table.to_csv().encode():
            rows.unlink()
        refuse_existing(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        table.save(folder)
    except OSError as error:
        raise InputError(
            f"the table {str(folder)!r} cannot be written: {error.strerror}",
            remedy="make room, or choose another folder; the same command then finishes it",
        ) from error
