"""torch_program: a package of torch.export programs, float32: a portable reference that needs torch and nothing else.

    first.pt2 advance.pt2    as torch.export.save writes them, each with its weights

`denoise` and `commit` are outputs of `advance`. What torch would run as it loads a program is not written, and a
package that holds some of it is refused: see `torch_archive.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from s2search.exporters.base import Exporter, Runtime, Written
from s2search.exporters.package import Package, Progress
from s2search.exporters.torch_archive import open_archive

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from s2search.exporters.step import FunctionName, Steps, StepShape
    from s2search.network.network import S2DiT

_FILE_OF: dict[FunctionName, str] = {
    "first": "first.pt2",
    "denoise": "advance.pt2",
    "commit": "advance.pt2",
    "advance": "advance.pt2",
}


@dataclass(frozen=True, kw_only=True)
class TorchProgramExporter(Exporter):
    """Exports programs of ATen operators, and runs them in torch on the processor."""

    @override
    def why_not(self) -> str | None:
        return None

    @override
    def steps(self, model: S2DiT, shape: StepShape, functions: tuple[FunctionName, ...] | None = None) -> Steps:
        return super().steps(model, shape)

    @override
    def write(self, steps: Steps, folder: Path, progress: Progress) -> Written:
        import torch

        from s2search.exporters.functions import trace_functions
        from s2search.exporters.graph import decompositions
        from s2search.mil.library import quiet

        files = sorted(set(_FILE_OF.values()))
        programs = trace_functions(steps, decompositions(), progress, further=len(files))
        with quiet():
            for done, file in enumerate(files):
                progress(2 + done, 2 + len(files), f"writing {file}")
                program = programs["first" if file == "first.pt2" else "advance"]
                _make_plain(program)
                torch.export.save(program, folder / file)
        progress(2 + len(files), 2 + len(files), "")
        return Written(files=_FILE_OF, facts={"torch": version("torch")})

    @override
    def open(self, package: Package) -> Runtime:
        return LoadedTorchProgram(package)


class LoadedTorchProgram(Runtime):
    """Loaded programs; each is loaded when it is first called."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._programs: dict[str, ExportedProgram] = {}
        self._modules: dict[str, Any] = {}

    @override
    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import torch

        spec = self._package.manifest.function(function)
        if spec.file not in self._modules:
            self._modules[spec.file] = self.program(spec.file).module()
        whole = self._package.manifest.function("advance" if spec.file == "advance.pt2" else function)
        tensors = (torch.from_numpy(inputs[one.name]) for one in spec.inputs)
        with torch.no_grad():
            outputs = self._modules[spec.file](*tensors)
        found = {one.name: tensor.numpy() for one, tensor in zip(whole.outputs, outputs, strict=True)}
        return {one.name: found[one.name] for one in spec.outputs}

    def program(self, file: str) -> ExportedProgram:
        """Return a program of the package, searched and loaded when it is first asked for.

        Raises:
            InputError: It cannot be read.
            CheckError: Loading it might run code.
        """
        from s2search.mil.library import quiet

        if file not in self._programs:
            with quiet(), open_archive(self._package.folder / file) as archive:
                self._programs[file] = archive.load()
        return self._programs[file]


def _make_plain(program: ExportedProgram) -> None:
    """Drop what a program does not need: inputs that would be pickled, and guards as Python code."""
    program.example_inputs = None
    program.range_constraints.clear()
    program._guards_code = []
