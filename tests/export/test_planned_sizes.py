"""What the planner counts for weights, against what the exporter `coreml` chooses for every tensor of the model."""

from __future__ import annotations

import dataclasses
from functools import reduce
from types import SimpleNamespace

import pytest
import s2search_blocks.pieces.channels_first.rotary
import s2search_blocks.pieces.rotary
import torch
from s2search_blocks.pieces.rotary import tables

from s2search.block import Window
from s2search.exporters.coreml.channels_first import ChannelsFirstSteps
from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.package import predicted_sizes
from s2search.exporters.quantised import GridConstants, grid_constants, matrices
from s2search.exporters.step import Steps, StepShape
from s2search.network.network import S2DiT
from s2search.precision.part import blob_bytes, part_of
from s2search.preset import Preset
from tests.export.test_step import make_model

GRID = (18, 32)
LAYOUT = "lcha,ssa,lcha[linear_head_dim=256],kv_compressed,full,lcha[feature_map=relu]"


@pytest.fixture(scope="module")
def model():
    """Return a model of the published width, where all matrices are large enough to be compressed, without numbers."""
    with torch.device("meta"):
        return S2DiT.from_preset(dataclasses.replace(Preset.named("s2dit-1.8b"), depth=6), LAYOUT)


@pytest.mark.parametrize("activations", [16, 8])
@pytest.mark.parametrize("bits", [16, 8, 6, 4])
def test_the_planner_counts_every_weight_with_the_bits_that_the_package_stores(model, bits, activations):
    exporter = CoreMLExporter(bits=bits, activations=activations if bits < 16 else 16)
    parts, linears = exporter.precisions(model), matrices(model)
    bits_of = {f"{name}.weight": parts[part_of(name)].weight_bits for name in linears}
    stored_bits = sum(bits_of.get(name, 16) * x.numel() for name, x in model.named_parameters())
    predicted = predicted_sizes(model.config, GRID, 3, 6, exporter.precision).predicted_weight_bytes
    assert predicted == stored_bits // 8


@pytest.mark.parametrize("bits", [16, 8, 6, 4])
def test_what_a_package_holds_beside_its_weights_is_little(model, bits):
    """Headers, tables of palettes and of rotary embeddings, and depthwise kernels as bands: 1.1 % of all 28 layers."""
    exporter, preset = CoreMLExporter(bits=bits), model.config.preset
    shape = StepShape(grid=GRID, frames=preset.chunk_frames, window=preset.window)
    written = exporter.predicted_weight_bytes(SimpleNamespace(links=(), model=model, shape=shape))
    predicted = predicted_sizes(model.config, GRID, shape.frames, shape.slots, exporter.precision)
    assert 1 < written / predicted.predicted_weight_bytes < 1.06


@pytest.mark.parametrize("steps_of", [Steps, ChannelsFirstSteps])
def test_tables_of_rotary_embeddings_take_the_bytes_that_are_foretold(steps_of, monkeypatch):
    """Held against the tables that the functions compute with; each distinct one is stored once."""
    model, shape = make_model("lcha ssa lcha full"), StepShape(grid=(3, 5), frames=2, window=Window(frames=4))
    halves = 2 if steps_of is ChannelsFirstSteps else 1  # with channels first a table has both channels of a pair
    made = set()

    def spied(pairs, *positions, **options):
        found = tables(pairs, *positions, **options)
        made.update((kind, halves * x.numel(), x.numpy().tobytes()) for kind, x in zip("cs", found, strict=True))
        return found

    for user in (s2search_blocks.pieces.rotary, s2search_blocks.pieces.channels_first.rotary):
        monkeypatch.setattr(user, "tables", spied)
    steps = steps_of(model, shape)
    for function in ("first", "advance"):
        example = steps.example(function)
        with torch.no_grad():
            steps.function(function)(*(example[name] for name in steps.inputs(function)))
    zeros = blob_bytes(2 * 2 * 3 * 5 * model.config.preset.channels)
    twins = range(4) if steps_of is ChannelsFirstSteps else ()
    constants = reduce(GridConstants.joined, grid_constants(model, shape, twins), GridConstants())
    assert constants.bytes == zeros + sum(blob_bytes(2 * count) for _, count, _ in made)
