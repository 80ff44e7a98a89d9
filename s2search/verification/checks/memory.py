"""Whether a forward pass fits the memory that the plan promised, as the system counts what a process takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from s2search.cost import format_bytes
from s2search.exporters.step import FunctionName
from s2search.verification.check import Check
from s2search.verification.checks.arithmetic import table_of
from s2search.verification.checks.latency import promise_of
from s2search.verification.opened import Opened
from s2search.verification.result import CannotRunError, CheckResult


@dataclass(frozen=True, kw_only=True)
class MemoryCheck(Check):
    """A process that loads `denoise` and calls it takes no more than the plan promised. It needs `--measure`.

    As with latency, a miss is said and not required to be none: a table whose memory is computed knows nothing of the
    runtime, and `s2search recalibrate` corrects it. All functions loaded at once are held against the same promise.

    Attributes:
        tolerance_percent: By how much the promise may be exceeded.
    """

    name: ClassVar[str] = "memory"
    unit: ClassVar[str] = "% over"
    required: ClassVar[bool] = False

    tolerance_percent: float = 5.0

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        plan = promise_of(opened)
        threads = table_of(plan, opened.options.table).card.threads or 1
        promised = plan.memory_bytes.predicted
        yield self._of(opened, "", ("denoise",), promised, threads)
        if len(opened.functions()) > 1:
            yield self._of(opened, "functions", opened.functions(), promised, threads)

    def _of(
        self, opened: Opened, of: str, functions: Sequence[FunctionName], promised: int, threads: int
    ) -> CheckResult:
        opened.say(f"measuring the memory of {', '.join(functions)}")
        taken = opened.inspector.resident(opened, functions, threads=threads)
        measured = taken.most_bytes if taken else None
        if taken is None or measured is None:
            raise CannotRunError("this system does not say what a process takes")
        over = 100 * max(0, measured - promised) / promised
        why = (
            f"{format_bytes(measured)} at most ({taken.counter}) with {', '.join(functions)} loaded, and "
            f"{format_bytes(promised)} promised"
        )
        parts = {"measured_bytes": float(measured), "promised_bytes": float(promised)}
        for moment in ("load", "first", "steady", "peak"):
            if (bytes_ := getattr(taken, f"{moment}_bytes")) is not None:
                parts[f"{moment}_bytes"] = float(bytes_)
        return self.judge(opened, over, self.tolerance_percent, of=of, why=why, parts=parts)
