"""One LCHA and one SSA layer of s2dit-1.8b at its width, heads, grid and chunk, exported and streamed."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch

from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.mil.evaluator import MODES
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.verification.bisect import look_inside
from s2search.verification.checks.blocks import AloneBlocks
from s2search.verification.checks.streaming import one_pass_db
from s2search.verification.opened import Opened, Options

GRID = (18, 32)  # 512x288
CHUNKS = 16


def pair(*, gaussian):
    """Return the model, whose gates and norms are not those of a fresh one; with Gaussian weights, nor its matrices."""
    torch.manual_seed(0)
    preset = dataclasses.replace(Preset.named("s2dit-1.8b"), depth=2)
    model = S2DiT.from_preset(preset, "lcha,ssa").eval().requires_grad_(False)
    for parameter in model.parameters():
        if gaussian or parameter.ndim < 2:
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def blocks_db(opened, mode, *, own_weights=True):
    inside = look_inside(opened, "denoise", opened.inputs("denoise"))
    if not own_weights:
        inside = dataclasses.replace(inside, reference=dataclasses.replace(inside.reference, stored=None))
    return AloneBlocks(opened, inside).parity_db(mode)


@pytest.mark.slow
def test_a_pair_of_full_width_layers_keeps_60_db_a_block_and_40_db_over_16_chunks(tmp_path):
    opened = Opened(CoreMLExporter().export(pair(gaussian=True), GRID, tmp_path / "pair"), Options(chunks=CHUNKS))
    found = {mode: blocks_db(opened, mode) for mode in MODES}
    assert min(found["float16"].values()) >= 60
    assert min(found["pessimistic"].values()) >= 40
    assert min(one_pass_db(opened, "float16")) >= 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "gaussian", "least_db"),
    [(4, False, 25), (6, True, 25), (4, True, 18)],
    ids=["four bits", "six bits of Gaussian weights", "four bits of Gaussian weights"],
)
def test_compressed_layers_of_full_width_keep_25_db_where_their_weights_can(bits, gaussian, least_db, tmp_path):
    """16 values hold a Gaussian tensor to 20.2 dB at best (Max, 1960), evenly spaced ones to 19; measured 19.0."""
    exporter = CoreMLExporter(bits=bits, palette="uniform")  # k-means takes minutes per layer at this width
    opened = Opened(exporter.export(pair(gaussian=gaussian), GRID, tmp_path / "pair"), Options(chunks=CHUNKS))
    found = blocks_db(opened, "float16", own_weights=False)
    sys.stdout.write(f"{bits} bits, gaussian={gaussian}: {found}\n")
    assert min(found.values()) >= least_db
