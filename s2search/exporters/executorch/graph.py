"""A graph as ExecuTorch's delegates take most of it: what they compute otherwise, slowly or not at all is rewritten.

Profiler and exporter share them, so that what is timed is what is shipped. Exact GELU costs 1 to 2 % of a block, the
others save more.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from s2search.exporters.graph import decompositions_of_attention, join_views

_aten = torch.ops.aten
_LINEAR, _CUBIC = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715
_RESHAPING = (_aten.unsqueeze.default, _aten.squeeze.dim, _aten.squeeze.dims)


def decompositions_for_executorch() -> dict[Any, Any]:
    """Return how to take operators apart: attention and GELU with tanh written out, and norms as roots of sums.

    executorch 1.4.1 gives XNNPACK the GELU with erf for either, 77 dB away. The sums of squares need no guard against
    overflow here: programs are float32.
    """
    return decompositions_of_attention() | {
        _aten.gelu.default: gelu,
        _aten.linalg_vector_norm.default: _vector_norm,
    }


def gelu(x: Tensor, approximate: str = "none") -> Any:
    """Return GELU with tanh by a sigmoid, which is the same: (1 + tanh z) / 2 = sigmoid(2 z).

    Source: Hendrycks and Gimpel (2016), "Gaussian Error Linear Units", section 2.

    >>> x = torch.linspace(-4, 4, 9)
    >>> torch.allclose(gelu(x, "tanh"), torch.nn.functional.gelu(x, approximate="tanh"), atol=1e-6)
    True
    """
    if approximate != "tanh":
        return NotImplemented
    return x * torch.sigmoid(x * (x * x * _CUBIC + _LINEAR))


def with_views(program: ExportedProgram) -> ExportedProgram:
    """Make one view of what only changes a shape, and nothing of what changes none. The program itself is changed.

    XNNPACK takes views, and outside of it they are free; squeezing, unsqueezing and expanding copy there.
    """
    graph = program.graph
    for node in graph.find_nodes(op="call_function", target=_aten.expand.default):
        if node.meta["val"].shape == node.args[0].meta["val"].shape:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in [node for target in _RESHAPING for node in graph.find_nodes(op="call_function", target=target)]:
        with graph.inserting_before(node):
            view = graph.call_function(_aten.view.default, (node.args[0], list(node.meta["val"].shape)))
        view.meta = dict(node.meta)
        node.replace_all_uses_with(view)
        graph.erase_node(node)
    join_views(program)
    for spec, node in zip(program.graph_signature.output_specs, graph.output_node().args[0], strict=True):
        spec.arg.name = node.name
    program.graph_module.recompile()
    return program


def _vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return torch.sqrt(torch.sum(x * x, dim=dim, keepdim=keepdim, dtype=dtype)) if ord == 2 else NotImplemented
