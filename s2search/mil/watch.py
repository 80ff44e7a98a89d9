"""What is noted of an evaluator's run: largest values, the first not finite, values by name, parity by operation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from s2search.decibels import snr_db
from s2search.errors import InputError, UnknownNameError
from s2search.mil.evaluator import Evaluator, OperationStep, Result
from s2search.mil.function import Function, Operation


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The largest absolute value of an operation's floating outputs, infinite where one is not finite.

    `largest_input` is that of what it read.
    """

    operation: Operation
    largest: float
    largest_input: float


@dataclass(kw_only=True)
class Peaks:
    """Notes the peaks of a run; give it to `Evaluator.run(watch=...)`. Further runs add to the same list."""

    peaks: list[Peak] = field(default_factory=list)

    def __call__(self, step: OperationStep) -> None:
        """Note one step."""
        read = [value for values in step.inputs.values() for value in values if isinstance(value, Tensor)]
        self.peaks.append(Peak(operation=step.operation, largest=_largest(step.outputs), largest_input=_largest(read)))

    @property
    def largest(self) -> Peak | None:
        """The largest of all."""
        return max(self.peaks, key=lambda peak: peak.largest, default=None)

    @property
    def first_non_finite(self) -> Peak | None:
        """The first operation whose output is not finite."""
        return next((peak for peak in self.peaks if not math.isfinite(peak.largest)), None)


class KeptValues:
    """Keeps values by their names; give it to `Evaluator.run(watch=...)`. A further run replaces them.

    Raises:
        UnknownNameError: No operation has an output of this name.
    """

    def __init__(self, function: Function, names: Iterable[str]) -> None:
        known = {output.name for operation in function.operations for output in operation.outputs}
        self._names = tuple(names)
        for name in self._names:
            if name not in known:
                raise UnknownNameError("value of this program", name, known, listed_as="its values")
        self.values: dict[str, Tensor] = {}

    def __call__(self, step: OperationStep) -> None:
        """Keep what one step gave."""
        for output, x in zip(step.operation.outputs, step.outputs, strict=True):
            if output.name in self._names:
                self.values[output.name] = x


@dataclass(frozen=True, kw_only=True)
class OperationParity:
    """How near an operation's outputs come to those of the same name elsewhere: signal-to-noise ratio in decibels.

    It is infinite where they are equal, and minus infinity where one of them is not finite or has another shape.
    """

    operation: Operation
    snr_db: float


@dataclass(frozen=True, kw_only=True)
class ComparedRuns:
    """Two runs on the same inputs: parity by operation in the order of the tested one, and both results."""

    parities: tuple[OperationParity, ...]
    reference: Result
    tested: Result

    def first_below(self, threshold_db: float) -> OperationParity | None:
        """Return the first operation whose parity is below a threshold."""
        return next((parity for parity in self.parities if parity.snr_db < threshold_db), None)


def compare(
    reference: Evaluator,
    tested: Evaluator,
    inputs: Mapping[str, Tensor],
    *,
    reference_state: Mapping[str, Tensor] | None = None,
    tested_state: Mapping[str, Tensor] | None = None,
) -> ComparedRuns:
    """Run two programs, or one in two modes, side by side, and compare the values that both have by name.

    Neither run is kept whole: only values that one has computed and the other not yet.

    Raises:
        InputError: They share no name.
    """
    runs = _Run(reference, inputs, reference_state), _Run(tested, inputs, tested_state)
    shared = _value_names(reference.function) & _value_names(tested.function)
    if not shared:
        raise InputError("the two programs share no name of a value", remedy="compare exports of one network")
    parities, waiting = [], dict[str, Tensor]()
    for step in runs[1]:
        pairs = []
        for output, x in zip(step.operation.outputs, step.outputs, strict=True):
            if output.name not in shared:
                continue
            while output.name not in waiting:
                waiting.update({name: y for name, y in _named(next(iter(runs[0]))) if name in shared})
            pairs.append((waiting.pop(output.name), x))
        if pairs:
            parities.append(
                OperationParity(operation=step.operation, snr_db=min(tensor_snr_db(*pair) for pair in pairs))
            )
    for _ in runs[0]:
        pass
    return ComparedRuns(parities=tuple(parities), reference=runs[0].result, tested=runs[1].result)


def tensor_snr_db(expected: Tensor, got: Tensor) -> float:
    """Return the signal-to-noise ratio of one tensor against another, in decibels."""
    if expected.shape != got.shape or not bool(expected.isfinite().all() and got.isfinite().all()):
        return -math.inf
    if not bool(expected.any()):
        return -math.inf if bool(got.any()) else math.inf
    return snr_db(expected, got)


class _Run:
    """The steps of a call one by one; afterwards its result."""

    def __init__(self, evaluator: Evaluator, inputs: Mapping[str, Tensor], state: Mapping[str, Tensor] | None) -> None:
        self._steps = evaluator.steps(inputs, state)
        self.result: Result

    def __iter__(self) -> Iterator[OperationStep]:
        return self

    def __next__(self) -> OperationStep:
        try:
            return next(self._steps)
        except StopIteration as end:
            if end.value is not None:
                self.result = end.value
            raise


def _value_names(function: Function) -> set[str]:
    steps = [operation for operation in function.operations if not operation.type.startswith("constexpr_")]
    return {output.name for operation in steps for output in operation.outputs}


def _named(step: OperationStep) -> Iterator[tuple[str, Tensor]]:
    for output, x in zip(step.operation.outputs, step.outputs, strict=True):
        yield output.name, x


def _largest(tensors: Iterable[Tensor]) -> float:
    """Return the largest absolute value of floating tensors; NaN counts as infinite, nothing as 0."""
    largest = 0.0
    for x in tensors:
        if x.is_floating_point() and x.numel():
            peak = x.abs().max().item()
            largest = max(largest, math.inf if math.isnan(peak) else peak)
    return largest
