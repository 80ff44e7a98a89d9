"""A function of a Core AI asset as the library's own reader of its bytecode gives it: operations, constants, values.

An asset is one MLIR module. Each entry point is a `coreai.graph`, one block of operations; attention and norms are
graphs of their own that it invokes. Constants stand in the block, the large ones as resources, which only the printed
module shows. Values are called by their place, `v12`; those that an invoked graph has inside are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2search.errors import CheckError
from s2search.exporters.coreai import check_readable, silent
from s2search.verification.inspectors.stored_tensor import digest_of
from s2search.verification.inspectors.unnamed import UnnamedOperation

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How MLIR prints blobs: behind the operations, after the last of these marks, four bytes before the numbers.
_BLOBS, _BLOB = "{-#", re.compile(r'(\w+): "0x[0-9A-F]{8}([0-9A-F]*)"')
_USE = re.compile(r"dense_resource<(\w+)> : tensor<[0-9x]*xf32>")
_CONSTANT, _OUTPUT = "coreai.constant", "coreai.output"


class AssetProgram:
    """The module of an asset, read from its file.

    Raises:
        ImportError: Core AI is not installed.
        CheckError: The file cannot be read.
    """

    def __init__(self, path: Path, functions: Sequence[str]) -> None:
        with silent():
            from coreai.authoring import AIModelAsset

        check_readable(path, functions)
        with silent():
            self._program = AIModelAsset.load(path).program

    @property
    def module(self) -> Any:
        """The module, as MLIR's own bindings give it; private in coreai-core 1.0.0b3, which has no other way to it."""
        return self._program._module._mlir_module

    @cached_property
    def _blobs(self) -> dict[str, bytes]:
        """The numbers of large constants by the names of their resources."""
        printed = str(self.module).rpartition(_BLOBS)[2]
        return {name: bytes.fromhex(digits) for name, digits in _BLOB.findall(printed)}

    def constants(self) -> Iterator[NDArray[np.float32]]:
        """Yield all constants of numbers, those that several functions share more than once."""
        for operation in _operations(self.module.operation):
            if operation.name == _CONSTANT and (array := self._numbers(operation)) is not None:
                yield array

    def digest(self, operation: Any) -> str:
        """Return the digest of a constant of numbers; empty for others."""
        array = self._numbers(operation) if operation.name == _CONSTANT else None
        return "" if array is None else digest_of(array)

    def _numbers(self, operation: Any) -> NDArray[np.float32] | None:
        """Return the numbers of a constant, None where it is none of float32."""
        value = operation.attributes["value"]
        if type(value).__name__ == "DenseFPElementsAttr":
            array = np.array(value)
            return once(array) if array.dtype == np.float32 else None
        used = _USE.fullmatch(str(value))
        if used is None:
            return None
        array = np.frombuffer(self._blobs[used.group(1)], "<f4")
        return once(array.reshape(tuple(operation.results[0].type.shape)))

    def graph(self, function: str) -> Any:
        """Return the graph of an entry point.

        Raises:
            CheckError: There is none of this name.
        """
        for operation in self.module.body.operations:
            if str(operation.operation.attributes["sym_name"]).strip('"') == function:
                return operation.operation
        raise CheckError(f"the asset has no function {function!r}", function=function)

    def save(self, path: Path) -> None:
        """Write the module as an asset."""
        with silent():
            from coreai.runtime import AIModelAssetMetadata

            self._program.save_asset(path, AIModelAssetMetadata())


class AssetFunction:
    """One entry point: its operations in their order, and the shapes of its values of numbers."""

    def __init__(self, program: AssetProgram, function: str) -> None:
        self.program, self.graph = program, program.graph(function)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._values: dict[str, Any] = {}
        self.operations = tuple(self._read())

    def _read(self) -> Iterator[UnnamedOperation]:
        constants: dict[Any, str] = {}
        for operation in (one.operation for one in self.block.operations):
            if operation.name == _CONSTANT:
                constants[operation.results[0]] = self.program.digest(operation)
                continue
            reads = tuple(constants[value] for value in operation.operands if constants.get(value))
            writes = tuple(f"v{len(self._values) + n}" for n in range(len(operation.results)))
            self._values |= dict(zip(writes, operation.results, strict=True))
            for name, value in zip(writes, operation.results, strict=True):
                if str(value.type).endswith("xf32>"):
                    self.shapes[name] = tuple(value.type.shape)
            yield UnnamedOperation(kind=operation.name, reads=reads, writes=writes)

    @property
    def block(self) -> Any:
        """The block of operations."""
        return self.graph.regions[0].blocks[0]

    def give(self, names: list[str]) -> None:
        """Let the function return further values, under their names."""
        with silent():
            from coreai._compiler import ir

        values = [self._values[name] for name in names]
        (last,) = (one.operation for one in self.block.operations if one.operation.name == _OUTPUT)
        with self.graph.context, ir.Location.unknown():
            self.block.append(ir.Operation.create(_OUTPUT, operands=[*last.operands, *values]))
            last.erase()
            given = ir.FunctionType(ir.TypeAttr(self.graph.attributes["function_type"]).value)
            given = ir.FunctionType.get(given.inputs, [*given.results, *(value.type for value in values)])
            self.graph.attributes["function_type"] = ir.TypeAttr.get(given)
            told = [ir.DictAttr.get({"coreai.name": ir.StringAttr.get(name)}) for name in names]
            known = ir.ArrayAttr(self.graph.attributes["res_attrs"])
            self.graph.attributes["res_attrs"] = ir.ArrayAttr.get([*known, *told])


def once(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one of equal matrices: the compiler repeats one along a batch."""
    return array[0] if array.ndim > 2 and bool((array == array[:1]).all()) else array


def _operations(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from _operations(inner.operation)
