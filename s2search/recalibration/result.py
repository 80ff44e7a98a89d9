"""What a recalibration found: errors before and after, and every layout with its miss taken apart."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from s2search.document import as_json, read_object
from s2search.errors import InputError
from s2search.recalibration.attribution import Attribution
from s2search.recalibration.correction import TableCorrection
from s2search.recalibration.judgement import HeldOutJudgement, judge
from s2search.recalibration.memory import MemoryFound

SCHEMA = "s2search.recalibration/1"
GOAL, GOAL_LAYOUTS = 0.05, 20
_FOLLOWING = ("schema", "goal_met", "miss_shares")  # in its file; they follow from the others, or are no field
MISSES = ("drift", "blocks", "switches", "fixed", "changes", "hand_over")


@dataclass(frozen=True, kw_only=True)
class LayoutTime:
    """One layout: foretold by the old and by the corrected rows, and measured with its standard error, milliseconds."""

    layout: str
    held_out: bool
    is_package: bool
    predicted_ms: float
    corrected_ms: float
    measured_ms: float
    error_ms: float
    miss: Attribution


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Relative errors |foretold / measured - 1| of some layouts, before and after the correction."""

    layouts: int
    before_median: float
    before_worst: float
    after_median: float
    after_worst: float

    @classmethod
    def of(cls, times: Sequence[LayoutTime], *, held_out: bool) -> Errors:
        """Summarise the layouts of the fit, or those held out of it."""
        some = [one for one in times if one.held_out == held_out]
        before = [abs(one.predicted_ms / one.measured_ms - 1) for one in some]
        after = [abs(one.corrected_ms / one.measured_ms - 1) for one in some]
        return cls(
            layouts=len(some),
            before_median=statistics.median(before),
            before_worst=max(before),
            after_median=statistics.median(after),
            after_worst=max(after),
        )


def judgement_of(times: Sequence[LayoutTime], level: tuple[float, float]) -> HeldOutJudgement:
    """Judge the correction by the layouts that were held out of its fit.

    The machine's speed leaves the level of all latencies open between two factors: the correction must foretell better
    than the old rows at any such level.
    """
    held = [one for one in times if one.held_out]
    after = [abs(one.corrected_ms / one.measured_ms - 1) for one in held]
    nearest = statistics.median(one.predicted_ms / one.measured_ms for one in held)
    levels = {1.0, min(max(nearest, level[0]), level[1])}
    found = [judge([abs(one.predicted_ms / (level * one.measured_ms) - 1) for one in held], after) for level in levels]
    return min(found, key=lambda one: (one.supported, one.better, one.gain_median))


@dataclass(frozen=True, kw_only=True)
class Recalibration:
    """What was found.

    Attributes:
        table: The old table's name.
        table_digest: Its digest.
        runtime: The profiler's name.
        chip: Of this machine.
        scope: Which rows.
        date: Of the last sample.
        correction: What would become of the rows; of kind `none` where there is no systematic miss.
        cross_validated: The error of every kind of correction that was tried, on layouts left out of the fit.
        fitted: Errors of the layouts of the fit.
        held_out: Errors of the others.
        judgement: Whether those support the correction.
        drift_percent: By how much the machine's slowest state exceeded its fastest during the run.
        layouts: All of them.
        marked: What is wrong with the run; empty for a good one.
        samples_digest: A hash of the samples.
        new_table: The new table's name; null where none was written.
        new_digest: Its digest.
        left_out: Programs that say nothing, and why.
        refusal: Why latencies are not corrected; empty where they are.
        memory: What was found of memory; null where this runtime's is not measured here.
    """

    table: str
    table_digest: str
    runtime: str
    chip: str
    scope: str
    date: str
    correction: TableCorrection
    cross_validated: Mapping[str, float]
    fitted: Errors
    held_out: Errors
    judgement: HeldOutJudgement
    drift_percent: float
    layouts: tuple[LayoutTime, ...]
    marked: tuple[str, ...]
    samples_digest: str
    left_out: tuple[str, ...] = ()
    new_table: str | None = None
    new_digest: str | None = None
    refusal: str = ""
    memory: MemoryFound | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recalibration:
        """Read one from the JSON that `s2search recalibrate --json` printed.

        Raises:
            InputError: The file is missing, or holds something else.
        """
        content = read_object(Path(path))
        if content.get("schema") != SCHEMA:
            remedy = "name what s2search recalibrate --json printed"
            raise InputError(f"{str(path)!r} is no recalibration", remedy=remedy)
        fields = {name: value for name, value in content.items() if name not in _FOLLOWING}
        try:
            found = msgspec.convert(fields, cls)
            if not found.layouts or min(one.measured_ms for one in found.layouts) <= 0:
                raise InputError(f"{str(path)!r} has no layouts that were timed", remedy="make it again")
            return found
        except msgspec.ValidationError as error:
            raise InputError(f"{str(path)!r} is not a recalibration: {error}", remedy="make it again") from error

    @property
    def goal_met(self) -> bool:
        """Whether the table to plan on, the new one or else the old, errs within 5 % at the median.

        On enough held-out layouts, and in an unmarked run.
        """
        enough = self.held_out.layouts >= GOAL_LAYOUTS and not self.marked
        corrected = self.new_table is not None and not self.refusal
        return enough and (self.held_out.after_median if corrected else self.held_out.before_median) <= GOAL

    def shares(self) -> dict[str, float]:
        """Return the median share of every source of the miss, as a fraction of what a layout takes."""
        return {
            name: statistics.median(getattr(one.miss, f"{name}_ms") / one.measured_ms for one in self.layouts)
            for name in MISSES
        }

    def to_json(self) -> str:
        """Return everything as JSON (schema s2search.recalibration/1); errors and shares are fractions."""
        content: dict[str, Any] = {"schema": SCHEMA, **dataclasses.asdict(self)}
        content |= {"goal_met": self.goal_met, "miss_shares": self.shares()}
        return as_json(content, indent=1)
