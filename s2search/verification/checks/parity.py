"""Whether the package computes what its source computes: every output of every function, on the same inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from s2search.decibels import parity_db
from s2search.errors import CheckError
from s2search.exporters.step import FunctionName
from s2search.verification.bisect import first_difference
from s2search.verification.check import Check
from s2search.verification.opened import PASTS_TOLD, Opened, Past
from s2search.verification.result import Bound, CheckResult

#: By precision, of a whole function: what rounding leaves, with room.
LEAST_DB = {"float32": 90.0, "float16": 40.0, "rounded inputs": 20.0}


@dataclass(frozen=True, kw_only=True)
class ParityCheck(Check):
    """The worst output of every function is near enough to the source's in float32, whatever the past is.

    Both get the inputs as the package takes them, so that rounding of inputs does not count. Where weights are
    compressed, the source computes with the package's: what they cost is a figure of its own (`compression`).
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
        parts = dict[str, float]()
        past_of = dict[str, Past]()
        for past in opened.pasts(function):
            for name, value in self.outputs_db(opened, function, past).items():
                label = name if past == opened.pasts(function)[0] else f"{name}, {PASTS_TOLD[past]}"
                parts[label], past_of[label] = value, past
        result = self.judge_worst(opened, parts, opened.least_db(LEAST_DB), of=function)
        if result.status == "passed" or result.threshold is None:
            return result
        place = first_difference(opened, function, opened.inputs(function, past_of[result.where]), result.threshold)
        return replace(result, where=place.where or result.where, why=place.why)

    def outputs_db(self, opened: Opened, function: FunctionName, past: Past) -> dict[str, float]:
        """Return the parity of every output of a function, decibels."""
        inputs = opened.inputs(function, past)
        got = opened.run_package(function, inputs)
        expected = opened.run_source(function, inputs) if not opened.is_compressed else None
        if expected is None:
            expected = opened.reference(function).values(inputs, set(opened.exported.outputs(function)))
        if missing := expected.keys() - got.keys():
            raise CheckError(f"{function!r} does not return {min(missing)!r}", function=function)
        return {name: parity_db(array, got[name]) for name, array in expected.items()}
