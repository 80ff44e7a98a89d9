"""Every operation of a Core ML program alone, in float32, from the values that the source has before it.

What float16 rounds is far larger than what some wrong operations change: GELU with erf is 72 to 77 dB from the one with
tanh. Alone, and with nothing rounded, an operation that is the source's comes within 110 dB, whatever its settings.
That holds for operations that compute with no stored numbers, which were rounded to float16 or to palettes.

Why: docs/decisions/verification.md, "Every operation alone".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from s2search.decibels import parity_db
from s2search.mil.evaluator import OperationStep
from s2search.mil.function import Constant, Function, Operation
from s2search.verification.reference import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBERS = ("x", "y", "a", "b")  # what is computed with; other constants of one number are settings


@dataclass(kw_only=True)
class Beside(Mapping[str, Tensor]):
    """The source's values, one after the other, as `Evaluator.run(forced=...)` asks for them; as a watch, the parities.

    Only values that one side has reached and the other not yet are kept. An operation of one input whose name the
    source does not know is held against the source's operator, on what the operation was given.

    Attributes:
        function: Of the program.
        reference: The source's.
        inputs: Of both.
        names: Names in the source by names in the program.
        found_db: Parity of every operation that can be judged, by name in the source, decibels.
    """

    function: Function
    reference: Reference
    inputs: Mapping[str, NDArray[Any]]
    names: Mapping[str, str]
    found_db: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._source = self.reference.stream(self.inputs, {*self.names.values()})
        self._nodes = {node.name: node for node in self.reference.program.graph.nodes}
        self._judged = from_equal_numbers(self.function, self.names)
        self._waiting: dict[str, Tensor] = {}
        self._now: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Tensor:
        """Return what the source has in place of an operation's output."""
        wanted = self.names[name]
        while wanted not in self._waiting:
            self._waiting.update([next(self._source)])
        self._now[name] = self._waiting.pop(wanted)
        return self._now[name]

    def __call__(self, step: OperationStep) -> None:
        """Note one step, whose outputs were replaced just before."""
        for output, x in zip(step.operation.outputs, step.outputs, strict=True):
            if output.name in self.names:
                judged = output.name in self._judged
                expected = self._now[output.name] if judged else self._applied(self.names[output.name], step)
                if expected is not None:
                    self.found_db[self.names[output.name]] = parity_db(expected.numpy(), x.numpy())
        self._now.clear()

    def _applied(self, name: str, step: OperationStep) -> Tensor | None:
        """Return what the source's operator gives for the only number that the operation was given."""
        node = self._nodes[name]
        read = [x for key in step.inputs for x in step.inputs[key] if key in _NUMBERS and isinstance(x, Tensor)]
        if len(step.operation.uses) != 1 or len(read) != 1 or len(node.all_input_nodes) != 1:
            return None
        if _reads_stored_numbers(step.operation) or _shape(node.all_input_nodes[0]) != read[0].shape:
            return None
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda _: read[0])
        result = node.target(*args, **kwargs)
        return result if isinstance(result, Tensor) else None


def _shape(node: fx.Node) -> torch.Size | None:
    value = node.meta.get("val")
    return value.shape if isinstance(value, Tensor) else None


def from_equal_numbers(function: Function, shared: Mapping[str, str]) -> set[str]:
    """Return the shared values that are computed of nothing but the source's own numbers.

    Args:
        function: Of the program.
        shared: Names of values that are replaced by the source's.
    """
    equal = {named.name for named in (*function.inputs, *function.states)}
    judged = set()
    for operation in function.operations:
        outputs = {output.name for output in operation.outputs}
        if equal.issuperset(operation.uses) and not _reads_stored_numbers(operation):
            judged |= outputs & shared.keys()
            equal |= outputs
        equal |= outputs & shared.keys()
    return judged


def _reads_stored_numbers(operation: Operation) -> bool:
    if operation.type.startswith("constexpr_"):
        return True
    constants = [(key, value) for key, values in operation.inputs.items() for value in values]
    return any(
        isinstance(value, Constant)
        and value.type.dtype.startswith("float")
        and (value.type.count != 1 or key in _NUMBERS)
        for key, value in constants
    )
