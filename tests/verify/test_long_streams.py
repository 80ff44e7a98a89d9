"""What a stream of a thousand chunks leaves behind, and large activations, in float16: nothing overflows."""

from __future__ import annotations

import dataclasses
from itertools import product

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
    """Return how near a mode comes, decibels, and the first operation that is not finite."""
    expected = call(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    peaks = Peaks()
    outputs = Evaluator(Program.load(path), mode=mode).run(inputs, watch=[peaks]).outputs.values()
    snr_db = min(tensor_snr_db(a, b) for a, b in zip(expected, outputs, strict=True))
    first = peaks.first_non_finite
    return snr_db, first


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("block", [LCHA(), LCHA(rope_order="post")], ids=lambda block: block.label)
def test_sums_of_a_thousand_chunks_do_not_overflow(block, tmp_path):
    """Measured 75.6, 65.3 and 63.7 dB after both. Before S and z were divided by the largest number of z, -inf dB."""
    call = plain_call(block_item(block, WIDE_HEAD))
    with few_objects():
        coreml.convert(trace(call, call.arguments), exact=call.exact).save(str(tmp_path / "part.mlpackage"))
    for grown, mode in product((1, CHUNKS), MODES):
        inputs = {name: x * (grown if name in call.exact else 1) for name, x in call.arguments.items()}
        snr_db, first = evaluated(call, inputs, tmp_path / "part.mlpackage", mode)
        assert first is None, first
        assert snr_db > 50


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("factor", [0.02, 20, 100])
def test_keys_of_any_size_are_normalised(factor, tmp_path):
    """Before, a norm above 255 was infinite when squared, and queries and keys were 0: 20 dB."""
    call = plain_call(block_item(SSA(), WIDE_HEAD))
    attention = next(module for module in call.modules() if hasattr(module, "query_norm") and hasattr(module, "key"))
    for linear in (attention.query, attention.key):
        linear.weight.mul_(factor)
        linear.bias.mul_(factor)
    with few_objects():
        coreml.convert(trace(call, call.arguments), exact=call.exact).save(str(tmp_path / "part.mlpackage"))
    for mode in MODES:
        snr_db, first = evaluated(call, call.arguments, tmp_path / "part.mlpackage", mode)
        assert first is None, first
        assert snr_db > 50
