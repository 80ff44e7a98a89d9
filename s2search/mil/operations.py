"""The operations of ML Programs that can be computed here, by their type."""

from __future__ import annotations

from s2search.mil.arguments import Compute
from s2search.mil.constants import CONSTANTS
from s2search.mil.elementwise import ELEMENTWISE
from s2search.mil.function import Function, Operation
from s2search.mil.shapes import SHAPES
from s2search.mil.sums import SUMS

#: Reads and writes of the state, which an evaluator does itself.
STATE_OPERATIONS = ("read_state", "write_state")

OPERATIONS: dict[str, Compute] = {**CONSTANTS, **ELEMENTWISE, **SHAPES, **SUMS}


def is_covered(operation: Operation) -> bool:
    """Whether an operation can be computed here. None with a body of its own can: loops and conditions."""
    known = operation.type in OPERATIONS or operation.type in STATE_OPERATIONS
    return known and not operation.has_blocks


def uncovered(function: Function) -> tuple[Operation, ...]:
    """Return the operations of a function that cannot be computed here."""
    return tuple(operation for operation in function.operations if not is_covered(operation))
