"""Recalibration with the runtimes that are installed here."""

from __future__ import annotations

import dataclasses

import pytest

from s2search import registry
from s2search.exporters.package import Package
from s2search.preset import Preset
from s2search.recalibration.packages import PackageBench

TINY = Preset(
    name="one-layer", depth=1, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=3, chunk_frames=1
)
GRID = (2, 2)


@pytest.mark.parametrize(
    ("profiler", "exporter", "module"),
    [("onnxruntime", "onnx", "onnxscript"), ("executorch", "executorch", "executorch")],
)
@pytest.mark.slow
def test_a_package_is_written_once_and_timed(profiler, exporter, module, tmp_path):
    pytest.importorskip(module)
    bench = PackageBench(profiler=registry.create("profilers", profiler), exporter=exporter)
    folder = tmp_path / "package"
    bench.write(["lcha"], TINY, GRID, folder, seed=0)
    written = (folder / "manifest.json").stat().st_mtime_ns
    bench.write(["lcha"], TINY, GRID, folder, seed=0)
    assert (folder / "manifest.json").stat().st_mtime_ns == written
    with bench.profiler.session():
        step = bench.prepare(folder, GRID)
        assert 0 < step.time_ms(3) < 1000
    memory, sizes = step.memory(), Package.load(folder).manifest.sizes
    assert (memory.weight_bytes, memory.state_bytes) == (sizes.weight_bytes, sizes.state_bytes)
    assert memory.peak_bytes > 0


def test_a_session_gets_the_threads_of_the_profiler(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    from s2search.exporters import onnx as exporter
    from s2search.exporters.onnx import LoadedOnnx
    from s2search.verification.inspectors.onnx import OnnxInspector

    seen = []
    monkeypatch.setattr(exporter, "check_graph", lambda package, file: None)  # there is no file
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, providers: seen.append(options.intra_op_num_threads)
    )

    @dataclasses.dataclass
    class Stub:
        folder: object

    bench = PackageBench(profiler=registry.create("profilers", "onnxruntime[threads=2,pin=false]"), exporter="onnx")
    from pathlib import Path

    package = Stub(Path("nowhere"))
    for runtime in (OnnxInspector().runtime_of(bench.profiler, package), LoadedOnnx(package)):
        runtime._session("denoise.onnx")
    assert seen == [2, 0]
