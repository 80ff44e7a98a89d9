"""Parity of every block inside the package: a whole function's figure says little of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from s2search.block import COMPRESSED
from s2search.verify.bisect import look_inside
from s2search.verify.check import Check
from s2search.verify.report import Bound, CheckResult, not_run
from s2search.verify.subject import Subject
from s2search.verify.taps import TAPS, open_taps

#: By precision. Errors of all blocks before it are in a block's figure; one float16 block alone has 60 dB and more.
LEAST_DB = {"float32": 90.0, "float16": 50.0, **dict.fromkeys(COMPRESSED, 20.0)}


@dataclass(frozen=True, kw_only=True)
class Blocks(Check):
    """The last value of every block is near enough to the source's, all blocks before it being the package's own.

    It is required of runtimes that let one look inside, and listed as not run for others.
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
        parts = inside.blocks_db()
        worst = min(parts, key=lambda block: parts[block])
        why = f"the worst of {len(parts)} blocks of {function!r}"
        yield self.judge(subject, parts[worst], LEAST_DB[manifest.precision], where=worst, why=why, parts=parts)
