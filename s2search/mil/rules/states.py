"""The rules on what goes in and out of a function and stays between calls: states, and their widths."""

from __future__ import annotations

from collections.abc import Iterator

from s2search.mil.function import Function, Named
from s2search.mil.numbers import KINDS, TensorType
from s2search.mil.rules.rule import RuleFinding

_MOST_STATES = 1
_ROW_BYTES = 64


def states(function: Function) -> Iterator[RuleFinding]:
    """Yield a finding where there is more than one state."""
    names = tuple(state.name for state in function.states)
    if len(names) > _MOST_STATES:
        yield RuleFinding(rule="states", function=function.name, names=names, problem=f"{len(names)} states")


def state_width(function: Function) -> Iterator[RuleFinding]:
    """Yield a finding for each width of states whose rows are not multiples of 64 bytes."""
    return _widths("state_width", function, function.states)


def io_width(function: Function) -> Iterator[RuleFinding]:
    """Yield a finding for each width of inputs and outputs whose rows are not multiples of 64 bytes.

    A single number has no rows, and an axis of any size has no width.
    """
    types = {output.name: output for operation in function.operations for output in operation.outputs}
    types |= {value.name: value for value in function.inputs}
    returned = [types[name] for name in function.outputs if name in types]
    return _widths("io_width", function, (*function.inputs, *returned))


def _widths(rule: str, function: Function, values: tuple[Named, ...]) -> Iterator[RuleFinding]:
    narrow: dict[tuple[str, int], list[str]] = {}
    for value in values:
        width = value.type.shape[-1] if value.type.shape else None
        if width and value.type.count != 1 and _row_bytes(value.type, width) % _ROW_BYTES:
            narrow.setdefault((value.type.dtype, width), []).append(value.name)
    for (dtype, width), names in narrow.items():
        of = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield RuleFinding(
            rule=rule,
            function=function.name,
            names=tuple(dict.fromkeys(names)),
            problem=f"{width} {dtype} numbers wide, {width * _bits(dtype) // 8} bytes: {of}",
        )


def _row_bytes(type_: TensorType, width: int) -> int:
    return width * _bits(type_.dtype) // 8


def _bits(dtype: str) -> int:
    return KINDS[dtype].bits if dtype in KINDS else 8 * _ROW_BYTES  # text and dictionaries have no width
