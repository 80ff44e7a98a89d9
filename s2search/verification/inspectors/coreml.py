"""The constants of a Core ML package as the program uses them: palettes unpacked, with the values of their tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2search.errors import CheckError
from s2search.exporters.package import Package
from s2search.mil.evaluator import Evaluator
from s2search.mil.function import Constant, Operation
from s2search.mil.program import Program
from s2search.verification.inspectors.stored_tensor import StoredTensor


def coreml_tensors(package: Package) -> Iterator[StoredTensor]:
    """Yield the floating constants of all functions by their names in the program; those that functions share, once."""
    for file in dict.fromkeys(function.file for function in package.manifest.functions):
        program = Program.load(package.folder / file)
        for name in program.functions:
            yield from _of_function(Evaluator(program, name), f"{file}:{name}")


def _of_function(evaluator: Evaluator, file: str) -> Iterator[StoredTensor]:
    function = evaluator.function
    tables = {operation.name: _tables_GV(operation) for operation in function.operations if "lut" in operation.inputs}
    unpacked = {operation.name for operation in function.operations if operation.type.startswith("constexpr_")}
    for name, constant in function.constants.items():
        if isinstance(array := constant.read(), np.ndarray) and array.dtype.kind == "f":
            yield StoredTensor(file=file, name=name, values=array)
    for name, tensor in evaluator.weights():
        if name in unpacked:
            # Float16 values of a table, which the evaluator holds in float32.
            found_GV = tables.get(name)
            yield StoredTensor(
                file=file,
                name=name,
                values=tensor.numpy().astype(np.float16),
                step=0.0 if found_GV is None else float(np.diff(found_GV, axis=1).max(initial=0.0)),
                tables_GV=found_GV,
            )


def _tables_GV(operation: Operation) -> NDArray[Any]:
    """Return an operation's tables, their values in order: one for each group of rows.

    Raises:
        CheckError: Tables are shared otherwise than by rows, which no exporter here writes.
    """
    (table,) = operation.inputs["lut"]
    numbers: NDArray[Any] = np.asarray(table.read() if isinstance(table, Constant) else [])
    groups, size = (numbers.shape[0], numbers.shape[-2]) if numbers.ndim > 1 else (1, numbers.size)
    if numbers.size != groups * size:
        raise CheckError(f"the tables of {operation.name!r} have the shape {numbers.shape}", path=operation.name)
    return np.sort(numbers.astype(np.float64).reshape(groups, size), axis=1)
