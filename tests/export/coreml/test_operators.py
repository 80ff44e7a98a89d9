"""Operators of torch through coremltools' converter, as exporters call it, against torch itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from s2search.exporters.coreml.operators import decompositions_for_coreml, right_operators
from s2search.exporters.graph import decompositions, exported
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.mil.program import Program

X = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
Y = X.flip(0)
CASES = {
    "gelu with tanh": lambda x, y: functional.gelu(3 * x, approximate="tanh"),
    "gelu with erf": lambda x, y: functional.gelu(3 * x),
    "gelu, told": lambda x, y: functional.gelu(3 * x, approximate="none"),
    "reciprocal": lambda x, y: torch.reciprocal(x / 100),
    "reciprocal, divided": lambda x, y: 1 / (x / 100),
    "add": lambda x, y: torch.add(x, y, alpha=2.5),
    "add of a number": lambda x, y: torch.add(x, 3.0, alpha=2.5),
    "sub": lambda x, y: torch.sub(x, y, alpha=2.5),
    "rsub": lambda x, y: torch.rsub(x, y, alpha=2.5),
    "rsub of a number": lambda x, y: torch.rsub(x, 3.0, alpha=2.5),
    "sum": lambda x, y: torch.sum(5 * x, 1, keepdim=True, dtype=torch.int32),
    "sum of all": lambda x, y: torch.sum(5 * x, dtype=torch.int32),
    "mean": lambda x, y: torch.mean((5 * x).int(), 1, dtype=torch.float32),
    "mean of all": lambda x, y: torch.mean((5 * x).int(), dtype=torch.float32),
    "round": lambda x, y: torch.round(x, decimals=1),
    "rms_norm": lambda x, y: functional.rms_norm(x, (4, 5), y[0], eps=0.1),
    "rms_norm of small numbers": lambda x, y: functional.rms_norm(x / 1000, (5,), eps=1e-5),
    "rms_norm by itself": lambda x, y: functional.rms_norm(x, (5,)),
    "rms_norm of zeros": lambda x, y: functional.rms_norm(0 * x, (5,), eps=1e-5),
    "softplus": lambda x, y: functional.softplus(x, beta=2.0, threshold=1.0),
    "softplus, plain": lambda x, y: functional.softplus(20 * x),
}


class _All(nn.Module):
    def forward(self, x, y):
        return tuple(case(x, y) for case in CASES.values())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    path = tmp_path_factory.mktemp("operators") / "all.mlpackage"
    coremltools = load_coremltools()
    program = exported(_All(), (X, Y), decompositions_for_coreml())
    with quiet_coremltools(), right_operators():
        coremltools.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS18,
            compute_precision=coremltools.precision.FLOAT32,
            skip_model_load=True,
        ).save(str(path))
    read = Program.load(path)
    given = {named.name: x for named, x in zip(read.function().inputs, (X, Y), strict=True)}
    return dict(zip(CASES, Evaluator(read).run(given).outputs.values(), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_what_torch_has(case, outputs):
    torch.testing.assert_close(outputs[case], CASES[case](X, Y), rtol=2e-6, atol=1e-6)


def test_what_needs_no_mending_is_left_as_it_is():
    class Plain(nn.Module):
        def forward(self, x):
            return functional.softplus(x + 2 * x).sum(1) + x.mean()

    plain, ours = (exported(Plain(), (X,), table).graph for table in (decompositions(), decompositions_for_coreml()))
    assert [str(node.target) for node in plain.nodes] == [str(node.target) for node in ours.nodes]


def test_coremltools_has_its_own_operators_back_afterwards():
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    before = [_TORCH_OPS_REGISTRY.get_func(name) for name in ("gelu", "reciprocal")]
    with right_operators():
        assert _TORCH_OPS_REGISTRY.get_func("gelu") is not before[0]
    with pytest.raises(ZeroDivisionError), right_operators():
        raise ZeroDivisionError
    assert [_TORCH_OPS_REGISTRY.get_func(name) for name in ("gelu", "reciprocal")] == before
