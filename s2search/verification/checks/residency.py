"""What share of a package's work its accelerator may run, by rule: what a device does, `placement` says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CheckResult

if TYPE_CHECKING:
    from s2search.mil.residency import ElsewhereRun, Residency

#: The rule that a package must promise for its residency to be required.
_RULE = "float32_operation"
_RUNS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ResidencyCheck(Check):
    """Of every function nearly all work may run on the accelerator. Runs on other units are listed.

    Work is weighted by the time that `s2search/mil/work.py` gives it, which is a model. It is required where the
    exporter promises that there is no float32.

    Attributes:
        least_percent: Of time.
    """

    name: ClassVar[str] = "residency"
    unit: ClassVar[str] = "% of time"
    bound: ClassVar[Bound] = "at least"
    required: ClassVar[bool] = False

    least_percent: float = 99.0

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        required = _RULE in opened.inspector.promises(opened)
        for found in opened.inspector.residency(opened):
            parts = {"operations": found.operations_percent}
            parts |= {f"from {run.first}": run.time_percent for run in found.elsewhere}
            result = self.judge(
                opened, found.time_percent, self.least_percent, of=found.function, why=_told(found), parts=parts
            )
            yield replace(result, required=required)


def _told(found: Residency) -> str:
    there = f"{found.operations_percent:.1f} % of {found.operations} operations"
    if not found.elsewhere:
        return f"{there}; none elsewhere"
    largest = sorted(found.elsewhere, key=lambda run: -run.time_percent)[:_RUNS_SHOWN]
    runs = f"{len(found.elsewhere)} runs" if len(found.elsewhere) > 1 else "one run"
    more = " ..." if len(found.elsewhere) > _RUNS_SHOWN else ""
    return f"{there}; {runs} elsewhere: {', '.join(map(_run, largest))}{more}"


def _run(run: ElsewhereRun) -> str:
    return f"{run.operations} from {run.first} ({'/'.join(run.why)}, {run.time_percent:.2g} %)"
