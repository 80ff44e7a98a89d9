"""The rule `float32_operation`: runs of operations that compute in float32, and where they begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from s2search.mil.function import Constant, Function, Operation
from s2search.mil.rules.rule import RuleFinding

_NAMES_SHOWN = 3


def float32_operation(function: Function) -> Iterator[RuleFinding]:
    """Yield one finding for each run of float32 operations, in program order.

    An operation is one if it gives or reads a float32 number. Casts out of float32 end a run, and casts at the border
    (of what a caller gave, and into what a function returns) are none: callers may want float32.
    """
    dtypes = dtypes_of(function)
    run: list[Operation] = []
    for operation in running(function):
        if is_float32(operation, dtypes, function.outputs):
            run.append(operation)
        elif run:
            yield _finding(function, run)
            run = []
    if run:
        yield _finding(function, run)


def running(function: Function) -> Iterator[Operation]:
    """Yield the operations that run in a call, with those in blocks; what unpacks weights runs at loading."""
    return (one for one in function.every() if not one.type.startswith("constexpr_"))


def dtypes_of(function: Function) -> dict[str, str]:
    """Return the type of every value by name, also of values inside blocks."""
    found = {value.name: value.type.dtype for value in (*function.inputs, *function.states)}
    for operation in function.every():
        found |= {output.name: output.type.dtype for output in operation.outputs}
        found |= {value.name: value.type.dtype for block in operation.blocks for value in block.inputs}
    return found


def is_float32(operation: Operation, dtypes: Mapping[str, str], returned: tuple[str, ...]) -> bool:
    """Return whether an operation computes in float32."""
    gives = [output.type.dtype for output in operation.outputs]
    if operation.type == "cast":
        return gives == ["float32"] and operation.outputs[0].name not in returned
    return "float32" in (*gives, *_reads(operation, dtypes))


def _reads(operation: Operation, dtypes: Mapping[str, str]) -> Iterator[str]:
    """Yield the types of what an operation computes with: its own inputs, settings left out."""
    for values in operation.inputs.values():
        for value in values:
            if not isinstance(value, Constant) and value in dtypes:
                yield dtypes[value]


def _finding(function: Function, run: list[Operation]) -> RuleFinding:
    kinds = [operation.type for operation in run]
    shown = ", ".join(kinds[:_NAMES_SHOWN]) + (" ..." if len(kinds) > _NAMES_SHOWN else "")
    many = f"{len(run)} operations begin" if len(run) > 1 else "one operation"
    return RuleFinding(
        rule="float32_operation",
        function=function.name,
        names=tuple(operation.name for operation in run),
        problem=f"{many} at {run[0].name} ({shown})" if len(run) > 1 else f"{many}, {run[0].name} ({shown})",
    )
