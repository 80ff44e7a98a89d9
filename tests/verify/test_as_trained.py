"""A package of weights that were trained to stream is verified as they were trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from s2search import registry
from s2search.block import Window
from s2search.errors import InputError
from s2search.exporters.package import Package
from s2search.exporters.quantised import record
from s2search.exporters.step import StepShape
from s2search.exporters.streamed import StreamedPackage
from s2search.network.config import CausalForm
from s2search.network.flow import few_step_schedule
from s2search.verification.check import results
from s2search.verification.checks.compression import CompressionCheck
from s2search.verification.checks.streaming import StreamingCheck
from s2search.verification.opened import Opened, Options
from tests.verify.conftest import GRID, make_model

TWO = few_step_schedule(2)
FORMS = {
    "2 steps": (CausalForm(commit="reuse_last", level=TWO[-1], schedule=TWO), "trained for 2 steps, reuse_last", 2, {}),
    "1 step": (
        CausalForm(commit="clean_pass", level=0.0, schedule=(1.0,)),
        "trained for 1 step, clean_pass",
        1,
        {"commit": 0.0},
    ),
    "flow": (CausalForm(commit="reuse_last", level=0.625), "trained to follow the flow", 4, {"commit": 0.625}),
}


def trained(form: CausalForm, channels: int = 32) -> Any:
    model = make_model(channels)
    model.config = dataclasses.replace(model.config, causal=form)
    return model


@pytest.mark.parametrize(("form", "said", "reads", "commits"), FORMS.values(), ids=FORMS)
def test_its_stream_is_that_of_its_own_sampler_and_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: CausalForm,
    said: str,
    reads: int,
    commits: dict[str, float],
) -> None:
    pytest.importorskip("onnxscript")
    registry.create("exporters", "onnx").export(trained(form), GRID, tmp_path / "package")
    asked: list[tuple[str, float]] = []
    run = StreamedPackage._run

    def watched(self: StreamedPackage, function: str, x: Any, s: Any, *rest: Any) -> Any:
        asked.append((function.replace("first", "denoise"), round(s.item(), 6)))
        return run(self, function, x, s, *rest)

    monkeypatch.setattr(StreamedPackage, "_run", watched)
    found = {
        one.name: one
        for one in results(StreamingCheck(), Opened(Package.load(tmp_path / "package"), Options(chunks=2)))
    }
    assert set(found) == {f"stream.{form.commit}", "stream.free_running"}
    assert all(one.status == "passed" and said in one.why for one in found.values())
    levels = form.schedule or few_step_schedule(4)
    each = [("denoise", round(s, 6)) for s in levels]
    each = [*each, *commits.items()] if commits else [*each[:-1], ("advance", each[-1][1])]
    assert asked == 4 * each  # two chunks beside the source, and two alone
    assert len(levels) == reads


def test_the_price_of_compression_is_that_of_its_own_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("coremltools")
    form = CausalForm(commit="clean_pass", level=0.0, schedule=TWO)
    model = trained(form, 48)
    registry.create("exporters", "coreml[bits=4]").export(model, GRID, tmp_path / "package")

    def never(*_: object) -> None:
        raise AssertionError("what it was not trained for was asked of it")

    monkeypatch.setattr(StreamedPackage, "advance", never)
    found = results(CompressionCheck(), Opened(Package.load(tmp_path / "package"), Options(chunks=2)))
    assert [one.name for one in found] == ["compression.outputs", "compression.stream"]
    assert found[1].value is not None


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ({"frames": 1}, "chunks of 3 latent frames, and 1 are asked for"),
        ({"window": Window(frames=3)}, "a window of 6 frames, and a window of 3 frames is asked for"),
        ({"window": Window(frames=6, sink_frames=3)}, "and a window of 6 frames and a sink of 3 is asked for"),
    ],
    ids=str,
)
def test_it_is_exported_with_no_other_chunk_or_window(tmp_path: Path, shape: dict[str, Any], line: str) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(InputError, match=line):
        registry.create("exporters", "onnx").export(trained(FORMS["flow"][0]), GRID, tmp_path / "package", **shape)
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("name", FORMS)
def test_what_calibrates_it_is_its_own_stream_and_can_be_replayed(name: str) -> None:
    form = FORMS[name][0]
    model, shape = trained(form), StepShape(grid=(2, 2), frames=3, window=Window(frames=6))
    recording = record(model, shape, chunks=3, seed=0)
    assert recording.noise(model) == 0
    committed = [(what, s.item()) for _, s, what in recording.passes if what != "read"]
    assert committed == 3 * [("advance" if name == "2 steps" else "commit", pytest.approx(form.level))]
    with torch.no_grad():
        model.layers[-1].attention.value.bias += 0.1
    assert recording.noise(model) > 0
