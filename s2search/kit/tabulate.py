"""The rows and cards of a kit's tables, from the samples that count."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import UnsetType

from s2search.border.regular_file import read_regular
from s2search.dates import instant
from s2search.exporters.coreml.form import Form
from s2search.exporters.resident import Resident
from s2search.kit.manifest import KitManifest, KitRow, digest_of
from s2search.kit.results import Results
from s2search.kit.runs import Run
from s2search.measurement.base import Device
from s2search.measurement.correction import Correction, ItemTimes
from s2search.measurement.items import long_skip_row
from s2search.measurement.tabulate import latency_columns
from s2search.tables.card import Card, Provenance
from s2search.tables.placement import is_misplaced, ran_on, shares_text, unit_asked_by
from s2search.tables.row import Role, Row
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable

#: Whole programs that were timed among a table's rows, beside the table.
PROGRAMS = "programs.json"
_DIGITS = 6  # of milliseconds: a nanosecond


def tables_of(manifest: KitManifest, results: Results, run: Run) -> tuple[LatencyTable, ...]:
    """Return one table per precision that has a block."""
    gone = {entry.row.id for entry in run.missing}
    tables = []
    for precision in dict.fromkeys(row.precision for row in manifest.parts):
        kept = [row for row in manifest.parts if row.precision == precision and row.id not in gone]
        if not any(row.role == "block" for row in kept):
            continue
        rows = [_row(manifest, results, row, run) for row in kept]
        units = dict.fromkeys(
            (row.scenario, row.shape, row.compute_unit) for row in kept if not is_row_misplaced(results, row)
        )
        for scenario, shape, unit in units:
            rows.append(long_skip_row(scenario, shape, _device(results, precision, unit)))
        card = _card(manifest, results, kept, run)
        name = _name(manifest, results, precision) + run.suffix
        tables.append(LatencyTable(name=name, card=card, rows=Rows.of(rows)))
    return tuple(tables)


def _row(manifest: KitManifest, results: Results, row: KitRow, run: Run) -> Row:
    times: ItemTimes = run.correction.items[row.label]
    own = [(place, sample) for place, sample in enumerate(run.usable) if sample.row == row.id]
    return Row(
        role=cast(Role, row.role),  # programs are none of a table's parts
        part=row.part,
        options=row.options,
        scenario=row.scenario,
        **dataclasses.asdict(row.shape),
        precision=row.precision,
        **_place(results, row),
        **latency_columns(times),
        samples=times.samples,
        order=own[0][0],
        measured_at=own[0][1].at,
        weight_bytes=manifest.package(row).weight_bytes,
        state_bytes=row.state_bytes,
        peak_bytes=row.peak_bytes,
        **(memory.columns if (memory := memory_of(results, row)) else {}),
        latency_provenance="measured",
        bytes_provenance="derived",
        note=_placement_text(results, row),
    )


def ran_text(results: Results, row: KitRow) -> str | None:
    """Return which unit did which share of a row's work; None where it is not known."""
    placement = results.placement.get(row.id)
    return None if placement is None else shares_text(placement.work)


def is_row_misplaced(results: Results, row: KitRow) -> bool:
    """Whether a row did not run where the kit asked; one of which nothing is known is taken at its word."""
    return is_misplaced(unit_asked_by(row.compute_unit), ran_text(results, row))


def _place(results: Results, row: KitRow) -> dict[str, Any]:
    """Return a row's columns of units; a misplaced row is one of the unit that it ran on."""
    ran = ran_text(results, row)
    return {
        "compute_unit": ran_on(ran) if ran and is_row_misplaced(results, row) else row.compute_unit,
        "unit_asked": unit_asked_by(row.compute_unit),
        "unit_ran": ran,
    }


def memory_of(results: Results, row: KitRow) -> Resident | None:
    """Return by how much the app grew with a row; None where the phone did not tell.

    The peak is of the life of the app: where it was larger before the row was loaded, that of the row is not known.
    """
    ready = results.ready.get(row.id)
    told = ready.memory if ready else None
    if told is None:
        return None
    before_bytes, risen = told.before_bytes, told.peak_bytes > told.peak_before_bytes
    return Resident(
        counter="phys_footprint",
        load_bytes=max(0, told.load_bytes - before_bytes),
        first_bytes=max(0, told.first_bytes - before_bytes),
        steady_bytes=max(0, told.steady_bytes - before_bytes),
        peak_bytes=max(0, told.peak_bytes - before_bytes) if risen else None,
    )


def _placement_text(results: Results, row: KitRow) -> str:
    """Say where a row's operations shall run: `neural_engine 100, cpu 3`."""
    placement = results.placement.get(row.id)
    if placement is None:
        failed = results.failed.get(row.id)
        return f"placement not known: {failed.reason.replace('_', ' ')}" if failed else "placement not known"
    counts = sorted(placement.operations.items(), key=lambda entry: (-entry[1], entry[0]))
    return "operations: " + ", ".join(f"{device} {count}" for device, count in counts)


def _card(manifest: KitManifest, results: Results, kept: Sequence[KitRow], run: Run) -> Card:
    campaign, correction = results.campaign, run.correction
    protocol = {name: getattr(manifest.protocol, name) for name in manifest.protocol.__struct_fields__}
    if protocol["sustained_s"] is None:
        del protocol["sustained_s"]  # so that results of before give the table that they gave
    return Card(
        **_facts(results),
        date=max(instant(sample.at) for sample in run.usable).date().isoformat(),
        code_version=manifest.code_version,
        preset=manifest.preset,
        provenance=Provenance(
            kind="measured",
            source="s2search kit",
            statement=f"measured on {campaign.device} with Core ML; says nothing of other devices",
        ),
        protocol={
            "method": f"mean of back-to-back predictions in one process on the phone, all inputs ready, "
            f"{_state_text(manifest)}; bytes: weights as stored, {_peak_text(manifest)}",
            "order": "groups that fit memory; in each all rows in a fresh order every round",
            **protocol,
            **({"mode": run.mode} if run.mode else {}),
            "kit": campaign.kit,
            "results_digest": digest_of(read_regular(results.path)),
            "tools": campaign.tools | manifest.converter,
            **_form(manifest),
            "unit_ran": "shares of the compute plan's estimated cost; of operations in rows without one",
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
            "marks": list(marks_of(results, correction)),
            **({} if isinstance(manifest.shots, UnsetType) else {"shots": msgspec.to_builtins(manifest.shots)}),
            "rows": {row.label: _findings(results, row) | _beside(row, run) for row in kept},
            "missing": {entry.row.label: entry.reason for entry in run.missing},
            **_beside_text(manifest, run),
        },
    )


def _beside_text(manifest: KitManifest, run: Run) -> dict[str, Any]:
    """Say how many whole programs were timed among the rows; nothing where none was to be."""
    if not manifest.programs:
        return {}
    ids = {row.id for row in manifest.programs}
    timed = {sample.row for sample in run.usable} & ids
    samples = sum(sample.row in ids and not sample.sentinel for sample in run.usable)
    return {"programs": {"file": PROGRAMS, "timed": len(timed), "of": len(ids), "samples": samples}}


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
        "estimated_cost": placement and placement.cost,
    }


def _beside(row: KitRow, run: Run) -> dict[str, Any]:
    """Return a row's cold latency beside its sustained one; nothing in a cold table."""
    if run.cold is None:
        return {}
    if row.id in {entry.row.id for entry in run.cold.missing}:
        return {"cold_ms": None, "sustained_over_cold": None}
    cold_ms, hot_ms = (one.correction.items[row.label].corrected.median_ms for one in (run.cold, run))
    return {"cold_ms": round(cold_ms, _DIGITS), "sustained_over_cold": round(hot_ms / cold_ms, 4)}


def marks_of(results: Results, correction: Correction) -> tuple[str, ...]:
    """Return what is to be said against a run."""
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


def _form(manifest: KitManifest) -> dict[str, str]:
    """Return the form of the packages; nothing of a kit of before, which does not say."""
    told = {"layout": manifest.layout, "state": manifest.state}
    return {name: value for name, value in told.items() if not isinstance(value, UnsetType)}


def _peak_text(manifest: KitManifest) -> str:
    if isinstance(manifest.layout, UnsetType):
        return "state and peak by formula"
    return "state by formula, peak as if every operation's result were written out"


def _state_text(manifest: KitManifest) -> str:
    if manifest.state == "core_ml":
        return "rings and tails as states of Core ML, which are zeros when a sample begins"
    if manifest.state == "host":
        return "what is remembered packed by the host, and given"
    return "no state kept"


def _name(manifest: KitManifest, results: Results, precision: str) -> str:
    """Return device, runtime and precision, and what the form has that is not the exporter's default."""
    device = re.sub(r"[^a-z0-9]+", "-", results.campaign.device.lower()).strip("-")
    default = (Form().layout, Form().state)
    words = [value for value in _form(manifest).values() if value not in default]
    return ".".join((f"{device or 'phone'}.coreml.{precision}", *words))
