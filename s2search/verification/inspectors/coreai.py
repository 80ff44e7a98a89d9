"""coreai: the constants of an asset, by the library's own reader of its bytecode.

They have no names. As ExecuTorch's, each is yielded under the digest that it has: the source's tensor of that digest is
stored, and one that was changed has the name of no tensor. Where the compiler has repeated a matrix along a batch, the
matrix is yielded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from s2search.errors import CheckError, MissingExtraError
from s2search.exporters.coreai import silent
from s2search.exporters.package import Package
from s2search.verification.expected import Expected
from s2search.verification.inspectors.base import Inspector
from s2search.verification.inspectors.stored_tensor import StoredTensor, digest_of
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

#: How MLIR prints blobs: behind the operations, four bytes of alignment before the numbers.
_BLOB = re.compile(r'(\w+): "0x[0-9A-F]{8}([0-9A-F]*)"')
_USE = re.compile(r"dense_resource<(\w+)> : tensor<([0-9x]*)xf32>")


@dataclass(frozen=True, kw_only=True)
class CoreAIInspector(Inspector):
    """Looks into assets."""

    library: ClassVar[str] = "coreai.runtime"
    distributions: ClassVar[tuple[str, ...]] = ("coreai-core",)

    @override
    def stored_tensors(self, package: Package) -> Iterator[StoredTensor]:
        for file in dict.fromkeys(function.file for function in package.manifest.functions):
            try:
                arrays = [*_constants(package.folder / file)]
            except ImportError as error:
                raise CannotRunError(str(MissingExtraError("coreai"))) from error
            except Exception as error:  # its errors share no base
                problem = " ".join(str(error).split())[:200]
                raise CheckError(f"{file!r} of the package cannot be read: {problem}", path=file) from error
            for name, values in {digest_of(array): array for array in arrays}.items():
                yield StoredTensor(file=file, name=name, values=values.ravel())

    @override
    def expects(self, source: nn.Module, stored: nn.Module, frames: int) -> Expected:
        return Expected(source, stored, frames, by_content=True, folds=True)


def _constants(path: Path) -> Iterator[NDArray[np.float32]]:
    with silent():
        from coreai.authoring import AIModelAsset

        module = AIModelAsset.load(path).program._module._mlir_module
        text = str(module)
    shapes = {name: [int(size) for size in sizes.split("x")] for name, sizes in _USE.findall(text)}
    for name, digits in _BLOB.findall(text):
        if name in shapes:
            yield _once(np.frombuffer(bytes.fromhex(digits), "<f4").reshape(shapes[name]))
    for operation in _operations(module.operation):
        if operation.name == "coreai.constant":
            value = operation.attributes["value"]
            if type(value).__name__ == "DenseFPElementsAttr":
                array = np.array(value)
                if array.dtype == np.float32:
                    yield _once(array)


def _operations(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from _operations(inner.operation)


def _once(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one of equal matrices."""
    return array[0] if array.ndim > 2 and bool((array == array[:1]).all()) else array
