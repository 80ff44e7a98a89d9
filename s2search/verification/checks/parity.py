"""Whether the package computes what its source computes: every output of every function, on the same inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from s2search.decibels import least_db, parity_db
from s2search.errors import CheckError
from s2search.exporters.step import FunctionName
from s2search.verification.bisect import first_difference
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CheckResult

#: By precision, of a whole function: what rounding leaves, with room.
LEAST_DB = {"float32": 90.0, "float16": 40.0, "compressed": 20.0}


@dataclass(frozen=True, kw_only=True)
class ParityCheck(Check):
    """The worst output of every function is near enough to the source's in float32.

    Both get the inputs as the package takes them, so that rounding of inputs does not count.
    """

    name: ClassVar[str] = "parity"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        _ = opened.runtime
        for function in opened.functions():
            opened.say(f"parity of {function}")
            yield replace(self._of(opened, function), mode=opened.mode)

    def _of(self, opened: Opened, function: FunctionName) -> CheckResult:
        inputs = opened.inputs(function)
        expected = opened.run_source(function, inputs)
        got = opened.run_package(function, inputs)
        if missing := expected.keys() - got.keys():
            raise CheckError(f"{function!r} does not return {min(missing)!r}", function=function)
        parts = {name: parity_db(array, got[name]) for name, array in expected.items()}
        worst = min(parts, key=lambda name: parts[name])
        least = least_db(LEAST_DB, opened.package.manifest.precision)
        result = self.judge(opened, parts[worst], least, of=function, where=worst, parts=parts)
        if result.status == "passed" or result.threshold is None:
            return result
        place = first_difference(opened, function, inputs, result.threshold)
        return self.judge(
            opened, parts[worst], least, of=function, where=place.where or worst, why=place.why, parts=parts
        )
