"""What an operation costs, by a model: multiplications and bytes moved, and the larger of both as time.

`time = max(multiplications / 100, bytes moved)`, in units of one byte moved. 100 multiplications a byte is a round
number of the order of a phone's Neural Engine: 35 Tera operations a second, which Apple states of its A17 Pro and A18,
are some 9 Tera multiplications if float16 is half as quick, and such phones' memory moves some tens of GB in a second.
It is a model, not a measurement: nothing is kept on the chip between operations, every unit is as quick as every other,
and calling an operation or changing the unit costs nothing. It says which operations are large; only a device says how
long they take.

Bytes are those of what an operation reads and gives, weights as they are stored. Operations that only name a shape
anew move none. Of a loop or a condition, every block counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from s2search.mil.function import Constant, Function, Operation
from s2search.mil.numbers import KINDS, TensorType
from s2search.mil.rules.float32 import running

MULTIPLICATIONS_PER_BYTE = 100
_FREE = frozenset(["expand_dims", "identity", "read_state", "reshape", "squeeze", "write_state"])


@dataclass(frozen=True, kw_only=True)
class OperationWork:
    """What an operation does in a call."""

    multiplications: int
    bytes_moved: int

    @property
    def time(self) -> float:
        """How long it takes by the model, in units of one byte moved."""
        return max(self.multiplications / MULTIPLICATIONS_PER_BYTE, float(self.bytes_moved))


def work_of(function: Function) -> dict[str, OperationWork]:
    """Return the work of every operation that runs in a call, by its name."""
    seen = _Sizes(function)
    return {operation.name: seen.work(operation) for operation in running(function)}


class _Sizes:
    """How many numbers and bytes values are. An axis of any size counts as one."""

    def __init__(self, function: Function) -> None:
        every = list(function.every())
        self._types = {value.name: value.type for value in (*function.inputs, *function.states)}
        self._types |= {value.name: value.type for one in every for block in one.blocks for value in block.inputs}
        self._types |= {output.name: output.type for one in every for output in one.outputs}
        self._stored = {one.outputs[0].name: self._unpacked_bytes(one) for one in every if _unpacks(one)}

    def work(self, operation: Operation) -> OperationWork:
        if operation.type in _FREE or operation.blocks:
            return OperationWork(multiplications=0, bytes_moved=0)
        read = sum(self._bytes(value) for values in operation.inputs.values() for value in values)
        given = sum(_type_bytes(output.type) for output in operation.outputs)
        many = _COUNTS.get(operation.type)
        shapes = {name: self._shapes(values) for name, values in operation.inputs.items()}
        out = [_shape(output.type) for output in operation.outputs]
        return OperationWork(multiplications=many(shapes, out, operation) if many else 0, bytes_moved=read + given)

    def _shapes(self, values: tuple[str | Constant, ...]) -> list[tuple[int, ...]]:
        types = (value.type if isinstance(value, Constant) else self._types.get(value) for value in values)
        return [_shape(type_) for type_ in types if type_ is not None]

    def _bytes(self, value: str | Constant) -> int:
        if isinstance(value, Constant):
            return _type_bytes(value.type)
        if value in self._stored:
            return self._stored[value]
        return _type_bytes(self._types[value]) if value in self._types else 0

    def _unpacked_bytes(self, operation: Operation) -> int:
        """Return the bytes that a weight takes as it is stored: its table, its indices."""
        given = (value for values in operation.inputs.values() for value in values)
        return sum(_type_bytes(value.type) for value in given if isinstance(value, Constant))


def _unpacks(operation: Operation) -> bool:
    return operation.type.startswith("constexpr_") and bool(operation.outputs)


def _shape(type_: TensorType) -> tuple[int, ...]:
    return tuple(1 if size is None else size for size in type_.shape)


def _type_bytes(type_: TensorType) -> int:
    return KINDS[type_.dtype].bytes_of(math.prod(_shape(type_))) if type_.dtype in KINDS else 0


_Shapes = Mapping[str, list[tuple[int, ...]]]
_Counter = Callable[[_Shapes, list[tuple[int, ...]], Operation], int]


def _conv(shapes: _Shapes, out: list[tuple[int, ...]], operation: Operation) -> int:
    return math.prod(out[0]) * math.prod(shapes["weight"][0][1:])


def _conv_transpose(shapes: _Shapes, out: list[tuple[int, ...]], operation: Operation) -> int:
    return math.prod(shapes["x"][0]) * math.prod(shapes["weight"][0][1:])


def _linear(shapes: _Shapes, out: list[tuple[int, ...]], operation: Operation) -> int:
    return math.prod(out[0]) * shapes["weight"][0][-1]


def _matmul(shapes: _Shapes, out: list[tuple[int, ...]], operation: Operation) -> int:
    value = operation.inputs.get("transpose_x", (None,))[0]
    turned = isinstance(value, Constant) and bool(value.read())
    x = shapes["x"][0]
    return math.prod(out[0]) * (x[-2] if turned and len(x) > 1 else x[-1])


def _einsum(shapes: _Shapes, out: list[tuple[int, ...]], operation: Operation) -> int:
    (equation,) = operation.inputs["equation"]
    letters = str(equation.read()).replace(" ", "").split("->")[0].split(",") if isinstance(equation, Constant) else []
    sizes = {a: size for word, shape in zip(letters, shapes["values"], strict=False) for a, size in zip(word, shape)}  # noqa: B905
    return math.prod(sizes.values())


def _attention(shapes: _Shapes, out: list[tuple[int, ...]], operation: Operation) -> int:
    query, key, value = (shapes[name][0] for name in ("query", "key", "value"))
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(shapes: _Shapes, out: list[tuple[int, ...]], operation: Operation) -> int:
    weights = [shape for name, (*_, shape) in shapes.items() if name.startswith("weight_")]
    return shapes["x"][0][0] * shapes["x"][0][1] * sum(map(math.prod, weights))


_COUNTS: dict[str, _Counter] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "einsum": _einsum,
    "gru": _recurrent,
    "linear": _linear,
    "lstm": _recurrent,
    "matmul": _matmul,
    "rnn": _recurrent,
    "scaled_dot_product_attention": _attention,
}
