"""Whether every operation is the source's: a look at each alone, where whole blocks hide it in their rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from s2search.verification.bisect import look_inside
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CannotRunError, CheckResult, NotOfferedError

LEAST_DB = 100.0  # float32, from the same numbers; a wrong GELU has 72 to 77
_NAMED = 20  # operations that a report names


@dataclass(frozen=True, kw_only=True)
class EachOperationCheck(Check):
    """No operation that computes with the source's own numbers gives others than the source's does, in any function."""

    name: ClassVar[str] = "operations"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        for function in opened.functions():
            if not opened.inspector.inside(opened, function).modes:
                raise NotOfferedError("the runtime computes no operation alone")
            inside = look_inside(opened, function, opened.inputs(function))
            opened.say(f"every operation of {function} alone")
            found = inside.taps.operations_db(inside.reference, inside.inputs)
            if not found:
                raise CannotRunError(f"no operation of {function!r} computes with the source's own numbers alone")
            places = {operation.name: operation.place for operation in inside.reference.operations}
            worst = min(found, key=lambda name: found[name])
            parts = dict([(places[name], value) for name, value in found.items() if value < LEAST_DB][:_NAMED])
            result = self.judge(
                opened,
                found[worst],
                LEAST_DB,
                of=function,
                where=places[worst],
                why=f"the worst of {len(found)} operations, each computed alone from the source's values",
                parts=parts,
            )
            yield replace(result, mode="float32")
