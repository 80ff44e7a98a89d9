"""A program that is decomposed already goes to ONNX as a second trace would give it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2search.exporters.functions import program_of
from s2search.exporters.graph import decompositions_for_onnx
from s2search.exporters.onnx_graph import _copied
from s2search.mil.library import quiet


class Twice(nn.Module):
    """What one trace numbers with gaps: equal operations are made one."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = x.chunk(2)
        return x.square().sum() * low, x.square().sum() + high + low.square().sum()


def test_its_nodes_have_the_names_of_a_second_trace_and_it_is_left_as_it_is() -> None:
    program = program_of(Twice(), (torch.arange(4.0).reshape(2, 2),), decompositions_for_onnx())
    before = str(program.graph)
    copied = _copied(program)
    with quiet():
        traced = program.run_decompositions({})
        (add,) = {node.target for node in copied.graph.nodes if "add" in str(node.target)}
        other = copied.run_decompositions({add: lambda x, y: torch.ops.aten.sub.Tensor(x, -y)})
    assert [node.name for node in program.graph.nodes] != [node.name for node in traced.graph.nodes]
    assert str(copied.graph) == str(traced.graph)
    assert copied.graph_signature.output_specs == traced.graph_signature.output_specs
    assert copied.run_decompositions({}) is copied
    assert add not in {node.target for node in other.graph.nodes}
    assert str(program.graph) == before
