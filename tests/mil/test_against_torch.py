"""Operations as coremltools' converter makes them of torch's, against torch itself: neither knows of the evaluator."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from s2search.exporters.coreml.operators import decompositions_for_coreml, right_operators
from s2search.exporters.graph import exported
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools, quiet, quiet_coremltools
from s2search.mil.program import Program
from tests.mil.programs import few_objects

_noise = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=_noise)


X, LINE, CUBE = normal(2, 4, 9, 7), normal(2, 4, 9), normal(1, 4, 3, 5, 4)
WHOLE = torch.tensor([[-300, -129, -128, -1, 0, 127, 128, 255, 256, 32768, 65535, 70000]], dtype=torch.int32)
AT = torch.tensor([[2, 0, 1], [1, 1, 0]])


def _transposed(dims, **options):
    module = getattr(nn, f"ConvTranspose{dims}d")(4, 6, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(normal(*parameter.shape))
    return lambda x, module=module: module(x)


def _interpolate(**options):
    return lambda x: functional.interpolate(x, **options)


def _loop(kind, **options):
    torch.manual_seed(1)
    network = kind(7, 5, **options).requires_grad_(False)
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    start = normal(count, 3, 5)

    def run(x):
        state = (start, start.flip(1)) if kind is nn.LSTM else start
        y, end = network(x, state)
        return (y, *end) if kind is nn.LSTM else (y, end)

    return run


#: Functions of one input, by what they are; they share an input by group.
GROUPS = {
    "elementwise": (
        3 * X,
        {
            "hardswish": functional.hardswish,
            "hardsigmoid": functional.hardsigmoid,
            "threshold": lambda x: functional.threshold(x, 0.5, 0.0),
            "hardtanh": functional.hardtanh,
            "softplus of channels": lambda x: functional.softplus(x, beta=2.0),
            "full_like": lambda x: torch.full_like(x, 2.5),
            "atanh": lambda x: torch.atanh(x / 20),
        },
    ),
    "pooling": (
        X,
        {
            f"{kind} {size} {stride} {pad} {ceil}": (
                lambda x, k=kind, a=(size, stride, pad), c=ceil: getattr(functional, k)(x, *a, ceil_mode=c)
            )
            for kind in ("max_pool2d", "avg_pool2d")
            for size, stride, pad, ceil in [
                (2, 2, 0, True),
                (3, 2, 1, True),
                ((3, 2), (2, 3), (1, 0), True),
                (3, 3, 1, True),
                (2, 3, 1, True),
                (3, 2, 1, False),
            ]
            if not (kind == "max_pool2d" and isinstance(size, tuple))
        }
        | {
            "avg_pool2d without padding": lambda x: functional.avg_pool2d(x, 3, 2, 1, True, count_include_pad=False),
            "one axis": lambda x: functional.max_pool1d(x[:, :, 0], 2, 2, ceil_mode=True),
            "one axis, avg": lambda x: functional.avg_pool1d(x[:, :, 0], 3, 2, 1, ceil_mode=True),
        },
    ),
    "conv_transpose of two axes": (
        X,
        {
            "plain": _transposed(2, kernel_size=3),
            "stride": _transposed(2, kernel_size=(3, 2), stride=(2, 3)),
            "padding": _transposed(2, kernel_size=4, stride=2, padding=1),
            "dilation": _transposed(2, kernel_size=3, stride=2, padding=(1, 2), dilation=2, bias=False),
            "groups": _transposed(2, kernel_size=3, stride=2, padding=1, groups=2),
            "output padding": _transposed(2, kernel_size=3, stride=2, padding=1, output_padding=1),
        },
    ),
    "conv_transpose of one axis": (
        LINE,
        {
            "plain": _transposed(1, kernel_size=3, stride=2),
            "groups": _transposed(1, kernel_size=4, stride=3, padding=2, groups=2),
        },
    ),
    "conv_transpose of three axes": (
        CUBE,
        {"plain": _transposed(3, kernel_size=2, stride=(1, 2, 2), padding=(1, 0, 1))},
    ),
    "resizing": (
        X,
        {
            "bilinear to a size": _interpolate(size=(20, 11), mode="bilinear"),
            "bilinear, corners": _interpolate(size=(20, 11), mode="bilinear", align_corners=True),
            "bilinear by a factor": _interpolate(scale_factor=2, mode="bilinear"),
            "bilinear down": _interpolate(size=(4, 3), mode="bilinear"),
            "bilinear down, corners": _interpolate(size=(4, 1), mode="bilinear", align_corners=True),
            "nearest to a size": _interpolate(size=(20, 11), mode="nearest"),
            "nearest by factors": _interpolate(scale_factor=(3, 2), mode="nearest"),
            "nearest down": _interpolate(size=(4, 3), mode="nearest"),
        },
    ),
    "scattering": (
        X,
        {
            "scatter": lambda x: torch.scatter(x[0, 0, :2], 1, AT, x[1, 1, :2, :3]),
            "scatter_add": lambda x: torch.scatter_add(x[0, 0, :2], 1, AT, x[1, 1, :2, :3]),
            "index_put": lambda x: torch.index_put(x[0, 0], (AT[0],), x[1, 1, :3]),
            "index_put, accumulated": lambda x: torch.index_put(x[0, 0], (AT[1],), x[1, 1, :3], accumulate=True),
            "select_scatter": lambda x: torch.select_scatter(x, x[:, :, 0], 2, 3),
            "slice_scatter": lambda x: torch.slice_scatter(x, x[:, :, :2], 2, 3, 7, 2),
            "cumprod": lambda x: torch.cumprod(x, 3),
        },
    ),
    "padding": (
        X,
        {
            "reflect": lambda x: functional.pad(x, (3, 2, 1, 4), mode="reflect"),
            "replicate": lambda x: functional.pad(x, (3, 9, 1, 4), mode="replicate"),
            "reflect one axis": lambda x: functional.pad(x[0], (3, 2), mode="reflect"),
            "replicate three axes": lambda x: functional.pad(x[None], (3, 2, 1, 4, 2, 2), mode="replicate"),
        },
    ),
    "recurrent": (
        normal(6, 3, 7),
        {
            "lstm": _loop(nn.LSTM),
            "lstm of two layers, both ways": _loop(nn.LSTM, num_layers=2, bidirectional=True),
            "lstm without biases": _loop(nn.LSTM, bias=False),
            "gru, a loop": _loop(nn.GRU),
            "gru, both ways": _loop(nn.GRU, bidirectional=True),
            "rnn": _loop(nn.RNN),
            "rnn of relu": _loop(nn.RNN, nonlinearity="relu"),
        },
    ),
    "whole numbers": (
        WHOLE,
        {
            "int8": lambda x: x.to(torch.int8).to(torch.int32),
            "uint8": lambda x: x.to(torch.uint8).to(torch.int32),
            "int16": lambda x: x.to(torch.int16).to(torch.int32),
            "divided": lambda x: x / 7,
        },
    ),
}
SCRIPTED = ("recurrent",)  # coremltools takes such networks from a script only
CASES = [(group, case) for group, (_, cases) in GROUPS.items() for case in cases]


class _All(nn.Module):
    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        return tuple(y for function in self.functions for y in _as_tuple(function(x)))


def _graph(module, x, *, scripted):
    if not scripted:
        return exported(module, (x,), decompositions_for_coreml()), {}
    with quiet(), torch.no_grad():
        return torch.jit.trace(module, x), {"inputs": [load_coremltools().TensorType(shape=x.shape)]}


def _as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def programs(tmp_path_factory, halved):
    """Return a function that gives what a group's program gives, which is converted once."""
    paths, kept = {}, {}
    coremltools = load_coremltools()
    precision = coremltools.precision.FLOAT16 if halved else coremltools.precision.FLOAT32

    def outputs(group, mode):
        x, cases = GROUPS[group]
        if group not in paths:
            path = tmp_path_factory.mktemp("torch") / "all.mlpackage"
            program, options = _graph(_All(list(cases.values())), x, scripted=group in SCRIPTED)
            with quiet_coremltools(), right_operators(), few_objects():
                coremltools.convert(
                    program,
                    **options,
                    convert_to="mlprogram",
                    minimum_deployment_target=coremltools.target.iOS18,
                    compute_precision=precision,
                    skip_model_load=True,
                ).save(str(path))
            paths[group] = path
        if (group, mode) not in kept:
            evaluator = Evaluator(Program.load(paths[group]), mode=mode)
            (name,) = [named.name for named in evaluator.function.inputs]
            given = iter(evaluator.run({name: x}).outputs.values())
            kept[group, mode] = {
                case: [(next(given), wanted) for wanted in _as_tuple(function(x))] for case, function in cases.items()
            }
        return kept[group, mode]

    return outputs


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return programs(tmp_path_factory, halved=False)


@pytest.fixture(scope="module")
def halved_outputs(tmp_path_factory):
    return programs(tmp_path_factory, halved=True)


@pytest.mark.parametrize(("group", "case"), CASES, ids=lambda value: value)
def test_an_operation_gives_what_torch_gives(group, case, outputs):
    for got, wanted in outputs(group, "float32")[case]:
        assert got.is_floating_point() == wanted.is_floating_point()
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5, check_dtype=False)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["float16", "pessimistic"])
@pytest.mark.parametrize(
    ("group", "case"), [case for case in CASES if case[0] != "whole numbers"], ids=lambda value: value
)
def test_in_float16_it_gives_the_same_but_for_rounding(group, case, mode, halved_outputs):
    for got, wanted in halved_outputs(group, mode)[case]:
        torch.testing.assert_close(got, wanted, rtol=1e-2, atol=2e-2)
        assert got.equal(got.half().float())
