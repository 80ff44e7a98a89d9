"""What a recalibration is made from: programs that were timed whole, and what the parts of a table take now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s2search.exporters.resident import Resident
from s2search.recalibration.attribution import Now
from s2search.recalibration.correction import TableCorrection
from s2search.recalibration.memory import MemoryParts
from s2search.tables.table import LatencyTable


@dataclass(frozen=True, kw_only=True)
class WholeProgram:
    """One layout, timed whole.

    Attributes:
        text: The layout, or what else tells it apart.
        counts: How often it pays every row of the table, and changes the processor.
        measured_ms: Its median, drift taken out.
        error_ms: Standard error of that.
        foretold_ms: What the correction says of it, where that is not the sum of the new rows alone.
        held_out: Whether it judges the correction; else it is fitted to.
        is_package: Whether it is what is shipped; else it was made to be timed.
        taken: What its process takes, where that was measured.
    """

    text: str
    counts: Mapping[str, int]
    measured_ms: float
    error_ms: float
    held_out: bool
    is_package: bool = False
    foretold_ms: float | None = None
    taken: Resident | None = None


@dataclass(frozen=True, kw_only=True)
class ProgramEvidence:
    """A finished run.

    Attributes:
        programs: All that was timed whole.
        now: What the table's parts take now.
        blocks: Labels of the blocks in the programs.
        memory: The table's rows of memory, and what each took alone.
        runtime: What ran them.
        chip: On which.
        date: Of the last sample.
        drift_percent: By how much the machine's slowest state exceeded its fastest during the run.
        marked: What is wrong with the run; empty for a good one.
        samples_digest: A hash of the samples.
        left_out: Programs that say nothing, and why.
        level: Between which factors all times may be off because of the device's speed; None where nothing but its
            drift during the run tells.
        rows: The table as programs have its blocks, where some alone ran elsewhere; None where all are in their place.
        correction: What becomes of the rows by the programs for the fit; None where one is to be chosen.
    """

    programs: Sequence[WholeProgram]
    now: Now
    blocks: frozenset[str]
    memory: MemoryParts
    runtime: str
    chip: str
    date: str
    drift_percent: float
    marked: tuple[str, ...]
    samples_digest: str
    left_out: tuple[str, ...] = ()
    level: tuple[float, float] | None = None
    rows: LatencyTable | None = None
    correction: TableCorrection | None = None
