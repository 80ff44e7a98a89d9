"""Values inside a package's functions, for runtimes that let one look."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from s2search.errors import CheckError
from s2search.exporters.step import FunctionName
from s2search.mil.evaluator import Mode
from s2search.mil.library import quiet
from s2search.mil.watch import KeptValues
from s2search.verification.inspectors.coreml_emulated import EmulatedCoreML
from s2search.verification.inspectors.stored import read_onnx
from s2search.verification.inspectors.stored_tensor import PREFIX
from s2search.verification.opened import CannotRunError, Opened
from s2search.verification.reference import Reference, block_of, places, turns

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram


class Taps(abc.ABC):
    """The inside of one function."""

    @abc.abstractmethod
    def program(self) -> ExportedProgram:
        """Return the source's function as a graph whose values have the same names."""

    @abc.abstractmethod
    def names(self) -> frozenset[str]:
        """Return the names of all values that can be looked at."""

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        """Return the values of these names."""

    def tails(self) -> dict[str, tuple[str, ...]] | None:
        """Return, by block, the names of values among which its output is: what follows the last read of its weights.

        None where the order of values does not tell.
        """
        return None


class OnnxTaps(Taps):
    """A graph with more outputs. Where a runtime would fuse over a value that is looked at, it then does not."""

    def __init__(self, opened: Opened, function: FunctionName) -> None:
        self._opened, self._function = opened, function
        self._folder = opened.package.folder
        self._model = read_onnx(opened.package, opened.package.manifest.function(function).file)
        self._constants = {tensor.name: tensor for tensor in self._model.graph.initializer}

    def program(self) -> ExportedProgram:
        """Return what torch makes ONNX of: it takes more operators apart, and names values anew. See the base class."""
        if self._function not in self._opened.graphs:
            opset = getattr(self._opened.exporter, "opset", None)
            program = self._opened.programs[self._function]
            with quiet():
                made = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=opset, optimize=False)
            assert made is not None
            assert made.exported_program is not None
            self._opened.graphs[self._function] = made.exported_program
        return self._opened.graphs[self._function]

    def names(self) -> frozenset[str]:
        """Return all outputs of nodes, and constants that were computed when the package was made."""
        nodes = (name for node in self._model.graph.node for name in node.output if name)
        return frozenset(nodes) | self._constants.keys()

    def tails(self) -> dict[str, tuple[str, ...]]:
        """Place the nodes by the names of the weights that they read. See the base class."""
        nodes = [node for node in self._model.graph.node if node.output]
        weights = {name: name.removeprefix(PREFIX) for name in self._constants if name.startswith(PREFIX)}
        reads = [[weights[name] for name in node.input if name in weights] for node in nodes]
        return tails([str(node.output[0]) for node in nodes], reads)

    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        """Add the outputs and run. See the base class."""
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
            session = onnxruntime.InferenceSession(
                tapped.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            wanted = {one.name for one in session.get_inputs()}
            given = {name: array for name, array in inputs.items() if name in wanted}
            return constants | dict(zip(computed, session.run(computed or None, given), strict=bool(computed)))
        except Exception as error:  # its errors share no base
            raise CheckError(f"ONNX Runtime fails with more outputs: {error}") from error

    def _constant(self, name: str) -> NDArray[Any]:
        from onnx import numpy_helper

        return numpy_helper.to_array(self._constants[name], base_dir=str(self._folder))


#: Operations that coremltools' passes make anew, and number by themselves: `linear_4` is not the graph's.
_RENUMBERED = ("linear", "transpose", "matmul", "reshape", "concat")


class CoreMLTaps(Taps):
    """The values of a Core ML program in the evaluator. Converters add endings to names, and fuse some values away."""

    def __init__(self, opened: Opened, function: FunctionName) -> None:
        self._opened, self._function = opened, function
        self._runtime = opened.evaluator()
        operations = self._runtime.evaluator(function).function.operations
        named = [one for one in operations if one.type not in _RENUMBERED]
        outputs = [output.name for operation in named for output in operation.outputs]
        self._names = {name.removesuffix("_cast_fp16"): name for name in outputs}

    def program(self) -> ExportedProgram:
        """Return what was converted. See the base class."""
        return self._opened.programs[self._function]

    def names(self) -> frozenset[str]:
        """Return all outputs of operations, without endings. See the base class."""
        return frozenset(self._names)

    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        """Run the function and keep these values. See the base class."""
        return self._kept(self._runtime, inputs, names, None)

    def alone(
        self, inputs: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]], mode: Mode
    ) -> dict[str, NDArray[Any]]:
        """Return values, each computed from the given ones of those before it, in an arithmetic of the evaluator."""
        forced = {self._names[name]: torch.from_numpy(array) for name, array in given.items()}
        return self._kept(self._opened.evaluator(mode), inputs, set(given), forced)

    def _kept(
        self,
        runtime: EmulatedCoreML,
        inputs: Mapping[str, NDArray[Any]],
        names: set[str],
        forced: Mapping[str, torch.Tensor] | None,
    ) -> dict[str, NDArray[Any]]:
        kept = KeptValues(runtime.evaluator(self._function).function, (self._names[name] for name in names))
        runtime.watched(self._function, inputs, [kept], forced)
        return {name: kept.values[self._names[name]].numpy() for name in names}


class TorchTaps(Taps):
    """A saved program of torch, run operation by operation. `denoise` is a part of `advance`."""

    def __init__(self, opened: Opened, function: FunctionName) -> None:
        from s2search.exporters.torch_program import LoadedTorchProgram

        file = opened.package.manifest.function(function).file
        whole = file.partition(".")[0]
        self._opened, self._whole = opened, function if whole == function else whole
        runtime = opened.runtime
        assert isinstance(runtime, LoadedTorchProgram)
        program = runtime.program(file)
        self._reference = Reference(function=function, steps=opened.steps, program=program)

    def program(self) -> ExportedProgram:
        """Return the source's function, or the one that it is a part of. See the base class."""
        return self._opened.programs[self._whole]  # type: ignore[index]

    def names(self) -> frozenset[str]:
        """Return all operations. See the base class."""
        return frozenset(operation.name for operation in self._reference.operations)

    def tails(self) -> dict[str, tuple[str, ...]]:
        """Place the operations by the weights that they read. See the base class."""
        specs = self._reference.program.graph_signature.input_specs
        weights = {spec.arg.name: str(spec.target).removeprefix(PREFIX) for spec in specs if spec.target is not None}
        nodes = [node for node in self._reference.program.graph.nodes if node.op == "call_function"]
        reads = [[weights[x.name] for x in node.all_input_nodes if x.name in weights] for node in nodes]
        return tails([node.name for node in nodes], reads)

    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        """Run the program and keep these values. See the base class."""
        return self._reference.values(inputs, names)


def tails(names: Sequence[str], reads: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the tail of every block, from operations in their order and the weights that each of them reads.

    Of what is no layer, all operations: the stem gives its tokens before it reads the weights of its time embedding.

    >>> tails(["a", "b", "c", "d"], [["stem.patch.weight"], [], ["layers.0.query.weight"], ["layers.0.out.weight"]])
    {'stem': ('a', 'b'), 'layers.0': ('d',)}
    """
    found: dict[str, list[str]] = {}
    blocks = turns([block_of(place) for place in places(reads)])
    for name, block, read in zip(names, blocks, reads, strict=True):
        if read and block.startswith("layers."):
            found[block] = []
        found.setdefault(block, []).append(name)
    return {block: tuple(tail) for block, tail in found.items()}


def open_taps(opened: Opened, function: FunctionName) -> Taps:
    """Return the inside of a function.

    Raises:
        CannotRunError: The runtime runs it as a whole.
    """
    exporter = opened.package.manifest.exporter
    if exporter not in TAPS:
        raise CannotRunError(
            f"packages of {exporter!r} run as a whole: nothing inside can be looked at; it can in: {', '.join(TAPS)}"
        )
    return TAPS[exporter](opened, function)


TAPS: dict[str, Callable[[Opened, FunctionName], Taps]] = {
    "onnx": OnnxTaps,
    "coreml": CoreMLTaps,
    "torch_program": TorchTaps,
}
