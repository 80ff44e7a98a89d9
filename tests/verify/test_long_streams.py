"""What a stream of a thousand chunks leaves behind, and large activations, in float16: nothing overflows."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from blocks.lcha import LCHA
from s2search.export import coreml
from s2search.export.graph import trace
from s2search.verify.coreml_program import Program
from s2search.verify.evaluator import MODES, Evaluator
from s2search.verify.records import Peaks, tensor_snr_db
from tests.export.test_coreml import STREAM, block_item, plain_call
from tests.verify.programs import few_objects

CHUNKS = 1000
#: The heads of s2dit-1.8b: 128 channels each.
WIDE_HEAD = dataclasses.replace(STREAM, channels=128, heads=1, height=3, width=4, frames=3, feed_forward=128)


def evaluated(call, inputs, path, mode):
    """Return how near a mode comes, decibels, its largest activation, and the first operation not finite."""
    expected = call(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    peaks = Peaks()
    outputs = Evaluator(Program.load(path), mode=mode).run(inputs, watch=[peaks]).outputs.values()
    snr_db = min(tensor_snr_db(a, b) for a, b in zip(expected, outputs, strict=True))
    return snr_db, peaks.largest.largest, peaks.first_non_finite


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [LCHA(), LCHA(rope_order="post")], ids=lambda block: block.label)
def test_sums_of_a_thousand_chunks_do_not_overflow(block, mode, tmp_path):
    call = plain_call(block_item(block, WIDE_HEAD))
    with few_objects():
        coreml.convert(trace(call, call.arguments), exact=call.exact).save(str(tmp_path / "part.mlpackage"))
    for grown in (1, CHUNKS):
        inputs = {name: x * (grown if name in call.exact else 1) for name, x in call.arguments.items()}
        snr_db, largest, first = evaluated(call, inputs, tmp_path / "part.mlpackage", mode)
        assert first is None
        assert largest < 65504 / 10
        assert snr_db > 50
