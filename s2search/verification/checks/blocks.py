"""Parity of every block inside the package: a whole function's figure says little of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor
from typing_extensions import override

from s2search.decibels import MOST_DB, parity_db
from s2search.exporters.package import NEW
from s2search.exporters.step import FunctionName
from s2search.mil.evaluator import Mode
from s2search.verification.bisect import Inside, look_inside
from s2search.verification.check import Check
from s2search.verification.ends import nearest_db, outputs_of_blocks
from s2search.verification.opened import PASTS_TOLD, Opened, Past
from s2search.verification.result import Bound, CannotRunError, CheckResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: By precision.
LEAST_DB = {"float32": 90.0, "float16": 60.0, "rounded inputs": 20.0}
_REPORTED: tuple[FunctionName, Past] = ("denoise", "full")  # of the arithmetics that are not required
_TAIL = 12  # values of the right size at the end of a block, among which its output is
_SAME_DB = 80.0  # two orders of sums in float32


@dataclass(frozen=True, kw_only=True)
class BlocksCheck(Check):
    """The output of every block is near enough to the source's, in every function and whatever the past is.

    Where the package's side has arithmetics (Core ML's has), every block alone is looked at: it starts from the values
    of the source with the package's numbers, rounded as the mode rounds, and gives its output and its part of the
    state. Float16 is required; `pessimistic` says what an accelerator may lose that also accumulates in float16, and
    what nothing rounded loses is a check of its own (`graph`). In other packages all blocks before it are the package's
    own, so a block's figure has their errors too. It is listed as not run for runtimes that do not let one look inside.
    """

    name: ClassVar[str] = "blocks"
    unit: ClassVar[str] = "dB"
    bound: ClassVar[Bound] = "at least"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        functions = opened.functions()
        taps = {function: opened.inspector.inside(opened, function) for function in functions}
        calls = [(function, past) for function in functions for past in opened.pasts(function)]
        modes: list[Mode] = [mode for mode in next(iter(taps.values())).modes if mode != "float32"]
        found: dict[str, list[BlocksOfCall]] = {mode: [] for mode in modes or ("",)}
        for function, past in calls:
            opened.say(f"blocks of {function}, {PASTS_TOLD[past]}")
            inputs = opened.inputs(function, past)
            if modes:
                alone = AloneBlocks(opened, look_inside(opened, function, inputs))
                for mode in modes:
                    if mode == modes[0] or (function, past) == _REPORTED or len(functions) == 1:
                        found[mode].append(BlocksOfCall(function, past, alone.parity_db(mode)))
                continue
            outputs = {name: x for name, x in outputs_of_blocks(opened, function, inputs).items() if "," not in name}
            parts = nearest_db(outputs, taps[function], inputs)
            if parts is None:
                parts = look_inside(opened, function, inputs).blocks_db()
            found[""].append(BlocksOfCall(function, past, parts))
        for of, of_calls in found.items():
            if of_calls:
                result = self._result(opened, of_calls, of)
                yield replace(result, required=of in ("", *modes[:1]), mode=of)

    def _result(self, opened: Opened, found: list[BlocksOfCall], mode: str) -> CheckResult:
        parts = dict[str, float]()
        for call in found:
            parts |= {block: min(value, parts.get(block, value)) for block, value in call.parts.items()}
        worst = min(parts, key=lambda block: parts[block])
        call = next(one for one in found if one.parts.get(worst) == parts[worst])
        functions = ", ".join(dict.fromkeys(one.function for one in found))
        how = ", each alone" if mode else ""
        why = f"the worst of {len(parts)} blocks of {functions}{how}: in {call.function!r}, {PASTS_TOLD[call.past]}"
        least = opened.least_db(LEAST_DB)
        return self.judge(opened, parts[worst], least, of=mode, where=worst, why=why, parts=parts)


class BlocksOfCall(NamedTuple):
    """The parity of every block in one call."""

    function: FunctionName
    past: Past
    parts: Mapping[str, float]


class AloneBlocks:
    """The blocks of one call, each of which starts from the source's values.

    A block whose output is no value that the package keeps has no figure: its errors are in that of the next.

    Raises:
        CannotRunError: No block's output is.
    """

    def __init__(self, opened: Opened, inside: Inside) -> None:
        self._inside = inside
        self._ends = {block: names for block, names in names_of_ends(opened, inside).items() if names}
        if not self._ends:
            raise CannotRunError(
                f"no value that the package keeps is a block's output in {inside.reference.function!r}"
            )
        outputs = opened.exported.outputs(inside.reference.function)
        self._states = {name: f"layers.{int(name.rpartition('_')[2])}" for name in outputs if _is_of_layer(name)}
        names = {name for ends in self._ends.values() for name in ends}
        self._wanted = inside.reference.values(inside.inputs, names | self._states.keys())

    def parity_db(self, mode: Mode) -> dict[str, float]:
        """Return the parity of every block, of its output and of what it adds to the state, decibels."""
        given = {name: self._wanted[name] for ends in self._ends.values() for name in ends}
        got = self._inside.taps.in_mode(mode).alone(self._inside.inputs, given, set(self._states))
        found = {name: parity_db(wanted, got[name].reshape(wanted.shape)) for name, wanted in self._wanted.items()}
        parts = dict[str, float]()
        for end, names in self._ends.items():
            block = end.partition(",")[0]
            parts[block] = min(parts.get(block, MOST_DB), *(found[name] for name in names))
        for name, block in self._states.items():
            parts[block] = min(found[name], parts.get(block, MOST_DB))
        return parts


def _is_of_layer(output: str) -> bool:
    return output.startswith(NEW) and output.rpartition("_")[2].isdecimal()


def names_of_ends(opened: Opened, inside: Inside) -> dict[str, tuple[str, ...]]:
    """Return, by block, the names of the function's values that are the block's output.

    A block's last operation need not be one: what follows the last weight is counted as the block's, and a name alone
    does not say where it ends. So it is the value that equals what the module gives, in either layout, where both
    compute with the source's numbers. A block without such a value has none.

    Further outputs, as the stem's modulation, are called `stem, output 1`; those without a value are left out.
    """
    kept = opened.kept.setdefault("ends of blocks", {})
    if inside.reference.function in kept:
        found: dict[str, tuple[str, ...]] = kept[inside.reference.function]
        return found
    known, reference = inside.taps.names(), replace(inside.reference, stored=None)
    outputs = outputs_of_blocks(opened, reference.function, inside.inputs)
    sizes = {node.name: node.meta["val"].numel() for node in reference.program.graph.nodes if _is_value(node)}
    tails = {}
    for block, output in outputs.items():
        operations = reference.blocks.get(block.partition(",")[0], ())
        tails[block] = [one.name for one in operations if one.name in known and sizes[one.name] == output.size][-_TAIL:]
    values = reference.values(inside.inputs, {name for names in tails.values() for name in names})
    found = {
        block: tuple(name for name in tails[block] if _equals(output, values[name]))
        for block, output in outputs.items()
    }
    found = kept[reference.function] = {block: names for block, names in found.items() if names or "," not in block}
    return found


def _is_value(node: Any) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _equals(output: NDArray[Any], value: NDArray[Any]) -> bool:
    """Return whether a value is an output, with tokens before channels or channels before tokens."""
    if value.size != output.size:
        return False
    turned = value.reshape(output.shape[-1], -1).T
    return max(parity_db(output.ravel(), x.ravel()) for x in (value, turned)) > _SAME_DB
