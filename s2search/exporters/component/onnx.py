"""Components as ONNX graphs, a file each, which share one file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from typing_extensions import override

from s2search.exporters.component.base import ComponentFiles, ComponentWriter, Programs, Say
from s2search.exporters.graph import decompositions_of_attention
from s2search.exporters.onnx_graph import WEIGHTS, StoredWeights, onnx_graph, write_graph
from s2search.mil.library import quiet_coremltools

if TYPE_CHECKING:
    from s2search.exporters.onnx import OnnxExporter


class OnnxComponents(ComponentWriter):
    """Writes graphs of the exporter's opset."""

    def __init__(self, exporter: OnnxExporter) -> None:
        self._exporter = exporter

    @override
    def decompositions(self) -> dict[Any, Any]:
        return decompositions_of_attention()

    @override
    def write(
        self, model: nn.Module, programs: Programs, folder: Path, metadata: Mapping[str, str], say: Say
    ) -> ComponentFiles:
        opset = self._exporter.opset
        with quiet_coremltools(), (folder / WEIGHTS).open("wb") as file:
            weights = StoredWeights(file, folder)
            for spec, program in programs:
                say(f"writing {spec.name}")
                inputs, outputs = [one.name for one in spec.inputs], [one.name for one in spec.outputs]
                graph = onnx_graph(program, opset=opset)
                write_graph(graph, weights, f"{spec.name}.onnx", inputs, outputs, metadata)
        facts = {name: version(name) for name in ("torch", "onnx", "onnxruntime", "onnxscript")}
        return ComponentFiles(
            files={spec.name: f"{spec.name}.onnx" for spec, _ in programs}, facts={"opset": str(opset), **facts}
        )
