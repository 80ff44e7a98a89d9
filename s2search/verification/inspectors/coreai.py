"""coreai: the constants of an asset, and values inside its functions, given by Core AI's own runtime.

Constants have no names. As ExecuTorch's, each is yielded under the digest that it has: the source's tensor of that
digest is stored, and one that was changed has the name of no tensor. Where the compiler has repeated a matrix along a
batch, the matrix is yielded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.errors import CheckError, MissingExtraError, S2SearchError
from s2search.exporters.coreai import LoadedCoreAI
from s2search.exporters.package import Package
from s2search.verification.expected import Expected
from s2search.verification.inspectors.base import Inspector
from s2search.verification.inspectors.coreai_program import AssetFunction, AssetProgram
from s2search.verification.inspectors.stored_tensor import StoredTensor, digest_of
from s2search.verification.inspectors.unnamed import UnnamedOperation, UnnamedTaps
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from s2search.exporters.step import FunctionName
    from s2search.verification.opened import Opened


@dataclass(frozen=True, kw_only=True)
class CoreAIInspector(Inspector):
    """Looks into assets."""

    library: ClassVar[str] = "coreai.runtime"
    distributions: ClassVar[tuple[str, ...]] = ("coreai-core",)

    @override
    def stored_tensors(self, package: Package) -> Iterator[StoredTensor]:
        for file in dict.fromkeys(function.file for function in package.manifest.functions):
            with _legible(file):
                arrays = [*_read(package, file).constants()]
            for name, values in {digest_of(array): array for array in arrays}.items():
                yield StoredTensor(file=file, name=name, values=values.ravel())

    @override
    def expects(self, source: nn.Module, stored: nn.Module, frames: int) -> Expected:
        return Expected(source, stored, frames, by_content=True, folds=True)

    @override
    def inside(self, opened: Opened, function: FunctionName) -> CoreAITaps:
        return CoreAITaps(opened, function)


class CoreAITaps(UnnamedTaps):
    """A function with more outputs. Where the compiler would fuse over one, it then does not."""

    def __init__(self, opened: Opened, function: FunctionName) -> None:
        super().__init__(opened, function)
        self._file = opened.package.manifest.function(function).file
        with _legible(self._file):
            self._asked = AssetFunction(_read(opened.package, self._file), function)
        self._loaded: tuple[list[str], LoadedCoreAI] | None = None

    @property
    @override
    def operations(self) -> Sequence[UnnamedOperation]:
        return self._asked.operations

    @property
    @override
    def shapes(self) -> Mapping[str, Sequence[int]]:
        return self._asked.shapes

    @override
    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        wanted = sorted(names & self.names())
        try:
            if self._loaded is None or self._loaded[0] != wanted:
                self._loaded = (wanted, self._load(wanted))
            outputs = self._loaded[1].all_outputs(self._function, inputs)
        except Exception as error:  # errors of runtimes share no base
            raise CheckError(f"Core AI fails with more outputs: {error}", function=self._function) from error
        return {name: outputs[name] for name in wanted}

    def _load(self, names: list[str]) -> LoadedCoreAI:
        package = self._opened.package
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        function = AssetFunction(_read(package, self._file), self._function)
        function.give(names)
        function.program.save(folder / self._file)
        return LoadedCoreAI(dataclasses.replace(package, folder=folder))


@contextlib.contextmanager
def _legible(file: str) -> Iterator[None]:
    """Say of an asset that Core AI loads, and whose module is otherwise than expected here, that it cannot be read."""
    try:
        yield
    except (S2SearchError, CannotRunError):
        raise
    except Exception as error:  # what a damaged module leads its reader to
        problem = " ".join(str(error).split())[:200]
        raise CheckError(f"{file!r} of the package cannot be read: {problem}", path=file) from error


def _read(package: Package, file: str) -> AssetProgram:
    try:
        return AssetProgram(package.folder / file, tuple(function.name for function in package.manifest.functions))
    except ImportError as error:
        raise CannotRunError(str(MissingExtraError("coreai"))) from error
