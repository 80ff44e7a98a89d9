"""What in a Core ML program is known to go wrong, or slowly, on the Neural Engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from s2search.mil.function import Function, Operation
from s2search.mil.operations import is_covered
from s2search.mil.watch import Peaks

Rule = Literal["no_cover", "rank_above_5", "rank_above_4", "conv_3d", "softplus_above_10"]
_LARGEST_SOFTPLUS = 10.0


@dataclass(frozen=True, kw_only=True)
class ProgramFinding:
    """One thing found, at an operation."""

    rule: Rule
    operation: str
    problem: str


def lint(function: Function, peaks: Peaks | None = None) -> tuple[ProgramFinding, ...]:
    """Look at every operation that runs in a call; those that unpack weights run when a package is loaded.

    - no_cover: the evaluator cannot compute it.
    - rank_above_5: Core ML takes five axes at most.
    - rank_above_4: the Neural Engine works on four. What is returned may be reshaped as callers want it.
    - conv_3d: a convolution over three axes, which the Neural Engine is reported never to run.
    - softplus_above_10: softplus is reported to fall to 0 there above about 10.4 (coremltools issue 2687). It needs
      the peaks of a run.
    """
    steps = (operation for operation in function.every() if not operation.type.startswith("constexpr_"))
    found = [finding for operation in steps for finding in _at_rest(operation, function.outputs)]
    return (*found, *_in_a_run(peaks)) if peaks else tuple(found)


def _at_rest(operation: Operation, returned: tuple[str, ...]) -> Iterator[ProgramFinding]:
    if not is_covered(operation):
        yield _finding("no_cover", operation, "the evaluator cannot compute it")
    rank = max((len(output.type.shape) for output in operation.outputs), default=0)
    shaped = operation.type == "reshape" and operation.outputs[0].name in returned
    if rank > 5 or (rank > 4 and not shaped):
        yield _finding("rank_above_5" if rank > 5 else "rank_above_4", operation, f"its output has {rank} axes")
    if operation.type in ("conv", "conv_transpose") and rank == 5:
        yield _finding("conv_3d", operation, "it convolves over three axes")


def _in_a_run(peaks: Peaks) -> Iterator[ProgramFinding]:
    seen = set()
    for peak in peaks.peaks:
        name = peak.operation.name
        if peak.operation.type == "softplus" and peak.largest_input > _LARGEST_SOFTPLUS and name not in seen:
            seen.add(name)
            yield _finding("softplus_above_10", peak.operation, f"its input reaches {peak.largest_input:.4g}")


def _finding(rule: Rule, operation: Operation, problem: str) -> ProgramFinding:
    return ProgramFinding(rule=rule, operation=operation.name, problem=f"{operation.type}: {problem}")
