"""The norm with channels before tokens, converted in float16, on tokens far larger than those of fresh weights."""

from __future__ import annotations

import pytest
import torch
from s2search_blocks.pieces.channels_first.norms import layer_norm
from torch import nn

from s2search.mil.evaluator import MODES, Evaluator
from s2search.mil.program import Program
from s2search.mil.watch import tensor_snr_db
from tests.export.coreml.plain_program import convert, trace
from tests.mil.programs import few_objects

LEAST_DB = {"float32": 75, "float16": 68, "pessimistic": 58}


class Norm(nn.Module):
    def forward(self, x):
        return layer_norm(x)


@pytest.fixture(scope="module", params=[64, 2048], ids="{} channels".format)
def program(request, tmp_path_factory):
    """Return a program of one norm, and how many channels it has."""
    path = tmp_path_factory.mktemp("norm") / "norm.mlpackage"
    with few_objects():
        convert(trace(Norm().eval(), {"x": torch.randn(1, request.param, 1, 9)})).save(str(path))
    return Program.load(path), request.param


def drawn(channels, size):
    """Return float16 numbers: normal ones, in the last token beside one that is 100 times as large."""
    x_1D1S = size * torch.randn(1, channels, 1, 9, generator=torch.Generator().manual_seed(0))
    x_1D1S[:, 0, :, -1] = 100 * size
    return x_1D1S.half().float()


@pytest.mark.parametrize("size", [1, 6, 32, 250, 600])
def test_a_norm_of_large_activations_holds_in_every_arithmetic(program, size):
    compiled, channels = program
    x_1D1S = drawn(channels, size)
    wanted = nn.functional.layer_norm(x_1D1S.double().movedim(1, -1), (channels,), eps=1e-6).movedim(-1, 1)
    for mode in MODES:
        (got,) = Evaluator(compiled, mode=mode).run({"x": x_1D1S}).outputs.values()
        assert tensor_snr_db(wanted, got) >= LEAST_DB[mode], mode


def test_a_norm_stays_one_operation_of_core_ml_behind_five_that_divide(program):
    """Written out it is 6 dB worse, and reported to overflow on the Neural Engine where this operation does not."""
    kinds = [operation.type for operation in program[0].function().operations if operation.type != "const"]
    assert kinds == ["abs", "reduce_max", "mul", "clip", "real_div", "layer_norm"]
