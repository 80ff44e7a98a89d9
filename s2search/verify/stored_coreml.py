"""The constants of a Core ML package as the program uses them: palettes unpacked, with the distance of their values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2search.export.package import Package
from s2search.verify.coreml_function import Constant, Operation
from s2search.verify.coreml_program import Program
from s2search.verify.evaluator import Evaluator
from s2search.verify.stored_tensor import StoredTensor


def coreml_tensors(package: Package) -> Iterator[StoredTensor]:
    """Yield the floating constants of all functions by their names in the program; those that functions share, once."""
    for file in dict.fromkeys(function.file for function in package.manifest.functions):
        program = Program.load(package.folder / file)
        for name in program.functions:
            yield from _of_function(Evaluator(program, name), f"{file}:{name}")


def _of_function(evaluator: Evaluator, file: str) -> Iterator[StoredTensor]:
    function = evaluator.function
    steps = {operation.name: _step(operation) for operation in function.operations if "lut" in operation.inputs}
    unpacked = {operation.name for operation in function.operations if operation.type.startswith("constexpr_")}
    for name, constant in function.constants.items():
        if isinstance(array := constant.read(), np.ndarray) and array.dtype.kind == "f":
            yield StoredTensor(file=file, name=name, values=array)
    for name, tensor in evaluator.weights():
        if name in unpacked:
            # Float16 values of a table, which the evaluator holds in float32.
            yield StoredTensor(
                file=file, name=name, values=tensor.numpy().astype(np.float16), step=steps.get(name, 0.0)
            )


def _step(operation: Operation) -> float:
    """Return the largest distance of neighbouring values in one of an operation's tables."""
    (table,) = operation.inputs["lut"]
    numbers: NDArray[Any] = np.asarray(table.read() if isinstance(table, Constant) else [])
    tables = numbers.reshape(-1, numbers.shape[-2]) if numbers.ndim > 1 else numbers[None]
    values = np.sort(tables.astype(np.float64), axis=1)
    return float(np.diff(values, axis=1).max()) if values.shape[1] > 1 else 0.0
