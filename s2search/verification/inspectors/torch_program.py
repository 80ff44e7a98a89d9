"""torch_program: the weights of programs of torch, from their raw bytes, and the values between their operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from s2search.errors import CheckError
from s2search.exporters.graph import decompositions
from s2search.exporters.package import Package
from s2search.exporters.torch_archive import TorchArchive, open_archive
from s2search.exporters.torch_program import LoadedTorchProgram
from s2search.verification.inspectors.base import Inspector
from s2search.verification.inspectors.stored_tensor import PREFIX, StoredTensor
from s2search.verification.inspectors.taps import Taps, tails
from s2search.verification.reference import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from s2search.exporters.step import FunctionName
    from s2search.verification.opened import Opened

_FLOAT32 = 7  # of torch's serialised programs


@dataclass(frozen=True, kw_only=True)
class TorchProgramInspector(Inspector):
    """Looks into programs; nothing of their weights is loaded by torch, and nothing unpickled."""

    table_runtime: ClassVar[str] = "torch CPU"
    library: ClassVar[str] = "torch"

    @override
    def stored_tensors(self, package: Package) -> Iterator[StoredTensor]:
        for file in dict.fromkeys(function.file for function in package.manifest.functions):
            with open_archive(package.folder / file) as archive:
                yield from _weights(archive, file)

    @override
    def decompositions(self) -> dict[Any, Any]:
        return decompositions()

    @override
    def inside(self, opened: Opened, function: FunctionName) -> TorchTaps:
        return TorchTaps(opened, function)


def _weights(archive: TorchArchive, file: str) -> Iterator[StoredTensor]:
    for name, stored in archive.weights.items():
        if stored.dtype != _FLOAT32:
            raise CheckError(f"{name!r} in {file!r} is no plain float32 tensor", path=file)
        values = np.frombuffer(archive.read(stored.record), "<f4").reshape(stored.sizes)
        yield StoredTensor(file=file, name=name, values=values)


class TorchTaps(Taps):
    """A saved program of torch, run operation by operation. `denoise` is a part of `advance`."""

    def __init__(self, opened: Opened, function: FunctionName) -> None:
        self._opened, self._function = opened, function
        runtime = opened.runtime
        assert isinstance(runtime, LoadedTorchProgram)
        program = runtime.program(opened.package.manifest.function(function).file)
        whole: FunctionName = "first" if function == "first" else "advance"
        self._reference = Reference(function=whole, steps=opened.steps, program=program)

    @override
    def program(self) -> ExportedProgram:
        return self._opened.programs[self._function]

    @override
    def names(self) -> frozenset[str]:
        return frozenset(operation.name for operation in self._reference.operations)

    @override
    def tails(self, sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
        specs = self._reference.program.graph_signature.input_specs
        weights = {spec.arg.name: str(spec.target).removeprefix(PREFIX) for spec in specs if spec.target is not None}
        nodes = [node for node in self._reference.program.graph.nodes if node.op == "call_function"]
        reads = [[weights[x.name] for x in node.all_input_nodes if x.name in weights] for node in nodes]
        return tails([node.name for node in nodes], reads)

    @override
    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        return self._reference.values(inputs, names)
