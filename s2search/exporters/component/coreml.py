"""Components as one Core ML program of several functions, float16 or palettes, with the cache as states of Core ML."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from typing_extensions import override

from s2search.errors import InputError
from s2search.exporters.component.base import ComponentFiles, ComponentWriter, Programs, Say
from s2search.exporters.component.functions import CACHE
from s2search.exporters.coreml.compression import compress
from s2search.exporters.coreml.conversion import convert_program
from s2search.exporters.coreml.functions import SharedFunctions
from s2search.exporters.coreml.operators import decompositions_for_coreml
from s2search.exporters.coreml.state import hold_states
from s2search.precision.part import PartPrecision

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from s2search.exporters.coreml.exporter import CoreMLExporter
    from s2search.exporters.package import FunctionSpec

_FILE = "model.mlpackage"
#: Options of the exporter that mean something here.
_OPTIONS = ("bits", "palette", "state")


class CoreMLComponents(ComponentWriter):
    """Writes programs.

    Args:
        exporter: Its bits, palette and keeper of states are the component's.

    Raises:
        InputError: It has other options.
    """

    def __init__(self, exporter: CoreMLExporter) -> None:
        for option in dataclasses.fields(exporter):
            value = getattr(exporter, option.name)
            if option.name not in _OPTIONS and value != option.default:
                raise InputError(
                    f"{option.name}={value} says nothing of a text encoder or a decoder",
                    allowed="bits=8|6|4, palette=kmeans|uniform, state=core_ml|plain",
                    remedy="leave it out",
                )
        self._exporter = exporter

    @override
    def decompositions(self) -> dict[Any, Any]:
        return decompositions_for_coreml()

    @override
    def held(self, programs: Programs) -> tuple[str, ...]:
        if self._exporter.state == "plain":
            return ()
        inputs = (one.name for spec, _ in programs for one in spec.inputs)
        return tuple(name for name in inputs if name.startswith(CACHE))

    @override
    def write(
        self, model: nn.Module, programs: Programs, folder: Path, metadata: Mapping[str, str], say: Say
    ) -> ComponentFiles:
        precision = PartPrecision(weight_bits=self._exporter.bits)
        matrices = {name: (precision, rows) for name, rows in _matrix_rows(model).items()}
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            several = SharedFunctions(Path(temporary))
            for spec, program in programs:
                say(f"converting {spec.name}")
                package = Path(temporary, f"{spec.name}.mlpackage")
                compress(_converted(spec, program), matrices, self._exporter.palette).save(str(package))
                several.add(spec.name, package)
            hold_states(several.specification, self.held(programs))
            several.save(folder / _FILE, default=programs[0][0].name, metadata=dict(metadata))
        facts = {"target": "iOS18", **{name: version(name) for name in ("torch", "coremltools")}}
        return ComponentFiles(files=dict.fromkeys((spec.name for spec, _ in programs), _FILE), facts=facts)


def _converted(spec: FunctionSpec, program: ExportedProgram) -> Any:
    """Return a function as a program of its own, all of it float16 but for whole numbers."""
    inputs, outputs = ({one.name: one.dtype for one in tensors} for tensors in (spec.inputs, spec.outputs))
    return convert_program(program, inputs=inputs, outputs=outputs)


def _matrix_rows(model: nn.Module) -> dict[str, int]:
    """Return the modules of a network that have a matrix, a kernel or a table of vectors, and how many rows it has."""
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    return {name: len(module.weight) for name, module in model.named_modules() if isinstance(module, kinds)}
