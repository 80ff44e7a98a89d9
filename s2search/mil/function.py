"""A function of a Core ML program: its operations in their order, its constants, its state.

Every name must be defined before it is used, and once. Every number stays in the file until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast

from s2search.errors import InputError
from s2search.mil.numbers import KINDS, Numbers, TensorType, WeightFile, immediate

_REMEDY = "export the package again"
_MODEL_FOLDER = "@model_path/"
_MOST_NUMBERS = 2**32  # of a tensor: more is a damaged shape
_MOST_AXES = 32
_NO_TENSORS = {"dictionaryType": "dictionary", "listType": "list"}


class _Load(Protocol):
    def __call__(self) -> Numbers | str: ...


def _nothing() -> None:
    """Check nothing: numbers in the protobuf are read with it."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A value's name and type."""

    name: str
    type: TensorType


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant of the program.

    `read()` fetches its numbers, or its text; `in_file`: from weight.bin. `check()` raises an `InputError` where its
    place in that file holds none, or other ones, and reads no numbers.
    """

    type: TensorType
    read: _Load
    in_file: bool
    check: Callable[[], None] = _nothing


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation: its inputs are constants or names of values; loops and conditions have blocks of operations."""

    type: str
    name: str
    inputs: Mapping[str, tuple[str | Constant, ...]]
    outputs: tuple[Named, ...]
    blocks: tuple[OperationBlock, ...] = ()

    @property
    def uses(self) -> tuple[str, ...]:
        """Names of values that it reads, also inside its blocks."""
        own = tuple(value for values in self.inputs.values() for value in values if isinstance(value, str))
        return own + tuple(name for block in self.blocks for name in block.uses)

    def every(self) -> Iterator[Operation]:
        """Yield it and all operations inside its blocks."""
        yield self
        for block in self.blocks:
            for operation in block.operations:
                yield from operation.every()


@dataclass(frozen=True, kw_only=True)
class OperationBlock:
    """What a loop repeats or asks, or a condition does; it sees all values that are defined before it.

    Attributes:
        inputs: What it is given at every turn.
        outputs: Names.
        constants: All that it sees, by name.
        operations: In the order of execution.
    """

    inputs: tuple[Named, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]
    operations: tuple[Operation, ...]

    @property
    def uses(self) -> tuple[str, ...]:
        """Names of values around it that it reads."""
        own = {named.name for named in self.inputs}
        own |= {output.name for operation in self.operations for output in operation.outputs}
        read = [name for operation in self.operations for name in operation.uses]
        return tuple(name for name in (*read, *self.outputs) if name not in own and name not in self.constants)


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of a program.

    Attributes:
        inputs: What a caller gives.
        states: What stays between calls.
        outputs: What it returns; a name is one of an input, a constant or an operation's output.
        constants: By name.
        operations: In the order of execution, constants left out.
    """

    name: str
    inputs: tuple[Named, ...]
    states: tuple[Named, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]
    operations: tuple[Operation, ...]

    def every(self) -> Iterator[Operation]:
        """Yield all operations, with those inside loops and conditions."""
        for operation in self.operations:
            yield from operation.every()


@contextmanager
def as_declared(function: Function) -> Iterator[None]:
    """Say of a function that it is damaged, wherever one who looks at its operations misses what they must have.

    Raises:
        InputError: An operation lacks an input, or has one of another kind or shape than its type has.
    """
    try:
        yield
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        problem = f"{type(error).__name__} {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"the operations of {function.name!r} are not as their types have them: {problem}", remedy=_REMEDY
        ) from error


class FunctionReader:
    """Reads the functions of one package; a weight file is opened once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, dict[Path, WeightFile]()

    def function(self, name: str, function: Any) -> Function:
        """Read a function of the protobuf.

        Raises:
            InputError: It is damaged.
        """
        block = function.block_specializations.get(function.opset)
        if block is None:
            raise InputError(
                f"the function {name!r} has no block for {function.opset!r}",
                allowed=", ".join(function.block_specializations) or "none",
                remedy=_REMEDY,
            )
        states = [value for value in function.inputs if value.type.WhichOneof("type") == "stateType"]
        inputs = [value for value in function.inputs if value not in states]
        known = _Names(value.name for value in function.inputs)
        constants: dict[str, Constant] = {}
        operations = self._operations(block, known, constants)
        known.need(block.outputs, f"an output of {name!r}")
        held = tuple(_named(value.name, value.type.stateType.wrappedType) for value in states)
        _check_reads(operations, {state.name: state.type for state in held})
        return Function(
            name=name,
            inputs=tuple(_named(value.name, value.type) for value in inputs),
            states=held,
            outputs=tuple(block.outputs),
            constants=constants,
            operations=tuple(operations),
        )

    def _operations(self, block: Any, known: _Names, constants: dict[str, Constant]) -> list[Operation]:
        """Read the operations of a block in their order; its names and constants are added to those that it sees."""
        operations = []
        for operation in block.operations:
            if operation.type == "const":
                constants.update([self._constant(operation, known)])
            else:
                operations.append(self._operation(operation, known, constants))
        return operations

    def _block(self, block: Any, where: str, known: _Names, constants: Mapping[str, Constant]) -> OperationBlock:
        inside, seen = known.inside(), dict(constants)
        for value in block.inputs:
            inside.define(value.name)
        operations = self._operations(block, inside, seen)
        inside.need(block.outputs, f"an output of a block of {where!r}")
        return OperationBlock(
            inputs=tuple(_named(value.name, value.type) for value in block.inputs),
            outputs=tuple(block.outputs),
            constants=seen,
            operations=tuple(operations),
        )

    def _constant(self, operation: Any, known: _Names) -> tuple[str, Constant]:
        if len(operation.outputs) != 1 or "val" not in operation.attributes:
            raise InputError("a constant has no value or not one name", remedy=_REMEDY)
        name = operation.outputs[0].name
        known.define(name)
        return name, self._value(operation.attributes["val"], name)

    def _value(self, value: Any, name: str) -> Constant:
        type_ = _any_type(value.type, name)
        if type_.dtype in _NO_TENSORS.values():
            return Constant(type=type_, read=partial(_not_read, name, type_), in_file=False)
        if type_.count is None:
            raise InputError(f"the constant {name!r} has an axis of any size", remedy=_REMEDY)
        if value.WhichOneof("value") == "blobFileValue":
            blob = value.blobFileValue
            if type_.dtype == "string" or not blob.fileName.startswith(_MODEL_FOLDER):
                raise InputError(f"the constant {name!r} is in the file {blob.fileName!r}", remedy=_REMEDY)
            file = self._file(blob.fileName.removeprefix(_MODEL_FOLDER))
            return Constant(
                type=type_,
                read=partial(file.read, blob.offset, type_),
                in_file=True,
                check=partial(file.check, blob.offset, type_),
            )
        if value.WhichOneof("value") != "immediateValue" or value.immediateValue.WhichOneof("value") != "tensor":
            raise InputError(f"the constant {name!r} is no tensor", remedy=_REMEDY)
        return Constant(type=type_, read=partial(immediate, value.immediateValue.tensor, type_), in_file=False)

    def _file(self, name: str) -> WeightFile:
        path = inside(self._folder, self._folder, name)
        if path not in self._files:
            self._files[path] = WeightFile(path)
        return self._files[path]

    def _operation(self, operation: Any, known: _Names, constants: Mapping[str, Constant]) -> Operation:
        name = operation.outputs[0].name if operation.outputs else _name_attribute(operation)
        inputs = {}
        for key, argument in operation.inputs.items():
            values: list[str | Constant] = []
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "value":
                    values.append(self._value(binding.value, f"{key} of {name}"))
                    continue
                known.need([binding.name], f"{key!r} of {name!r}")
                values.append(constants.get(binding.name, binding.name))
            inputs[key] = tuple(values)
        for key, value in operation.attributes.items():  # where the operations of iOS 16 keep compressed weights
            if key != "name" and key not in inputs:
                inputs[key] = (self._value(value, f"{key} of {name}"),)
        blocks = tuple(self._block(block, name, known, constants) for block in operation.blocks)
        for output in operation.outputs:
            known.define(output.name)
        outputs = tuple(_named(output.name, output.type) for output in operation.outputs)
        return Operation(type=operation.type, name=name, inputs=inputs, outputs=outputs, blocks=blocks)


def _check_reads(operations: Iterable[Operation], states: Mapping[str, TensorType]) -> None:
    """Hold every read of a state against the state's type."""
    for operation in operations:
        if operation.type == "read_state":
            read, given = [output.type for output in operation.outputs], [states.get(name) for name in operation.uses]
            if len(read) != 1 or read != given:
                types = ", ".join(map(str, given))
                raise InputError(
                    f"{operation.name!r} reads {', '.join(map(str, read))}", allowed=f"a state: {types}", remedy=_REMEDY
                )


class _Names:
    """The names that are defined so far."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: set[str] = set()
        for name in names:
            self.define(name)

    def inside(self) -> _Names:
        """Return the names that a block sees; those that it defines are its own."""
        return _Names(self._names)

    def define(self, name: str) -> None:
        if not name or name in self._names:
            raise InputError(f"the value {name!r} is defined twice or has no name", remedy=_REMEDY)
        self._names.add(name)

    def need(self, names: Iterable[str], where: str) -> None:
        for name in names:
            if name not in self._names:
                raise InputError(f"the value {name!r}, {where}, is not defined before", remedy=_REMEDY)


def _named(name: str, type_: Any) -> Named:
    return Named(name=name, type=_any_type(type_, name))


def _not_read(name: str, type_: TensorType) -> Numbers:
    raise InputError(f"the constant {name!r} is a {type_}", allowed="tensorType", remedy=_REMEDY)


def _any_type(type_: Any, name: str) -> TensorType:
    """Return a type; what classifiers are told and return is no tensor, and nothing here computes with it."""
    kind = type_.WhichOneof("type")
    return TensorType(dtype=_NO_TENSORS[kind], shape=()) if kind in _NO_TENSORS else _tensor_type(type_, name)


def _tensor_type(type_: Any, name: str) -> TensorType:
    if type_.WhichOneof("type") != "tensorType":
        raise InputError(f"the value {name!r} is of the type {type_.WhichOneof('type')}", allowed="tensorType")
    tensor = type_.tensorType
    dtype = _dtype(tensor.dataType)
    if dtype != "string" and dtype not in KINDS:
        raise InputError(f"the value {name!r} is of numbers of type {dtype}", allowed=", ".join(KINDS), remedy=_REMEDY)
    shape = tuple(
        size.constant.size if size.WhichOneof("dimension") == "constant" else None for size in tensor.dimensions
    )
    read = TensorType(dtype=dtype, shape=shape)
    known = [size for size in shape if size is not None]
    if tensor.rank != len(shape) or len(shape) > _MOST_AXES or any(size > _MOST_NUMBERS for size in known):
        raise InputError(f"the value {name!r} has {tensor.rank} axes of sizes {read}", remedy=_REMEDY)
    if (read.count or 0) > _MOST_NUMBERS:
        raise InputError(f"the value {name!r} has {read.count} numbers", allowed=f"{_MOST_NUMBERS}", remedy=_REMEDY)
    return read


def _dtype(number: int) -> str:
    return _dtypes().get(number, str(number))


@cache
def _dtypes() -> dict[int, str]:
    from coremltools.proto import MIL_pb2

    return {value: cast(str, name).lower() for name, value in MIL_pb2.DataType.items()}


def _name_attribute(operation: Any) -> str:
    """Return the name of an operation without outputs."""
    texts = operation.attributes["name"].immediateValue.tensor.strings.values if "name" in operation.attributes else []
    return str(texts[0]) if texts else str(operation.type)


def inside(package: Path, folder: Path, name: Any) -> Path:
    """Return a file of the package; a link or `..` out of it is refused."""
    if not isinstance(name, str) or "\0" in name or not PurePosixPath(name).name:
        raise InputError(f"the package names the file {str(name)[:200]!r}", remedy=_REMEDY)
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError) as error:
        raise InputError(f"the package names the file {name[:200]!r}: {error}", remedy=_REMEDY) from error
    if not path.is_relative_to(package.resolve()):
        raise InputError(f"the package names the file {name!r} outside itself", remedy=_REMEDY)
    return path
