"""Methods of ExecuTorch lowered one by one: the same program as the library's own way, and each weight once."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch.nn import functional

from s2search.decibels import snr_db
from s2search.exporters.executorch.delegates import placement
from s2search.exporters.executorch.graph import decompositions_for_executorch, with_views
from s2search.exporters.executorch.program import joined, share_constants, xnnpack_lowered
from s2search.exporters.graph import exported
from s2search.mil.library import quiet

pytestmark = [
    pytest.mark.slow,  # loads ExecuTorch's compiler
    pytest.mark.skipif(find_spec("executorch") is None, reason="the extra s2search[executorch] is not installed"),
]


class Mixed(nn.Module):
    """Operators of XNNPACK on both sides of one that it does not take."""

    def __init__(self, *, signed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.narrow, self.signed = nn.Linear(64, 256), nn.Linear(256, 64), signed

    def forward(self, x_BND):
        wide_BNF = functional.gelu(self.wide(functional.layer_norm(x_BND, (64,))), approximate="tanh")
        y_BND = self.narrow(functional.layer_norm(wide_BNF, (256,)))
        return (y_BND if self.signed else functional.relu(y_BND)).unsqueeze(1)


X_BND = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(1))


def program_of(module):
    return with_views(exported(module.eval(), (X_BND,), decompositions_for_executorch()))


def delegates_of(lowered):
    return [module for module in lowered.graph_module.children() if hasattr(module, "processed_bytes")]


def described(delegate):
    """Its operators in their order, the size of its code, and the digests of its constants."""
    nodes = delegate.original_module.graph.nodes
    operators = [str(node.target) for node in nodes if node.op == "call_function"]
    return operators, len(delegate.processed_bytes), sorted(delegate.named_data_store_output.pte_data)


def test_the_short_way_lowers_as_executorchs_own():
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        ours = xnnpack_lowered(program_of(Mixed(signed=True)))
        manager = to_edge_transform_and_lower(program_of(Mixed(signed=True)), partitioner=[XnnpackPartitioner()])
    theirs = manager.exported_program()
    assert placement(ours.graph_module) == placement(theirs.graph_module)
    assert len(delegates_of(ours)) > 1
    assert sorted(map(described, delegates_of(ours))) == sorted(map(described, delegates_of(theirs)))


def test_methods_share_their_weights_and_give_what_torch_does(tmp_path):
    methods = {name: Mixed(signed=name == "signed") for name in ("signed", "positive")}
    with quiet():
        from executorch.runtime import Runtime

        lowered = {name: xnnpack_lowered(program_of(module)) for name, module in methods.items()}
        share_constants(lowered.values())
        with (tmp_path / "model.pte").open("wb") as file:
            joined(lowered).write_to_file(file)
    held = [
        data for one in lowered.values() for part in delegates_of(one) for data in part.named_data_store_output.buffers
    ]
    assert len({id(data) for data in held}) == len({*held}) < len(held)
    weight_bytes = sum(4 * x.numel() for x in methods["signed"].parameters())
    assert weight_bytes < (tmp_path / "model.pte").stat().st_size < 1.5 * weight_bytes
    program = Runtime.get().load_program(tmp_path / "model.pte")
    for name, module in methods.items():
        (found,) = program.load_method(name).execute([X_BND])
        assert snr_db(module(X_BND), found) > 100
