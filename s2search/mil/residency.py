"""Which operations of a function may run on the Neural Engine by rule, and what share of its work they are.

An operation may where all floating numbers that it reads and gives are float16, it gives at least one such number (or
8-bit ones, as activations are quantised to), its values have five axes at most, and it is no convolution over three
axes, no loop and no condition. What gives whole numbers or truth values alone is counted as running elsewhere: the
Neural Engine computes in float16, and nobody says that it computes others. That an operation may run there does not
say that it does: only a device's compute plan does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from s2search.mil.function import Function, Operation, as_declared
from s2search.mil.operations import BLOCK_OPERATIONS
from s2search.mil.rules.float32 import dtypes_of, running
from s2search.mil.work import OperationWork, work_of

_THERE = ("float16", "int8", "uint8")
_MOST_AXES = 5
_STATE = ("read_state", "write_state")


@dataclass(frozen=True, kw_only=True)
class ElsewhereRun:
    """Consecutive operations that run on other units by rule.

    Attributes:
        first: Name of the first operation.
        operations: How many.
        kinds: Their types, each once.
        why: What keeps them from the Neural Engine, each reason once.
        time_percent: Their share of the function's time, by the model of `mil/work.py`.
    """

    first: str
    operations: int
    kinds: tuple[str, ...]
    why: tuple[str, ...]
    time_percent: float


@dataclass(frozen=True, kw_only=True)
class Residency:
    """What of a function may run on the Neural Engine.

    Attributes:
        function: Its name.
        operations: That run in a call; reads and writes of states, which compute nothing, left out.
        operations_percent: Of them, those that may.
        time_percent: The share of time that these take, by the model of `mil/work.py`.
        elsewhere: The others, in runs.
    """

    function: str
    operations: int
    operations_percent: float
    time_percent: float
    elsewhere: tuple[ElsewhereRun, ...]


def residency(function: Function) -> Residency:
    """Return what of a function may run on the Neural Engine.

    A function without operations runs nowhere else, so it has 100 %.

    Raises:
        InputError: It is damaged.
    """
    with as_declared(function):
        work, dtypes = work_of(function), dtypes_of(function)
    steps = [(one, _kept_by(one, dtypes)) for one in running(function) if one.type not in _STATE]
    total = sum(work[one.name].time for one, _ in steps)
    there = [one for one, why in steps if not why]
    runs = []
    for elsewhere, group in groupby(steps, key=lambda step: bool(step[1])):
        if elsewhere:
            runs.append(_run(list(group), work, total))
    return Residency(
        function=function.name,
        operations=len(steps),
        operations_percent=_percent(len(there), len(steps)),
        time_percent=_percent(_time(there, work), total),
        elsewhere=tuple(runs),
    )


def _run(steps: list[tuple[Operation, str]], work: Mapping[str, OperationWork], total: float) -> ElsewhereRun:
    operations = [one for one, _ in steps]
    return ElsewhereRun(
        first=operations[0].name,
        operations=len(operations),
        kinds=tuple(dict.fromkeys(one.type for one in operations)),
        why=tuple(dict.fromkeys(why for _, why in steps)),
        time_percent=_percent(_time(operations, work), total) if total else 0.0,
    )


def _kept_by(operation: Operation, dtypes: Mapping[str, str]) -> str:
    """Return what keeps an operation from the Neural Engine; empty where nothing is known to."""
    given = [output.type.dtype for output in operation.outputs]
    read = [dtypes[name] for name in operation.uses if name in dtypes]
    axes = max((len(output.type.shape) for output in operation.outputs), default=0)
    if operation.type in BLOCK_OPERATIONS or operation.blocks:
        return "control flow"
    if "float32" in (*given, *read):
        return "float32"
    if not any(dtype in _THERE for dtype in given):
        return "no float16"
    if axes > _MOST_AXES:
        return f"{axes} axes"
    return "3-D convolution" if operation.type in ("conv", "conv_transpose") and axes == _MOST_AXES else ""


def _time(operations: Iterable[Operation], work: Mapping[str, OperationWork]) -> float:
    return sum(work[one.name].time for one in operations)


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 100.0
