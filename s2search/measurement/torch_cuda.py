"""torch_cuda: torch on an NVIDIA GPU, replayed as CUDA graphs."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.measurement.base import Device, Item, Measure, Memory, Prepared, Profiler
from s2search.tables.row import ROLES, Role

if TYPE_CHECKING:
    import torch

    from s2search.measurement.torch_call import TorchCall

_CALLS_BEFORE_CAPTURE = 3
_MOST_GRAPHS = 1000


@dataclass(frozen=True, kw_only=True)
class TorchCuda(Profiler):
    """Times torch on the current CUDA device.

    Attributes:
        dtype: Of weights and activations.
        graph: Capture every item once as a CUDA graph and replay it, so that launching its kernels costs no time.
        compile: Compile every item with torch.compile (one whole graph, static shapes, default mode).
    """

    method: ClassVar[str] = (
        "CUDA events around each sample; peak: the allocator's maximum over one eager call, with its rounding and the "
        "kernels' workspace"
    )

    measures: ClassVar[tuple[Measure, ...]] = ("latency", "peak_memory")

    dtype: Literal["float32", "float16", "bfloat16"] = "bfloat16"
    graph: bool = True
    compile: bool = False

    @override
    def why_not(self) -> str | None:
        if missing := missing_extra("torch"):
            return str(missing)
        import torch

        if torch.version.cuda is None:
            return f"torch {torch.__version__} has no CUDA; install a CUDA build, on a machine with an NVIDIA GPU"
        if not torch.cuda.is_available():
            return "torch sees no CUDA device; it needs a machine with an NVIDIA GPU and its driver"
        return None

    @override
    def roles(self) -> tuple[Role, ...]:
        return ROLES

    @override
    def device(self) -> Device:
        import torch

        runtime = " ".join(["torch CUDA"] + ["graphs"] * self.graph + ["compiled"] * self.compile)
        return Device(
            device=f"{platform.system()} {platform.machine()} with one GPU",
            chip=torch.cuda.get_device_name(),
            os=f"{platform.system()} {platform.release()}",
            runtime=runtime,
            runtime_version=f"{torch.__version__}, CUDA {torch.version.cuda}",
            threads=None,
            power_mode="not stated",
            precision=self.dtype,
            compute_unit="gpu",
        )

    @contextmanager
    @override
    def session(self) -> Iterator[None]:
        import torch
        import torch._dynamo  # its limit of 8 graphs per function is less than a campaign has blocks

        try:
            with torch._dynamo.config.patch(recompile_limit=_MOST_GRAPHS):
                yield
        finally:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    @override
    def prepare(self, item: Item) -> Prepared:
        import torch

        from s2search.measurement.torch_call import torch_call

        try:
            return self.prepare_call(torch_call(item, *self.place()))
        except torch.OutOfMemoryError:
            raise InputError(
                f"{item.key} does not fit the memory of {torch.cuda.get_device_name()} beside the other items",
                remedy="leave the candidate out, or shorten the clip",
                item=item,
            ) from None

    def place(self) -> tuple[torch.device, torch.dtype]:
        """Return where calls happen, and in which type."""
        import torch

        return torch.device("cuda", torch.cuda.current_device()), getattr(torch, self.dtype)

    def prepare_call(self, call: TorchCall) -> Prepared:
        """Compile and capture a call as configured, ready to be timed."""
        return _OnGpu(call, self._launch(call))

    @override
    def time_pair_ms(self, first: Prepared, second: Prepared, repetitions: int) -> float:
        assert isinstance(first, _OnGpu)
        assert isinstance(second, _OnGpu)
        return _timed([first.launch, second.launch], repetitions)

    def _launch(self, call: TorchCall) -> Callable[[], Any]:
        """Return what launches one call as configured."""
        import torch

        run: Callable[[], Any] = call
        if self.compile:
            module = torch.compile(call.module, fullgraph=True, dynamic=False)
            run = lambda: module(*call.arguments.values())  # noqa: E731
        return _captured(run) if self.graph else run


class _OnGpu(Prepared):
    def __init__(self, call: TorchCall, launch: Callable[[], Any]) -> None:
        self._call, self.launch = call, launch

    def time_ms(self, repetitions: int) -> float:
        return _timed([self.launch], repetitions)

    def memory(self) -> Memory:
        import torch

        with torch.inference_mode():
            self._call()  # libraries allocate what they keep at their first call
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self._call()
            torch.cuda.synchronize()
            peak_bytes = torch.cuda.max_memory_allocated() - before + sum(x.nbytes for x in self._call.inputs)
        return Memory(weight_bytes=self._call.weight_bytes, state_bytes=self._call.state_bytes, peak_bytes=peak_bytes)


def _timed(launches: Sequence[Callable[[], Any]], repetitions: int) -> float:
    """Launch all in turn, `repetitions` times; return the milliseconds of one turn."""
    import torch

    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    with torch.inference_mode():
        torch.cuda.synchronize()
        start.record()
        for _ in range(repetitions):
            for launch in launches:
                launch()
        end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / repetitions


def _captured(run: Callable[[], Any]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of one call."""
    import torch

    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(_CALLS_BEFORE_CAPTURE):
            run()
    torch.cuda.current_stream().wait_stream(side)
    with torch.inference_mode(), torch.cuda.graph(graph):
        run()
    return graph.replay
