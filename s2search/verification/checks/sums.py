"""Whether sums that grow for the whole stream grow by what a chunk adds, and by nothing else.

A sum that loses a thousandth with every chunk is near the source's after one chunk, and wrong by a quarter after 300.
So what is compared is the difference that a chunk makes to sums as large as those of 300 chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from s2search.decibels import parity_db
from s2search.exporters.host import HostForm
from s2search.exporters.package import NEW
from s2search.exporters.step import FunctionName
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CheckResult, not_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNKS = 300
#: By precision of what a chunk adds. Float32 holds a sum of 300 chunks to 105 dB of one chunk's.
LEAST_DB = {"float32": 90.0, "float16": 60.0, "rounded inputs": 20.0}
_SUMS = ("sum_", "norm_", "sums")
_WRITING: tuple[FunctionName, ...] = ("commit", "advance")


@dataclass(frozen=True, kw_only=True)
class SumsCheck(Check):
    """What a chunk adds to long sums is what it adds in the source, in every function that writes them.

    Where the package's side has arithmetics, float16 is held to its own limit, and with nothing rounded to float32's.
    """

    name: ClassVar[str] = "sums"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        names = [name for name in opened.exported.state if name.startswith(_SUMS)]
        form = opened.exported.form
        functions = [function for function in _WRITING if function in opened.functions()]
        if not names or not functions:
            yield not_run(self.name, "no layer keeps sums", required=False)
            return
        modes = opened.inspector.inside(opened, functions[0]).modes if opened.emulation else ()
        parts: dict[str, dict[str, float]] = {mode: {} for mode in modes or [""]}
        for function in functions:
            opened.say(f"sums of {CHUNKS} chunks, {function}")
            inputs = opened.inputs(function)
            factor = np.float32(CHUNKS / opened.chunks_of("full"))
            inputs |= _long(form, inputs, names, factor)
            wanted = self._wanted(opened, function, inputs, bool(modes))
            for mode, found in parts.items():
                got = self._got(opened, function, inputs, mode)
                pair = (_added(form, inputs, one, names) for one in (wanted, got))
                for (label, one), (_, other) in zip(*pair, strict=True):
                    found[f"{NEW}{label} of {function}"] = parity_db(one, other)
        for mode, found in parts.items():
            worst = min(found, key=lambda label: found[label])
            least = LEAST_DB["float32"] if mode == "float32" else opened.least_db(LEAST_DB)
            why = f"the worst of {len(found)}: what a chunk adds to sums of {CHUNKS}"
            result = self.judge(opened, found[worst], least, of=mode, where=_place(worst), why=why, parts=found)
            yield replace(result, mode=mode, required=mode != "pessimistic")

    def _wanted(
        self, opened: Opened, function: FunctionName, inputs: Mapping[str, NDArray[Any]], stored: bool
    ) -> Mapping[str, NDArray[Any]]:
        if not stored:
            return opened.run_source(function, inputs)
        return opened.reference(function).values(inputs, set(opened.exported.outputs(function)))

    def _got(
        self, opened: Opened, function: FunctionName, inputs: Mapping[str, NDArray[Any]], mode: str
    ) -> Mapping[str, NDArray[Any]]:
        if not mode:
            return opened.run_package(function, inputs)
        taps = opened.inspector.inside(opened, function).in_mode(mode)  # type: ignore[arg-type]
        return taps.run(inputs, set(opened.exported.outputs(function)))


def _long(
    form: HostForm | None, inputs: Mapping[str, NDArray[Any]], names: Sequence[str], factor: np.float32
) -> dict[str, NDArray[Any]]:
    """Return the sums among the inputs, so many times as large."""
    if form is None:
        return {name: inputs[name] * factor for name in names}
    sums_L1XK = inputs["sums"].copy()
    for row, one in enumerate(form.sums):
        width = form.head_channels(one)
        rows_AXK = sums_L1XK[row, 0, : form.channels + 2 * one.heads, :width].reshape(one.heads, -1, width)
        # What is given is as large as before: the chunk's share is what becomes smaller.
        rows_AXK[:, -1] *= np.exp2(-np.ceil(np.log2(factor))).astype(rows_AXK.dtype)
        sums_L1XK[row, 0, : form.channels + 2 * one.heads, :width] = rows_AXK.reshape(-1, width)
    return {"sums": sums_L1XK}


def _added(
    form: HostForm | None,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    names: Sequence[str],
) -> list[tuple[str, NDArray[Any]]]:
    """Return what a chunk added, by the name of a layer's sums; a host is given just that."""
    if form is not None:
        return [(f"sums_{one.layer:02}", outputs["new_sums"][row]) for row, one in enumerate(form.sums)]
    return [
        (name, outputs[NEW + name].astype(np.float64).reshape(inputs[name].shape) - inputs[name].astype(np.float64))
        for name in names
    ]


def _place(output: str) -> str:
    """Return the block of a sum with its name.

    >>> _place("new_sum_07 of advance")
    'layers.7: new_sum_07 of advance'
    """
    return f"layers.{int(output.split()[0].rpartition('_')[2])}: {output}"
