"""coreai: the constants of an asset, and values inside its functions, given by Core AI's own runtime.

Constants have no names. As ExecuTorch's, each is yielded under the digest that it has: the source's tensor of that
digest is stored, and one that was changed has the name of no tensor. Where the compiler has repeated a matrix along a
batch, the matrix is yielded.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from s2search.errors import MissingExtraError
from s2search.exporters.coreai import LoadedCoreAI
from s2search.exporters.package import Package
from s2search.verification.expected import Expected
from s2search.verification.inspectors.base import Inspector
from s2search.verification.inspectors.coreai_program import AssetFunction, AssetProgram
from s2search.verification.inspectors.stored_tensor import StoredTensor, digest_of
from s2search.verification.inspectors.unnamed import Tapped, UnnamedTaps, legible
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
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
            with legible(file):
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

    runtime: ClassVar[str] = "Core AI"

    @override
    def _read_function(self) -> AssetFunction:
        return AssetFunction(_read(self._opened.package, self._file), self._function)

    @override
    def _tap(self, names: list[str], folder: Path) -> Tapped:
        function = self._read_function()
        function.give(names)
        function.program.save(folder / self._file)
        loaded = LoadedCoreAI(dataclasses.replace(self._opened.package, folder=folder))
        return functools.partial(loaded.all_outputs, self._function)


def _read(package: Package, file: str) -> AssetProgram:
    try:
        return AssetProgram(package.folder / file, tuple(function.name for function in package.manifest.functions))
    except ImportError as error:
        raise CannotRunError(str(MissingExtraError("coreai"))) from error
