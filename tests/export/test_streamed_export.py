"""Exports of models that need not fit in memory twice: the same files, and the memory that they took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.functions import trace_functions
from s2search.exporters.graph import decompositions
from s2search.exporters.package import Package
from s2search.exporters.step import Steps, StepShape
from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.testing.exporters import GRID, tiny_model

pytestmark = pytest.mark.slow  # exports and traces whole models

MIDDLE = """
depth = 2
channels = 2048
heads = 16
feed_forward = 8192
layout = "SL"
"""


def export(preset: str, exporter: str, out: Path) -> list[str]:
    words = ["export", "--preset", preset, "--random-weights", "--exporter", exporter, "--video", "64x48"]
    return [sys.executable, "-m", "s2search", *words, "--out", str(out)]


def test_a_coreml_package_is_what_coremltools_writes_of_a_model_in_memory_bit_by_bit(tmp_path):
    model, exporter = tiny_model("SLS"), CoreMLExporter(layout="blocks", state="plain")
    package = exporter.export(model, GRID, tmp_path / "package")
    steps = Steps(model, StepShape(grid=GRID, frames=3, window=model.config.preset.window))
    coremltools = load_coremltools()
    several = coremltools.utils.MultiFunctionDescriptor()
    programs = trace_functions(steps, decompositions(), lambda done, total, label: None, further=0)
    for function in ("first", "advance"):  # the others are parts of `advance`
        part = str(tmp_path / f"{function}.mlpackage")
        exporter._converted(steps, function, programs[function], coremltools.PassPipeline()).save(part)
        several.add_function(part, src_function_name="main", target_function_name=function)
    several.default_function_name = "advance"
    with quiet_coremltools():
        coremltools.utils.save_multifunction(several, str(tmp_path / "expected.mlpackage"))
    ours, theirs = package.folder / "model.mlpackage", tmp_path / "expected.mlpackage"
    weights = "Data/com.apple.CoreML/weights/weight.bin"
    assert (ours / weights).read_bytes() == (theirs / weights).read_bytes()
    found, expected = (coremltools.utils.load_spec(str(path)) for path in (ours, theirs))
    for function in ("first", "advance"):
        ours, theirs = (
            one.mlProgram.functions[function].SerializeToString(deterministic=True) for one in (found, expected)
        )
        assert ours == theirs
    described = [one for one in found.description.functions if one.name in ("first", "advance")]
    assert described == list(expected.description.functions)
    assert found.specificationVersion == expected.specificationVersion


@pytest.mark.parametrize(
    ("exporter", "most"), [("coreml", 2), ("coreml[package_mb=250]", 2), ("onnx", 2), ("executorch", 3.5)]
)
def test_an_export_of_a_wide_model_takes_little_more_memory_than_the_model(tmp_path, exporter, most):
    (tmp_path / "middle.toml").write_text(MIDDLE)
    words = export(str(tmp_path / "middle.toml"), exporter, tmp_path / "package")
    process = subprocess.Popen(words, env={**os.environ, "TMPDIR": str(tmp_path)})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    model_bytes = Package.load(tmp_path / "package").source.joinpath("model.safetensors").stat().st_size
    assert model_bytes > 700_000_000
    assert usage.ru_maxrss * 1024 < most * model_bytes  # everything resident, mapped files included


def test_an_export_that_is_killed_leaves_nothing_at_its_place_and_can_be_repeated(tmp_path):
    out = tmp_path / "package"
    partial = tmp_path / ".package.partial"
    process = subprocess.Popen(export("s2dit-tiny", "torch_program", out), stderr=subprocess.DEVNULL)
    while not (partial / "source" / "model.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert partial.exists()
    subprocess.run(export("s2dit-tiny", "torch_program", out), check=True, timeout=600)
    assert not partial.exists()
    Package.load(out).check_files()
