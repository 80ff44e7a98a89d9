"""Whether the states that a runtime keeps by itself are those of the stream: one state serves every function.

An application makes one state and hands it to every call; `run` copies states in and out. Both must see the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from s2search.exporters.package import NEW
from s2search.exporters.stateful import Arrays, StatefulRuntime
from s2search.exporters.step import MASKED, PAST_BIAS
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import CheckResult, not_run

_CHUNKS = ("advance", "commit", "advance")


@dataclass(frozen=True, kw_only=True)
class StateCheck(Check):
    """The program declares, reads and writes its states as the manifest says, and one state carries a stream.

    `form`: every function with a past declares the same states, in one order; it reads each before it writes any; it
    writes those whose new value it returns, once, and no other. `kept`: over three chunks, every output and every state
    is the same number by number whether one state stays in the runtime or all are copied in and out.
    """

    name: ClassVar[str] = "state"
    unit: ClassVar[str] = "faults"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        manifest = opened.package.manifest
        if not manifest.held:
            yield not_run(self.name, "the state is passed in and out: the runtime keeps none", required=False)
            return
        yield self._of(opened, "form", opened.inspector.state_faults(opened.package))
        assert isinstance(opened.runtime, StatefulRuntime)
        yield self._of(opened, "kept", list(_kept_faults(opened, opened.runtime)))

    def _of(self, opened: Opened, of: str, faults: list[str]) -> CheckResult:
        why = f"also: {'; '.join(faults[1:4])}" if len(faults) > 1 else ""
        return self.judge(opened, len(faults), 0, of=of, where=next(iter(faults), ""), why=why)


def _kept_faults(opened: Opened, runtime: StatefulRuntime) -> Iterator[str]:
    """Yield what differs between a state that stays in the runtime and states that are copied."""
    manifest = opened.package.manifest
    copied: Arrays = {
        one.name: np.full(one.shape, MASKED if one.name == PAST_BIAS else 0, one.dtype) for one in manifest.states
    }
    kept = runtime.make_state("denoise")
    for chunk, last in enumerate(_CHUNKS):
        example = opened.steps.example("first", seed=opened.options.seed + chunk)
        for function in ("denoise", last):
            opened.say(f"one state for all functions: {function}, chunk {chunk}")
            spec = manifest.function(function)
            given = {
                one.name: example[one.name].numpy().astype(one.dtype) for one in spec.inputs if one.name in example
            }
            wanted = runtime.run(function, given | copied)
            plain = {name: x for name, x in copied.items() if name not in manifest.held}
            got = runtime.call(function, given | plain, kept)
            copied |= {name: wanted[NEW + name] for name in copied if NEW + name in wanted}
            found = got | {name: kept.read_state(name).reshape(copied[name].shape) for name in manifest.held}
            for name, array in found.items():
                if not np.array_equal(array, (wanted | copied)[name]):
                    yield f"{name} after {function} of chunk {chunk}"
