"""Values inside a package's functions, for runtimes that let one look."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from s2search.mil.evaluator import Mode
from s2search.verification.reference import Reference, block_of, places, turns
from s2search.verification.result import NotOfferedError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram


class Taps(abc.ABC):
    """The inside of one function.

    Attributes:
        modes: Arithmetics that `in_mode` takes, the runtime's first; none where only the runtime's own can be seen.
        has_names: Whether values have names that a graph of the source can have. Else `tails` tells them apart.
    """

    modes: ClassVar[tuple[Mode, ...]] = ()
    has_names: ClassVar[bool] = True

    def program(self) -> ExportedProgram:
        """Return the source's function as a graph whose values have the same names.

        Raises:
            NotOfferedError: They have none.
        """
        raise NotOfferedError("the values of the package's programs have no names that a graph could have")

    @abc.abstractmethod
    def names(self) -> frozenset[str]:
        """Return the names of all values that can be looked at."""

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        """Return the values of these names; where there are `modes`, names may also be outputs of the function."""

    def in_mode(self, mode: Mode) -> Taps:
        """Return the same function in another arithmetic.

        Raises:
            NotOfferedError: There are none.
        """
        raise NotOfferedError("a function has the arithmetic of its runtime")

    def alone(
        self, inputs: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]], names: set[str]
    ) -> dict[str, NDArray[Any]]:
        """Return values, and others by name, each computed from the given ones of those before it.

        Raises:
            NotOfferedError: A block cannot be computed alone.
        """
        raise NotOfferedError("no block can be computed alone")

    def operations_db(self, reference: Reference, inputs: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Return the parity of every operation that is computed alone from the source's numbers, by its name there.

        Raises:
            NotOfferedError: None can be.
        """
        raise NotOfferedError("no operation can be computed alone")

    def tails(self, sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]] | None:
        """Return, by block, the names of values among which its output is: what follows the last read of its weights.

        None where the order of values does not tell.

        Args:
            sizes: How many numbers the output of each block has, for those who can tell values by their sizes.
        """
        return None


def tails(names: Sequence[str], reads: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the tail of every block, from operations in their order and the weights that each of them reads.

    Of what is no layer, all operations: the stem gives its tokens before it reads the weights of its time embedding.

    >>> tails(["a", "b", "c", "d"], [["stem.patch.weight"], [], ["layers.0.query.weight"], ["layers.0.out.weight"]])
    {'stem': ('a', 'b'), 'layers.0': ('d',)}
    """
    found: dict[str, list[str]] = {}
    blocks = turns([block_of(place) for place in places(reads)])
    for name, block, read in zip(names, blocks, reads, strict=True):
        if read and block.startswith("layers."):
            found[block] = []
        found.setdefault(block, []).append(name)
    return {block: tuple(tail) for block, tail in found.items()}
