"""Whether the package's graph is the source's, whatever its numbers are stored as.

Rounding hides a broken graph: where weights have 4 bits, an ignored mask or another activation passes a limit that
unbroken packages need. So nothing is rounded here, and both sides compute with the package's own numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from s2search.decibels import parity_db
from s2search.exporters.step import FunctionName
from s2search.verification.bisect import first_difference, look_inside
from s2search.verification.check import Check
from s2search.verification.checks.blocks import names_of_ends
from s2search.verification.opened import PASTS_TOLD, Opened, Past
from s2search.verification.result import Bound, CheckResult, NotOfferedError

LEAST_DB = 90.0  # float32 against float32


@dataclass(frozen=True, kw_only=True)
class GraphCheck(Check):
    """Every function, with nothing rounded, gives what the source gives with the package's numbers.

    Looked at are all outputs and the end of every block, for every past. `form`: the graph that it is held against
    gives what the source itself gives, with the source's numbers. Float32 packages need none of this: `parity` says it.
    """

    name: ClassVar[str] = "graph"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        if "float32" not in opened.inspector.inside(opened, opened.functions()[0]).modes:
            raise NotOfferedError("the package has one arithmetic, that of its runtime: parity covers its graph")
        for function in opened.functions():
            yield self.of(opened, function)
        yield self.form(opened)

    def of(self, opened: Opened, function: FunctionName) -> CheckResult:
        """Return the result of one function."""
        parts: dict[str, float] = {}
        past_of: dict[str, Past] = {}
        for past in opened.pasts(function):
            opened.say(f"the graph of {function}, {PASTS_TOLD[past]}")
            inside = look_inside(opened, function, opened.inputs(function, past), "float32")
            names = set(opened.exported.outputs(function)).union(*names_of_ends(opened, inside).values())
            wanted, got = inside.reference.values(inside.inputs, names), inside.taps.run(inside.inputs, names)
            for name, array in wanted.items():
                label = f"{name}, {PASTS_TOLD[past]}"
                parts[label], past_of[label] = parity_db(array, got[name].reshape(array.shape)), past
        why = f"the worst of {len(parts)} outputs and ends of blocks; nothing rounded, and the package's own numbers"
        result = replace(self.judge_worst(opened, parts, LEAST_DB, of=function, why=why), mode="float32")
        if result.status == "passed" or result.threshold is None:
            return result
        past = past_of[result.where]
        place = first_difference(opened, function, opened.inputs(function, past), result.threshold, "float32")
        return replace(result, where=place.where or result.where, why=f"{place.why}, {PASTS_TOLD[past]}")

    def form(self, opened: Opened) -> CheckResult:
        """Return the result of the graphs that all functions are held against."""
        parts: dict[str, float] = {}
        for function in opened.functions():
            for past in opened.pasts(function):
                opened.say(f"the form of {function}, {PASTS_TOLD[past]}")
                inputs = opened.inputs(function, past)
                wanted = opened.run_source(function, inputs)
                got = replace(opened.reference(function), stored=None).values(inputs, set(wanted))
                for name, array in wanted.items():
                    parts[f"{name} of {function}, {PASTS_TOLD[past]}"] = parity_db(array, got[name])
        why = f"the worst of {len(parts)} outputs; both sides with the source's numbers"
        return self.judge_worst(opened, parts, LEAST_DB, of="form", why=why)
