"""What counts of a kit's results: the samples that were not taken too hot, drift taken out by the sentinel.

A cold run has those of the order; a sustained one the last third of every group's stretch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s2search.errors import InputError
from s2search.kit.manifest import KitManifest, KitRow
from s2search.kit.results import FailedLine, HotLine, Results, SampleLine
from s2search.kit.sustained import sustained_samples
from s2search.measurement.correction import Correction, Timing, correct
from s2search.measurement.elapsed import elapsed_s

_TOO_HOT = ("serious", "critical")


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A row that is in no table, and why."""

    row: KitRow
    reason: str


@dataclass(frozen=True, kw_only=True)
class Run:
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
    taken: Sequence[SampleLine | HotLine]
    usable: Sequence[SampleLine]
    correction: Correction
    missing: Sequence[Missing]
    cold: Run | None = None


def cold_run(manifest: KitManifest, results: Results) -> Run:
    """Return the run of the order: what was not taken too hot.

    Raises:
        InputError: The campaign is not finished, or nothing could be measured.
    """
    missing, usable = _usable(manifest, results)
    return Run(
        suffix="",
        mode="" if manifest.protocol.sustained_s is None else "cold: paused wherever the phone was too hot",
        taken=results.samples,
        usable=usable,
        correction=correct(_timings(manifest, usable)),
        missing=missing,
    )


def broken_load(manifest: KitManifest, results: Results) -> list[str]:
    """Say why there is no sustained table, where the sentinel failed under load and so ties no groups together."""
    failed = results.given_up.get(manifest.sentinel)
    if manifest.protocol.sustained_s is None or failed is None:
        return []
    return [f"no sustained table: the sentinel {manifest.rows[manifest.sentinel].label}: {_reason(failed)}"]


def sustained_run(manifest: KitManifest, results: Results, cold: Run) -> Run:
    """Return the run of sustained load.

    Raises:
        InputError: A group's sustained load has not lasted long enough yet.
    """
    failed = results.given_up
    usable = sustained_samples(manifest, results, failed)
    correction = correct(_timings(manifest, usable))
    sentinel = manifest.rows[manifest.sentinel].label
    cold_ms = cold.correction.items[sentinel].raw.median_ms
    hot_ms = [sample.ms for sample in usable if sample.sentinel]
    seen = {sample.row for sample in usable if not sample.sentinel}
    return Run(
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


def _usable(manifest: KitManifest, results: Results) -> tuple[list[Missing], list[SampleLine]]:
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


def _reason(line: FailedLine) -> str:
    return f"{line.reason.replace('_', ' ')} ({line.stage}): {line.message}"


def _timings(manifest: KitManifest, samples: Sequence[SampleLine]) -> list[Timing]:
    """Return samples for the correction."""
    return [
        Timing(
            item=manifest.rows[sample.row].label,
            ms=sample.ms,
            at_s=at_s,
            sentinel=sample.sentinel,
            round=sample.round,
        )
        for sample, at_s in zip(samples, elapsed_s(samples), strict=True)
    ]
