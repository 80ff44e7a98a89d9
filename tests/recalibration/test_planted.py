"""A slow block planted in real packages of ONNX Runtime, after its table was measured."""

from __future__ import annotations

import pytest

import s2search
from s2search.preset import Preset
from s2search.recalibration.attribution import Drift, Parts
from s2search.recalibration.in_context import Measured, in_context
from s2search.recalibration.recalibrate import Settings, bench_of, recalibrate
from s2search.space import Space

PRESET = Preset(
    name="planted", depth=4, channels=64, heads=2, feed_forward=128, text_channels=16, text_tokens=8, chunk_frames=1
)
VIDEO = "256x256"


def slower(monkeypatch):
    """Make softmax attention multiply its tokens by further matrices, whose product it adds as good as nothing of."""
    torch = pytest.importorskip("torch")
    from s2search_blocks.softmax.module import SoftmaxAttention

    forward = SoftmaxAttention.forward
    turn_DD = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))[0]

    def planted(self, h_BTHWD, state):
        x = h_BTHWD
        for _ in range(40):
            x = torch.tanh(x @ turn_DD)
        return forward(self, h_BTHWD + 1e-9 * x, state)

    monkeypatch.setattr(SoftmaxAttention, "forward", planted)


@pytest.mark.slow
def test_a_slow_block_is_named_alone_and_in_context(tmp_path, monkeypatch, one_thread):
    pytest.importorskip("onnxscript")
    table = s2search.measure(
        profiler="onnxruntime", preset=PRESET, video=VIDEO, candidates="lcha,ssa", scenario=["stream"],
        role=["block", "switch", "fixed"], rounds=9, out=tmp_path / "table",
    )  # fmt: skip
    slower(monkeypatch)
    scope = table.scope("stream")
    settings = Settings(preset=PRESET, layouts=15, rounds=9)
    found = recalibrate(table, scope, settings, tmp_path / "new", bench_of(table))
    before = Parts.of(table, scope)
    space = Space.parse("lcha,ssa", depth=PRESET.depth)
    counts = [before.counts([space.candidates[c] for c in space.parse_layout(one.layout)]) for one in found.layouts]
    drift = Drift(factor=1 + found.layouts[0].miss.drift_ms / found.layouts[0].predicted_ms)
    programs = [
        Measured(counts=one, ms=layout.measured_ms, error_ms=layout.error_ms)
        for one, layout in zip(counts, found.layouts, strict=True)
    ]
    now = in_context(programs, before, drift).now
    context = dict(zip(now.terms, now.beyond_ms_K, strict=True))
    errors = dict(zip(now.terms, now.covariance_KK.diagonal() ** 0.5, strict=True))
    most, one = max(zip(found.layouts, counts, strict=True), key=lambda pair: pair[1]["ssa"])
    alone_ms = most.miss.of_block_ms["ssa"] / one["ssa"]
    print(before.latency_ms, drift, alone_ms, context, errors, most.miss)
    assert alone_ms > 0.3 * before.latency_ms["ssa"]
