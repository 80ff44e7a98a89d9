"""Placement and cold samples, by coremltools' driver of a connected phone.

What its source says, and what follows here. Every prediction is a round trip of files, so its times are cold ones. A
time per operation is a prediction's time divided by the compute plan, so only the plan is kept. It polls for ten
seconds, which a first compilation on a phone may exceed, so it is given longer. A loaded model is never unloaded, so it
is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from .apple import Apple, Phone, ToolError, UnpluggedError
from .journal import Journal

_UNITS = {
    "cpu_and_neural_engine": "CPU_AND_NE",
    "cpu_and_gpu": "CPU_AND_GPU",
    "cpu_only": "CPU_ONLY",
    "all": "ALL",
}
_DEVICES = {
    "MLNeuralEngineComputeDevice": "neural_engine",
    "MLGPUComputeDevice": "gpu",
    "MLCPUComputeDevice": "cpu",
}
_POLL_S = 0.5
_ATTEMPTS = 2


def measure_cold(kit: Path, manifest: dict[str, Any], journal: Journal, apple: Apple, phone: Phone, team: str) -> None:
    """Measure every row that has neither a result nor a failure yet."""
    asyncio.run(_Driver(kit, manifest, journal, apple, phone, team).measure())


class _Driver:
    def __init__(
        self, kit: Path, manifest: dict[str, Any], journal: Journal, apple: Apple, phone: Phone, team: str
    ) -> None:
        self._kit, self._manifest, self._journal, self._team = kit, manifest, journal, team
        self._apple, self._phone = apple, phone
        self._timeout_s = manifest["protocol"]["timeout_s"]
        self._prepared: Any = None

    async def measure(self) -> None:
        packages = {package["digest"]: package for package in self._manifest["packages"]}
        rows = self._manifest["rows"]
        for row in rows:
            settled = self._journal.rows("placement") | self._journal.rows("failed")
            while row["id"] not in settled:
                print(f"placement and cold samples: row {row['id'] + 1} of {len(rows)}", flush=True)
                await self._attempt(row, packages[row["package"]])
                settled = self._journal.rows("placement") | self._journal.rows("failed")

    async def _attempt(self, row: dict[str, Any], package: dict[str, Any]) -> None:
        """Try a row once; note what came of it. A row that fails twice while the phone is there has failed."""
        self._journal.append({"kind": "attempt", "row": row["id"]})
        try:
            await self._row(row, package)
        except UnpluggedError:
            raise
        except Exception as error:  # whatever coremltools raises must not end the campaign
            self._prepared = None
            if not self._apple.is_connected(self._phone):
                raise UnpluggedError from None
            stage, reason = _verdict(error)
            attempts = sum(line["row"] == row["id"] for line in self._journal.of("attempt"))
            if reason == "does_not_compile" or attempts >= _ATTEMPTS:
                message = " ".join(str(error).split())[:300] or type(error).__name__
                self._journal.append(
                    {"kind": "failed", "row": row["id"], "stage": stage, "reason": reason, "message": message}
                )

    async def _row(self, row: dict[str, Any], package: dict[str, Any]) -> None:
        import numpy

        coremltools, MLModelBenchmarker = _libraries()
        device = await self._device()
        model = coremltools.models.MLModel(
            str(self._kit / package["path"]),
            compute_units=coremltools.ComputeUnit[_UNITS[row["compute_unit"]]],
            function_name=package.get("function"),
            skip_model_load=True,
        )
        benchmarker = MLModelBenchmarker(model, device)
        rng = numpy.random.default_rng(0)
        inputs = {
            one["name"]: rng.uniform(one["low"], one["high"], one["shape"]).astype(one["dtype"])
            for one in package["inputs"]
        }
        protocol = self._manifest["protocol"]
        try:
            load = await self._within("load", benchmarker.benchmark_load(protocol["cold_loads"]))
            predict = await self._within(
                "predict", benchmarker.benchmark_predict(inputs, protocol["cold_predictions"], warmup=False)
            )
            plan = await self._within("placement", benchmarker.benchmark_operation_execution(inputs, 1, warmup=False))
        finally:
            await _unload(benchmarker)
        self._journal.append(
            {"kind": "cold", "row": row["id"], "load_ms": list(load.samples), "predict_ms": list(predict.samples)}
        )
        self._journal.append({"kind": "placement", "row": row["id"], **_placement(plan)})

    async def _within(self, stage: str, work: Any) -> Any:
        try:
            return await asyncio.wait_for(work, self._timeout_s)
        except TimeoutError as error:
            raise ToolError(stage, f"took longer than {self._timeout_s} s", timed_out=True) from error
        except ToolError:
            raise
        except Exception as error:
            raise _StageError(stage, error) from error

    async def _device(self) -> Any:
        """Return the phone with Apple's runner app launched on it."""
        if self._prepared is None:
            from coremltools.models.ml_program.experimental import remote_device

            _be_patient(remote_device, self._timeout_s)
            connected = remote_device.Device.get_connected_devices(remote_device.DeviceType.IPHONE)
            device = next((one for one in connected if one.udid == self._phone.udid), None)
            if device is None:
                raise UnpluggedError
            folder = self._kit / "build" / "modelrunner"
            folder.mkdir(parents=True, exist_ok=True)
            credentials = remote_device.AppSigningCredentials(
                development_team=self._team,
                bundle_identifier=f"org.s2search.modelrunner.{self._team.lower()}",
            )
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
                self._prepared = await device.prepare_for_model_debugging(credentials, folder)
        return self._prepared


class _StageError(Exception):
    """What coremltools raised, and at what."""

    def __init__(self, stage: str, error: Exception) -> None:
        self.stage, self.error = stage, error
        super().__init__(f"{type(error).__name__}: {error}")


def _libraries() -> tuple[Any, Any]:
    """Import coremltools; a Ctrl-C waits for the end of it, as coremltools would take it for a missing library."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        import coremltools
        from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            signal.raise_signal(signal.SIGINT)
    return coremltools, MLModelBenchmarker


def _verdict(error: Exception) -> tuple[str, str]:
    """Return the stage and the reason of a failure, for a `failed` line."""
    if isinstance(error, ToolError):
        return error.stage if error.stage in ("load", "predict", "placement") else "load", (
            "timeout" if error.timed_out else "error"
        )
    stage = getattr(error, "stage", "load")
    said = str(error).lower()
    if stage == "load" and ("compil" in said and ("error" in said or "fail" in said)):
        return "compile", "does_not_compile"
    if any(word in said for word in ("memory", "jetsam", "signal 9", "terminated due to")):
        return stage, "out_of_memory"
    return stage, "error"


def _placement(plan: Any) -> dict[str, Any]:
    """Count operations by the device that Core ML prefers for them, and share out the plan's estimated cost.

    An operation's time is one prediction's times its estimated cost, so that shares of times are shares of cost. It has
    none where the plan estimates no cost.
    """
    preferred = [
        (operation.spec.type, _device_name(operation.compute_device_usage.preferred_compute_device), operation)
        for operation in plan
        if operation.compute_device_usage is not None
    ]
    counts = Counter(device for _, device, _ in preferred)
    most = counts.most_common(1)[0][0] if counts else ""
    devices = [device for _, device, _ in preferred]
    cost = dict.fromkeys(counts, 0.0)
    for _, device, operation in preferred:
        cost[device] += sum(operation.measurement.samples)
    total = sum(cost.values())
    return {
        "operations": dict(counts),
        "elsewhere": dict(Counter(kind for kind, device, _ in preferred if device != most)),
        "changes": sum(one != other for one, other in zip(devices, devices[1:])),  # noqa: B905, RUF007
        "cost": {device: round(part / total, 6) for device, part in cost.items()} if total > 0 else {},
    }


def _device_name(device: Any) -> str:
    return next((name for kind, name in _DEVICES.items() if kind in type(device).__name__), "unknown")


def _be_patient(remote_device: Any, timeout_s: float) -> None:
    """Let coremltools poll for `timeout_s` seconds rather than ten."""
    service = remote_device._DeviceCtlRemoteService.__init__
    if service.__defaults__ and len(service.__defaults__) == 2:
        service.__defaults__ = (_POLL_S, max(20, int(timeout_s / _POLL_S)))


async def _unload(benchmarker: Any) -> None:
    loaded = getattr(benchmarker, "_loaded_model", None)
    if loaded is not None:
        with contextlib.suppress(Exception):  # the phone may be gone, and then nothing is loaded
            await loaded.unload()
