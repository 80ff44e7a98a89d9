"""What a Mac would be asked for the times of compiling and loading, with an imitation of coremltools' two calls."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from s2search.exporters.coreml.loading import CoreMLLoading, measure_loading
from s2search.mil.library import load_coremltools


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def mac(monkeypatch):
    """Compiling takes 7 s, the first load 5 s and every later one 1 s."""
    clock, loaded, coremltools = Clock(), [], load_coremltools()

    def compile_model(model, destination_path=None):
        assert isinstance(model, str)
        folder = Path(destination_path)
        assert folder.suffix == ".mlmodelc"
        (folder / "weights").mkdir(parents=True)
        (folder / "weights/weight.bin").write_bytes(bytes(100))
        (folder / "model.mil").write_bytes(bytes(20))
        clock.now += 7
        return str(folder)

    class CompiledMLModel:
        def __init__(self, path, compute_units=None, function_name=None):
            assert Path(path).is_dir()
            clock.now += 1 if loaded else 5
            loaded.append((compute_units, function_name))

    monkeypatch.setattr(coremltools.utils, "compile_model", compile_model)
    monkeypatch.setattr(coremltools.models, "CompiledMLModel", CompiledMLModel)
    return SimpleNamespace(clock=clock, loaded=loaded)


def test_compiling_the_first_load_and_a_later_one_are_timed_apart(mac, tmp_path):
    found = measure_loading(tmp_path / "model.mlpackage", "denoise", tmp_path, mac.clock)
    assert found == CoreMLLoading(compile_s=7, first_load_s=5, load_s=1, compiled_bytes=120)
    assert mac.loaded == [(load_coremltools().ComputeUnit.CPU_AND_NE, "denoise")] * 2


def test_the_interface_is_that_of_coremltools():
    import inspect

    coremltools = load_coremltools()
    assert list(inspect.signature(coremltools.utils.compile_model).parameters) == ["model", "destination_path"]
    taken = inspect.signature(coremltools.models.CompiledMLModel.__init__).parameters
    assert [*taken][1:4] == ["path", "compute_units", "function_name"]
    state = coremltools.models.model.MLState
    assert list(inspect.signature(state.read_state).parameters) == ["self", "name"]
    assert list(inspect.signature(state.write_state).parameters) == ["self", "name", "value"]
    assert [*inspect.signature(coremltools.models.MLModel.predict).parameters] == ["self", "data", "state"]
