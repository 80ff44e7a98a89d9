"""torch_cpu: eager torch on this machine's processor."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.measurement.base import Device, Item, Measure, Memory, Prepared, Profiler
from s2search.measurement.host import conditions, pinned, this_processor, why_no_cores
from s2search.tables.row import ROLES, Role

if TYPE_CHECKING:
    import torch

    from s2search.measurement.torch_call import TorchCall


@dataclass(frozen=True, kw_only=True)
class TorchCpu(Profiler):
    """Times eager torch on the processor.

    Ratios between rows hold on this processor and in this runtime only: what is fast here may be slow on a phone.

    Attributes:
        threads: Threads of torch's operators.
        pin: Keep the process on as many cores as it has threads. Worker threads that torch started before the session
            stay where they are, so measure with several threads in a process of its own.
        dtype: Of weights and activations.
    """

    method: ClassVar[str] = (
        "eager calls under inference_mode, perf_counter around each sample; "
        "peak: storages that the operators of one call keep alive, without kernels' own workspace"
    )

    measures: ClassVar[tuple[Measure, ...]] = ("latency", "peak_memory")

    threads: int = 1
    pin: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}", allowed="at least 1", remedy="correct the profiler's option")

    @override
    def why_not(self) -> str | None:
        missing = missing_extra("torch")
        return str(missing) if missing else why_no_cores(self.name, self.threads, pin=self.pin)

    @override
    def roles(self) -> tuple[Role, ...]:
        return ROLES

    @override
    def device(self) -> Device:
        import torch

        return this_processor(
            runtime="torch CPU", version=str(torch.__version__), threads=self.threads, precision=self.dtype
        )

    @contextmanager
    @override
    def session(self) -> Iterator[None]:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with pinned(self.threads if self.pin else None):
                yield
        finally:
            torch.set_num_threads(threads)

    @override
    def prepare(self, item: Item) -> Prepared:
        from s2search.measurement.torch_call import torch_call

        return self.prepare_call(torch_call(item, *self.place()))

    def place(self) -> tuple[torch.device, torch.dtype]:
        """Return where calls happen, and in which type."""
        import torch

        return torch.device("cpu"), getattr(torch, self.dtype)

    def prepare_call(self, call: TorchCall) -> Prepared:
        """Make a call ready to be timed."""
        return _Eager(call)

    @override
    def conditions(self) -> Mapping[str, float]:
        return conditions()


class _Eager(Prepared):
    def __init__(self, call: TorchCall) -> None:
        self._call = call

    def time_ms(self, repetitions: int) -> float:
        import torch

        with torch.inference_mode():
            start = time.perf_counter()
            for _ in range(repetitions):
                self._call()
            return 1000 * (time.perf_counter() - start) / repetitions

    def memory(self) -> Memory:
        import torch

        from s2search.measurement.peak_memory import peak_activation_bytes

        with torch.no_grad():
            peak_bytes = peak_activation_bytes(self._call, self._call.inputs)
        return Memory(weight_bytes=self._call.weight_bytes, state_bytes=self._call.state_bytes, peak_bytes=peak_bytes)
