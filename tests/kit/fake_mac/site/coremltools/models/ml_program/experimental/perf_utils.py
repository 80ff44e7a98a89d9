"""MLModelBenchmarker on an imagined phone.

Faults: `cold` maps a package's name to what goes wrong with it, `placed` to the estimated costs of its operations by
unit (null where the compute plan estimates none).
"""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import world

from coremltools.models import compute_device

from . import remote_device


class MLModelBenchmarker:
    @dataclass(frozen=True)
    class Measurement:
        statistics: Any
        samples: list[float]

    def __init__(self, model, device=None) -> None:
        assert device.session is not None, "the device is not prepared"
        self.model, self.device, self._loaded_model = model, device, None

    async def benchmark_load(self, iterations: int = 1):
        fault = world.faults().get("cold", {}).get(self.model.name)
        if fault == "unplug" and world.count("cold.unplug") <= 2:
            world.unplug()
            raise remote_device._DeviceCtlError("b'The device is not connected'", 1)
        if fault == "compile":
            raise RuntimeError('Error compiling model: "failed to compile: unsupported op".')
        if fault == "timeout":
            await asyncio.sleep(3600)
        if fault == "memory":
            raise remote_device._DeviceCtlError("App terminated due to signal 9.", 1)
        if fault == "once" and world.count("cold.once") == 1:
            raise AttributeError("'NoneType' object has no attribute 'error'")
        self._loaded_model = Loaded()
        return self.Measurement(None, [900.0, *[90.0] * (iterations - 1)])

    async def benchmark_predict(self, inputs: dict[str, Any] | None = None, iterations: int = 1, warmup: bool = False):
        assert self._loaded_model is not None
        for array in inputs.values():
            assert array.size
        return self.Measurement(None, [12.0, *[11.0] * (iterations - 1)])

    async def benchmark_operation_execution(
        self, inputs: dict[str, Any] | None = None, iterations: int = 1, warmup: bool = False
    ):
        planned = world.faults().get("placed", {}).get(self.model.name, {"neural_engine": [0.6, 0.3], "cpu": [0.1]})
        kinds = {
            "neural_engine": ("linear", compute_device.MLNeuralEngineComputeDevice),
            "gpu": ("conv", compute_device.MLGPUComputeDevice),
            "cpu": ("gelu", compute_device.MLCPUComputeDevice),
        }
        found = [
            SimpleNamespace(
                spec=SimpleNamespace(type=kinds[unit][0]),
                compute_device_usage=SimpleNamespace(preferred_compute_device=kinds[unit][1]()),
                measurement=self.Measurement(None, [] if weight is None else [11.0 * weight] * iterations),
            )
            for unit, weights in planned.items()
            for weight in weights
        ]
        constant = SimpleNamespace(
            spec=SimpleNamespace(type="const"), compute_device_usage=None, measurement=self.Measurement(None, [])
        )
        return [*found, constant]


class Loaded:
    async def unload(self):
        world.count("unload")
