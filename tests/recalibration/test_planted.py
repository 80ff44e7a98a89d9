"""A slow block planted in real packages of ONNX Runtime, after its table was measured."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

import s2search
from s2search.preset import Preset
from s2search.recalibration.recalibrate import Settings, bench_of, recalibrate
from s2search.space import Space

PRESET = Preset(
    name="planted", depth=4, channels=64, heads=2, feed_forward=128, text_channels=16, text_tokens=8, chunk_frames=1
)
VIDEO, TIMES = "256x256", 40


def matrix():
    torch = pytest.importorskip("torch")
    return torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))[0]


def plant(monkeypatch):
    """Make softmax attention multiply its tokens by matrices, of whose product it adds as good as nothing."""
    import torch
    from s2search_blocks.softmax.module import SoftmaxAttention

    forward, turn_DD = SoftmaxAttention.forward, matrix()

    def planted(self, h_BTHWD, state):
        x_BTHWD = h_BTHWD
        for _ in range(TIMES):
            x_BTHWD = torch.tanh(x_BTHWD @ turn_DD)
        return forward(self, h_BTHWD + 1e-9 * x_BTHWD, state)

    monkeypatch.setattr(SoftmaxAttention, "forward", planted)


def planted_ms():
    """Time what was planted, and nothing else, in ONNX Runtime itself."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    for n in range(TIMES):
        nodes += [
            helper.make_node("MatMul", [f"x{n}", "turn"], [f"y{n}"]),
            helper.make_node("Tanh", [f"y{n}"], [f"x{n + 1}"]),
        ]
    shape = (1, 1, 8, 8, 64)
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{TIMES}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(matrix().numpy(), "turn")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    taken = []
    for _ in range(50):
        begun = time.process_time()
        for _ in range(10):
            session.run(None, {"x0": x})
        taken.append(100 * (time.process_time() - begun))
    return statistics.median(taken)


@pytest.mark.slow
def test_a_slow_block_in_real_packages_is_what_the_miss_is_made_of(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    table = s2search.measure(
        profiler="onnxruntime", preset=PRESET, video=VIDEO, candidates="lcha,ssa", scenario=["stream"],
        role=["block", "switch", "fixed"], rounds=15, out=tmp_path / "table",
    )  # fmt: skip
    plant(monkeypatch)
    found = recalibrate(
        table, table.scope("stream"), Settings(preset=PRESET, layouts=15, rounds=9), tmp_path / "new", bench_of(table)
    )
    space = Space.parse("lcha,ssa", depth=PRESET.depth)
    truth_ms = planted_ms()
    for one in found.layouts:
        labels = [space.candidates[c].label for c in space.parse_layout(one.layout)]
        miss, slack_ms = one.miss, 0.02 * one.measured_ms
        for label, ms in miss.of_block_ms.items():
            planted = truth_ms * labels.count("ssa") if label == "ssa" else 0.0
            assert abs(ms - planted) <= max(0.3 * planted, 3 * miss.of_block_errors_ms[label], slack_ms), label
        assert abs(miss.switches_ms) <= max(3 * miss.errors_ms["switches"], slack_ms)
        assert abs(miss.fixed_ms) <= max(3 * miss.errors_ms["fixed"], slack_ms)
    most = max(found.layouts, key=lambda one: one.miss.of_block_ms.get("ssa", 0.0)).miss
    assert most.of_block_ms["ssa"] > 5 * most.of_block_errors_ms["ssa"]
