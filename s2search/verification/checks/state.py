"""Whether the state that a stream leaves is the source's, whoever keeps it.

Of states that a runtime keeps, an application makes one and hands it to every call; `run` copies them in and out. Both
must see the same. A host writes rings and adds sums itself, of what functions return as new: what it has in the end is
what the source remembers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
import torch
from typing_extensions import override

from s2search.decibels import parity_db
from s2search.exporters.host import MASKED, Host, HostForm
from s2search.exporters.package import NEW, Manifest
from s2search.exporters.packed_source import state_to_source
from s2search.exporters.stateful import Arrays, StatefulRuntime
from s2search.exporters.step import PAST_BIAS
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import CheckResult, not_run

#: Of a ring, a tail or sums by precision.
LEAST_DB = {"float16": 40.0, "rounded inputs": 20.0}
_CHUNKS = ("advance", "commit", "advance")


@dataclass(frozen=True, kw_only=True)
class StateCheck(Check):
    """The program declares, reads and writes its states as the manifest says, and one state carries a stream.

    `form`: every function with a past declares the same states, in one order; it reads each before it writes any; it
    writes those whose new value it returns, once, and no other. `kept`: over three chunks, every output and every state
    is the same number by number whether one state stays in the runtime or all are copied in and out.

    Where a host keeps the state, `form`: the program declares and writes no state but the manifest's. `host`: over as
    many chunks as fill the window and two more, the ring, tail and sums of every layer are near the source's, which
    commits the same chunks; nothing is run where the manifest tells a host otherwise than the source does.
    """

    name: ClassVar[str] = "state"
    unit: ClassVar[str] = "faults"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        manifest = opened.package.manifest
        if not manifest.held and manifest.host is None:
            yield not_run(self.name, "the state is passed in and out: the runtime keeps none", required=False)
            return
        yield self._of(opened, "form", opened.inspector.state_faults(opened.package))
        if manifest.held:
            assert isinstance(opened.runtime, StatefulRuntime)
            yield self._of(opened, "kept", list(_kept_faults(opened, opened.runtime)))
        if manifest.host is not None and (lies := _form_faults(manifest.host, opened.exported.form)):
            yield self._of(opened, "host", lies)
        elif manifest.host is not None and "commit" in opened.functions():
            found_db = _host_db(opened, manifest.host)
            least = opened.least_db(LEAST_DB)
            faults = [f"{name}: {value:.1f} dB" for name, value in found_db.items() if not value >= least]
            result = self._of(opened, "host", faults)
            worst = min(found_db, key=lambda name: found_db[name], default="")
            told = f"{len(found_db)} tensors, the worst {worst}: {found_db[worst]:.1f} dB" if worst else "none"
            yield replace(result, why=result.why or told, mode=opened.mode)

    def _of(self, opened: Opened, of: str, faults: list[str]) -> CheckResult:
        why = f"also: {'; '.join(faults[1:4])}" if len(faults) > 1 else ""
        return self.judge(opened, len(faults), 0, of=of, where=next(iter(faults), ""), why=why)


def _form_faults(stated: HostForm, wanted: HostForm | None) -> list[str]:
    """Return what the manifest tells a host that is not so."""
    if wanted is None:
        return ["the manifest has a host, and the exporter's form has none"]
    pairs = ((one.name, getattr(stated, one.name), getattr(wanted, one.name)) for one in fields(HostForm))
    return [
        f"the manifest's host has {name} = {told}, and the source's {true}"
        for name, told, true in pairs
        if told != true
    ]


def _kept_faults(opened: Opened, runtime: StatefulRuntime) -> Iterator[str]:
    """Yield what differs between a state that stays in the runtime and states that are copied."""
    manifest = opened.package.manifest
    keeper: Host | _Copies = _Copies(manifest) if manifest.host is None else Host(manifest.host)
    left, kept = keeper.start(), runtime.make_state("denoise")
    for chunk, last in enumerate(_CHUNKS):
        example = opened.exported.example("first", seed=opened.options.seed + chunk)
        for function in ("denoise", last):
            opened.say(f"one state for all functions: {function}, chunk {chunk}")
            arrays = {name: x.numpy() for name, x in example.items()} | keeper.past(left)
            given = {one.name: arrays[one.name].astype(one.dtype) for one in manifest.function(function).inputs}
            wanted = runtime.run(function, given)
            got = runtime.call(function, {name: x for name, x in given.items() if name not in manifest.held}, kept)
            if function == last:
                left = keeper.after(left, wanted)
            found = got | {name: kept.read_state(name).reshape(left[name].shape) for name in manifest.held}
            for name, array in found.items():
                if not np.array_equal(array, (left | dict(wanted))[name]):
                    yield f"{name} after {function} of chunk {chunk}"


class _Copies:
    """What a caller does who is given all of the state again."""

    def __init__(self, manifest: Manifest) -> None:
        self._states = manifest.states

    def start(self) -> Arrays:
        return {one.name: np.full(one.shape, MASKED if one.name == PAST_BIAS else 0, one.dtype) for one in self._states}

    def past(self, state: Arrays) -> Arrays:
        return state

    def after(self, state: Arrays, outputs: Arrays) -> Arrays:
        return {name: outputs[NEW + name] for name in state}


def _host_db(opened: Opened, form: HostForm) -> dict[str, float]:
    """Return the parity of every tensor of a host's state with the source's, after the same chunks."""
    host, exact, steps = Host(form), Host(form, kind="float32"), opened.steps
    stored = exact.start()
    left, state = host.start(), {name: tensor.numpy() for name, tensor in steps.state.items()}
    for chunk in range(opened.chunks_of("full") + 2):
        opened.say(f"the host's state beside the source's, chunk {chunk}")
        example = opened.exported.example("first", seed=opened.options.seed + chunk)
        specs = opened.package.manifest.function("commit").inputs
        arrays = {name: tensor.numpy() for name, tensor in example.items()} | host.past(left)
        given = {one.name: arrays[one.name].astype(one.dtype) for one in specs}
        left = host.after(left, opened.run_package("commit", given))
        if opened.is_compressed:
            stored = exact.after(stored, _with_stored_weights(opened, given | exact.past(stored)))
            continue
        with torch.no_grad(), opened.exported.given_to(opened.source, given):
            source = opened.exported.to_source(given) | state
            tensors = (torch.from_numpy(source[name]) for name in steps.inputs("commit"))
            state = dict(zip(steps.state, (x.numpy() for x in steps.function("commit")(*tensors)), strict=True))
    kept = state_to_source(form, left, state)
    wanted = state_to_source(form, stored, state) if opened.is_compressed else state
    return {name: parity_db(wanted[name], array) for name, array in kept.items()}


def _with_stored_weights(opened: Opened, given: Arrays) -> Arrays:
    """Return what the source commits in float32 with the weights of the package: their price is another check's."""
    reference = opened.reference("commit")
    return reference.values(given, set(reference.steps.outputs("commit")))
