"""A third party's attention with forms of its own: fused, streamed compiled, exported and verified as ours are."""

import math
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from s2search_blocks.pieces.channels_first import norms
from torch.utils import flop_counter

from s2search import registry
from s2search.block import Precision, Window
from s2search.exporters.step import StepShape
from s2search.measurement.peak_memory import peak_activation_bytes
from s2search.streaming.compiled import Compiled
from s2search.streaming.replay import leaves
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from s2search.verification.opened import Options
from s2search.verification.verify import verify
from tests.export.coreml.test_channels_first import furthest
from tests.export.coreml.test_packed import furthest as streamed_apart
from tests.export.test_step import make_model

EXACTLY = {"rtol": 0, "atol": 1e-10}
LAYOUT = "shift lcha shift[reach=2] ssa"


@pytest.fixture
def shift(monkeypatch):
    """Install the example's block, and return the file that it stands in."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugin_package"))
    found = registry.installed
    entry = EntryPoint("shift", "s2search_example.shift:Shift", "s2search.blocks")
    monkeypatch.setattr(registry, "installed", lambda of: found(of) | ({"shift": entry} if of == "blocks" else {}))
    registry.create("blocks", "shift")
    return sys.modules["s2search_example.shift"]


@pytest.mark.parametrize("context_frames", [0, 4])
def test_its_formulas_equal_counted_costs(make, shift, context_frames):
    spec = shift.Shift(reach=2)
    shape = make.shape(frames=3, height=8, width=12, channels=96, feed_forward=96, context_frames=context_frames)
    layer, inputs = make.layer(spec, shape, torch.float32), make.inputs(spec, shape, dtype=torch.float32)
    state = make.start(layer, inputs[0]) if context_frames else None
    assert sum(p.numel() for p in layer.parameters()) == spec.parameters(shape).count
    with torch.no_grad():
        with flop_counter.FlopCounterMode(display=False) as counter:
            layer.attention(inputs[0], state)
        counted = peak_activation_bytes(lambda: layer(*inputs, state), inputs)
    assert counter.get_total_flops() == spec.attention_flops(shape)
    assert counted <= spec.peak_bytes(shape, Precision.named("float32")) <= 1.001 * counted
    if state:
        assert state.tail_BTHWD.nbytes == spec.state_bytes(shape, Precision.named("float32"))


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_a_stream_of_it_is_the_clip_and_its_fused_form_is_it(make, shift, reach):
    spec, shape = shift.Shift(reach=reach), make.shape(height=5, width=3, context_frames=4)
    layer, inputs = make.layer(spec, shape), make.inputs(spec, shape, frames=6, batch=2)
    fused = spec.fused(layer)
    assert type(fused.attention) is shift.FusedShift
    with torch.no_grad():
        clip = layer(*inputs)
        torch.testing.assert_close(make.stream(layer, inputs, 2)[0], clip, **EXACTLY)
        torch.testing.assert_close(make.stream(fused, inputs, 2)[0], clip, **EXACTLY)
        still = inputs[0][:, :1].expand_as(inputs[0])
        assert not torch.allclose(layer(still, *inputs[1:])[:, 0], layer(still, *inputs[1:])[:, reach])


def test_a_model_of_it_streams_fused_as_it_does_plain(make, shift):
    model = make_model(LAYOUT)
    quick, text = Compiled(model, compile=False), torch.randn(1, 5, 7, dtype=torch.float64)
    fused = [type(layer.attention) for layer in model.fused().layers]
    assert fused.count(shift.FusedShift) == 2
    state = other = StreamState.start(model, (3, 5))
    for _ in range(4):
        z, state = FewStepSampler().next_chunk(model, text, state)
        quick_z, other = FewStepSampler().next_chunk(quick, text, other)
        torch.testing.assert_close(quick_z, z, **EXACTLY)
        for got, wanted in zip(leaves(other.layers), leaves(state.layers), strict=True):
            torch.testing.assert_close(got, wanted, **EXACTLY)


def test_a_stream_of_it_is_the_same_where_the_host_keeps_its_tail(shift, monkeypatch):
    monkeypatch.setattr(norms, "limit", lambda channels: math.inf)
    shape = StepShape(grid=(3, 5), frames=2, window=Window(frames=4))
    assert streamed_apart(make_model("shift[reach=3] lcha shift ssa"), shape, 4) < 1e-10


def test_a_step_of_it_is_the_same_with_channels_first(make, shift, monkeypatch):
    monkeypatch.setattr(norms, "limit", lambda channels: math.inf)  # dividing a token moves the epsilon of its norm
    apart, steps = furthest(make_model(LAYOUT), StepShape(grid=(3, 5), frames=2, window=Window(frames=4)))
    assert apart < 1e-10
    assert not steps.own_layout
    assert steps.state["tail_02"].shape == (1, 24, 2, 6)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["onnx", "coreml"])
def test_a_package_of_it_is_verified(tmp_path, shift, exporter):
    model = make_model("shift lcha").float()
    package = registry.create("exporters", exporter).export(model, (3, 4), tmp_path / "package")
    found = verify(tmp_path / "package", Options(chunks=3))
    assert found.passed, [(one.name, one.why) for one in found.checks if one.required and one.status != "passed"]
    of_blocks = [one for one in found.checks if one.name.startswith("blocks") and one.status == "passed"]
    assert of_blocks
    assert all("layers.0" in one.parts for one in of_blocks)
    if exporter == "coreml":
        assert any(one.name.startswith("state") and one.status == "passed" for one in found.checks)
        assert [tail.layer for tail in package.manifest.host.tails] == [0, 1]
