"""The files of a part's package: ONNX graphs, or one Core ML program of several functions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from s2search import registry
from s2search.errors import InputError
from s2search.exporters.component.modules import CACHE
from s2search.exporters.package import FunctionSpec
from s2search.precision.part import PartPrecision

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from s2search.exporters.base import Exporter

EXPORTERS = ("onnx", "coreml")
#: Options of `coreml` that mean something for a part.
_OPTIONS = ("bits", "palette", "state")
_FILE = "model.mlpackage"

Say = Callable[[str], None]
Programs = Sequence[tuple[FunctionSpec, "ExportedProgram"]]


def part_exporter(text: str) -> Exporter:
    """Return the exporter that writes a part.

    Raises:
        InputError: It writes no parts, or not with these options, or not on this machine.
    """
    name, options = registry.parse(text)
    exporter: Exporter = registry.create("exporters", text)
    if name not in EXPORTERS:
        raise InputError(f"the exporter {name!r} writes no parts", allowed=", ".join(EXPORTERS))
    if unknown := [option for option in options if name == "coreml" and option not in _OPTIONS]:
        raise InputError(
            f"{unknown[0]}={options[unknown[0]]} says nothing of a part",
            allowed="bits=8|6|4, palette=kmeans|uniform, state=core_ml|plain",
            remedy="leave it out",
        )
    if problem := exporter.why_not():
        raise InputError(problem)
    return exporter


def decompositions_for(exporter: Exporter) -> dict[Any, Any]:
    """Return which operators an exporter wants taken apart."""
    from s2search.exporters.graph import decompositions, decompositions_of_attention

    return decompositions() if exporter.name == "coreml" else decompositions_of_attention()


def write_part(
    exporter: Exporter, model: nn.Module, programs: Programs, folder: Path, metadata: Mapping[str, str], say: Say
) -> tuple[dict[str, str], dict[str, str]]:
    """Write the runtime's own files.

    Args:
        exporter: What `part_exporter` returned.
        model: The network of the part.
        programs: The functions.
        folder: Empty; becomes the package.
        metadata: What the files say of themselves.
        say: Called with every step, before it.

    Returns:
        The file of each function, and versions.
    """
    writer = _write_coreml if exporter.name == "coreml" else _write_onnx
    return writer(exporter, model, programs, folder, metadata, say)


def _write_onnx(
    exporter: Any, model: nn.Module, programs: Programs, folder: Path, metadata: Mapping[str, str], say: Say
) -> tuple[dict[str, str], dict[str, str]]:
    from s2search.exporters.onnx import WEIGHTS, StoredWeights, write_graph
    from s2search.mil.library import quiet_coremltools

    with quiet_coremltools(), (folder / WEIGHTS).open("wb") as file:
        weights = StoredWeights(file, folder)
        for spec, program in programs:
            say(f"writing {spec.name}")
            inputs, outputs = [one.name for one in spec.inputs], [one.name for one in spec.outputs]
            write_graph(program, weights, f"{spec.name}.onnx", inputs, outputs, metadata, opset=exporter.opset)
    facts = {name: version(name) for name in ("torch", "onnx", "onnxruntime", "onnxscript")}
    return {spec.name: f"{spec.name}.onnx" for spec, _ in programs}, {"opset": str(exporter.opset), **facts}


def _write_coreml(
    exporter: Any, model: nn.Module, programs: Programs, folder: Path, metadata: Mapping[str, str], say: Say
) -> tuple[dict[str, str], dict[str, str]]:
    import numpy as np

    from s2search.exporters.coreml.compression import compress
    from s2search.exporters.coreml.functions import SharedFunctions
    from s2search.exporters.coreml.half_range import quick_questions
    from s2search.exporters.coreml.state import hold_states
    from s2search.mil.library import load_coremltools, quiet_coremltools

    coremltools = load_coremltools()
    type_of = {"float16": np.float16, "int32": np.int32}
    precision = PartPrecision(weight_bits=exporter.bits)
    matrices = {name: (precision, rows) for name, rows in _matrix_rows(model).items()}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        several = SharedFunctions(Path(temporary))
        for spec, program in programs:
            say(f"converting {spec.name}")
            inputs, outputs = (
                [coremltools.TensorType(name=one.name, dtype=type_of[one.dtype]) for one in tensors]
                for tensors in (spec.inputs, spec.outputs)
            )
            with quiet_coremltools(), quick_questions():
                converted = coremltools.convert(
                    program,
                    inputs=inputs,
                    outputs=outputs,
                    convert_to="mlprogram",
                    minimum_deployment_target=coremltools.target.iOS18,
                    compute_precision=coremltools.precision.FLOAT16,
                    skip_model_load=True,
                )
            package = Path(temporary, f"{spec.name}.mlpackage")
            compress(converted, matrices, exporter.palette).save(str(package))
            several.add(spec.name, package)
        hold_states(several.specification, held_names(exporter, programs))
        several.save(folder / _FILE, default=programs[0][0].name, metadata=dict(metadata))
    facts = {"target": "iOS18", **{name: version(name) for name in ("torch", "coremltools")}}
    return dict.fromkeys((spec.name for spec, _ in programs), _FILE), facts


def held_names(exporter: Any, programs: Programs) -> tuple[str, ...]:
    """Return the caches that the runtime keeps by itself: Core ML's states, unless they shall be passed in and out."""
    if exporter.name != "coreml" or exporter.state == "plain":
        return ()
    inputs = (one.name for spec, _ in programs for one in spec.inputs)
    return tuple(name for name in inputs if name.startswith(CACHE))


def _matrix_rows(model: nn.Module) -> dict[str, int]:
    """Return the modules of a network that have a matrix, a kernel or a table of vectors, and how many rows it has."""
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    return {name: len(module.weight) for name, module in model.named_modules() if isinstance(module, kinds)}
