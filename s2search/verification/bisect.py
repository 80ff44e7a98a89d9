"""Where a package first differs from its source: the first block, and in it the first operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2search.decibels import parity_db
from s2search.errors import CheckError
from s2search.exporters.step import FunctionName
from s2search.mil.evaluator import Mode
from s2search.verification.ends import nearest_db, outputs_of_blocks
from s2search.verification.inspectors.taps import Taps
from s2search.verification.opened import Opened
from s2search.verification.reference import Reference, SourceOperation
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where, and why one can say so; `where` is empty where one cannot."""

    where: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Inside:
    """One function of a package beside the source's, for the same inputs."""

    reference: Reference
    taps: Taps
    inputs: Mapping[str, NDArray[Any]]

    def blocks_db(self) -> dict[str, float]:
        """Return the parity of the last value of every block that both have."""
        ends = self.ends()
        found = self.parity_db(ends.values())
        return {block: found[end.name] for block, end in ends.items() if end.name in found}

    def ends(self) -> dict[str, SourceOperation]:
        """Return the last operation of every block that both have."""
        known = self.taps.names()
        ends = {
            block: next((one for one in reversed(operations) if one.name in known), None)
            for block, operations in self.reference.blocks.items()
        }
        return {block: end for block, end in ends.items() if end}

    def parity_db(self, operations: Iterable[SourceOperation]) -> dict[str, float]:
        """Return the parity of operations that both have, by name and in their order.

        Values of one name and two shapes are not the same: another version of the blocks may name them otherwise.
        """
        known = self.taps.names()
        names = [operation.name for operation in operations if operation.name in known]
        if not names:
            return {}
        expected = self.reference.values(self.inputs, set(names))
        got = self.taps.run(self.inputs, set(names))
        same = [name for name in names if expected[name].shape == got[name].shape]
        return {name: parity_db(expected[name], got[name]) for name in same}

    def first_below(
        self, operations: Iterable[SourceOperation], least_db: float
    ) -> tuple[SourceOperation, float] | None:
        """Return the first operation with less parity, and what it has."""
        by_name = {operation.name: operation for operation in operations}
        found = self.parity_db(by_name.values())
        name = next((name for name, value in found.items() if value < least_db), None)
        return None if name is None else (by_name[name], found[name])


def look_inside(
    opened: Opened, function: FunctionName, inputs: Mapping[str, NDArray[Any]], mode: Mode | None = None
) -> Inside:
    """Open a function of the package beside the source's, with the numbers that the package stores.

    Raises:
        CannotRunError: The runtime runs it as a whole, or the two graphs share no value.
    """
    taps = opened.inspector.inside(opened, function)
    opened.say(f"tracing the source's {function}")
    reference = opened.reference(function)
    shared = sum(operation.name in taps.names() for operation in reference.operations)
    if shared < len(reference.operations) / 4:
        raise CannotRunError(f"{shared} of {len(reference.operations)} operations of {function!r} have their names")
    return Inside(reference=reference, taps=taps.in_mode(mode) if mode else taps, inputs=inputs)


def first_difference(
    opened: Opened,
    function: FunctionName,
    inputs: Mapping[str, NDArray[Any]],
    least_db: float,
    mode: Mode | None = None,
) -> Place:
    """Find the first operation of a function, in the order in which they run, with less parity than asked for.

    The end of every block is looked at first, then every operation of the first block whose end differs. Where no end
    does, as with what only the state sees, every operation of every block is. Where values have no names, it is the
    first block.
    """
    try:
        taps = opened.inspector.inside(opened, function)
        if not taps.has_names:
            return _first_block(opened, function, inputs, least_db, taps)
        inside = look_inside(opened, function, inputs, mode)
        blocks_db = inside.blocks_db()
        blocks = inside.reference.blocks
        first = next((block for block, value in blocks_db.items() if value < least_db), None)
        for block in [first] if first else blocks:
            opened.say(f"looking into {block}")
            if found := inside.first_below(blocks[block], least_db):
                operation, value = found
                return Place(
                    where=operation.place,
                    why=f"the first operation of {function!r} below {least_db:g} dB, in {block}: {value:.1f} dB",
                )
    except (CannotRunError, CheckError) as error:
        return Place(where="", why=f"cannot say where: {error}")
    if first:
        return Place(where=first, why=f"the first block of {function!r} below {least_db:g} dB; no operation alone is")
    return Place(where="", why=f"every operation of {function!r} alone has {least_db:g} dB")


def _first_block(
    opened: Opened, function: FunctionName, inputs: Mapping[str, NDArray[Any]], least_db: float, taps: Taps
) -> Place:
    """Find the first output of a block, in the order in which they run, to which no value inside comes near enough."""
    opened.say(f"looking into {function}")
    found = nearest_db(outputs_of_blocks(opened, function, inputs), taps, inputs) or {}
    block, value = next(((block, value) for block, value in found.items() if value < least_db), ("", 0.0))
    if not block:
        return Place(where="", why=f"every block of {function!r} gives {least_db:g} dB")
    why = f"the first block of {function!r} of whose output no value has {least_db:g} dB: {value:.1f} dB"
    return Place(where=block, why=f"{why}; values have no names")
