"""Rewritings for ExecuTorch's delegates: the same numbers, by operators that they take."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from s2search.decibels import snr_db
from s2search.exporters.executorch.graph import decompositions_for_executorch, gelu, with_views
from s2search.exporters.graph import exported

aten = torch.ops.aten


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20))
def test_gelu_written_out_is_the_one_with_tanh(numbers):
    x = torch.tensor(numbers, dtype=torch.float64)
    torch.testing.assert_close(gelu(x, "tanh"), functional.gelu(x, approximate="tanh"), rtol=1e-12, atol=1e-12)


def test_gelu_with_erf_is_left_to_the_delegate():
    assert gelu(torch.zeros(2)) is NotImplemented


class Odd(nn.Module):
    """Shapes change in every way that blocks know, once between transpositions."""

    def forward(self, x_BND):
        norm_BN1 = torch.linalg.vector_norm(x_BND, dim=-1, keepdim=True)
        moved_B1DN = functional.gelu(x_BND / norm_BN1, approximate="tanh").transpose(1, 2).unsqueeze(1)
        copies_BADN = moved_B1DN.expand(-1, 3, -1, -1).expand(-1, 3, -1, -1)
        return copies_BADN.transpose(2, 3), moved_B1DN.squeeze(1), copies_BADN.squeeze((0, 1))


@pytest.fixture(scope="module")
def pair():
    x_BND = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    return (x_BND,), with_views(exported(Odd(), (x_BND,), decompositions_for_executorch()))


def test_a_rewritten_graph_gives_the_same_numbers(pair):
    inputs, program = pair
    assert snr_db(Odd()(*inputs), program.module()(*inputs)) > 130


def test_what_changes_shapes_only_is_a_view_and_what_changes_nothing_is_gone(pair):
    targets = [node.target for node in pair[1].graph.nodes if node.op == "call_function"]
    assert not {aten.gelu.default, aten.linalg_vector_norm.default, aten.unsqueeze.default, aten.squeeze.dim} & {
        *targets
    }
    assert targets.count(aten.expand.default) == 1  # the one that repeats
    assert aten.view.default in targets
