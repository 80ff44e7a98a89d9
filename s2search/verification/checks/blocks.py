"""Parity of every block inside the package: a whole function's figure says little of its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from typing_extensions import override

from s2search.decibels import MOST_DB, least_db, parity_db
from s2search.exporters.step import FunctionName
from s2search.mil.evaluator import Mode
from s2search.verification.bisect import Inside, look_inside
from s2search.verification.check import Check
from s2search.verification.inspectors.taps import Taps
from s2search.verification.opened import Opened
from s2search.verification.reference import block_of
from s2search.verification.result import Bound, CannotRunError, CheckResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: By precision.
LEAST_DB = {"float32": 90.0, "float16": 60.0, "compressed": 20.0}
_TAIL = 12  # values of the right size at the end of a block, among which its output is
_SAME_DB = 80.0  # two orders of sums in float32


@dataclass(frozen=True, kw_only=True)
class BlocksCheck(Check):
    """The output of every block is near enough to the source's.

    Where the package's side has arithmetics (Core ML's has), every block alone is looked at: it starts from the
    source's values, rounded as the mode rounds. Float16 is required; the other modes say what the weights alone lose,
    and what an accelerator may that also accumulates in float16. In other packages all blocks before it are the
    package's own, so a block's figure has their errors too. It is listed as not run for runtimes that do not let one
    look inside.
    """

    name: ClassVar[str] = "blocks"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        function = "denoise" if "denoise" in opened.functions() else opened.functions()[0]
        taps = opened.inspector.inside(opened, function)
        inputs = opened.inputs(function)
        tails = taps.tails()
        if taps.modes:
            inside = look_inside(opened, function, inputs)
            ends = ends_of_blocks(opened, inside)
            for mode in taps.modes:
                opened.say(f"blocks in {mode}")
                parts = blocks_alone_db(inside, ends, mode)
                found = self._result(opened, parts, mode, f"{function!r}, each alone")
                yield replace(found, required=mode == "float16", mode=mode)
        elif tails is None:
            yield self._result(opened, look_inside(opened, function, inputs).blocks_db(), "", repr(function))
        else:
            parts = nearest_db(outputs_of_blocks(opened, function, inputs), tails, taps, inputs)
            yield self._result(opened, parts, "", repr(function))

    def _result(self, opened: Opened, parts: dict[str, float], of: str, what: str) -> CheckResult:
        worst = min(parts, key=lambda block: parts[block])
        why = f"the worst of {len(parts)} blocks of {what}"
        least = least_db(LEAST_DB, opened.package.manifest.precision)
        return self.judge(opened, parts[worst], least, of=of, where=worst, why=why, parts=parts)


def blocks_alone_db(inside: Inside, ends: Mapping[str, Mapping[str, NDArray[Any]]], mode: Mode) -> dict[str, float]:
    """Return the parity of every block that starts from the source's values, decibels.

    Args:
        inside: The function.
        ends: See `ends_of_blocks`.
        mode: One of the package's side.
    """
    wanted = {name: array for values in ends.values() for name, array in values.items()}
    got = inside.taps.alone(inside.inputs, wanted, mode)
    return {block: min(parity_db(wanted[name], got[name]) for name in names) for block, names in ends.items()}


def ends_of_blocks(opened: Opened, inside: Inside) -> dict[str, dict[str, NDArray[Any]]]:
    """Return, by block, the values of the function that are the block's output, by name and as the source has them.

    A block's last operation need not be one: what follows the last weight is counted as the block's, and a name alone
    does not say where it ends. So it is the value that equals what the module gives, in either layout.

    Raises:
        CannotRunError: A block's output has no such value.
    """
    known = inside.taps.names()
    outputs = outputs_of_blocks(opened, inside.reference.function, inside.inputs)
    sizes = {node.name: node.meta["val"].numel() for node in inside.reference.program.graph.nodes if _is_value(node)}
    tails = {
        block: [one.name for one in operations if one.name in known and sizes[one.name] == outputs[block].size][-_TAIL:]
        for block, operations in inside.reference.blocks.items()
        if block in outputs
    }
    values = inside.reference.values(inside.inputs, {name for names in tails.values() for name in names})
    found = {
        block: {name: values[name] for name in tails.get(block, ()) if _equals(outputs[block], values[name])}
        for block in outputs
    }
    if missing := [block for block, names in found.items() if not names]:
        raise CannotRunError(f"no value that the package keeps is the output of {', '.join(missing)}")
    return found


def _is_value(node: Any) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _equals(output: NDArray[Any], value: NDArray[Any]) -> bool:
    """Return whether a value is an output, with tokens before channels or channels before tokens."""
    if value.size != output.size:
        return False
    turned = value.reshape(output.shape[-1], -1).T
    return max(parity_db(output.ravel(), x.ravel()) for x in (value, turned)) > _SAME_DB


def outputs_of_blocks(
    opened: Opened, function: FunctionName, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return what every block of the source gives, in the order in which they run; `down#2` is the second time."""
    found: dict[str, NDArray[Any]] = {}
    times = Counter[str]()

    def note(block: str, _: nn.Module, __: Any, output: Any) -> None:
        times[block] += 1
        tensor = output[0] if isinstance(output, tuple) else output
        found[block if times[block] == 1 else f"{block}#{times[block]}"] = tensor.numpy().copy()

    modules = dict(opened.source.named_modules())
    blocks = [name for name in modules if name and block_of(name) == name and name not in ("layers", "text")]
    hooks = [modules[name].register_forward_hook(partial(note, name)) for name in blocks]
    try:
        opened.run_source(function, inputs)
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
