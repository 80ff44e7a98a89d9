"""Whether a forward pass takes the time that the plan foretold, where the plan's table is of the package's runtime."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from s2search.planner.plan import Plan
from s2search.preset import video_size
from s2search.verification.check import Check
from s2search.verification.checks.arithmetic import plan_of, table_of
from s2search.verification.opened import Opened
from s2search.verification.result import CannotRunError, CheckResult


@dataclass(frozen=True, kw_only=True)
class LatencyCheck(Check):
    """A pass of `denoise` takes what the plan says, within a tolerance. It needs `--measure`, and is not required.

    It is the median of passes one after another, in this process and with its threads: enough to see a plan that is far
    off. `s2search measure` measures by a protocol.

    Attributes:
        tolerance_percent: Of the plan's latency.
        warm_ups: Passes before the first that counts.
        passes: That count.
    """

    name: ClassVar[str] = "latency"
    unit: ClassVar[str] = "% off"
    required: ClassVar[bool] = False

    tolerance_percent: float = 20.0
    warm_ups: int = 3
    passes: int = 15

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        plan = promise_of(opened)
        card = table_of(plan, opened.options.table).card
        inputs = opened.inputs("denoise")
        times_ms = []
        for done in range(self.warm_ups + self.passes):
            opened.say(f"timing, pass {done + 1} of {self.warm_ups + self.passes}")
            start = time.perf_counter()
            opened.run_package("denoise", inputs)
            times_ms.append(1000 * (time.perf_counter() - start))
        measured, predicted = statistics.median(times_ms[self.warm_ups :]), plan.latency_ms.predicted
        off = 100 * abs(measured - predicted) / predicted
        marked = ", a marked run" if card.marks else ""
        why = (
            f"measured {measured:.2f} ms, the median of {self.passes} passes; {predicted:.2f} ms predicted on "
            f"{plan.provenance.table} ({card.chip}{marked}); nobody checked whether this is that machine"
        )
        parts = {"measured_ms": measured, "predicted_ms": predicted}
        yield self.judge(opened, off, self.tolerance_percent, why=why, parts=parts)


def promise_of(opened: Opened) -> Plan:
    """Return the plan of a package that its promise can be held against here.

    Raises:
        CannotRunError: Nobody asked, or the plan is of another runtime, video, precision or chunk.
    """
    if not opened.options.measure:
        raise CannotRunError("not asked for; give --measure on the machine that the plan's table was measured on")
    manifest, plan = opened.package.manifest, plan_of(opened)
    card = table_of(plan, opened.options.table).card
    for what, planned, packaged in (
        ("runtime", card.runtime, opened.inspector.table_runtime or "one that no table names"),
        ("video", plan.video, video_size(*manifest.grid)),
        ("precision", plan.precision, manifest.precision),
        ("scenario", plan.scenario, "stream"),
        ("chunk", f"{plan.frames} frames", f"{manifest.chunk_frames} frames"),
    ):
        if planned != packaged:
            raise CannotRunError(f"the plan's {what} is {planned}, and the package's {packaged}")
    if "denoise" not in opened.functions():
        raise CannotRunError("the package has no 'denoise'")
    return plan
