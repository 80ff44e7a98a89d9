"""executorch: ExecuTorch with its XNNPACK delegate, through its Python runtime, on this machine's processor."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.measurement.base import Device, Item, Measure, Memory, Prepared, Profiler
from s2search.measurement.host import conditions, pinned, this_processor, why_no_cores
from s2search.tables.row import ROLES, Role

if TYPE_CHECKING:
    from s2search.measurement.tensor_call import TensorCall
    from s2search.measurement.torch_call import TorchCall

_BACKEND = "XnnpackBackend"


@dataclass(frozen=True, kw_only=True)
class ExecuTorch(Profiler):
    """Times ExecuTorch programs in float32, delegated to XNNPACK where it takes an operator.

    Attributes:
        threads: Threads of XNNPACK's pool.
        pin: Keep the process on as many cores as it has threads.
    """

    method: ClassVar[str] = (
        "torch.export, constants folded, XNNPACK partitioner, perf_counter around each sample of Method.execute, which "
        "copies its output; depthwise Conv3d as one grouped Conv2d, attention and GELU written out; weights: the .pte "
        "file; peak: the formula of the block, not measured"
    )
    measures: ClassVar[tuple[Measure, ...]] = ("latency", "placement")

    threads: int = 1
    pin: bool = True

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}", allowed="at least 1", remedy="correct the profiler's option")

    @override
    def why_not(self) -> str | None:
        if missing := missing_extra("executorch"):
            return str(missing)
        if not _portable_lib()._is_available(_BACKEND):
            return f"this build of executorch lacks {_BACKEND}; install executorch from its own wheel"
        return why_no_cores(self.name, self.threads, pin=self.pin)

    @override
    def roles(self) -> tuple[Role, ...]:
        return ROLES

    @override
    def device(self) -> Device:
        return this_processor(
            runtime="ExecuTorch XNNPACK", version=version("executorch"), threads=self.threads, precision="float32"
        )

    @contextmanager
    def session(self) -> Iterator[None]:
        """Set the size of XNNPACK's pool and of torch's, which ExecuTorch's wheel also runs on, and pin both.

        With torch's pool left at two threads on one core, both waited for each other's time slices: samples came in
        steps of 4 ms, up to six times too slow.
        """
        import torch

        pool = _portable_lib()
        before, torch_before = pool._threadpool_get_thread_count(), torch.get_num_threads()
        with pinned(self.threads if self.pin else None):
            pool._unsafe_reset_threadpool(self.threads)
            torch.set_num_threads(self.threads)
            try:
                yield
            finally:
                pool._unsafe_reset_threadpool(before)
                torch.set_num_threads(torch_before)

    @override
    def prepare(self, item: Item) -> Prepared:
        import torch

        from s2search.measurement.torch_call import torch_call

        return XnnpackProgram(item, torch_call(item, torch.device("cpu"), torch.float32))

    @override
    def conditions(self) -> Mapping[str, float]:
        return conditions()


class XnnpackProgram(Prepared):
    """A loaded program with its inputs."""

    def __init__(self, item: Item, call: TorchCall) -> None:
        from s2search.measurement.tensor_call import TensorCall
        from s2search.mil.library import quiet

        with quiet():
            from executorch.runtime import Runtime

        self._item, self._state_bytes, tensors = item, call.state_bytes, TensorCall(call)
        self._buffer, self._placement = xnnpack_program(tensors)
        self._program = Runtime.get().load_program(self._buffer)
        method = self._program.load_method("forward")
        assert method is not None
        self._execute, self._inputs = method.execute, list(tensors.inputs)

    @override
    def time_ms(self, repetitions: int) -> float:
        execute, inputs = self._execute, self._inputs
        start = time.perf_counter()
        for _ in range(repetitions):
            execute(inputs)
        return 1000 * (time.perf_counter() - start) / repetitions

    def output(self) -> Any:
        """Return the first output of a call, a NumPy array."""
        return self._execute(self._inputs)[0].numpy()

    @override
    def memory(self) -> Memory:
        from s2search.block import Precision

        peak_bytes = self._item.part.peak_bytes(self._item.shape, Precision.named("float32"))
        return Memory(weight_bytes=len(self._buffer), state_bytes=self._state_bytes, peak_bytes=peak_bytes)

    def placement(self) -> Mapping[str, int]:
        """Count the operators inside XNNPACK's partitions and those left to ExecuTorch's own kernels."""
        return self._placement

    @override
    def unit_work(self) -> Mapping[str, float]:
        return {"cpu": 1.0}  # XNNPACK's kernels and ExecuTorch's own are of the CPU


def xnnpack_program(call: TensorCall) -> tuple[bytes, dict[str, int]]:
    """Lower a call to a .pte: its bytes, and how many operators run where."""
    from s2search.exporters.executorch.delegates import placement
    from s2search.exporters.executorch.graph import decompositions_for_executorch, with_views
    from s2search.exporters.executorch.program import joined, xnnpack_lowered
    from s2search.exporters.graph import banded, exported
    from s2search.mil.library import quiet

    program = with_views(exported(banded(call, call.inputs), call.inputs, decompositions_for_executorch()))
    with quiet():
        from executorch.exir.passes.constant_prop_pass import constant_prop_pass

        lowered = xnnpack_lowered(constant_prop_pass(program))
        return bytes(joined({"forward": lowered}).buffer), dict(placement(lowered.graph_module))


def _portable_lib() -> Any:
    from s2search.mil.library import quiet

    with quiet():
        from executorch.extension.pybindings import portable_lib
    return portable_lib
