"""Whole models in torch, timed as the profilers time a block."""

from __future__ import annotations

import dataclasses
import json

import pytest

from s2search import registry
from s2search.block import Precision
from s2search.measurement.torch_cpu import TorchCpu
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.recalibration.models import ModelBench

PRESET = Preset(name="two", depth=2, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=3)
GRID = (2, 4)


@pytest.fixture
def bench() -> ModelBench:
    return ModelBench(profiler=TorchCpu(pin=False))


def test_a_model_is_written_once_and_timed(bench, tmp_path):
    folder = tmp_path / "model"
    bench.write(["lcha", "ssa"], PRESET, GRID, folder, seed=0)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    bench.write(["lcha", "ssa"], PRESET, GRID, folder, seed=0)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    with bench.profiler.session():
        step = bench.prepare(folder, GRID)
        assert 0 < step.time_ms(2) < 1000
    memory, model = step.memory(), S2DiT.from_pretrained(folder)
    shape = PRESET.shape("64x32", "stream")
    blocks = [registry.create("blocks", label) for label in ("lcha", "ssa")]
    assert memory.state_bytes == sum(block.state_bytes(shape, Precision.named("float32")) for block in blocks)
    assert memory.weight_bytes == sum(4 * x.numel() for x in [*model.parameters(), *model.buffers()])


def test_other_seeds_give_other_weights(bench, tmp_path):
    for seed in (0, 1):
        bench.write(["lcha", "ssa"], PRESET, GRID, tmp_path / str(seed), seed=seed)
    left, right = (S2DiT.from_pretrained(tmp_path / str(seed)).head.patch.weight for seed in (0, 1))
    assert not left.equal(right)


def test_the_profilers_type_is_the_models(bench, tmp_path):
    bench.write(["lcha", "ssa"], PRESET, GRID, tmp_path / "model", seed=0)
    whole = bench.prepare(tmp_path / "model", GRID).memory().weight_bytes
    half = dataclasses.replace(bench, profiler=TorchCpu(pin=False, dtype="bfloat16"))
    assert half.prepare(tmp_path / "model", GRID).memory().weight_bytes < 0.6 * whole


@pytest.mark.slow
def test_a_table_is_written_or_the_layouts_say_why_not(s2search, tmp_path):
    measured = s2search(
        "measure", "--profiler", "torch_cpu", "--preset", "s2dit-tiny", "--video", "64x48", "--scenario", "stream",
        "--rounds", "3", "--out", "small",
    )  # fmt: skip
    assert measured.code == 0, measured.err
    done = s2search(
        "recalibrate", "small", "--layouts", "15", "--rounds", "3", "--depth", "4", "--out", "new", "--json"
    )
    found = json.loads(done.out)
    assert done.code == (0 if found["new_table"] else 1)
    assert bool(found["refusal"]) == (done.code == 1)
