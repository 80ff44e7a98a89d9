"""Parity of every block inside the package: a whole function's figure says little of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from s2search.verify.bisect import Inside, look_inside
from s2search.verify.check import Check
from s2search.verify.decibels import least_db, parity_db
from s2search.verify.evaluator import Mode
from s2search.verify.report import Bound, CheckResult, not_run
from s2search.verify.subject import Subject
from s2search.verify.taps import TAPS, CoreMLTaps, open_taps

#: By precision.
LEAST_DB = {"float32": 90.0, "float16": 60.0}
_MODES: tuple[Mode, ...] = ("float16", "float32", "pessimistic")


@dataclass(frozen=True, kw_only=True)
class Blocks(Check):
    """The last value of every block is near enough to the source's.

    In a Core ML package every block alone is looked at: it starts from the source's values, rounded as the mode rounds.
    Float16 is required; the other modes say what the weights alone lose, and what an accelerator may that also
    accumulates in float16. In other packages a block's figure has the errors of all blocks before it. It is listed as
    not run for runtimes that do not let one look inside.
    """

    name: ClassVar[str] = "blocks"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    def run(self, subject: Subject) -> Iterator[CheckResult]:
        """Look inside. See the base class."""
        manifest = subject.package.manifest
        function = "denoise" if "denoise" in subject.functions() else subject.functions()[0]
        if manifest.exporter not in TAPS:
            yield not_run(self.name, f"packages of {manifest.exporter!r} run as a whole", required=False)
            return
        open_taps(subject, function)
        inside = look_inside(subject, function, subject.inputs(function))
        if isinstance(inside.taps, CoreMLTaps):
            for mode in _MODES:
                subject.say(f"blocks in {mode}")
                parts = blocks_alone_db(inside, inside.taps, mode)
                found = self._result(subject, parts, mode, f"{function!r}, each alone")
                yield replace(found, required=mode == "float16", mode=mode)
        else:
            yield self._result(subject, inside.blocks_db(), "", repr(function))

    def _result(self, subject: Subject, parts: dict[str, float], of: str, what: str) -> CheckResult:
        worst = min(parts, key=lambda block: parts[block])
        why = f"the worst of {len(parts)} blocks of {what}"
        least = least_db(LEAST_DB, subject.package.manifest.precision)
        return self.judge(subject, parts[worst], least, of=of, where=worst, why=why, parts=parts)


def blocks_alone_db(inside: Inside, taps: CoreMLTaps, mode: Mode) -> dict[str, float]:
    """Return the parity of every block that starts from the source's values, decibels."""
    names = {block: operation.name for block, operation in inside.ends().items()}
    wanted = inside.reference.values(inside.inputs, set(names.values()))
    got = taps.alone(inside.inputs, wanted, mode)
    return {block: parity_db(wanted[name], got[name]) for block, name in names.items()}
