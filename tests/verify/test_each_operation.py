"""Operations alone: what an operation's kind or setting changes shows, where float16 hides it in a whole block."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from s2search.decibels import snr_db
from s2search.mil.evaluator import Evaluator
from s2search.mil.program import Program
from s2search.verification.alone import Beside, from_equal_numbers
from s2search.verification.reference import Reference
from tests.export.coreml.plain_program import convert, trace

MODEL = "Data/com.apple.CoreML/model.mlmodel"


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x, y):
        h = functional.gelu(self.wide(functional.layer_norm(x, (16,), eps=1e-5)), approximate="tanh")
        gate = torch.sigmoid(self.narrow(h))
        weight = torch.softmax(gate * y, dim=-1)
        return (1 - gate) * x + weight * functional.relu(y), torch.rsqrt(y.square().mean(-1) + 1e-3)


INPUTS = {name: torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(seed)) for seed, name in enumerate("xy")}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(0)
    traced = trace(Small().eval(), INPUTS)
    path = tmp_path_factory.mktemp("small") / "small.mlpackage"
    convert(traced).save(str(path))
    return traced.program, path


def edited(path, tmp_path, change):
    from coremltools.proto import Model_pb2

    copy = shutil.copytree(path, tmp_path / "copy.mlpackage")
    model = Model_pb2.Model.FromString((copy / MODEL).read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    change(list(block.operations))
    (copy / MODEL).write_bytes(model.SerializeToString())
    return copy


def found_db(program, path):
    inputs = {name: x.half().numpy() for name, x in INPUTS.items()}
    reference = Reference(
        function="denoise", steps=SimpleNamespace(inputs=lambda function: tuple(INPUTS)), program=program
    )
    evaluator = Evaluator(Program.load(path))
    outputs = [output.name for operation in evaluator.function.operations for output in operation.outputs]
    names = {name: name.removesuffix("_cast_fp16") for name in outputs}
    beside = Beside(
        function=evaluator.function,
        reference=reference,
        inputs=inputs,
        names={name: source for name, source in names.items() if source in reference.names},
    )
    evaluator.run({name: torch.from_numpy(x) for name, x in inputs.items()}, watch=[beside], forced=beside)
    return beside.found_db


def test_operations_that_are_the_sources_come_within_110_db(small):
    found = found_db(*small)
    assert {"gelu", "sigmoid", "softmax", "relu", "layer_norm", "rsqrt"} <= found.keys()
    assert min(found.values()) > 110
    assert not {"linear", "rsub"} & found.keys()  # stored numbers, rounded


def one(operations, kind):
    return next(operation for operation in operations if operation.type == kind)


def becomes(kind, other):
    def change(operations):
        one(operations, kind).type = other

    return change


def with_erf(operations):
    mode = one(operations, "gelu").inputs["mode"].arguments[0]
    constant = next(each for each in operations if each.outputs[0].name == mode.name)
    constant.attributes["val"].immediateValue.tensor.strings.values[0] = "EXACT"


def of_another_axis(operations):
    axis = one(operations, "softmax").inputs["axis"].arguments[0]
    constant = next(each for each in operations if each.outputs[0].name == axis.name)
    constant.attributes["val"].immediateValue.tensor.ints.values[0] = 1


def larger_epsilon(operations):
    epsilon = one(operations, "layer_norm").inputs["epsilon"].arguments[0]
    constant = next(each for each in operations if each.outputs[0].name == epsilon.name)
    constant.attributes["val"].immediateValue.tensor.CopyFrom(_float16(1e-2))


def _float16(number):
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.TensorValue()
    value.bytes.values = torch.tensor(number).half().numpy().tobytes()
    return value


def other_input(operations):
    one(operations, "relu").inputs["x"].arguments[0].name = "x"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (with_erf, "gelu"),
        (becomes("sigmoid", "tanh"), "sigmoid"),
        (becomes("relu", "silu"), "relu"),
        (becomes("rsqrt", "inverse"), "rsqrt"),
        (of_another_axis, "softmax"),
        (larger_epsilon, "layer_norm"),
        (other_input, "relu"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_another_operation_is_named(small, tmp_path, change, name):
    program, path = small
    found = found_db(program, edited(path, tmp_path, change))
    assert [key for key, value in found.items() if value < 100] == [name]


def test_a_wrong_gelu_hides_in_what_float16_rounds(small, tmp_path):
    program, path = small
    inputs = {name: x.half() for name, x in INPUTS.items()}
    expected = program.module()(*(x.float() for x in inputs.values()))
    right, wrong = (Program.load(one) for one in (path, edited(path, tmp_path, with_erf)))
    outputs = [tuple(Evaluator(one, mode="float16").run(inputs).outputs.values()) for one in (right, wrong)]
    assert all(snr_db(expected, given) > 60 for given in outputs)


def test_what_follows_a_stored_number_is_judged_only_from_the_sources_values(small):
    function = Program.load(small[1]).function()
    outputs = {output.name: output.name for operation in function.operations for output in operation.outputs}
    assert "mul_cast_fp16" in from_equal_numbers(function, outputs)
    assert "mul_cast_fp16" not in from_equal_numbers(function, {"mul_cast_fp16": "mul"})
