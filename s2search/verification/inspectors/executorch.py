"""executorch: the constants of a program, read from its file: no kernel is loaded, and nothing is run.

A .pte is a flatbuffer (executorch's `program.fbs`) with segments behind it. What XNNPACK computes with are segments
that the program names by the SHA-256 of their bytes as they were written; the runtime never looks whether that is still
so. So a name says which tensor of the source a segment must hold, and the segment what it does hold. Constants of
ExecuTorch's own kernels have no name: each is yielded under the digest that it has, and one that was changed has the
name of no tensor.

Both are flat: XNNPACK keeps kernels of convolutions with their channels last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from s2search.errors import CheckError, MissingExtraError
from s2search.exporters.package import Package
from s2search.mil.library import quiet
from s2search.verification.expected import Expected
from s2search.verification.inspectors.base import Inspector, Placed
from s2search.verification.inspectors.stored_tensor import StoredTensor, digest_of
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from s2search.verification.opened import Opened

    Bytes = NDArray[np.uint8]

_XNNPACK = "XnnpackBackend"
_FLOAT32 = 6  # executorch's ScalarType, as torch's
_HEADER_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class ExecuTorchInspector(Inspector):
    """Looks into programs."""

    table_runtime: ClassVar[str] = "ExecuTorch XNNPACK"
    profiler: ClassVar[str] = "executorch"
    library: ClassVar[str] = "executorch.runtime"
    distributions: ClassVar[tuple[str, ...]] = ("executorch",)

    @override
    def stored_tensors(self, package: Package) -> Iterator[StoredTensor]:
        for file in dict.fromkeys(function.file for function in package.manifest.functions):
            try:
                program = _Program.load(package.folder / file)
                yield from program.named(file)
                yield from program.plain(file)
            except (CannotRunError, CheckError):
                raise
            except Exception as error:  # what a damaged flatbuffer leads its reader to
                raise CheckError(f"{file!r} of the package cannot be read: {error}", path=file) from error

    @override
    def expects(self, source: nn.Module, stored: nn.Module, frames: int) -> Expected:
        return Expected(source, stored, frames, by_content=True, folds=True)

    @override
    def placement(self, opened: Opened) -> Placed:
        facts, prefix = opened.package.manifest.facts, "operations_"
        counts = {key.removeprefix(prefix): int(value) for key, value in facts.items() if key.startswith(prefix)}
        if not counts:
            raise CannotRunError("the exporter did not count where operations went; export it again")
        wanted = str(getattr(opened.exporter, "delegate", "xnnpack"))
        return Placed(wanted=wanted, counts=counts, told_by="as the exporter counted")


@dataclass(frozen=True, kw_only=True)
class _Program:
    """A file's bytes, where its segments start, and the flatbuffer as executorch's dataclasses."""

    data: Bytes
    start: int
    content: Any

    @classmethod
    def load(cls, path: Path) -> _Program:
        """Map a file, and read its flatbuffer."""
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
        return cls(data=data, start=header.segment_base_offset, content=content)

    def named(self, file: str) -> Iterator[StoredTensor]:
        """Yield the segments that have names."""
        self._check_delegates()
        for entry in self.content.named_data:
            segment = self.content.segments[entry.segment_index]
            yield StoredTensor(file=file, name=entry.key, values=self._floats(segment.offset, segment.size // 4))

    def plain(self, file: str) -> Iterator[StoredTensor]:
        """Yield the constants of methods; those that methods share, once."""
        place, seen = self.content.constant_segment, set[tuple[int, int]]()
        values = (value.val for plan in self.content.execution_plan for value in plan.values)
        for tensor in values:
            index = getattr(tensor, "data_buffer_idx", 0)
            if not index or tensor.scalar_type != _FLOAT32 or tensor.allocation_info is not None:
                continue
            count = int(np.prod(tensor.sizes, dtype=np.int64))
            if (index, count) not in seen:
                seen.add((index, count))
                offset = self.content.segments[place.segment_index].offset + place.offsets[index]
                floats = self._floats(offset, count)
                yield StoredTensor(file=file, name=digest_of(floats), values=floats)

    def _floats(self, offset: int, count: int) -> NDArray[np.float32]:
        begin, end = self.start + offset, self.start + offset + 4 * count
        if not self.start <= begin <= end <= len(self.data):
            raise ValueError(f"a constant lies at bytes {begin} to {end} of {len(self.data)}")
        return np.frombuffer(self.data[begin:end].tobytes(), "<f4")

    def _check_delegates(self) -> None:
        """Raise unless all delegates are XNNPACK's, with their constants in named segments."""
        from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

        for delegate in (one for plan in self.content.execution_plan for one in plan.delegates):
            if delegate.id != _XNNPACK:
                raise CannotRunError(f"nothing here reads the weights of the delegate {delegate.id}")
            segment = self.content.segments[delegate.processed.index]
            begin = self.start + segment.offset
            header = XNNHeader.from_bytes(
                self.data[begin : begin + _HEADER_BYTES].tobytes()[: XNNHeader.EXPECTED_LENGTH]
            )
            if header.constant_data_size:
                raise CannotRunError("a delegate of XNNPACK keeps constants of its own, which nothing here reads")
