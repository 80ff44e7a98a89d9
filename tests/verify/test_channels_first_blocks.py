"""Layers with channels before tokens, converted in float16 and evaluated, against the trained module in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.softmax.full import FullAttention
from s2search_blocks.softmax.kv_compressed import KVCompressedAttention
from s2search_blocks.softmax.ssa import SSA
from torch import nn

from s2search.block import Shape, Window
from s2search.mil.evaluator import MODES, Evaluator
from s2search.mil.program import Program
from s2search.mil.rules.operations import lint
from s2search.mil.watch import Peaks, tensor_snr_db
from tests.export.coreml.plain_program import convert, trace
from tests.mil.programs import few_objects

SHAPE = Shape(frames=2, height=3, width=5, channels=48, heads=4, feed_forward=96, text_tokens=5, text_channels=16)
WINDOW = Window(frames=4)
EXACT = ("sum", "norm")
#: LCHA has the least: 69.1, 62.8 and 61.4. What weights of float16 alone lose shows in float32 mode.
LEAST_DB = {"float32": 65, "float16": 60, "pessimistic": 55}
BLOCKS = (LCHA(), LCHA(rope_order="post"), LCHA(memory="window"), SSA(), FullAttention(), KVCompressedAttention())
QUICK = ("lcha",)


class Both(nn.Module):
    """What a layer's twin reads and commits, as a function of tensors."""

    def __init__(self, twin):
        super().__init__()
        self.twin, self.names = twin, tuple(twin.state)

    def forward(self, x, modulation, text, bias, *state):
        past = dict(zip(self.names, state, strict=True)) | {"bias": bias, "full": 1 + bias[0] / 1e4}
        new = self.twin.commit(x, modulation, past)
        return (self.twin(x, modulation, text, past), *(new[name] for name in self.names))


@torch.no_grad()
def made(block, shape, path):
    """Return a program, its inputs with a state that two chunks left, and what float64 gives."""
    torch.manual_seed(0)
    layer = block.build(shape).eval().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    grid = (shape.height, shape.width)
    both = Both(block.channels_first(layer, shape.frames, grid, WINDOW))
    exact = Both(block.channels_first(copy.deepcopy(layer).double(), shape.frames, grid, WINDOW))
    size = (1, shape.channels, 1, shape.frames * shape.height * shape.width)
    modulation, text = (
        torch.randn(1, 6 * shape.channels, 1, 1),
        torch.randn(1, shape.text_channels, 1, shape.text_tokens),
    )
    bias, state = torch.zeros(4), tuple(both.twin.state.values())
    for _ in range(2):
        _, *state = both(torch.randn(size), modulation, text, bias, *state)
    inputs = {"x": torch.randn(size), "modulation": modulation, "text": text, "bias": bias}
    inputs |= {name: x.contiguous() for name, x in zip(both.names, state, strict=True)}
    half = {name: x if name in EXACT else x.half().float() for name, x in inputs.items()}
    expected = exact(*(x.double() for x in half.values()))
    with few_objects():
        convert(trace(both, half), exact=EXACT).save(str(path))
    program = Program.load(path)
    taken = {value.name for value in program.function().inputs}
    return program, {name: x for name, x in half.items() if name in taken}, expected


@pytest.mark.parametrize(
    "block", [pytest.param(one, id=one.label, marks=() if one.label in QUICK else pytest.mark.slow) for one in BLOCKS]
)
def test_a_converted_layer_gives_what_the_layer_gives(block, tmp_path):
    program, inputs, expected = made(block, SHAPE, tmp_path / "layer.mlpackage")
    snr_db = {}
    for mode in MODES:
        peaks = Peaks()
        outputs = Evaluator(program, mode=mode).run(inputs, watch=[peaks]).outputs.values()
        snr_db[mode] = min(tensor_snr_db(a, b) for a, b in zip(expected, outputs, strict=True))
        assert peaks.first_non_finite is None
    assert all(snr_db[mode] >= LEAST_DB[mode] for mode in MODES), snr_db
    function = program.function()
    assert not lint(function, peaks)
    kinds = [operation.type for operation in function.operations]
    assert "transpose" not in kinds
    assert "linear" not in kinds


@pytest.mark.slow
@pytest.mark.parametrize("block", [LCHA(), SSA()], ids=lambda block: block.name)
def test_a_layer_of_full_width_gives_what_the_layer_gives(block, tmp_path):
    shape = Shape(
        frames=3, height=9, width=16, channels=2048, heads=16, feed_forward=8192, text_tokens=77, text_channels=2048
    )
    program, inputs, expected = made(block, shape, tmp_path / "wide.mlpackage")
    outputs = Evaluator(program, mode="float16").run(inputs).outputs.values()
    snr_db = [tensor_snr_db(a, b) for a, b in zip(expected, outputs, strict=True)]
    assert min(snr_db) >= LEAST_DB["float16"], snr_db
