"""Runs a function of a Core ML program on Linux, over torch, in a chosen arithmetic.

It knows nothing of the network that the program came from, nor of the converter, so that what both got wrong shows.
Only a Mac or a phone can say what Core ML itself computes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from s2search.errors import InputError, S2SearchError
from s2search.mil.arguments import Arguments
from s2search.mil.function import Constant, Named, Operation, OperationBlock
from s2search.mil.numbers import RANGES, TensorType
from s2search.mil.operations import BLOCK_OPERATIONS, OPERATIONS, STATE_OPERATIONS, uncovered
from s2search.mil.program import Program
from s2search.mil.rounding import HalfSums, Sums, WideSums, half

Mode = Literal["float32", "float16", "pessimistic"]
MODES: tuple[Mode, ...] = get_args(Mode)
_WIDE: Sums = WideSums()
_MOST_KEPT = 2**16  # numbers of a constant that is kept: what a large model's matrices are, is read anew
_MOST_TURNS = 2**16  # of a loop: a damaged one may never end
_REPORT = "report it, with the layer that it comes from"
_COMPUTING_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
_Values = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class OperationStep:
    """One operation as it was computed; operations that unpack weights are no steps."""

    operation: Operation
    inputs: Mapping[str, Sequence[Tensor | str]]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a call returns, and the state after it."""

    outputs: Mapping[str, Tensor]
    state: Mapping[str, Tensor]


#: Is shown every step of a run.
Watch = Callable[[OperationStep], None]


class Evaluator:
    """Runs one function of a program.

    Floating tensors are float32 whatever the program calls them; what differs is how often they are rounded.

    Args:
        program: What to run.
        function: Its name; by default the program's own choice.
        mode: `float32` rounds nothing. `float16` rounds what every operation of the program's float16 type returns,
            and accumulates inside it in float32. `pessimistic` also rounds what is inside: the running sums of
            products, convolutions and reductions (see `sums.py`), and the inner values of norms, softmax and
            attention. Weights are in all modes what the package stores.

    Raises:
        InputError: There is no such function or mode, or the function has operations without cover.
    """

    def __init__(self, program: Program, function: str = "", mode: Mode = "float32") -> None:
        if mode not in MODES:
            raise InputError(f"the mode is {mode!r}", allowed=", ".join(MODES), remedy="choose one of them")
        self.function, self.mode = program.function(function), mode
        if missing := uncovered(self.function):
            names = ", ".join(sorted({operation.type for operation in missing}))
            many = "1 operation" if len(missing) == 1 else f"{len(missing):,} operations"
            raise InputError(
                f"nothing here computes {many} of {self.function.name!r}: {names}",
                remedy=_REPORT,
                operations=missing,
            )
        self._last_uses = _last_uses(self.function.operations, self.function.outputs)
        self._foreseen: set[int] = set()
        self._kept: dict[int, Tensor | str] = {}

    def initial_state(self) -> dict[str, Tensor]:
        """Return a state of zeros, as Core ML makes it."""
        for state in self.function.states:
            if state.type.count is None:
                raise InputError(f"the state {state.name!r} has an axis of any size", remedy="export it again")
        return {
            state.name: torch.zeros([size or 0 for size in state.type.shape], dtype=_torch_dtype(state.type))
            for state in self.function.states
        }

    def run(
        self,
        inputs: Mapping[str, Tensor],
        state: Mapping[str, Tensor] | None = None,
        *,
        watch: Sequence[Watch] = (),
        forced: Mapping[str, Tensor] | None = None,
    ) -> Result:
        """Call the function. The state given is left as it was.

        Args:
            inputs: By name, in any floating or whole type.
            state: What the last call left; by default zeros.
            watch: Called with every step.
            forced: By name, what operations after it read in place of the value that was computed.

        Raises:
            InputError: An input or the state does not fit, or an operation cannot be computed as the program says.
        """
        steps = self.steps(inputs, state, forced)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            for look in watch:
                look(step)

    def steps(
        self,
        inputs: Mapping[str, Tensor],
        state: Mapping[str, Tensor] | None = None,
        forced: Mapping[str, Tensor] | None = None,
    ) -> Generator[OperationStep, None, Result]:
        """Yield the steps of a call, then return its result. Values are forgotten after their last use."""
        values = self._taken(self.function.inputs, inputs, "input")
        states = self._taken(self.function.states, self.initial_state() if state is None else state, "state")
        for operation, unused in zip(self.function.operations, self._last_uses, strict=True):
            step = self._step(operation, values, states)
            values.update({named.name: x for named, x in zip(operation.outputs, step.outputs, strict=True)})
            for named in operation.outputs:
                if forced and named.name in forced:
                    values[named.name] = self._forced(forced[named.name], named, operation)
            if not _unpacks(operation):
                yield step
            for name in unused:
                values.pop(name, None)
        outputs = {name: self._value(name, values) for name in self.function.outputs}
        return Result(outputs=outputs, state=states)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the constants of weight.bin, and the compressed ones unpacked, by their names in the program."""
        for name, constant in self.function.constants.items():
            if constant.in_file and isinstance(x := _numbers(constant), Tensor):
                yield name, x
        unpacked: _Values = {}
        for operation in self.function.operations:
            if _unpacks(operation):
                outputs = self._step(operation, unpacked, {}).outputs
                unpacked.update({named.name: x for named, x in zip(operation.outputs, outputs, strict=True)})
                if len(outputs) == 1:  # else they are a mask and the numbers in its places, not yet a weight
                    yield operation.name, outputs[0]

    def _taken(self, expected: Sequence[Named], given: Mapping[str, Tensor], kind: str) -> _Values:
        names = [named.name for named in expected]
        if set(names) != set(given):
            raise InputError(
                f"the {kind}s given are {', '.join(sorted(given)) or 'none'}",
                allowed=f"the function {self.function.name!r} has {', '.join(sorted(names)) or 'none'}",
                remedy="give these",
            )
        taken = {}
        for named in expected:
            x = given[named.name].detach()
            if not _fits(x, named.type):
                raise InputError(f"the {kind} {named.name!r} is {x.dtype} of {tuple(x.shape)}", allowed=str(named.type))
            taken[named.name] = self._rounded(x.to(_torch_dtype(named.type)), named.type)
        return taken

    def _step(self, operation: Operation, values: _Values, states: _Values) -> OperationStep:
        try:
            if operation.type in STATE_OPERATIONS:
                return self._state_step(operation, values, states)
            inputs = {name: [self._value(value, values) for value in given] for name, given in operation.inputs.items()}
            if operation.type in BLOCK_OPERATIONS:
                outputs = self._branched(operation, inputs, values, states)
            else:
                outputs = self._computed(operation, inputs)
            return OperationStep(operation=operation, inputs=inputs, outputs=outputs)
        except S2SearchError:
            raise
        except NotImplementedError as error:  # of torch as well
            raise InputError(
                f"the operation {operation.name!r} ({operation.type}) is not covered: {_first_line(error)}",
                remedy=_REPORT,
                operation=operation,
            ) from error
        except _COMPUTING_ERRORS as error:
            problem = f"{type(error).__name__} {_first_line(error)}"
            raise InputError(
                f"the operation {operation.name!r} ({operation.type}) cannot be computed: {problem}",
                remedy="look whether its inputs can be what the model was made for; else export the package again",
                operation=operation,
            ) from error

    def _state_step(self, operation: Operation, values: _Values, states: _Values) -> OperationStep:
        (name,) = operation.inputs["input"]
        if not isinstance(name, str) or name not in states:
            raise ValueError(f"{name} is no state")
        if operation.type == "read_state":
            (output,) = operation.outputs
            x = self._declared(states[name], output, operation)
            return OperationStep(operation=operation, inputs={}, outputs=(x,))
        (value,) = operation.inputs["data"]
        x = self._value(value, values)
        state = next(state for state in self.function.states if state.name == name)
        if not isinstance(x, Tensor) or operation.outputs:
            raise ValueError("it writes no numbers")
        states[name] = self._declared(x, state, operation)
        return OperationStep(operation=operation, inputs={"data": [x]}, outputs=())

    def _branched(
        self, operation: Operation, inputs: Mapping[str, Sequence[Tensor | str]], values: _Values, states: _Values
    ) -> tuple[Tensor, ...]:
        """Run the block that a condition chooses, or a loop's while it says so; what is inside shows no steps."""
        given = Arguments(inputs, _WIDE)
        first, second = operation.blocks
        if operation.type == "cond":
            outputs = self._run_block(first if given.flag("pred") else second, (), values, states)
        else:
            outputs = tuple(given.tensors("loop_vars"))
            turns = 0
            while bool(self._run_block(first, outputs, values, states)[0]):
                outputs = self._run_block(second, outputs, values, states)
                turns += 1
                if turns > _MOST_TURNS:
                    raise NotImplementedError(f"more than {_MOST_TURNS:,} turns")
        pairs = zip(outputs, operation.outputs, strict=True)
        return tuple(self._declared(x, output, operation) for x, output in pairs)

    def _run_block(
        self, block: OperationBlock, given: Sequence[Tensor], values: _Values, states: _Values
    ) -> tuple[Tensor, ...]:
        inside = values | {named.name: x for named, x in zip(block.inputs, given, strict=True)}
        for operation in block.operations:
            step = self._step(operation, inside, states)
            inside.update({named.name: x for named, x in zip(operation.outputs, step.outputs, strict=True)})
        return tuple(self._value(block.constants.get(name, name), inside) for name in block.outputs)

    def _computed(self, operation: Operation, inputs: Mapping[str, Sequence[Tensor | str]]) -> tuple[Tensor, ...]:
        compute = OPERATIONS[operation.type]
        unpacks = _unpacks(operation)
        is_half = any(output.type.dtype == "float16" for output in operation.outputs)
        sums = HalfSums() if self.mode == "pessimistic" and is_half else _WIDE
        if not unpacks and id(operation) not in self._foreseen:
            # A damaged program may ask for a tensor that fills the memory: its shape is known before it is computed.
            for x, output in zip(
                _tuple(compute(Arguments(inputs, _WIDE, shapes_only=True))), operation.outputs, strict=True
            ):
                _check_shape(x, output)
            if all(output.type.count is not None for output in operation.outputs):
                self._foreseen.add(id(operation))
        computed = zip(_tuple(compute(Arguments(inputs, sums))), operation.outputs, strict=True)
        return tuple(self._declared(x, output, operation) for x, output in computed)

    def _declared(self, x: Tensor, output: Named, operation: Operation) -> Tensor:
        """Return a tensor as the type says that it is: of its shape and kind, and rounded."""
        _check_shape(x, output)
        dtype = _torch_dtype(output.type)
        if x.dtype != dtype and (x.is_floating_point() or dtype == torch.float32 or torch.bool in (dtype, x.dtype)):
            raise ValueError(f"{output.name} is {x.dtype}, not {output.type}")
        if _unpacks(operation) and output.type.dtype == "float16":
            return half(x)
        _check_range(x, output)
        return self._rounded(x.to(dtype), output.type)

    def _forced(self, x: Tensor, output: Named, operation: Operation) -> Tensor:
        try:
            return self._declared(x, output, operation)
        except ValueError as error:
            raise InputError(
                f"what shall replace {output.name!r} does not fit: {error}", operation=operation
            ) from error

    def _rounded(self, x: Tensor, type_: TensorType) -> Tensor:
        return half(x) if self.mode != "float32" and type_.dtype == "float16" else x

    def _value(self, value: str | Constant, values: _Values) -> Any:
        if isinstance(value, Constant):
            return self._constant(value)
        if value in self.function.constants:
            return self._constant(self.function.constants[value])
        if value not in values:
            raise ValueError(f"{value} is a state, and is not read")
        return values[value]

    def _constant(self, constant: Constant) -> Tensor | str:
        """Return its numbers; those of small ones are read once."""
        found = self._kept.get(id(constant))
        if found is None:
            found = _numbers(constant)
            if (constant.type.count or 0) <= _MOST_KEPT:
                self._kept[id(constant)] = found
        return found


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300]


def _last_uses(operations: Sequence[Operation], outputs: Sequence[str]) -> list[list[str]]:
    """Return for each operation the names that nothing reads after it."""
    kept, seen, unused = set(outputs), set[str](), list[list[str]]()
    for operation in reversed(operations):
        names = {*operation.uses, *(output.name for output in operation.outputs)} - kept - seen
        unused.append(sorted(names))
        seen |= names
    return unused[::-1]


def _unpacks(operation: Operation) -> bool:
    return operation.type.startswith("constexpr_")


def _numbers(constant: Constant) -> Tensor | str:
    stored = constant.read()
    if isinstance(stored, str):
        return stored
    dtype = {"f": np.float32, "b": np.bool_}.get(stored.dtype.kind, np.int32)
    with np.errstate(over="ignore"):
        return torch.from_numpy(stored.astype(dtype))


def _torch_dtype(type_: TensorType) -> torch.dtype:
    if type_.dtype.startswith("float"):
        return torch.float32
    return torch.bool if type_.dtype == "bool" else torch.int32


def _fits(x: Tensor, type_: TensorType) -> bool:
    same_kind = x.is_floating_point() == type_.dtype.startswith("float")
    sizes = zip(x.shape, type_.shape, strict=False)
    return same_kind and x.ndim == len(type_.shape) and all(size is None or a == size for a, size in sizes)


def _check_shape(x: Tensor, output: Named) -> None:
    sizes = output.type.shape
    if x.ndim != len(sizes) or any(size not in (None, a) for a, size in zip(x.shape, sizes, strict=True)):
        raise ValueError(f"{output.name} has the shape {tuple(x.shape)}, not that of {output.type}")


def _check_range(x: Tensor, output: Named) -> None:
    lowest, highest = RANGES.get(output.type.dtype, (0, 0))
    if output.type.dtype in RANGES and x.numel() and not (lowest <= int(x.min()) and int(x.max()) <= highest):
        raise ValueError(f"{output.name} has numbers from {int(x.min())} to {int(x.max())}, not of {output.type}")


def _tuple(computed: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return computed if isinstance(computed, tuple) else (computed,)
