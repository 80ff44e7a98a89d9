"""Parity of every block inside the package: a whole function's figure says little of its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from s2search.export.step import FunctionName
from s2search.verify.bisect import look_inside
from s2search.verify.check import Check
from s2search.verify.decibels import MOST_DB, parity_db
from s2search.verify.reference import block_of
from s2search.verify.report import Bound, CheckResult, not_run
from s2search.verify.subject import Subject
from s2search.verify.taps import TAPS, Taps, open_taps

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: By precision. Errors of all blocks before it are in a block's figure; one float16 block alone has 60 dB and more.
LEAST_DB = {"float32": 90.0, "float16": 50.0, "w4a16": 20.0}


@dataclass(frozen=True, kw_only=True)
class Blocks(Check):
    """The output of every block is near enough to the source's, all blocks before it being the package's own.

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
        inputs, taps = subject.inputs(function), open_taps(subject, function)
        tails = taps.tails()
        if tails is None:
            parts = look_inside(subject, function, inputs).blocks_db()
        else:
            parts = nearest_db(outputs_of_blocks(subject, function, inputs), tails, taps, inputs)
        worst = min(parts, key=lambda block: parts[block])
        why = f"the worst of {len(parts)} blocks of {function!r}"
        yield self.judge(subject, parts[worst], LEAST_DB[manifest.precision], where=worst, why=why, parts=parts)


def outputs_of_blocks(
    subject: Subject, function: FunctionName, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return what every block of the source gives, in the order in which they run; `down#2` is the second time."""
    found: dict[str, NDArray[Any]] = {}
    times = Counter[str]()

    def note(block: str, _: nn.Module, __: Any, output: Any) -> None:
        times[block] += 1
        tensor = output[0] if isinstance(output, tuple) else output
        found[block if times[block] == 1 else f"{block}#{times[block]}"] = tensor.numpy().copy()

    modules = dict(subject.source.named_modules())
    blocks = [name for name in modules if name and block_of(name) == name and name not in ("layers", "text")]
    hooks = [modules[name].register_forward_hook(partial(note, name)) for name in blocks]
    try:
        subject.run_source(function, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def nearest_db(
    outputs: Mapping[str, NDArray[Any]],
    tails: Mapping[str, tuple[str, ...]],
    taps: Taps,
    inputs: Mapping[str, NDArray[Any]],
) -> dict[str, float]:
    """Return, by block, the parity of the value of its tail that comes nearest to its output: no name says which it is.

    No other value comes near by chance, and without a graph of the source nothing has to be traced.
    """
    names = {name for block in outputs for name in tails.get(block, ())}
    values = taps.run(inputs, names)
    return {
        block: max(
            (parity_db(wanted.ravel(), values[name].ravel()) for name in tails.get(block, ()) if name in values),
            default=-MOST_DB,
        )
        for block, wanted in outputs.items()
    }
