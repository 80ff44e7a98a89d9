"""executorch: the constants of a program, read from its file, and values inside its methods, given by the runtime."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from typing_extensions import override

from s2search.errors import CheckError
from s2search.exporters.package import Package
from s2search.mil.library import quiet
from s2search.verification.expected import Expected
from s2search.verification.inspectors.base import Inspector, Placed
from s2search.verification.inspectors.executorch_program import PteMethod, PteProgram
from s2search.verification.inspectors.stored_tensor import StoredTensor
from s2search.verification.inspectors.unnamed import UnnamedOperation, UnnamedTaps
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
            try:
                program = PteProgram.load(package.folder / file)
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

    def __init__(self, opened: Opened, function: FunctionName) -> None:
        super().__init__(opened, function)
        self._loaded: tuple[list[str], Any] | None = None
        file = opened.package.manifest.function(function).file
        methods = opened.kept.setdefault("methods", {})
        try:
            if function not in methods:
                methods[function] = PteProgram.load(opened.package.folder / file).method(function)
            self._method: PteMethod = methods[function]
        except (CannotRunError, CheckError):
            raise
        except Exception as error:  # what a damaged flatbuffer leads its reader to
            raise CheckError(f"{function!r} in {file!r} cannot be read: {error}", path=file) from error

    @property
    @override
    def operations(self) -> Sequence[UnnamedOperation]:
        return self._method.operations

    @property
    @override
    def shapes(self) -> Mapping[str, Sequence[int]]:
        return self._method.shapes

    @override
    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        wanted = sorted(names & self._method.shapes.keys())
        spec = self._opened.package.manifest.function(self._function)
        try:
            if self._loaded is None or self._loaded[0] != wanted:
                self._loaded = (wanted, self._load(wanted))
            outputs = self._loaded[1].execute([torch.from_numpy(inputs[one.name]) for one in spec.inputs])
        except Exception as error:  # errors of runtimes share no base
            raise CheckError(f"ExecuTorch fails with more outputs: {error}", function=self._function) from error
        taken = outputs[len(outputs) - len(wanted) :]
        return {name: tensor.numpy().copy() for name, tensor in zip(wanted, taken, strict=True)}

    def _load(self, names: list[str]) -> Any:
        with quiet():
            from executorch.runtime import Runtime as Library

        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._method.write(folder / "model.pte", names)
        return Library.get().load_program(folder / "model.pte").load_method(self._function)
