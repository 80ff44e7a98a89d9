"""What a stream of a thousand chunks leaves behind, and large activations, in float16: nothing overflows."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
import torch
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.softmax.ssa import SSA

from s2search.mil.evaluator import MODES, Evaluator
from s2search.mil.program import Program
from s2search.mil.watch import Peaks, tensor_snr_db
from tests.export.coreml.plain_program import convert, trace
from tests.export.coreml.test_contents import STREAM, block_item, plain_call
from tests.mil.programs import few_objects
from tests.verify.test_channels_first_blocks import EXACT, SHAPE, WINDOW, Both, made

CHUNKS = 1000
#: One head as wide as those of s2dit-1.8b.
WIDE_HEAD = {"channels": 128, "heads": 1, "height": 3, "width": 4, "frames": 3, "feed_forward": 128}


def evaluated(program, expected, inputs, mode):
    """Return how near a mode comes, decibels, and the first operation that is not finite."""
    peaks = Peaks()
    outputs = Evaluator(program, mode=mode).run(inputs, watch=[peaks]).outputs.values()
    return min(tensor_snr_db(a, b) for a, b in zip(expected, outputs, strict=True)), peaks.first_non_finite


def converted(call, path):
    with few_objects():
        convert(trace(call, call.arguments), exact=call.exact).save(str(path))
    return Program.load(path)


def grown(inputs, names, factor):
    return {name: x * (factor if name in names else 1) for name, x in inputs.items()}


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("block", [LCHA(), LCHA(rope_order="post")], ids=lambda block: block.label)
def test_sums_of_a_thousand_chunks_do_not_overflow(block, tmp_path):
    """Measured 75.6, 65.5 and 63.7 dB after one and after a thousand.

    Before S and z were divided by the largest number of z, phi(q) z reached 1,122 after one and 1,122,194 after a
    thousand: in float16 the result was no number.
    """
    call = plain_call(block_item(block, dataclasses.replace(STREAM, **WIDE_HEAD)))
    program = converted(call, tmp_path / "part.mlpackage")
    for factor, mode in product((1, CHUNKS), MODES):
        inputs = grown(call.arguments, call.exact, factor)
        expected = call(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        snr_db, first = evaluated(program, expected, inputs, mode)
        assert first is None, first
        assert snr_db > 50


@pytest.mark.slow
@torch.no_grad()
def test_sums_of_a_thousand_chunks_do_not_overflow_with_channels_before_tokens(tmp_path):
    shape = dataclasses.replace(SHAPE, **WIDE_HEAD)
    program, inputs, _ = made(LCHA(), shape, tmp_path / "part.mlpackage")
    torch.manual_seed(0)
    layer = LCHA().build(shape).eval().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    exact = Both(LCHA().channels_first(layer.double(), shape.frames, (shape.height, shape.width), WINDOW))
    inputs = grown(inputs, EXACT, CHUNKS)
    bias = torch.zeros(4)
    expected = exact(*(inputs.get(name, bias).double() for name in ("x", "modulation", "text", "bias", *exact.names)))
    for mode in MODES:
        snr_db, first = evaluated(program, expected, inputs, mode)
        assert first is None, first
        assert snr_db > 50, mode


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("factor", [0.02, 20, 100])
def test_keys_of_any_size_are_normalised(factor, tmp_path):
    """Before, a norm above 255 was infinite when squared, and queries and keys were 0: 20 dB."""
    call = plain_call(block_item(SSA(), dataclasses.replace(STREAM, **WIDE_HEAD)))
    attention = next(module for module in call.modules() if hasattr(module, "query_norm") and hasattr(module, "key"))
    for linear in (attention.query, attention.key):
        linear.weight.mul_(factor)
        linear.bias.mul_(factor)
    program = converted(call, tmp_path / "part.mlpackage")
    expected = call(*call.arguments.values())
    for mode in MODES:
        snr_db, first = evaluated(
            program, expected if isinstance(expected, tuple) else (expected,), call.arguments, mode
        )
        assert first is None, first
        assert snr_db > 50
