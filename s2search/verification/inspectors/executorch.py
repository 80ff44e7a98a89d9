"""executorch: the constants of a program, read from its file, and values inside its methods, given by the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from typing_extensions import override

from s2search.exporters.package import Package
from s2search.mil.library import quiet
from s2search.verification.expected import Expected
from s2search.verification.inspectors.base import Inspector, Placed
from s2search.verification.inspectors.executorch_program import PteMethod, PteProgram
from s2search.verification.inspectors.stored_tensor import StoredTensor
from s2search.verification.inspectors.unnamed import Tapped, UnnamedTaps, legible
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from s2search.exporters.step import FunctionName
    from s2search.verification.opened import Opened


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
            with legible(file):
                program = PteProgram.load(package.folder / file)
                yield from program.named(file)
                yield from program.plain(file)

    @override
    def expects(self, source: nn.Module, stored: nn.Module, frames: int) -> Expected:
        return Expected(source, stored, frames, by_content=True, folds=True)

    @override
    def inside(self, opened: Opened, function: FunctionName) -> ExecuTorchTaps:
        return ExecuTorchTaps(opened, function)

    @override
    def placement(self, opened: Opened) -> Placed:
        facts, prefix = opened.package.manifest.facts, "operations_"
        counts = {key.removeprefix(prefix): int(value) for key, value in facts.items() if key.startswith(prefix)}
        if not counts:
            raise CannotRunError("the exporter did not count where operations went; export it again")
        wanted = str(getattr(opened.exporter, "delegate", "xnnpack"))
        return Placed(wanted=wanted, counts=counts, told_by="as the exporter counted")


class ExecuTorchTaps(UnnamedTaps):
    """A method with more outputs, those of XNNPACK's graphs as well. Where it would fuse over one, it then does not."""

    runtime: ClassVar[str] = "ExecuTorch"
    _read: PteMethod

    @override
    def _read_function(self) -> PteMethod:
        methods: dict[str, PteMethod] = self._opened.kept.setdefault("methods", {})
        if self._function not in methods:
            program = PteProgram.load(self._opened.package.folder / self._file)
            methods[self._function] = program.method(self._function)
        return methods[self._function]

    @override
    def _tap(self, names: list[str], folder: Path) -> Tapped:
        with quiet():
            from executorch.runtime import Runtime as Library

        self._read.write(folder / "model.pte", names)
        method = Library.get().load_program(folder / "model.pte").load_method(self._function)
        inputs = [one.name for one in self._opened.package.manifest.function(self._function).inputs]

        def run(given: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            outputs = method.execute([torch.from_numpy(given[name]) for name in inputs])
            taken = outputs[len(outputs) - len(names) :]
            return {name: tensor.numpy().copy() for name, tensor in zip(names, taken, strict=True)}

        return run
