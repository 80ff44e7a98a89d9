"""A program of ExecuTorch as its file says it: the constants, and the operations of every method, XNNPACK's as well.

A .pte is a flatbuffer (executorch's `program.fbs`) with segments behind it. A method is a list of calls: of kernels,
and of delegates, each of which is a graph of its own in a segment (`schema.fbs` of XNNPACK, behind a header). What
XNNPACK computes with are segments that the program names by the SHA-256 of their bytes as they were written; the
runtime never looks whether that is still so. So a name says which tensor of the source a segment must hold, and the
segment what it does hold. Constants of ExecuTorch's own kernels have no name: each is known by the digest that it has.

Both are flat: XNNPACK keeps kernels of convolutions with their channels last.

Values are called `v12`, by their place in the method, and `d3.17`, by the delegate and their place in its graph.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2search.errors import CheckError, MissingExtraError
from s2search.mil.library import quiet
from s2search.verification.inspectors.flatbuffer import Schema, Tree
from s2search.verification.inspectors.stored_tensor import StoredTensor, digest_of
from s2search.verification.inspectors.unnamed import UnnamedOperation
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

_XNNPACK = "XnnpackBackend"
_FLOAT32 = 6  # executorch's ScalarType, as torch's
_XNN_FLOAT32 = 1
_HEADER_BYTES = 64
_ALIGNMENT = 128  # of segments; tensors need less
_INPUT, _OUTPUT = 1, 2  # XNN_VALUE_FLAG_EXTERNAL_INPUT, XNN_VALUE_FLAG_EXTERNAL_OUTPUT
_NO_PLACE = 2**32 - 1  # XNN_INVALID_VALUE_ID


@dataclass(frozen=True, kw_only=True)
class PteProgram:
    """A file's bytes, where its segments start, and the flatbuffer as executorch's dataclasses."""

    file: str
    data: Bytes
    start: int
    content: Any

    @classmethod
    def load(cls, path: Path) -> PteProgram:
        """Map a file, and read its flatbuffer.

        Raises:
            CannotRunError: executorch is not installed.
            CheckError: It is no program with segments.
        """
        try:
            with quiet():
                from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program
                from executorch.exir._serialize._program import _get_extended_header
        except ImportError as error:
            raise CannotRunError(str(MissingExtraError("executorch"))) from error
        data = np.memmap(path, np.uint8, "r")
        header = _get_extended_header(data[:_HEADER_BYTES].tobytes())
        if header is None or not header.is_valid():
            raise CheckError(f"{path.name!r} of the package has no segments", path=path.name)
        content = _flatbuffer_to_program(data[: header.program_size].tobytes())
        return cls(file=path.name, data=data, start=header.segment_base_offset, content=content)

    def named(self, file: str) -> Iterator[StoredTensor]:
        """Yield the segments that have names."""
        self._check_delegates()
        for entry in self.content.named_data:
            segment = self.content.segments[entry.segment_index]
            yield StoredTensor(file=file, name=entry.key, values=self._floats(segment.offset, segment.size // 4))

    def plain(self, file: str) -> Iterator[StoredTensor]:
        """Yield the constants of methods; those that methods share, once."""
        seen = set[tuple[int, int]]()
        for tensor in (value.val for plan in self.content.execution_plan for value in plan.values):
            if not is_constant(tensor) or tensor.scalar_type != _FLOAT32:
                continue
            key = (tensor.data_buffer_idx, count_of(tensor.sizes))
            if key not in seen:
                seen.add(key)
                floats = self.constant(tensor)
                yield StoredTensor(file=file, name=digest_of(floats), values=floats)

    def constant(self, tensor: Any) -> NDArray[np.float32]:
        """Return the numbers of a constant of a method."""
        place = self.content.constant_segment
        offset = self.content.segments[place.segment_index].offset + place.offsets[tensor.data_buffer_idx]
        return self._floats(offset, count_of(tensor.sizes))

    def segment(self, index: int) -> bytes:
        """Return the bytes of a segment."""
        segment = self.content.segments[index]
        return self._bytes(segment.offset, segment.size)

    def method(self, name: str) -> PteMethod:
        """Return a method.

        Raises:
            CheckError: There is none of this name.
        """
        for plan in self.content.execution_plan:
            if plan.name == name:
                return PteMethod(program=self, plan=plan)
        raise CheckError(f"the program has no method {name!r}", path=self.file, function=name)

    def write(self, path: Path, plans: list[Any], graphs: Mapping[tuple[str, int], Tree]) -> None:
        """Write a program with the same segments.

        Args:
            path: Of the new file.
            plans: Its methods; those with other graphs are changed.
            graphs: Other graphs of delegates, by the method and their place among its own.
        """
        from executorch.exir._serialize._flatbuffer_program import _program_to_flatbuffer
        from executorch.exir._serialize._program import _ExtendedHeader, _insert_flatbuffer_header
        from executorch.exir.schema import DataSegment

        content = copy.copy(self.content)
        content.execution_plan, content.segments = plans, list(content.segments)
        by_name, segments = {plan.name: plan for plan in plans}, self.data[self.start :]
        end, added = len(segments), bytearray()
        for (name, place), graph in graphs.items():
            blob = _blob(graph)
            added += bytes(-(end + len(added)) % _ALIGNMENT)
            by_name[name].delegates[place].processed.index = len(content.segments)
            content.segments.append(DataSegment(offset=end + len(added), size=len(blob)))
            added += blob
        with quiet():
            result = _program_to_flatbuffer(content)
        header = -(-_ExtendedHeader.EXPECTED_LENGTH // result.max_alignment) * result.max_alignment
        size = header + len(result.data)
        start = size + -size % _ALIGNMENT
        told = _ExtendedHeader(program_size=size, segment_base_offset=start, segment_data_size=end + len(added))
        data = _insert_flatbuffer_header(result.data, r"ET\w\w", told.to_bytes().ljust(header, b"\0"))
        with path.open("wb") as out:
            out.write(data.ljust(start, b"\0"))
            segments.tofile(out)
            out.write(added)

    def _floats(self, offset: int, count: int) -> NDArray[np.float32]:
        return np.frombuffer(self._bytes(offset, 4 * count), "<f4")

    def _bytes(self, offset: int, size: int) -> bytes:
        begin, end = self.start + offset, self.start + offset + size
        if not self.start <= begin <= end <= len(self.data):
            raise ValueError(f"a constant lies at bytes {begin} to {end} of {len(self.data)}")
        return self.data[begin:end].tobytes()

    def _check_delegates(self) -> None:
        """Raise unless all delegates are XNNPACK's, with their constants in named segments."""
        for delegate in (one for plan in self.content.execution_plan for one in plan.delegates):
            if delegate.id != _XNNPACK:
                raise CannotRunError(f"nothing here reads the weights of the delegate {delegate.id}")
            if _header(self.segment(delegate.processed.index)).constant_data_size:
                raise CannotRunError("a delegate of XNNPACK keeps constants of its own, which nothing here reads")


@dataclass(kw_only=True)
class PteMethod:
    """One method, whose operations can be listed, and whose values can be made outputs.

    Attributes:
        program: Of the file.
        plan: Of executorch's dataclasses.
        graphs: Of its delegates, by their place among them.
        shapes: Of the values that can become outputs, by name.
        operations: In the order in which they run.
    """

    program: PteProgram
    plan: Any
    graphs: dict[int, Tree] = field(init=False, default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(init=False, default_factory=dict)
    operations: tuple[UnnamedOperation, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._made = {*self.plan.inputs}
        self._names: dict[int, str] = {}
        self.operations = tuple(self._operations())

    def write(self, path: Path, names: Collection[str]) -> None:
        """Write a program of this method with values of these names behind its outputs, each in memory of its own."""
        from executorch.exir.schema import AllocationDetails, EValue, Tensor, TensorShapeDynamism

        plan, graphs = copy.deepcopy(self.plan), dict[tuple[str, int], Tree]()
        calls = [one.instr_args for one in plan.chains[0].instructions if hasattr(one.instr_args, "delegate_index")]
        for name in names:
            delegate, _, place = name[1:].rpartition(".")
            end = plan.non_const_buffer_sizes[1] + -plan.non_const_buffer_sizes[1] % _ALIGNMENT
            memory = AllocationDetails(memory_id=1, memory_offset_low=end % 2**32, memory_offset_high=end >> 32)
            plan.non_const_buffer_sizes[1] = end + 4 * count_of(self.shapes[name])
            if not delegate:
                plan.values[int(place)].val.allocation_info = memory
                plan.outputs.append(int(place))
                continue
            key = (plan.name, int(delegate))
            graph = graphs[key] = graphs.get(key) or copy.deepcopy(self.graphs[int(delegate)])
            _, value = graph["xvalues"][int(place)]["xvalue_union"]
            value |= {"external_id": graph["num_externs"], "flags": value["flags"] | _OUTPUT}
            graph["num_externs"] += 1
            graph["output_ids"].append(int(place))
            tensor = Tensor(
                scalar_type=_FLOAT32,
                storage_offset=0,
                sizes=list(self.shapes[name]),
                dim_order=list(range(len(self.shapes[name]))),
                requires_grad=False,
                layout=0,
                data_buffer_idx=0,
                allocation_info=memory,
                shape_dynamism=TensorShapeDynamism.STATIC,
            )
            next(call for call in calls if call.delegate_index == int(delegate)).args.append(len(plan.values))
            plan.outputs.append(len(plan.values))
            plan.values.append(EValue(val=tensor))
        self.program.write(path, [plan], graphs)

    def _operations(self) -> Iterator[UnnamedOperation]:
        for one in (one.instr_args for chain in self.plan.chains for one in chain.instructions):
            if hasattr(one, "delegate_index"):
                yield from self._delegated(one)
            elif hasattr(one, "op_index"):
                operator = self.plan.operators[one.op_index]
                reads, writes = self._split([*self._tensors(one.args)])
                yield UnnamedOperation(kind=f"{operator.name}.{operator.overload}", reads=reads, writes=writes)

    def _delegated(self, call: Any) -> Iterator[UnnamedOperation]:
        delegate = self.plan.delegates[call.delegate_index]
        if delegate.id != _XNNPACK:
            reads, writes = self._split([*self._tensors(call.args)])
            yield UnnamedOperation(kind=delegate.id, reads=reads, writes=writes)
            return
        graph = self.graphs[call.delegate_index] = _graph(self.program.segment(delegate.processed.index))
        names = [self._of_delegate(call, graph, place) for place in range(len(graph["xvalues"]))]
        self._split([*self._tensors(call.args)])
        for node in graph["xnodes"]:
            kind, inner = node["xnode_union"]
            ids = [(key, names[at]) for key, at in inner.items() if key.endswith("_id") and at < len(names)]
            inputs = tuple(name for key, name in ids if not key.startswith("output"))
            outputs = tuple(name for key, name in ids if key.startswith("output"))
            yield UnnamedOperation(kind=kind, reads=inputs, writes=outputs)

    def _of_delegate(self, call: Any, graph: Tree, place: int) -> str:
        """Return what a value of a delegate's graph is called: as the method calls it, where it comes from there."""
        kind, value = graph["xvalues"][place]["xvalue_union"]
        plain = kind == "XNNTensorValue"
        value = value if plain else value["tensor_value"]
        if value["flags"] & (_INPUT | _OUTPUT):
            return self._name(call.args[value["external_id"]])
        if value["constant_buffer_idx"]:
            return str(graph["constant_data"][value["constant_buffer_idx"]]["named_key"])
        name = f"d{call.delegate_index}.{place}"
        if plain and value["datatype"] == _XNN_FLOAT32:
            self.shapes[name] = tuple(value["dims"])
        return name

    def _tensors(self, places: Collection[int]) -> Iterator[int]:
        """Yield the places of tensors, those of lists as well."""
        for place in places:
            value = self.plan.values[place].val
            if hasattr(value, "allocation_info"):
                yield place
            elif type(value).__name__ in ("TensorList", "OptionalTensorList"):
                yield from self._tensors([item for item in value.items if item >= 0])

    def _split(self, places: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what a call reads, and what it writes: every value is written once, by the first call that has it."""
        given = [at for at in places if at in self._made or is_constant(self.plan.values[at].val)]
        new = [at for at in dict.fromkeys(places) if at not in given]
        self._made.update(new)
        for at in new:
            tensor = self.plan.values[at].val
            if tensor.allocation_info is not None and tensor.scalar_type == _FLOAT32:
                self.shapes[self._name(at)] = tuple(tensor.sizes)
        return tuple(map(self._name, given)), tuple(map(self._name, new))

    def _name(self, place: int) -> str:
        """Return the name of a value of the method, or of a constant."""
        if place not in self._names:
            tensor = self.plan.values[place].val
            known = is_constant(tensor) and tensor.scalar_type == _FLOAT32
            self._names[place] = digest_of(self.program.constant(tensor)) if known else f"v{place}"
        return self._names[place]


def is_constant(value: Any) -> bool:
    """Return whether a value of a method is a tensor whose numbers are in the file."""
    return bool(getattr(value, "data_buffer_idx", 0)) and value.allocation_info is None


def count_of(sizes: Collection[int]) -> int:
    """Return how many numbers a tensor has."""
    return int(np.prod([*sizes], dtype=np.int64))


def _header(blob: bytes) -> Any:
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    return XNNHeader.from_bytes(blob[: XNNHeader.EXPECTED_LENGTH])


def _graph(blob: bytes) -> Tree:
    header = _header(blob)
    return _schema().read(blob[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size])


def _blob(graph: Tree) -> bytes:
    """Return a graph of XNNPACK with its header."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    data = _schema().write(graph)
    begin = XNNHeader.EXPECTED_LENGTH + -XNNHeader.EXPECTED_LENGTH % 16
    end = begin + len(data) + -len(data) % 16
    header = XNNHeader(
        flatbuffer_offset=begin, flatbuffer_size=len(data), constant_data_offset=end, constant_data_size=0
    )
    told: bytes = header.to_bytes()
    return told.ljust(begin, b"\0") + data.ljust(end - begin, b"\0")


@functools.cache
def _schema() -> Schema:
    from importlib.resources import files

    text = files("executorch.backends.xnnpack.serialization").joinpath("schema.fbs").read_text(encoding="utf-8")
    return Schema.parsed(text)
