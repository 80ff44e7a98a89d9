"""A function of a saved Core ML program, to be broken: its operations by type and block, and ways to change them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from s2search.exporters.package import Package, write_manifest
from s2search.mil.program import Program
from s2search.verification.reference import block_of, places

ONE_PACKAGE, SPECIFICATION = "model.mlpackage", "Data/com.apple.CoreML/model.mlmodel"
_WEIGHT = re.compile(r"p_model_(layers_\d+|stem|down|up|head)_")
_NUMBERS = {"f": "floats", "i": "ints", "b": "bools"}


class MilGraph:
    """One function of a specification, changed in place.

    Args:
        function: Of the protobuf.
        numbers: Reads a constant of the function by its name.
    """

    def __init__(self, function: Any, numbers: Callable[[str], Any]) -> None:
        (self.block,) = function.block_specializations.values()
        self._numbers = numbers
        self.constants = {one.outputs[0].name: one for one in self.block.operations if one.type == "const"}
        self.operations = [one for one in self.block.operations if one.type != "const"]
        self.maker = {output.name: one for one in self.operations for output in one.outputs}
        reads = [
            [f"{found[1].replace('_', '.')}.x" for found in map(_WEIGHT.match, names_of(one)) if found]
            for one in self.operations
        ]
        self.blocks = [block_of(place) for place in places(reads)]

    def find(
        self, kind: str, block: str, *, reads: str = "", read_by: str = "", nth: int = 0, where: Any = lambda one: True
    ) -> Any:
        """Return an operation of a type and block that reads, or is read by, one of another type."""
        found = [
            one
            for one, place in zip(self.operations, self.blocks, strict=True)
            if one.type == kind
            and place == block
            and (not reads or any(maker.type == reads for maker in self.makers(one)))
            and (not read_by or any(reader.type == read_by for reader in self.readers(one)))
            and where(one)
        ]
        return found[nth]

    def makers(self, operation: Any) -> list[Any]:
        return [self.maker[name] for name in names_of(operation) if name in self.maker]

    def readers(self, operation: Any) -> list[Any]:
        own = {output.name for output in operation.outputs}
        return [one for one in self.operations if own & set(names_of(one))]

    def bypass(self, operation: Any, key: str) -> None:
        """Let everything that reads an operation read one of its inputs."""
        (old,), new = [output.name for output in operation.outputs], name_of(operation, key)
        assert new in self.maker or new not in self.constants, f"{new} is a constant"
        for one in self.operations:
            for binding in bindings(one):
                if binding.name == old and one is not operation:
                    binding.name = new

    def swap(self, operation: Any, one: str = "x", other: str = "y") -> None:
        """Let two inputs change places."""
        a, b = (operation.inputs[key].arguments[0] for key in (one, other))
        kept = type(a).FromString(a.SerializeToString())
        a.CopyFrom(b)
        b.CopyFrom(kept)

    def read(self, operation: Any, key: str, name: str) -> None:
        """Let an operation read another value."""
        operation.inputs[key].arguments[0].name = name

    def constant(self, operation: Any, key: str) -> Any:
        """Return the numbers, or the text, of an input."""
        argument = operation.inputs[key].arguments[0]
        if argument.WhichOneof("binding") == "name":
            return self._numbers(argument.name)
        tensor = argument.value.immediateValue.tensor
        values = getattr(tensor, tensor.WhichOneof("value")).values
        if isinstance(values, bytes):
            return np.frombuffer(values, np.float16).reshape(self._shape(argument.value))
        return values[0] if isinstance(values[0], str) else np.array(values).reshape(self._shape(argument.value))

    def set(self, operation: Any, key: str, change: Callable[[Any], Any]) -> None:
        """Give an input another constant."""
        argument = operation.inputs[key].arguments[0]
        value = (
            argument.value
            if argument.WhichOneof("binding") == "value"
            else self.constants[argument.name].attributes["val"]
        )
        new = type(value)()
        new.type.CopyFrom(value.type)
        numbers, tensor = change(self.constant(operation, key)), new.immediateValue.tensor
        if isinstance(numbers, str):
            tensor.strings.values.append(numbers)
        elif (array := np.asarray(numbers)).dtype == np.float16 or new.type.tensorType.dataType == 10:
            tensor.bytes.values = array.astype(np.float16).tobytes()
        else:
            getattr(tensor, _NUMBERS[array.dtype.kind]).values.extend(array.ravel().tolist())
        argument.value.CopyFrom(new)

    def multiply(self, operation: Any, key: str, factor: float) -> None:
        """Let an operation read one of its inputs multiplied."""
        name = name_of(operation, key)
        output = next(
            (one for one in self.maker[name].outputs if one.name == name)
            if name in self.maker
            else iter([self.inputs[name]])
        )
        new = type(operation)(type="mul")
        new.outputs.add().CopyFrom(output)
        new.outputs[0].name = f"{name}_times"
        new.inputs["x"].arguments.add().name = name
        kind = output.type.tensorType.dataType
        value = new.inputs["y"].arguments.add().value
        value.type.tensorType.dataType = kind
        if kind == 10:
            value.immediateValue.tensor.bytes.values = np.float16(factor).tobytes()
        else:
            value.immediateValue.tensor.floats.values.append(factor)
        operation.inputs[key].arguments[0].name = f"{name}_times"
        self.operations.insert(self.operations.index(operation), new)

    def put(self) -> None:
        """Write the operations back."""
        kept = [*self.constants.values(), *self.operations]
        copies = [type(one).FromString(one.SerializeToString()) for one in kept]
        del self.block.operations[:]
        self.block.operations.extend(copies)

    def _shape(self, value: Any) -> tuple[int, ...]:
        return tuple(axis.constant.size for axis in value.type.tensorType.dimensions)


def bindings(operation: Any) -> list[Any]:
    arguments = (one for argument in operation.inputs.values() for one in argument.arguments)
    return [one for one in arguments if one.WhichOneof("binding") == "name"]


def names_of(operation: Any) -> list[str]:
    return [one.name for one in bindings(operation)]


def name_of(operation: Any, key: str) -> str:
    return str(operation.inputs[key].arguments[0].name)


def edit_mil(folder: Path, function: str, change: Callable[[MilGraph], None], file: str = ONE_PACKAGE) -> None:
    """Change a function of a package, or of a chain's file, and write the manifest anew, as one who hides it would."""
    from coremltools.proto import Model_pb2

    path = folder / file / SPECIFICATION
    specification = Model_pb2.Model.FromString(path.read_bytes())
    constants = Program.load(folder / file).function(function).constants
    told = specification.mlProgram.functions[function]
    graph = MilGraph(told, lambda name: constants[name].read())
    graph.inputs = {value.name: value for value in told.inputs}
    change(graph)
    graph.put()
    path.write_bytes(specification.SerializeToString())
    write_manifest(folder, Package.load(folder).manifest)
