"""The imitation of coremltools keeps the real one's interface."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest

from s2search.mil.library import load_coremltools

SITE = Path(__file__).with_name("fake_mac") / "site" / "coremltools" / "models"


@pytest.fixture(scope="module")
def real():
    load_coremltools()
    from coremltools.models.ml_program.experimental import perf_utils, remote_device

    return {"perf_utils": perf_utils, "remote_device": remote_device}


def members(source):
    """Return signatures in a source file without importing it: class -> function -> names and defaults."""
    import ast

    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            for function in node.body:
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    found[node.name, function.name] = [argument.arg for argument in function.args.args]
    return found


@pytest.mark.parametrize("module", ["perf_utils", "remote_device"])
def test_functions_take_the_arguments_of_the_real_ones(real, module):
    imitated = members((SITE / "ml_program" / "experimental" / f"{module}.py").read_text())
    compared = 0
    for (name, function), arguments in imitated.items():
        if name in ("Loaded", "_DeviceCtlError"):
            continue
        real_function = getattr(getattr(real[module], name), function)
        assert arguments == list(inspect.signature(real_function).parameters), (name, function)
        compared += 1
    assert compared >= 4


def test_a_model_is_made_from_the_arguments_of_the_real_one(real):
    import coremltools

    imitated = members((SITE / "model.py").read_text())["MLModel", "__init__"]
    assert set(imitated) <= set(inspect.signature(coremltools.models.MLModel.__init__).parameters)


def test_what_the_runner_touches_inside_coremltools_is_there(real):
    """Polling is lengthened, and loaded models are unloaded, through what coremltools does not promise to keep."""
    import coremltools
    from coremltools.models import compute_device
    from coremltools.models.ml_program.experimental import async_wrapper

    assert real["remote_device"]._DeviceCtlRemoteService.__init__.__defaults__ == (0.5, 20)
    assert "_loaded_model" in inspect.getsource(real["perf_utils"].MLModelBenchmarker.__init__)
    assert inspect.iscoroutinefunction(async_wrapper.RemoteMLModelAsyncWrapper.unload)
    for name in ("MLNeuralEngineComputeDevice", "MLGPUComputeDevice", "MLCPUComputeDevice"):
        assert inspect.isclass(getattr(compute_device, name))
    for name in ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL"):
        assert coremltools.ComputeUnit[name]
    usage = importlib.import_module("coremltools.models.compute_plan").MLComputePlanDeviceUsage
    assert "preferred_compute_device" in inspect.get_annotations(usage)


def test_the_real_driver_finds_the_imagined_phone(real, tmp_path, monkeypatch):
    """coremltools' own discovery, through the xcrun that the runner's tests put on PATH."""
    fakes = Path(__file__).with_name("fake_mac")
    monkeypatch.setenv("PATH", f"{fakes / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_MAC", str(tmp_path))
    monkeypatch.setenv("FAKE_PYTHON", sys.executable)
    remote_device = real["remote_device"]
    (device,) = remote_device.Device.get_connected_devices(remote_device.DeviceType.IPHONE)
    assert (device.name, device.os_version, device.developer_mode_state) == ("Test Phone", "26.1", "enabled")
