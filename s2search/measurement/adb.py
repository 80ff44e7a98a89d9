"""adb: an Android phone on a cable, through the benchmark binary of ExecuTorch or of LiteRT.

The binary is the user's to build or download (ExecuTorch: executor_runner for arm64-v8a, as devtools' own
benchmark_android.sh builds it; LiteRT: android_aarch64_benchmark_model). Tests replace the phone by recorded
transcripts; no number of it was measured here.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from typing_extensions import override

from s2search.border.regular_file import read_regular
from s2search.errors import InputError, missing_extra
from s2search.exporters.counters import PSS_AND_HWM
from s2search.exporters.resident import Resident
from s2search.measurement.adb_transport import AdbTransport, Transport, devices
from s2search.measurement.base import Device, Item, Measure, Memory, Prepared, Profiler
from s2search.tables.row import ROLES, Role

_FOLDER = "/data/local/tmp/s2search"
_WATCHED_CALLS = 50
_COUNTERS = ("Pss", "VmHWM")
#: Runs a command, and prints what the kernel says of its memory until it ends, and how it ended.
_WATCH = (
    "{command} >/dev/null 2>&1 & p=$!; while kill -0 $p 2>/dev/null; do "
    "cat /proc/$p/smaps_rollup /proc/$p/status 2>/dev/null | grep -E '^(Pss|VmHWM):'; sleep 0.1; done; "
    "wait $p; echo ended with $?"
)
_WARM_UPS = 3  # calls of every process that do not count: each sample is a process of its own


@dataclass(frozen=True, kw_only=True)
class Adb(Profiler):
    """Times float32 programs on the CPU of an Android phone.

    Attributes:
        tool: `executorch` exports every item itself and runs it by executor_runner; `litert` runs .tflite files that
            were converted elsewhere (litert-torch needs an environment of its own).
        runner: The benchmark binary for the phone, on this machine.
        models: For `litert`: the folder of .tflite files, named by `model_name`.
        serial: Which phone, where several are connected.
        threads: CPU threads.
    """

    method: ClassVar[str] = (
        "one process on the phone per sample, its first 3 calls left out, times as the tool's own clock prints them; "
        "weights: bytes of the file; peak: the formula, not measured; memory_*: of the tool, run once more"
    )
    measures: ClassVar[tuple[Measure, ...]] = ("latency", "resident")

    tool: Literal["executorch", "litert"] = "executorch"
    runner: str = ""
    models: str = ""
    serial: str = ""
    threads: int = 1

    def transport(self) -> Transport:
        """Return the way to the phone."""
        return AdbTransport(serial=self.serial)

    @override
    def why_not(self) -> str | None:
        if shutil.which("adb") is None:
            return "adb is not on PATH; install Android's platform-tools, and connect a phone"
        if self.tool == "executorch" and (missing := missing_extra("executorch")):
            return str(missing)
        if not Path(self.runner).is_file():
            what = "executor_runner" if self.tool == "executorch" else "benchmark_model"
            return f"there is no {what} for the phone at {self.runner!r}; build or download it; give adb[runner=PATH]"
        if self.tool == "litert" and not (self.models and Path(self.models).is_dir()):
            return f"there is no folder of .tflite files at {self.models!r}; give adb[tool=litert,models=FOLDER]"
        return devices(self.transport(), self.serial)

    @override
    def roles(self) -> tuple[Role, ...]:
        return ROLES if self.tool == "executorch" else super().roles()

    @override
    def device(self) -> Device:
        said = _properties(self.transport().run("shell", "getprop"))
        name = f"{said.get('ro.product.manufacturer', '')} {said.get('ro.product.model', '')}".strip()
        soc = f"{said.get('ro.soc.manufacturer', '')} {said.get('ro.soc.model', '')}".strip()
        return Device(
            device=name or "not stated",
            chip=soc or said.get("ro.board.platform", "not stated"),
            os=f"Android {said.get('ro.build.version.release', 'not stated')}",
            runtime="ExecuTorch XNNPACK" if self.tool == "executorch" else "LiteRT CPU",
            runtime_version=f"runner {_digest(read_regular(self.runner))}",
            threads=self.threads,
            power_mode="not stated",
            precision="float32",
            compute_unit="cpu",
        )

    @contextmanager
    @override
    def session(self) -> Iterator[None]:
        phone = self.transport()
        phone.run("shell", f"mkdir -p {_FOLDER}")
        phone.run("push", self.runner, f"{_FOLDER}/runner")
        phone.run("shell", f"chmod 755 {_FOLDER}/runner")
        try:
            yield
        finally:
            phone.run("shell", f"rm -rf {_FOLDER}", check=False)

    @override
    def prepare(self, item: Item) -> Prepared:
        return _OnPhone(self, item)

    @override
    def conditions(self) -> Mapping[str, float]:
        said = self.transport().run("shell", "dumpsys battery")
        numbers = {key: float(value) for key, value in re.findall(r"^\s*(level|temperature): (-?\d+)\s*$", said, re.M)}
        told = {"battery_percent": numbers["level"]} if "level" in numbers else {}
        return told | ({"celsius": numbers["temperature"] / 10} if "temperature" in numbers else {})


class _OnPhone(Prepared):
    def __init__(self, profiler: Adb, item: Item) -> None:
        import torch

        from s2search.measurement.tensor_call import TensorCall
        from s2search.measurement.torch_call import torch_call

        self._profiler, self._item, self._phone = profiler, item, profiler.transport()
        call = torch_call(item, torch.device("cpu"), torch.float32)
        self._state_bytes = call.state_bytes
        self._inputs: list[str] = []
        if profiler.tool == "litert":
            content = _tflite(Path(profiler.models), item)
        else:
            from s2search.measurement.executorch import xnnpack_program

            tensors = TensorCall(call)
            content, _ = xnnpack_program(tensors)
            self._inputs = [self._push(tensor.numpy().tobytes(), "bin") for tensor in tensors.inputs]
        self._weight_bytes = len(content)
        self._model = self._push(content, "pte" if profiler.tool == "executorch" else "tflite")

    @override
    def time_ms(self, repetitions: int) -> float:
        if self._profiler.tool == "litert":
            return litert_ms(self._phone.run("shell", self._litert_command(repetitions)))
        self._phone.run("logcat", "-c")
        printed = self._phone.run("shell", self._executorch_command(_WARM_UPS + repetitions))
        log = self._phone.run("logcat", "-d", "-s", "ExecuTorch:I")  # where it logs on Android; else on its streams
        return executorch_ms(log if "Iteration " in log else printed, _WARM_UPS + repetitions)

    @override
    def memory(self) -> Memory:
        from s2search.block import Precision

        peak_bytes = self._item.part.peak_bytes(self._item.shape, Precision.named("float32"))
        return Memory(weight_bytes=self._weight_bytes, state_bytes=self._state_bytes, peak_bytes=peak_bytes)

    @override
    def unit_work(self) -> Mapping[str, float]:
        return {"cpu": 1.0}  # neither tool is given a delegate of another unit

    @override
    def resident(self) -> Resident | None:
        """Look at the tool's process, again and again while it works; it is a process of its own, its code included."""
        calls = _WARM_UPS + _WATCHED_CALLS
        command = self._litert_command(calls) if self._profiler.tool == "litert" else self._executorch_command(calls)
        return resident_of(self._phone.run("shell", _WATCH.format(command=command)))

    def _executorch_command(self, calls: int) -> str:
        flags = f"--model_path={self._model} --num_executions={calls} --print_output=none"
        return f"{_FOLDER}/runner {flags} --cpu_threads={self._profiler.threads} --inputs={','.join(self._inputs)}"

    def _litert_command(self, calls: int) -> str:
        runs = f"--num_runs={calls} --min_secs=0 --warmup_runs={_WARM_UPS} --warmup_min_secs=0"
        return f"{_FOLDER}/runner --graph={self._model} --num_threads={self._profiler.threads} {runs}"

    def _push(self, content: bytes, ending: str) -> str:
        there = f"{_FOLDER}/{_digest(content)}.{ending}"
        with tempfile.NamedTemporaryFile(suffix=f".{ending}") as file:
            file.write(content)
            file.flush()
            self._phone.run("push", file.name, there)
        return there


def resident_of(printed: str) -> Resident | None:
    r"""Return what a process took, from what its watcher printed; None where it was never seen.

    Steady is the median of the second half of looks; the peak is the kernel's own, so that none is missed between two.
    Loading and the first call cannot be told apart from outside.

    >>> look = "Pss:  {} kB\nVmHWM:  {} kB\n"
    >>> resident_of(look.format(10, 20) + look.format(30, 40) + look.format(32, 40) + "ended with 0\n")
    Resident(counter='process pss+vm_hwm', load_bytes=None, first_bytes=None, steady_bytes=31744, peak_bytes=40960)

    Raises:
        InputError: The process did not come to its end.
    """
    if "ended with 0" not in printed:
        raise InputError(
            f"the tool ended otherwise than well while its memory was watched: {_last_line(printed)}",
            remedy="run it by hand on the phone; a larger program may be too large for it",
        )
    pss, peaks = ([1024 * int(kb) for kb in re.findall(rf"^{name}:\s+(\d+) kB", printed, re.M)] for name in _COUNTERS)
    if not peaks:
        return None
    steady = statistics.median(pss[len(pss) // 2 :]) if pss else None
    return Resident(
        counter=f"process {PSS_AND_HWM}",
        steady_bytes=None if steady is None else round(steady),
        peak_bytes=max(peaks),
    )


def executorch_ms(printed: str, calls: int) -> float:
    r"""Return the mean of what executor_runner prints (to logcat, on Android) for each call, without the first ones.

    >>> log = "".join(f"I ExecuTorch: executor_runner.cpp:640] Iteration {n} of 5: {ms} ms\n"
    ...               for n, ms in enumerate([9.0, 8.0, 7.0, 2.5, 3.5], start=1))
    >>> executorch_ms(log, 5)
    3.0
    """
    found = re.findall(r"Iteration (\d+) of (\d+): ([0-9.]+) ms", printed)
    if [(int(number), int(of)) for number, of, _ in found] != [(n, calls) for n in range(1, calls + 1)]:
        raise InputError(
            f"executor_runner timed {len(found)} of {calls} calls: {_last_line(printed)}",
            remedy="build the runner with logging (EXECUTORCH_ENABLE_LOGGING=ON) from the release that exported",
        )
    counted = [float(ms) for _, _, ms in found[_WARM_UPS:]]
    return sum(counted) / len(counted)


def litert_ms(printed: str) -> float:
    """Return the mean time of a call that LiteRT's benchmark_model prints.

    >>> litert_ms("INFO: Inference timings in us: Init: 855, First inference: 490, Warmup (avg): 348, "
    ...           "Inference (avg): 332.1")
    0.3321
    """
    match = re.search(r"Inference timings in us: .*Inference \(avg\): ([0-9.e+]+)", printed)
    if match is None:
        raise InputError(
            f"benchmark_model printed no inference time: {_last_line(printed)}", remedy="run it by hand on the phone"
        )
    return float(match[1]) / 1000


def model_name(item: Item) -> str:
    """Return the file that `tool=litert` looks for.

    >>> from s2search.testing.profilers import miniature_items
    >>> model_name(miniature_items()[-1])
    'clip-head-2x3x3.tflite'
    """
    return re.sub(r"[^a-z0-9_.=]+", "-", item.key) + ".tflite"


def _tflite(folder: Path, item: Item) -> bytes:
    file = folder / model_name(item)
    if not file.is_file():
        raise InputError(f"there is no {str(file)!r} for {item.key}", remedy="convert it with litert-torch")
    return file.read_bytes()


def _properties(printed: str) -> dict[str, str]:
    return dict(re.findall(r"^\[([^\]]+)\]: \[([^\]]*)\]", printed, re.M))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _last_line(printed: str) -> str:
    lines: Sequence[str] = [line for line in printed.splitlines() if line.strip()]
    return repr(lines[-1][:200]) if lines else "it printed nothing"
