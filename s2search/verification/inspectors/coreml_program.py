"""What a Core ML program holds: constants as it uses them, palettes unpacked, and the states that it declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2search.errors import CheckError
from s2search.exporters.package import NEW, FunctionSpec, Package
from s2search.mil.evaluator import Evaluator
from s2search.mil.function import Constant, Function, Operation
from s2search.mil.program import Program
from s2search.precision.part import LEAST_NUMBERS
from s2search.verification.expected import half_digest, plain
from s2search.verification.inspectors.stored_tensor import StoredTensor


def constants(package: Package) -> Iterator[StoredTensor]:
    """Yield the floating constants of all functions by their names in the program; those that functions share, once."""
    for file in dict.fromkeys(function.file for function in package.manifest.stored_functions):
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


def stored_weights(evaluator: Evaluator, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the numbers of a function's weights by the names that a graph of the source gives them, float16.

    Those that the converter folded into others are left out; of equal ones it stores the first.

    Args:
        evaluator: Of the function.
        weights: The source's, by these names.
    """
    stored = {plain(one.name): one.values for one in _of_function(evaluator, "") if one.values.dtype == np.float16}
    found: dict[str, Tensor] = {}
    palettes: dict[bytes, NDArray[Any]] = {}
    for name, weight in weights.items():
        array = stored.get(f"p_{name}".replace(".", "_").lower())
        if weight.numel() > LEAST_NUMBERS:
            digest = half_digest(weight.detach().numpy().ravel())
            array = palettes.setdefault(digest, array) if array is not None else palettes.get(digest)
        if array is not None and array.size == weight.numel():
            found[name] = torch.from_numpy(np.array(array))
    return found


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


def without_rounding(program: Program) -> Program:
    """Return a program in which what is quantised and restored at once is left as it is."""
    return replace(program, functions={name: _whole(one) for name, one in program.functions.items()})


def _whole(function: Function) -> Function:
    quantised = {one.outputs[0].name: one for one in function.operations if one.type == "quantize"}
    restored: dict[str, str | Constant] = {}
    kept = []
    for operation in function.operations:
        inputs = {
            key: tuple(restored.get(value, value) if isinstance(value, str) else value for value in values)
            for key, values in operation.inputs.items()
        }
        before = quantised.get(str(operation.inputs["input"][0])) if operation.type == "dequantize" else None
        if before is None:
            kept.append(replace(operation, inputs=inputs))
        else:
            (value,) = before.inputs["input"]
            restored[operation.outputs[0].name] = restored.get(value, value) if isinstance(value, str) else value
    return replace(function, operations=tuple(kept))


def state_faults(package: Package) -> list[str]:
    """Return in what any function's use of states is not what the manifest says."""
    programs = {one.file: Program.load(package.folder / one.file) for one in package.manifest.stored_functions}
    return [
        fault
        for one in package.manifest.stored_functions
        for fault in _faults_of(programs[one.file].function(one.name), one, package.manifest.held)
    ]


def _faults_of(function: Function, spec: FunctionSpec, held: tuple[str, ...]) -> list[str]:
    expected = _declared(spec, held)
    declared = [(state.name, str(state.type)) for state in function.states]
    faults = [] if declared == expected else [f"{function.name} declares {declared}, and not {expected}"]
    uses = [
        (operation.type, str(operation.inputs["input"][0]))
        for operation in function.operations
        if operation.type in ("read_state", "write_state")
    ]
    written = Counter(name for kind, name in uses if kind == "write_state")
    wanted = {name for name in held if NEW + name in {one.name for one in spec.outputs}}
    faults += [f"{function.name} writes {name}" for name in sorted(written.keys() - wanted)]
    faults += [f"{function.name} does not write {name}" for name in sorted(wanted - written.keys())]
    faults += [f"{function.name} writes {name} {count} times" for name, count in written.items() if count > 1]
    kinds = [kind for kind, _ in uses]
    if kinds != sorted(kinds):  # reads come first in the alphabet too
        faults.append(f"{function.name} reads a state after it wrote one")
    return faults


def _declared(spec: FunctionSpec, held: tuple[str, ...]) -> list[tuple[str, str]]:
    taken = {one.name.removeprefix(NEW): one for one in (*spec.outputs, *spec.inputs)}
    return [(name, f"{taken[name].dtype} {'x'.join(map(str, taken[name].shape))}") for name in held if name in taken]
