"""onnxruntime: ONNX Runtime on this machine's processor, or on its NVIDIA GPU."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import platform
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.exporters.resident import OnnxJob, Resident
from s2search.measurement.base import Device, Item, Measure, Memory, Prepared, Profiler
from s2search.measurement.host import conditions, pinned, this_processor, why_no_cores
from s2search.tables.row import ROLES, Role

if TYPE_CHECKING:
    from s2search.measurement.torch_call import TorchCall

_MODULES = ("onnx", "onnxruntime", "onnxscript")
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_UNITS = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "gpu"}  # no session has any other


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime(Profiler):
    """Times ONNX Runtime on graphs that torch exports, in float32.

    Attributes:
        provider: `cpu`, or `cuda` where onnxruntime-gpu is installed; on CUDA inputs and output stay on the GPU.
        threads: Threads inside an operator. They do not spin while they wait, which would shift ratios.
        pin: Keep the process on as many cores as it has threads.
    """

    method: ClassVar[str] = (
        "torch.onnx export (dynamo), all graph optimisations, perf_counter around each sample, inputs bound once; "
        "weights: initialisers of the exported graph; peak: the formula of the block, not measured; "
        "memory_*: of a process of its own that loads the graph and calls it"
    )
    measures: ClassVar[tuple[Measure, ...]] = ("latency", "placement", "resident")

    provider: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    pin: bool = True

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}", allowed="at least 1", remedy="correct the profiler's option")

    @override
    def why_not(self) -> str | None:
        if missing := missing_extra(*_MODULES):
            return str(missing)
        if self.provider == "cuda":
            import onnxruntime

            if _PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
                return "onnxruntime has no CUDA provider; install onnxruntime-gpu, on a machine with an NVIDIA GPU"
            return None
        return why_no_cores(self.name, self.threads, pin=self.pin)

    @override
    def roles(self) -> tuple[Role, ...]:
        return ROLES

    @override
    def device(self) -> Device:
        import onnxruntime

        here = this_processor(
            runtime="ONNX Runtime CPU",
            version=str(onnxruntime.__version__),
            threads=self.threads,
            precision="float32",
        )
        if self.provider == "cpu":
            return here
        return dataclasses.replace(
            here,
            device=f"{platform.system()} {platform.machine()} with one GPU",
            chip=_gpu(),
            runtime="ONNX Runtime CUDA",
            threads=None,
            power_mode="not stated",
            compute_unit="gpu",
        )

    @contextmanager
    @override
    def session(self) -> Iterator[None]:
        with pinned(self.threads if self.pin and self.provider == "cpu" else None):
            yield

    @override
    def prepare(self, item: Item) -> Prepared:
        import torch

        from s2search.measurement.torch_call import torch_call

        return OnnxSession(self, item, torch_call(item, torch.device("cpu"), torch.float32))

    @override
    def conditions(self) -> Mapping[str, float]:
        return conditions()


class OnnxSession(Prepared):
    """A loaded graph with inputs and output bound to memory of its own, so that a call copies nothing."""

    def __init__(self, profiler: OnnxRuntime, item: Item, call: TorchCall) -> None:
        import onnxruntime

        from s2search.measurement.tensor_call import TensorCall

        self._item, self._state_bytes = item, call.state_bytes
        self._model, self.weight_bytes = onnx_model(call)
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads, self._options.inter_op_num_threads = profiler.threads, 1
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options.log_severity_level = 3
        self._options.enable_mem_pattern = False  # as packages are loaded
        self._providers = [_PROVIDERS[profiler.provider]]
        self._session = onnxruntime.InferenceSession(self._model, self._options, providers=self._providers)
        self._unit = "cuda" if profiler.provider == "cuda" else "cpu"
        self._inputs = [tensor.numpy() for tensor in TensorCall(call).inputs]
        self._bound = self._binding(self._session)

    @override
    def time_ms(self, repetitions: int) -> float:
        run, bound = self._session.run_with_iobinding, self._bound
        start = time.perf_counter()
        for _ in range(repetitions):
            run(bound)
        bound.synchronize_outputs()
        return 1000 * (time.perf_counter() - start) / repetitions

    def output(self) -> Any:
        """Return the first output of a call, a NumPy array."""
        self._session.run_with_iobinding(self._bound)
        return self._bound.copy_outputs_to_cpu()[0]

    @override
    def memory(self) -> Memory:
        from s2search.block import Precision

        peak_bytes = self._item.part.peak_bytes(self._item.shape, Precision.named("float32"))
        return Memory(weight_bytes=self.weight_bytes, state_bytes=self._state_bytes, peak_bytes=peak_bytes)

    @override
    def resident(self) -> Resident | None:
        if self._unit != "cpu":
            return None  # a GPU's memory is counted by nobody here
        names = [argument.name for argument in self._session.get_inputs()]
        inputs = dict(zip(names, self._inputs, strict=True))
        return OnnxJob(graphs=[(self._model, inputs)], threads=self._options.intra_op_num_threads).run()

    def placement(self) -> Mapping[str, int]:
        """Count the operators of one call by the provider that ran them, as ONNX Runtime's own profile says."""
        return dict(self._providers_of_operators)

    @override
    def unit_work(self) -> Mapping[str, float]:
        return {_UNITS[provider]: float(operators) for provider, operators in self._providers_of_operators.items()}

    @functools.cached_property
    def _providers_of_operators(self) -> Counter[str]:
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            self._options.enable_profiling = True
            self._options.profile_file_prefix = str(Path(folder, "call"))
            session = onnxruntime.InferenceSession(self._model, self._options, providers=self._providers)
            session.run_with_iobinding(self._binding(session))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            self._options.enable_profiling = False
        nodes = {
            event["name"]: event["args"]["provider"]
            for event in events
            if event.get("cat") == "Node" and "provider" in event.get("args", {})
        }
        return Counter(nodes.values())

    def _binding(self, session: Any) -> Any:
        bound = session.io_binding()
        for argument, array in zip(session.get_inputs(), self._inputs, strict=True):
            bound.bind_cpu_input(argument.name, array)
        for result in session.get_outputs():
            bound.bind_output(result.name, self._unit)
        return bound


def onnx_model(call: TorchCall) -> tuple[bytes, int]:
    """Export a call to ONNX: the serialised model, and the bytes of its weights."""
    import torch

    from s2search.exporters.graph import decompositions_of_attention, exported
    from s2search.measurement.tensor_call import TensorCall

    tensors = TensorCall(call)
    graph = exported(tensors, tensors.inputs, decompositions_of_attention())
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of torchvision, which nothing here needs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own future
            program = torch.onnx.export(graph, dynamo=True, verbose=False)
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    weight_bytes = sum(len(one.raw_data) for one in model.graph.initializer)
    return model.SerializeToString(), weight_bytes


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "not stated"
