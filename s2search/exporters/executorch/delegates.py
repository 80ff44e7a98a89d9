"""What ExecuTorch can hand a graph to: what each delegate needs to export, where it runs, and how it takes a graph.

Exporting needs no device of the vendor's: Core ML's delegate exports on Linux, QNN's where Qualcomm's SDK is. Running
does: on Linux only XNNPACK's runs.
"""

from __future__ import annotations

import abc
import os
import platform
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_CHIP = "SM8650"  # Snapdragon 8 Gen 3


class Delegate(abc.ABC):
    """Takes the operators that it knows out of a graph; ExecuTorch's portable kernels compute the rest."""

    name: ClassVar[str]
    #: ExecuTorch's name of it.
    backend: ClassVar[str]
    #: Where its programs run.
    devices: ClassVar[str]

    def why_not(self) -> str | None:
        """Return in one line why this machine cannot export for it, and the remedy; None where it can."""
        return None

    def why_not_run(self) -> str | None:
        """Return in one line why its programs do not run here, and where they do; None where they do."""
        from s2search.mil.library import quiet_coremltools

        with quiet_coremltools():
            from executorch.runtime import Runtime as Library

            available = Library.get().backend_registry.is_available(self.backend)
        if available:
            return None
        return f"the delegate {self.name!r} does not run on {platform.system()}; take the package to {self.devices}"

    @abc.abstractmethod
    def lowered(self, function: str, program: ExportedProgram) -> ExportedProgram:
        """Return one method in ExecuTorch's edge dialect, with what the delegate takes in its hands."""


class Xnnpack(Delegate):
    """Google's kernels for processors, float32."""

    name: ClassVar[str] = "xnnpack"
    backend: ClassVar[str] = "XnnpackBackend"
    devices: ClassVar[str] = "any machine whose executorch has it"

    @override
    def lowered(self, function: str, program: ExportedProgram) -> ExportedProgram:
        from s2search.exporters.executorch.program import xnnpack_lowered

        return xnnpack_lowered(program)


class CoreMLDelegate(Delegate):
    """Apple's Core ML inside ExecuTorch, float32: GPU and processor. float16 would overflow the sums of LCHA."""

    name: ClassVar[str] = "coreml"
    backend: ClassVar[str] = "CoreMLBackend"
    devices: ClassVar[str] = "an Apple device"

    @override
    def lowered(self, function: str, program: ExportedProgram) -> ExportedProgram:
        from s2search.mil.library import load_coremltools, quiet_coremltools

        coremltools = load_coremltools()
        with quiet_coremltools():
            from executorch.backends.apple.coreml.compiler import CoreMLBackend
            from executorch.backends.apple.coreml.partition import CoreMLPartitioner
            from executorch.exir import to_edge_transform_and_lower

            specs = CoreMLBackend.generate_compile_specs(
                minimum_deployment_target=coremltools.target.iOS18,
                compute_precision=coremltools.precision.FLOAT32,
            )
            partitioner = CoreMLPartitioner(compile_specs=specs)
            manager = to_edge_transform_and_lower({function: program}, partitioner=[partitioner])
        lowered: ExportedProgram = manager.exported_program(function)
        return lowered


class Qnn(Delegate):
    """Qualcomm's Hexagon processor, float16. Written against executorch 1.4.1's interface, and not run yet."""

    name: ClassVar[str] = "qnn"
    backend: ClassVar[str] = "QnnBackend"
    devices: ClassVar[str] = "a Snapdragon device"

    @override
    def why_not(self) -> str | None:
        if not os.environ.get("QNN_SDK_ROOT"):
            return "the delegate 'qnn' needs Qualcomm's AI Engine Direct SDK; install it and set QNN_SDK_ROOT"
        return None

    @override
    def lowered(self, function: str, program: ExportedProgram) -> ExportedProgram:
        from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset
        from executorch.backends.qualcomm.utils.utils import (
            generate_htp_compiler_spec,
            generate_qnn_executorch_compiler_spec,
            to_edge_transform_and_lower_to_qnn,
        )

        specs = generate_qnn_executorch_compiler_spec(
            soc_model=QcomChipset[_CHIP], backend_options=generate_htp_compiler_spec(use_fp16=True)
        )
        assert program.example_inputs is not None
        manager = to_edge_transform_and_lower_to_qnn(
            {function: program.module()}, {function: program.example_inputs[0]}, {function: specs}
        )
        lowered: ExportedProgram = manager.exported_program(function)
        return lowered


DELEGATES: dict[str, Delegate] = {one.name: one for one in (Xnnpack(), CoreMLDelegate(), Qnn())}


def placement(graph: Any) -> Counter[str]:
    """Count the operators of a lowered graph inside XNNPACK's partitions, and those left to ExecuTorch's kernels."""
    found: Counter[str] = Counter()
    for node in graph.graph.nodes:
        if node.op == "call_function" and "call_delegate" in str(node.target):
            inside = getattr(graph, node.args[0].target).original_module.graph.nodes
            found["xnnpack"] += sum(other.op == "call_function" for other in inside)
        elif node.op == "call_function" and "getitem" not in str(node.target):
            found["portable"] += 1
    return found
