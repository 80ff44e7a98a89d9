"""adb: an Android phone on a cable, through the benchmark binary of ExecuTorch or of LiteRT.

The binary is the user's to build or download (ExecuTorch: executor_runner for arm64-v8a, as devtools' own
benchmark_android.sh builds it; LiteRT: benchmark_model, TensorFlow Lite's or LiteRT 2's). On a GPU or an NPU only
LiteRT runs, and only what it proves to be there whole (`delegation.py`). Tests replace the phone by transcripts; no
number of it was measured here.

Source of the options: benchmark_litert_model.h of google-ai-edge/LiteRT (`use_gpu`, `use_npu`, `use_cpu`,
`require_full_delegation`, `dispatch_library_path`, `compiler_plugin_library_path`), and how litert-cli 0.2.1 calls it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping
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
from s2search.measurement.delegation import Unit, check_whole, delegated
from s2search.measurement.litert import WARM_UPS, last_line, litert_ms, tflite
from s2search.tables.row import ROLES, Role

_FOLDER = "/data/local/tmp/s2search"
_UNIT_OPTIONS: Mapping[Unit, str] = {
    "cpu": "",
    "gpu": " --use_gpu=true --use_cpu=false --require_full_delegation=true",
    "npu": " --use_npu=true --use_cpu=false --require_full_delegation=true"
    f" --dispatch_library_path={_FOLDER}/libraries --compiler_plugin_library_path={_FOLDER}/libraries",
}
_WATCHED_CALLS = 50
_COUNTERS = ("Pss", "VmHWM")
#: Runs a command, and prints what the kernel says of its memory until it ends, and how it ended.
_WATCH = (
    "{command} >/dev/null 2>&1 & p=$!; while kill -0 $p 2>/dev/null; do "
    "cat /proc/$p/smaps_rollup /proc/$p/status 2>/dev/null | grep -E '^(Pss|VmHWM):'; sleep 0.1; done; "
    "wait $p; echo ended with $?"
)


@dataclass(frozen=True, kw_only=True)
class Adb(Profiler):
    """Times programs on an Android phone: float32 on its CPU, and what LiteRT makes of them on its GPU or NPU.

    Attributes:
        tool: `executorch` exports every item itself and runs it by executor_runner; `litert` runs .tflite files that
            were converted elsewhere (litert-torch needs an environment of its own).
        runner: The benchmark binary for the phone, on this machine.
        models: For `litert`: the folder of .tflite files, named by `model_name`.
        unit: For `litert`: where every operation must run; `gpu` and `npu` compute in float16, LiteRT's default.
        libraries: For `npu`: the folder of the vendor's libraries, LiteRT's dispatch library and compiler plugin among
            them; all of it is pushed.
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
    unit: Unit = "cpu"
    libraries: str = ""
    serial: str = ""
    threads: int = 1

    def __post_init__(self) -> None:
        if self.unit != "cpu" and self.tool != "litert":
            raise InputError(
                f"executor_runner times XNNPACK on the CPU, not the {self.unit.upper()}",
                remedy=f"give adb[tool=litert,unit={self.unit}]",
            )

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
        if self.unit == "npu" and not (self.libraries and any(Path(self.libraries).glob("libLiteRtDispatch*.so"))):
            return f"no libLiteRtDispatch*.so is in {self.libraries!r}; give adb[unit=npu,libraries=FOLDER]"
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
            runtime="ExecuTorch XNNPACK" if self.tool == "executorch" else f"LiteRT {self.unit.upper()}",
            runtime_version=f"runner {_digest(read_regular(self.runner))}",
            threads=self.threads if self.unit == "cpu" else None,
            power_mode="not stated",
            precision="float32" if self.unit == "cpu" else "float16",
            compute_unit=self.unit,
        )

    @contextmanager
    @override
    def session(self) -> Iterator[None]:
        phone = self.transport()
        phone.run("shell", f"mkdir -p {_FOLDER}")
        phone.run("push", self.runner, f"{_FOLDER}/runner")
        phone.run("shell", f"chmod 755 {_FOLDER}/runner")
        if self.unit == "npu":
            phone.run("push", f"{self.libraries}/.", f"{_FOLDER}/libraries")
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
            content = read_regular(tflite(Path(profiler.models), item))
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
            return self._litert_ms(repetitions)
        self._phone.run("logcat", "-c")
        printed = self._phone.run("shell", self._executorch_command(WARM_UPS + repetitions))
        log = self._phone.run("logcat", "-d", "-s", "ExecuTorch:I")  # where it logs on Android; else on its streams
        return executorch_ms(log if "Iteration " in log else printed, WARM_UPS + repetitions)

    @override
    def memory(self) -> Memory:
        from s2search.block import Precision

        precision = "float32" if self._profiler.unit == "cpu" else "float16"
        peak_bytes = self._item.part.peak_bytes(self._item.shape, Precision.named(precision))
        return Memory(weight_bytes=self._weight_bytes, state_bytes=self._state_bytes, peak_bytes=peak_bytes)

    def _litert_ms(self, calls: int) -> float:
        """Time a process of benchmark_model, if it proves that every operation ran on the unit."""
        unit = self._profiler.unit
        if unit == "cpu":
            return litert_ms(self._phone.run("shell", self._litert_command(calls)))
        self._phone.run("logcat", "-c")
        printed = self._phone.run("shell", self._litert_command(calls), check=False)
        # Where its lines go is the build's: to the terminal, or to Android's log alone.
        here = " with delegate (" in printed
        log = printed if here else printed + self._phone.run("logcat", "-d", "-s", "tflite:V", "litert:V")
        check_whole(delegated(log, unit), unit, self._item.key)
        return litert_ms(printed)

    @override
    def unit_work(self) -> Mapping[str, float]:
        return {self._profiler.unit: 1.0}  # of another, only a whole delegation passes

    @override
    def resident(self) -> Resident | None:
        """Look at the tool's process, again and again while it works; it is a process of its own, its code included."""
        calls = WARM_UPS + _WATCHED_CALLS
        command = self._litert_command(calls) if self._profiler.tool == "litert" else self._executorch_command(calls)
        return resident_of(self._phone.run("shell", _WATCH.format(command=command)))

    def _executorch_command(self, calls: int) -> str:
        flags = f"--model_path={self._model} --num_executions={calls} --print_output=none"
        return f"{_FOLDER}/runner {flags} --cpu_threads={self._profiler.threads} --inputs={','.join(self._inputs)}"

    def _litert_command(self, calls: int) -> str:
        runs = f"--num_runs={calls} --min_secs=0 --warmup_runs={WARM_UPS} --warmup_min_secs=0"
        threads = f"--num_threads={self._profiler.threads}{_UNIT_OPTIONS[self._profiler.unit]}"
        paths = f"LD_LIBRARY_PATH={_FOLDER}/libraries ADSP_LIBRARY_PATH={_FOLDER}/libraries "
        before = paths if self._profiler.unit == "npu" else ""
        return f"{before}{_FOLDER}/runner --graph={self._model} {threads} {runs}"

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
            f"the tool ended otherwise than well while its memory was watched: {last_line(printed)}",
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
            f"executor_runner timed {len(found)} of {calls} calls: {last_line(printed)}",
            remedy="build the runner with logging (EXECUTORCH_ENABLE_LOGGING=ON) from the release that exported",
        )
    counted = [float(ms) for _, _, ms in found[WARM_UPS:]]
    return sum(counted) / len(counted)


def _properties(printed: str) -> dict[str, str]:
    return dict(re.findall(r"^\[([^\]]+)\]: \[([^\]]*)\]", printed, re.M))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
