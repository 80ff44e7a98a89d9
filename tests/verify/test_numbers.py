"""A graph of the source that computes with the numbers of a package: rounded where the package rounds its constants."""

from __future__ import annotations

import torch
from torch import fx, nn

from s2search.verification.numbers import PackageNumbers, SourceNumbers, StoredNumbers

_aten = torch.ops.aten
X, S = torch.tensor([[0.3, -1.7]]), torch.tensor([[5.25]])
WEIGHT, GATE = torch.tensor([[0.1, 0.7], [1.3, -0.9]]), torch.tensor([0.33, -2.1])


def graph():
    """sigmoid(gate) (x weight) / 12 + 1e-6, then s times 0.1, then 1 / |x|."""
    made = fx.Graph()
    weight, gate, x, s = (made.placeholder(name) for name in ("weight", "gate", "x", "s"))
    exact = made.call_function(_aten.mul.Tensor, (s, 0.1))
    product = made.call_function(_aten.mm.default, (x, weight))
    gated = made.call_function(_aten.mul.Tensor, (made.call_function(_aten.sigmoid.default, (gate,)), product))
    shared = made.call_function(_aten.div.Tensor, (gated, 12))
    inverse = made.call_function(_aten.reciprocal.default, (made.call_function(_aten.abs.default, (x,)),))
    made.output((made.call_function(_aten.add.Tensor, (shared, 1e-6)), exact, inverse))
    return fx.GraphModule(nn.Module(), made), exact.name


def outputs(stored=None):
    module, _ = graph()
    numbers = SourceNumbers(module)
    if stored is not None:
        numbers = PackageNumbers(module, stored, constants={"weight", "gate"}, exact=stored.exact)
    weights = {} if stored is None else stored.weights
    given = iter((weights.get("weight", WEIGHT), weights.get("gate", GATE), X, S))
    *nodes, output = module.graph.nodes
    for node in nodes:
        numbers.env[node] = numbers.value(node, next(given) if node.op == "placeholder" else None)
    return [numbers.env[one] for one in output.args[0]]


def half(x):
    return torch.as_tensor(x).half().float()


def test_nothing_is_rounded_where_the_source_computes_with_its_own_numbers():
    got, exact, inverse = outputs()
    assert torch.equal(got, torch.sigmoid(GATE) * (X @ WEIGHT) / 12 + 1e-6)
    assert torch.equal(exact, S * 0.1)
    assert torch.equal(inverse, 1 / X.abs())


def test_constants_are_rounded_as_a_converter_rounds_them():
    got, exact, inverse = outputs(StoredNumbers(weights={}, halved={}, exact=("s",)))
    # What is computed of constants alone is computed in float32 first; a division is a product with a rounded inverse.
    product = half(torch.sigmoid(GATE)) * (X @ half(WEIGHT))
    assert torch.equal(got, product * half(1 / 12) + half(1e-6))
    assert torch.equal(exact, S * 0.1)
    assert torch.equal(inverse, 1 / X.abs())


def test_weights_are_the_packages():
    other = torch.tensor([[0.5, 0.5], [1.5, -1.0]]).half()
    got, *_ = outputs(StoredNumbers(weights={"weight": other}, halved={}, exact=("s",)))
    product = half(torch.sigmoid(GATE)) * (X @ other.float())
    assert torch.equal(got, product * half(1 / 12) + half(1e-6))


def test_the_packages_type_decides_where_it_is_known():
    _, exact, _ = outputs(StoredNumbers(weights={}, halved={graph()[1]: True}, exact=("s",)))
    assert torch.equal(exact, S * half(0.1))
