"""Computes a graph of the source, with the source's numbers or with those that a package stores.

A package in float16 holds rounded weights, tables and scalars; a compressed one holds weights from palettes. What its
graph then computes is far from the source, even where every operation is right. A graph of the source that computes
with the same numbers is not: what is left between the two is the order of sums in float32, over 100 dB on our models.

What a converter computes of constants alone it computes in float32, and rounds the result: so do we. One rewriting of
coremltools is known here: a division by a constant becomes a product with its rounded inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

_aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class StoredNumbers:
    """The numbers of one function of a package, where they are not the source's.

    Attributes:
        weights: Float16, by the graph's name of the parameter, in any shape of the same order; those left out are the
            source's.
        halved: Whether values are float16, by their names in the graph; those left out are as what they are made of.
        exact: Inputs that stay float32.
    """

    weights: Mapping[str, Tensor]
    halved: Mapping[str, bool]
    exact: Collection[str]


class SourceNumbers(fx.Interpreter):
    """Computes a graph node by node, in their order; the caller keeps what it gives in `env`."""

    def value(self, n: fx.Node, given: Tensor | None) -> Any:
        """Return a node's value; a placeholder's is given."""
        return given if n.op == "placeholder" else self.run_node(n)


class PackageNumbers(SourceNumbers):
    """Computes a graph as a package stores its constants: in float16, but where the package itself is float32.

    Args:
        module: The graph.
        stored: The package's numbers.
        constants: Names of the placeholders that are no inputs.
        exact: Names of the placeholders of inputs that stay float32.
    """

    def __init__(
        self, module: fx.GraphModule, stored: StoredNumbers, *, constants: Collection[str], exact: Collection[str]
    ) -> None:
        super().__init__(module)
        self._stored, self._placeholders, self._exact_inputs = stored, constants, exact
        self._constants: set[fx.Node] = set()
        self._exact: set[fx.Node] = set()

    def value(self, n: fx.Node, given: Tensor | None) -> Any:
        """Return a node's value; what it reads of constants is rounded first where the package's value is float16."""
        if n.op == "placeholder":
            self._constants |= {n} if n.name in self._placeholders else set()
            self._exact |= {n} if n.name in self._exact_inputs else set()
            return given
        if n.op != "call_function":
            return self.run_node(n)
        read = [one for one in n.all_input_nodes if one not in self._constants]
        if not read:
            self._constants.add(n)
            return self._called(n, _plain)
        half = self._stored.halved.get(n.name)
        if not half and (half is False or all(one in self._exact for one in read)):
            self._exact.add(n)
            return self._called(n, _plain)
        if n.target is _aten.div.Tensor and n.args[1] not in read:
            divisor: Any = self.env[n.args[1]] if isinstance(n.args[1], fx.Node) else torch.tensor(float(n.args[1]))  # type: ignore[arg-type]
            return self._argument(n.args[0], _rounded) * _rounded(1 / _plain(divisor))
        return self._called(n, _rounded)

    def _called(self, n: fx.Node, taken: Callable[[Any], Any]) -> Any:
        arguments = [self._argument(one, taken) for one in n.args]
        options = {name: self._argument(one, taken) for name, one in n.kwargs.items()}
        assert callable(n.target)
        return n.target(*arguments, **options)

    def _argument(self, argument: Any, taken: Callable[[Any], Any]) -> Any:
        if isinstance(argument, fx.Node):
            value = self.env[argument]
            return taken(value) if argument in self._constants else value
        if isinstance(argument, float):
            return taken(argument)
        if isinstance(argument, (list, tuple)):
            return type(argument)(self._argument(one, taken) for one in argument)
        return argument


def _plain(value: Any) -> Any:
    """Return a constant as float32: stored weights wait in float16."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _rounded(value: Any) -> Any:
    """Return a constant as float16 holds it."""
    if isinstance(value, float):
        return float(torch.tensor(value).half())
    return value.half().float() if isinstance(value, Tensor) and value.is_floating_point() else value
