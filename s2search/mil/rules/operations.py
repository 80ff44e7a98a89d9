"""What in a Core ML program is known to go wrong, or slowly, on the Neural Engine."""

from __future__ import annotations

from collections.abc import Iterator

from s2search.mil.function import Function, Operation
from s2search.mil.operations import is_covered
from s2search.mil.rules.rule import RuleFinding
from s2search.mil.watch import Peaks

_LARGEST_SOFTPLUS = 10.0


def lint(function: Function, peaks: Peaks | None = None) -> tuple[RuleFinding, ...]:
    """Look at every operation that runs in a call; those that unpack weights run when a package is loaded.

    - no_cover: the evaluator cannot compute it.
    - rank_above_5: Core ML takes five axes at most.
    - rank_above_4: the Neural Engine works on four. What is returned may be reshaped as callers want it.
    - conv_3d: a convolution over three axes, which the Neural Engine is reported never to run.
    - softplus_above_10: softplus is reported to fall to 0 there above about 10.4 (coremltools issue 2687). It needs
      the peaks of a run.
    """
    steps = (operation for operation in function.every() if not operation.type.startswith("constexpr_"))
    found = [finding for operation in steps for finding in _at_rest(operation, function)]
    return (*found, *_in_a_run(peaks, function)) if peaks else tuple(found)


def _at_rest(operation: Operation, function: Function) -> Iterator[RuleFinding]:
    if not is_covered(operation):
        yield _finding("no_cover", operation, function, "the evaluator cannot compute it")
    rank = max((len(output.type.shape) for output in operation.outputs), default=0)
    shaped = operation.type == "reshape" and operation.outputs[0].name in function.outputs
    if rank > 5 or (rank > 4 and not shaped):
        rule = "rank_above_5" if rank > 5 else "rank_above_4"
        yield _finding(rule, operation, function, f"its output has {rank} axes")
    if operation.type in ("conv", "conv_transpose") and rank == 5:
        yield _finding("conv_3d", operation, function, "it convolves over three axes")


def _in_a_run(peaks: Peaks, function: Function) -> Iterator[RuleFinding]:
    seen = set()
    for peak in peaks.peaks:
        name = peak.operation.name
        if peak.operation.type == "softplus" and peak.largest_input > _LARGEST_SOFTPLUS and name not in seen:
            seen.add(name)
            problem = f"its input reaches {peak.largest_input:.4g}"
            yield _finding("softplus_above_10", peak.operation, function, problem)


def _finding(rule: str, operation: Operation, function: Function, problem: str) -> RuleFinding:
    said = f"{operation.type}: {problem}"
    return RuleFinding(rule=rule, function=function.name, names=(operation.name,), problem=said)
