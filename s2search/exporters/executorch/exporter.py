"""executorch: a package for ExecuTorch: one program with a method per function, float32, handed to a delegate.

    model.pte

The delegate computes what it takes, by default XNNPACK; ExecuTorch's portable kernels compute the rest. Attention is
written out.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from s2search.errors import InputError, UnknownNameError, missing_extra
from s2search.exporters.base import Exporter, Runtime, Written
from s2search.exporters.executorch.delegates import DELEGATES
from s2search.exporters.package import Package, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from s2search.exporters.step import Steps

_FILE = "model.pte"


@dataclass(frozen=True, kw_only=True)
class ExecuTorchExporter(Exporter):
    """Exports ExecuTorch programs, and runs them in its Python runtime on this machine's processor.

    Attributes:
        delegate: What computes: `xnnpack` here; `coreml` on Apple's devices, `qnn` on Qualcomm's.
    """

    delegate: str = "xnnpack"

    def __post_init__(self) -> None:
        if self.delegate not in DELEGATES:
            raise UnknownNameError("delegate of executorch", self.delegate, sorted(DELEGATES))

    @override
    def why_not(self) -> str | None:
        if missing := missing_extra("executorch", "torch"):
            return str(missing)
        return DELEGATES[self.delegate].why_not()

    @override
    def write(self, steps: Steps, folder: Path, progress: Progress) -> Written:
        from s2search.exporters.executorch.delegates import placement
        from s2search.exporters.executorch.graph import decompositions_for_executorch, with_views
        from s2search.exporters.executorch.program import joined, share_constants
        from s2search.exporters.functions import trace_functions
        from s2search.mil.library import quiet

        delegate, further = DELEGATES[self.delegate], 2 * len(steps.functions)
        traced = trace_functions(steps, decompositions_for_executorch(), progress, further=further)
        begun = len({function == "first" for function in traced})
        lowered: dict[str, ExportedProgram] = {}
        with quiet(), _collected_often():
            from executorch.exir.passes.constant_prop_pass import constant_prop_pass

            for done, function in enumerate(tuple(traced)):
                progress(begun + done, begun + further, f"delegating {function} to {self.delegate}")
                program = constant_prop_pass(with_views(traced.pop(function)))
                lowered[function] = delegate.lowered(function, program)
                share_constants(lowered.values())
            placed = sum((placement(program.graph_module) for program in lowered.values()), Counter[str]())
            progress(begun + len(lowered), begun + further, f"writing {_FILE}")
            with (folder / _FILE).open("wb") as file:
                joined(lowered).write_to_file(file)
        progress(begun + further, begun + further, "")
        facts = {name: version(name) for name in ("torch", "executorch")}
        for place, count in sorted(placed.items()):
            facts[f"operations_{self.delegate if place == 'xnnpack' else place}"] = str(count)
        return Written(files=dict.fromkeys(steps.functions, _FILE), facts=facts)

    @override
    def open(self, package: Package) -> Runtime:
        if problem := self.why_not():
            raise InputError(problem)
        if problem := DELEGATES[self.delegate].why_not_run():
            raise InputError(problem)
        return LoadedExecuTorch(package)


@contextmanager
def _collected_often() -> Iterator[None]:
    """Have Python look for garbage the sooner, however much else is loaded.

    Lowering leaves graphs that refer to themselves and hold weights. Python looks through all objects only once a
    quarter of them are new: what is there before is not counted here.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class LoadedExecuTorch(Runtime):
    """A loaded program; each method is loaded when it is first called."""

    def __init__(self, package: Package) -> None:
        from s2search.mil.library import quiet

        with quiet():
            from executorch.runtime import Runtime as Library

        self._package = package
        path = package.only_file()
        try:
            self._program = Library.get().load_program(path)
        except RuntimeError as error:
            problem = str(error).splitlines()[0]
            raise InputError(f"ExecuTorch cannot load {str(path)!r}: {problem}", remedy="export it again") from error
        self._methods: dict[str, Any] = {}

    @override
    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import torch

        spec = self._package.manifest.function(function)
        if function not in self._methods:
            self._methods[function] = self._program.load_method(function)
        outputs = self._methods[function].execute([torch.from_numpy(inputs[one.name]) for one in spec.inputs])
        return {one.name: tensor.numpy().copy() for one, tensor in zip(spec.outputs, outputs, strict=True)}
