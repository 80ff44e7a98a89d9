"""What a block takes in a pass, where alone it ran on another unit: three equal layers less two.

A block by itself can be too small for the unit that was asked for, and its time is then not that unit's. Programs of
two and three such layers are larger and may run where they were asked to; all else in them is equal, so their
difference is one layer, hand-over between layers included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from s2search.kit.manifest import KitManifest, KitProgram, KitRow
from s2search.kit.results import Results
from s2search.kit.runs import Run
from s2search.measurement.correction import ItemTimes
from s2search.tables.placement import is_misplaced, shares_text, unit_asked_by
from s2search.tables.row import LEAST_BLOCK_MS


@dataclass(frozen=True, kw_only=True)
class InContext:
    """A block's time as a difference of two programs, milliseconds.

    Attributes:
        latency_ms: With drift taken out.
        raw_ms: Without.
        error_ms: Standard error of the first.
        samples: Of the program that has fewer.
        unit_ran: Which unit did which share of the larger program's work.
        said: One sentence.
    """

    latency_ms: float
    raw_ms: float
    error_ms: float
    samples: int
    unit_ran: str
    said: str


def ran_text(results: Results, row: KitRow) -> str | None:
    """Return which unit did which share of a row's work; None where it is not known."""
    placement = results.placement.get(row.id)
    return None if placement is None else shares_text(placement.work)


def is_row_misplaced(results: Results, row: KitRow) -> bool:
    """Whether a row did not run where the kit asked; one of which nothing is known is taken at its word."""
    return is_misplaced(unit_asked_by(row.compute_unit), ran_text(results, row))


def in_context(manifest: KitManifest, results: Results, row: KitRow, run: Run) -> InContext | None:
    """Return what a misplaced block takes in context; None for any other row, or where contexts do not tell.

    They tell where both were timed, are known to have run where they were asked, and the larger takes longer.
    """
    if row.role != "block" or not is_row_misplaced(results, row):
        return None
    gone = {entry.row.id for entry in run.missing}
    found: dict[int, tuple[str, ItemTimes]] = {}
    for other in manifest.programs:
        layers = _equal_layers(other, row)
        ran = ran_text(results, other)
        if layers and ran and other.id not in gone and not is_row_misplaced(results, other):
            found[layers] = (ran, run.correction.items[other.label])
    if not found.keys() >= {2, 3}:
        return None
    (_, two), (ran, three) = found[2], found[3]
    latency_ms = three.corrected.median_ms - two.corrected.median_ms
    if latency_ms < LEAST_BLOCK_MS:
        return None
    return InContext(
        latency_ms=latency_ms,
        raw_ms=three.raw.median_ms - two.raw.median_ms,
        error_ms=math.hypot(two.error_ms, three.error_ms),
        samples=min(two.samples, three.samples),
        unit_ran=ran,
        said=f"three layers less two, on {ran}; alone it ran on {ran_text(results, row)}",
    )


def _equal_layers(other: KitRow, row: KitRow) -> int | None:
    """Return of how many layers of a row's block a program is, where it is a context of that row."""
    if not isinstance(other.program, KitProgram) or other.program.kind != "context":
        return None
    same = (other.shape, other.precision, other.compute_unit) == (row.shape, row.precision, row.compute_unit)
    label, _, layers = other.program.layout.rpartition("*")
    return int(layers) if same and label == row.part_label else None
