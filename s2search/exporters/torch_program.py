"""torch_program: a package of torch.export programs, float32: a portable reference that needs torch and nothing else.

    first.pt2 advance.pt2    as torch.export.save writes them, each with its weights

`denoise` and `commit` are outputs of `advance`. `torch.export.load` unpickles example inputs, objects and odd tensors,
and looks operators up by names of Python. A package here holds none of these, and is searched before it is loaded: raw
tensors, ATen operators and plain sizes are accepted, all else is refused.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from s2search.errors import CheckError, InputError
from s2search.exporters.base import Exporter, Runtime, Written
from s2search.exporters.package import Package, Progress

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
_RECORD = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/.*|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt"
)
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.getitem")


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
        import torch

        from s2search.mil.library import quiet

        if file not in self._programs:
            check_archive(self._package.folder / file)
            with quiet():
                self._programs[file] = torch.export.load(self._package.folder / file)
        return self._programs[file]


def check_archive(path: Path) -> None:
    """Raise unless loading a program can run nothing but ATen operators on tensors.

    Raises:
        InputError: It cannot be read.
        CheckError: It names what is refused.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = archive.namelist()[0].partition("/")[0] + "/"
            for info in archive.infolist():
                name = info.filename.removeprefix(root)
                if _RECORD.fullmatch(name) is None or (name.startswith("data/sample_inputs/") and info.file_size):
                    raise _refused(path, f"the record {name!r}")
            for kind in ("weights", "constants"):
                config = json.loads(archive.read(f"{root}data/{kind}/model_{kind}_config.json"))
                for name, entry in config["config"].items():
                    if entry["use_pickle"]:
                        raise _refused(path, f"the pickled tensor {name!r}")
            program = json.loads(archive.read(f"{root}models/model.json"))
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{str(path)!r} is not a program of torch: {problem}", remedy="export it again") from error
    for key, value in _entries(program):
        if key == "target" and not (isinstance(value, str) and _OPERATOR.fullmatch(value)):
            raise _refused(path, f"the operator {str(value)[:60]!r}")
        if key in ("expr_str", "as_expr", "as_graph", "as_custom_obj", "as_operator") and value is not None:
            raise _refused(path, f"the field {key!r}")
        if key in ("range_constraints", "guards_code") and value:
            raise _refused(path, f"the field {key!r}")


def _make_plain(program: ExportedProgram) -> None:
    """Drop what a program does not need: inputs that would be pickled, and guards as Python code."""
    program.example_inputs = None
    program.range_constraints.clear()
    program._guards_code = []


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys of a JSON document with their values."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield from item.items()
            pending += item.values()
        elif isinstance(item, list):
            pending += item


def _refused(path: Path, what: str) -> CheckError:
    return CheckError(
        f"{str(path)!r} holds {what}",
        allowed="raw tensors, ATen operators and fixed sizes: all else may run code when it is loaded",
        remedy="export it again, and do not use this file",
    )
