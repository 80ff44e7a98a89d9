"""Values inside programs that keep no names: a block's output is told by its size, behind what reads its weights."""

from __future__ import annotations

import abc
import contextlib
import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from typing_extensions import override

from s2search.errors import CheckError, S2SearchError
from s2search.verification.inspectors.taps import Taps
from s2search.verification.reference import block_of
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s2search.exporters.step import FunctionName
    from s2search.verification.opened import Opened

_TAIL = 12  # values of the right size behind the weights of a block, among which its output is


@dataclass(frozen=True, kw_only=True)
class UnnamedOperation:
    """One operation of a function.

    Attributes:
        kind: What the runtime calls it.
        reads: Values, by what the inspector calls them, and constants, by the names that `stored_tensors` gives them.
        writes: Values.
    """

    kind: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class UnnamedFunction(Protocol):
    """A function as an inspector reads it from its file."""

    @property
    def operations(self) -> Sequence[UnnamedOperation]:
        """All operations in their order."""

    @property
    def shapes(self) -> Mapping[str, Sequence[int]]:
        """The shapes of the values that can be looked at."""


#: A function that also gives further values.
Tapped = Callable[[Mapping[str, "NDArray[Any]"]], Mapping[str, "NDArray[Any]"]]


class UnnamedTaps(Taps):
    """A function whose constants are known by their numbers, and whose values by their order.

    Attributes:
        runtime: What computes the values, as people call it.
    """

    has_names: ClassVar[bool] = False
    runtime: ClassVar[str]

    def __init__(self, opened: Opened, function: FunctionName) -> None:
        _ = opened.runtime  # what cannot be loaded has no inside
        self._opened, self._function = opened, function
        self._file = opened.package.manifest.function(function).file
        self._tapped: tuple[list[str], Tapped] | None = None
        with legible(self._file):
            self._read = self._read_function()

    @abc.abstractmethod
    def _read_function(self) -> UnnamedFunction:
        """Return the function."""

    @abc.abstractmethod
    def _tap(self, names: list[str], folder: Path) -> Tapped:
        """Return the function, giving these values as well; what it is loaded from may lie in an empty folder."""

    @override
    def names(self) -> frozenset[str]:
        return frozenset(self._read.shapes)

    @override
    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        wanted = sorted(names & self.names())
        try:
            if self._tapped is None or self._tapped[0] != wanted:
                folder = Path(tempfile.mkdtemp())
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                self._tapped = (wanted, self._tap(wanted, folder))
            outputs = self._tapped[1](inputs)
        except Exception as error:  # errors of runtimes share no base
            raise CheckError(f"{self.runtime} fails with more outputs: {error}", function=self._function) from error
        return {name: outputs[name] for name in wanted}

    @override
    def tails(self, sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
        """Return values of the right size that follow the last read of a layer's weights, or any of another part's.

        Partitions mix what follows from different blocks, so what comes between is not cut off at the next block. Of a
        block whose constants are another's too, as of two equal layers, all values of the size are looked at.
        """
        operations, names = self._read.operations, self._names_of_weights()
        reads: dict[str, list[int]] = {}
        for at, operation in enumerate(operations):
            for block in {block for name in operation.reads if (block := names.get(name))}:
                reads.setdefault(block, []).append(at)
        found = {}
        for output, size in sizes.items():
            block = output.partition(",")[0].partition("#")[0]
            ends, most = (reads[block], _TAIL) if block in reads else ([0], None)
            right = (
                [name for one in operations[at:] for name in one.writes if self._size(name) == size][:most]
                for at in (ends[-1:] if block.startswith("layers.") else ends)
            )
            found[output] = tuple(dict.fromkeys(name for names in right for name in names))
        return found

    def _size(self, name: str) -> int:
        return math.prod(self._read.shapes[name]) if name in self._read.shapes else -1

    def _names_of_weights(self) -> dict[str, str]:
        """Return the block of every constant that is a weight of one block alone, by its digest."""
        kept = self._opened.kept
        if "blocks of constants" not in kept:
            opened = self._opened
            expected = opened.inspector.expects(
                opened.source, opened.exported.stored, opened.package.manifest.chunk_frames
            )
            found = {one.name for one in opened.inspector.stored_tensors(opened.package)}
            blocks = {name: {block_of(one) for one in expected.source_names(name)} for name in found}
            kept["blocks of constants"] = {name: next(iter(of)) for name, of in blocks.items() if len(of) == 1}
        blocks_of: dict[str, str] = kept["blocks of constants"]
        return blocks_of


@contextlib.contextmanager
def legible(file: str) -> Iterator[None]:
    """Say of a damaged file that it cannot be read, whatever it leads its reader to."""
    try:
        yield
    except (S2SearchError, CannotRunError):
        raise
    except Exception as error:
        problem = " ".join(str(error).split())[:200]
        raise CheckError(f"{file!r} of the package cannot be read: {problem}", path=file) from error
