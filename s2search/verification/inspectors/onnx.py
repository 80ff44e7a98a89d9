"""onnx: the initialisers of ONNX graphs, their nodes, and the values between them, by ONNX Runtime."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from typing_extensions import override

from s2search.errors import CheckError, MissingExtraError
from s2search.exporters.graph import program_with_outputs
from s2search.exporters.onnx import LoadedOnnx, check_graph, part_of_advance
from s2search.exporters.package import Package
from s2search.mil.library import quiet
from s2search.verification.inspectors.base import Inspector, Placed
from s2search.verification.inspectors.rules import LARGEST_SOFTPLUS, RuleResult, by_rule
from s2search.verification.inspectors.stored_tensor import PREFIX, StoredTensor
from s2search.verification.inspectors.taps import Taps, tails
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from s2search.exporters.base import Runtime
    from s2search.exporters.resident import Resident
    from s2search.exporters.step import FunctionName
    from s2search.measurement.base import Profiler
    from s2search.verification.opened import Opened

_PROCESSOR = "CPUExecutionProvider"


@dataclass(frozen=True, kw_only=True)
class OnnxInspector(Inspector):
    """Looks into graphs; ONNX Runtime gives more outputs where it is asked to."""

    table_runtime: ClassVar[str] = "ONNX Runtime CPU"
    profiler: ClassVar[str] = "onnxruntime"
    library: ClassVar[str] = "onnxruntime"
    distributions: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    @override
    def stored_tensors(self, package: Package) -> Iterator[StoredTensor]:
        import onnx
        from onnx import external_data_helper, numpy_helper

        seen: set[tuple[str, ...]] = set()
        for file in dict.fromkeys(function.file for function in package.manifest.functions):
            for tensor in read_onnx(package, file).graph.initializer:
                if tensor.data_location == onnx.TensorProto.EXTERNAL:
                    place = external_data_helper.ExternalDataInfo(tensor)
                    span = str(place.location), str(place.offset), str(place.length)
                    key = (tensor.name, *span, str(list(tensor.dims)))
                    if key in seen:
                        continue
                    seen.add(key)
                try:
                    values = numpy_helper.to_array(tensor, base_dir=str(package.folder))
                except Exception as error:  # what onnx raises shares no base
                    raise CheckError(f"{tensor.name!r} in {file!r} cannot be read: {error}", path=file) from error
                yield StoredTensor(file=file, name=tensor.name, values=values)

    @override
    def inside(self, opened: Opened, function: FunctionName) -> OnnxTaps:
        return OnnxTaps(opened, function)

    @override
    def operations(self, opened: Opened) -> tuple[RuleResult, ...]:
        return by_rule(_broken_rules(opened))

    @override
    def placement(self, opened: Opened) -> Placed:
        import onnxruntime

        function = opened.functions()[0]
        with tempfile.TemporaryDirectory() as folder:
            options = onnxruntime.SessionOptions()
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "call"))
            options.log_severity_level = 3
            path = opened.package.folder / opened.package.manifest.function(function).file
            inputs = opened.inputs(function)
            try:
                session = onnxruntime.InferenceSession(path, options, providers=[_PROCESSOR])
                session.run(None, inputs)
                events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            except Exception as error:  # its errors share no base
                raise CannotRunError(f"ONNX Runtime cannot profile {function!r}: {error}") from error
        told = ((event["name"], event.get("args") or {}) for event in events)
        nodes = {name: args["provider"] for name, args in told if "provider" in args}
        told_by = f"in {function!r}, as ONNX Runtime's profile says"
        return Placed(wanted=_PROCESSOR, counts=Counter(nodes.values()), told_by=told_by)

    @override
    def resident(self, opened: Opened, functions: Sequence[FunctionName], *, threads: int) -> Resident | None:
        from s2search.exporters.resident import OnnxJob

        manifest, folder = opened.package.manifest, opened.package.folder.resolve()
        for function in functions:
            check_graph(opened.package, manifest.function(function).file)
        graphs = [(folder / manifest.function(name).file, opened.inputs(name)) for name in functions]
        return OnnxJob(graphs=graphs, threads=threads).run()

    @override
    def runtime_of(self, profiler: Profiler, package: Package) -> Runtime:
        return LoadedOnnx(package, threads=getattr(profiler, "threads", 1))


class OnnxTaps(Taps):
    """A graph with more outputs. Where a runtime would fuse over a value that is looked at, it then does not."""

    def __init__(self, opened: Opened, function: FunctionName) -> None:
        self._opened, self._function = opened, function
        self._folder = opened.package.folder
        self._model = read_onnx(opened.package, opened.package.manifest.function(function).file)
        self._constants = {tensor.name: tensor for tensor in self._model.graph.initializer}

    @override
    def program(self) -> ExportedProgram:
        known = {entry.name for entry in self._opened.package.manifest.functions}
        part = part_of_advance(self._function, len(self._opened.steps.outputs("advance")))
        if self._function not in self._opened.graphs:
            if part and "advance" in known:  # it was written as a part of that, and has its names
                made = program_with_outputs(self._converted("advance"), *part)
            else:
                made = self._converted(self._function)
            self._opened.graphs[self._function] = made
        return self._opened.graphs[self._function]

    def _converted(self, function: FunctionName) -> ExportedProgram:
        if function not in self._opened.graphs:
            opset = getattr(self._opened.exporter, "opset", None)
            program = self._opened.programs[function]
            with quiet():
                made = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=opset, optimize=False)
            assert made is not None
            assert made.exported_program is not None
            self._opened.graphs[function] = made.exported_program
        return self._opened.graphs[function]

    def names(self) -> frozenset[str]:
        """Return all outputs of nodes, and constants that were computed when the package was made."""
        nodes = (name for node in self._model.graph.node for name in node.output if name)
        return frozenset(nodes) | self._constants.keys()

    @override
    def tails(self, sizes: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
        nodes = [node for node in self._model.graph.node if node.output]
        weights = {name: name.removeprefix(PREFIX) for name in self._constants if name.startswith(PREFIX)}
        reads = [[weights[name] for name in node.input if name in weights] for node in nodes]
        return tails([str(node.output[0]) for node in nodes], reads)

    @override
    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        import onnx
        import onnxruntime

        computed = sorted(names - self._constants.keys())
        constants = {name: self._constant(name) for name in names & self._constants.keys()}
        tapped = onnx.ModelProto()
        tapped.CopyFrom(self._model)
        there = {output.name for output in tapped.graph.output}
        tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed if name not in there)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self._folder))
        try:
            session = onnxruntime.InferenceSession(tapped.SerializeToString(), options, providers=[_PROCESSOR])
            wanted = {one.name for one in session.get_inputs()}
            given = {name: array for name, array in inputs.items() if name in wanted}
            return constants | dict(zip(computed, session.run(computed or None, given), strict=bool(computed)))
        except Exception as error:  # its errors share no base
            raise CheckError(f"ONNX Runtime fails with more outputs: {error}") from error

    def _constant(self, name: str) -> NDArray[Any]:
        from onnx import numpy_helper

        return numpy_helper.to_array(self._constants[name], base_dir=str(self._folder))


def read_onnx(package: Package, file: str) -> Any:
    """Return a graph of the package as onnx's protobuf, its external tensors not loaded.

    Raises:
        CannotRunError: onnx is not installed.
        CheckError: The file is no graph, or leads out of the package.
    """
    try:
        return check_graph(package, file)
    except ImportError as error:
        raise CannotRunError(str(MissingExtraError("onnx"))) from error


def _broken_rules(opened: Opened) -> Iterator[tuple[str, str]]:
    import onnx

    for function in opened.functions():
        model = read_onnx(opened.package, opened.package.manifest.function(function).file)
        try:
            graph = onnx.shape_inference.infer_shapes(model).graph
        except Exception as error:  # what onnx raises shares no base
            raise CannotRunError(f"onnx cannot tell the shapes in {function!r}: {error}") from error
        ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.output)}
        for node in graph.node:
            rank = max((ranks.get(name, 0) for name in node.output), default=0)
            if rank > 4:
                yield ("rank_above_5" if rank > 5 else "rank_above_4"), f"{node.op_type} in {function}"
        yield from convolutions(graph, function)
        yield from _softplus(opened, function, [node for node in graph.node if node.op_type == "Softplus"])


def convolutions(graph: Any, function: str) -> Iterator[tuple[str, str]]:
    """Yield the convolutions of an ONNX graph that go over three axes: their kernels have five."""
    kernels = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and max(kernels.get(name, 0) for name in node.input) > 4:
            yield "conv_3d", f"Conv in {function}"


def _softplus(opened: Opened, function: FunctionName, nodes: list[Any]) -> Iterator[tuple[str, str]]:
    if nodes:
        values = OnnxTaps(opened, function).run(opened.inputs(function), {node.input[0] for node in nodes})
        for node in nodes:
            if not float(values[node.input[0]].max()) <= LARGEST_SOFTPLUS:
                yield "softplus_above_10", f"Softplus in {function}"
