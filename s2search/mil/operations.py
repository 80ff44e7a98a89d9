"""The operations of ML Programs that can be computed here, by their type."""

from __future__ import annotations

from s2search.mil.arguments import Compute
from s2search.mil.constants import CONSTANTS
from s2search.mil.elementwise import ELEMENTWISE
from s2search.mil.function import Function, Operation
from s2search.mil.pools import POOLS
from s2search.mil.recurrent import RECURRENT
from s2search.mil.resizing import RESIZING
from s2search.mil.scattering import SCATTERING
from s2search.mil.shapes import SHAPES
from s2search.mil.sums import SUMS

#: Reads and writes of the state, which an evaluator does itself.
STATE_OPERATIONS = ("read_state", "write_state")

#: Those with operations inside, and how many blocks they have; an evaluator does them itself.
BLOCK_OPERATIONS = {"cond": 2, "while_loop": 2}

OPERATIONS: dict[str, Compute] = {
    **CONSTANTS,
    **ELEMENTWISE,
    **POOLS,
    **RECURRENT,
    **RESIZING,
    **SCATTERING,
    **SHAPES,
    **SUMS,
}


def is_covered(operation: Operation) -> bool:
    """Whether an operation can be computed here, with all that is inside it; modes that it may have are not asked."""
    if operation.type in BLOCK_OPERATIONS:
        inside = [one for block in operation.blocks for one in block.operations]
        return len(operation.blocks) == BLOCK_OPERATIONS[operation.type] and all(map(is_covered, inside))
    known = operation.type in OPERATIONS or operation.type in STATE_OPERATIONS
    return known and not operation.blocks


def uncovered(function: Function) -> tuple[Operation, ...]:
    """Return the operations of a function that cannot be computed here."""
    return tuple(operation for operation in function.every() if not is_covered(operation))
