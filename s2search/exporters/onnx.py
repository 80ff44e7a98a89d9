"""onnx: a package for ONNX Runtime, float32. Each function is a graph; all of them share one file of weights.

    first.onnx denoise.onnx commit.onnx advance.onnx    graphs, with the model's and the plan's digest as metadata
    weights.bin                                         all weights, one after another (ONNX external data)

Weights keep the names of the model's, under `model.`, and their shapes; only the depthwise convolutions of LCHA are
rewritten (`BandedConv2d`). Small constants are folded, weights are not: what is stored can be compared with the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from s2search.border.regular_file import read_regular
from s2search.errors import CheckError, InputError, missing_extra
from s2search.exporters.base import Exporter, Runtime, Written
from s2search.exporters.onnx_graph import WEIGHTS, StoredWeights, onnx_graph, with_outputs, write_graph
from s2search.exporters.package import Package, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from s2search.exporters.component.base import ComponentWriter
    from s2search.exporters.past import FunctionName
    from s2search.exporters.step import Steps

_MODULES = ("onnx", "onnxruntime", "onnxscript")
_OPSETS = range(18, 24)


@dataclass(frozen=True, kw_only=True)
class OnnxExporter(Exporter):
    """Exports ONNX graphs, and runs them in ONNX Runtime on this machine's processor.

    Attributes:
        opset: Version of ONNX's default operator set.
    """

    opset: int = 20

    def __post_init__(self) -> None:
        if self.opset not in _OPSETS:
            raise InputError(f"opset is {self.opset}", allowed=f"{_OPSETS[0]} to {_OPSETS[-1]}")

    @override
    def why_not(self) -> str | None:
        missing = missing_extra(*_MODULES, "torch")
        return str(missing) if missing else None

    @override
    def write(self, steps: Steps, folder: Path, progress: Progress) -> Written:
        from s2search.exporters.functions import trace_functions
        from s2search.exporters.graph import decompositions_of_attention
        from s2search.mil.library import quiet

        programs = trace_functions(steps, decompositions_of_attention(), progress, further=4)
        with quiet(), (folder / WEIGHTS).open("wb") as file:
            weights = StoredWeights(file, folder)
            for done, (function, graph) in enumerate(self._graphs(steps, programs)):
                progress(2 + done, 2 + len(programs), f"writing {function}")
                config = steps.model.config
                digests = {"s2search.model": config.digest, "s2search.plan": config.plan_digest or "none"}
                names = steps.inputs(function), steps.outputs(function)
                write_graph(graph, weights, f"{function}.onnx", *names, digests)
        progress(6, 6, "")
        facts = {"opset": str(self.opset), **{name: version(name) for name in ("torch", *_MODULES)}}
        return Written(files={function: f"{function}.onnx" for function in programs}, facts=facts)

    def _graphs(
        self, steps: Steps, programs: Mapping[FunctionName, ExportedProgram]
    ) -> Iterator[tuple[FunctionName, Any]]:
        """Yield the functions' graphs; those that read the state are parts of that of `advance`."""
        if "advance" not in programs:
            yield from ((function, onnx_graph(program, opset=self.opset)) for function, program in programs.items())
            return
        advance = onnx_graph(programs["advance"], opset=self.opset)
        for function, program in programs.items():
            if part := part_of_advance(function, len(steps.outputs("advance"))):
                yield function, with_outputs(advance, *part)
            else:
                yield function, advance if function == "advance" else onnx_graph(program, opset=self.opset)

    @override
    def component_writer(self) -> ComponentWriter:
        from s2search.exporters.component.onnx import OnnxComponents

        return OnnxComponents(self)

    @override
    def open(self, package: Package) -> Runtime:
        if problem := self.why_not():
            raise InputError(problem)
        return LoadedOnnx(package)


def part_of_advance(function: str, outputs: int) -> tuple[int, int] | None:
    """Return which outputs of `advance`, the first and how many, a function gives that is a part of it; else None."""
    return {"denoise": (0, 1), "commit": (1, outputs - 1)}.get(function)


class LoadedOnnx(Runtime):
    """ONNX Runtime's sessions, each made when its function is first called; 0 threads: as many as it likes."""

    def __init__(self, package: Package, *, threads: int = 0) -> None:
        self._package, self._threads = package, threads
        self._sessions: dict[str, Any] = {}

    @override
    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        spec = self._package.manifest.function(function)
        if function not in self._sessions:
            self._sessions[function] = self._session(spec.file)
        names = [one.name for one in spec.outputs]
        outputs = self._sessions[function].run(names, {one.name: inputs[one.name] for one in spec.inputs})
        return dict(zip(names, outputs, strict=True))

    def _session(self, file: str) -> Any:
        import onnxruntime

        check_graph(self._package, file)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # else it takes half as much again, and what depends on the order of layers
        path = self._package.folder / file
        try:
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base
            problem = str(error).splitlines()[0]
            raise InputError(f"ONNX Runtime cannot load {str(path)!r}: {problem}", remedy="export it again") from error


def check_graph(package: Package, file: str) -> Any:
    """Return a graph of the package as onnx's protobuf, after a look at what a runtime would open and run with it.

    Raises:
        CheckError: It is no graph, has operators that are not ONNX's own, or weights in a file without a digest.
    """
    import onnx

    try:
        model = onnx.ModelProto.FromString(read_regular(package.folder / file))
    except Exception as error:  # what the protobuf raises shares no base with errors of files
        raise CheckError(f"{file!r} of the package cannot be read: {error}", path=file) from error
    listed, folder = {entry.path for entry in package.manifest.files}, PurePosixPath(file).parent
    for message in _messages(model):
        if isinstance(message, onnx.NodeProto) and message.domain not in ("", "ai.onnx"):
            raise CheckError(
                f"{file!r} of the package has the operator {message.domain}.{message.op_type}",
                allowed="operators of ONNX itself",
                remedy="do not use it",
                path=file,
            )
        if isinstance(message, onnx.TensorProto):
            places = [entry.value for entry in message.external_data if entry.key == "location"]
            if odd := next((place for place in places if str(folder / place) not in listed), None):
                raise CheckError(
                    f"{file!r} of the package has the weight {message.name!r} in {odd!r}",
                    allowed="a file of the package with a digest",
                    remedy="do not use it",
                    path=file,
                )
    return model


def _messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all that it holds."""
    pending = [message]
    while pending:
        one = pending.pop()
        yield one
        for descriptor, value in one.ListFields():
            if descriptor.message_type is not None:
                pending += value if hasattr(value, "add") else [value]
