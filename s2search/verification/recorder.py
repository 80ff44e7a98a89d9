"""Runs a graph of the source and keeps values, with the source's numbers or with those that a package stores.

A package in float16 holds rounded weights, tables and scalars; a compressed one holds weights from palettes. What its
graph then computes is far from the source, even where every operation is right. A graph of the source that computes
with the same numbers is not: what is left between the two is the order of sums in float32, over 100 dB on our models.

What a converter computes of constants alone it computes in float32, and rounds the result: so do we. Two rewritings of
coremltools are known here: a division by a constant becomes a product with its rounded inverse, and a reciprocal
adds 1e-4 first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

if TYPE_CHECKING:
    from numpy.typing import NDArray

_aten = torch.ops.aten
_INVERSE_EPSILON = 1e-4  # of Core ML's `inverse`


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


class Recorder(fx.Interpreter):
    """Runs a graph and keeps the tensors of some names."""

    def __init__(self, module: fx.GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self.found: dict[str, NDArray[Any]] = {}
        self._names = names

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node, and keep its value where it is one of the names."""
        value = self.computed(n)
        if n.name in self._names and isinstance(value, Tensor):
            self.found[n.name] = value.numpy().copy()
        return value

    def computed(self, n: fx.Node) -> Any:
        """Return a node's value."""
        return super().run_node(n)


class StoredRecorder(Recorder):
    """Runs a graph as a package stores its constants: in float16, but where the package itself is float32.

    Args:
        module: The graph.
        names: What is kept.
        stored: The package's numbers.
        constants: Names of the placeholders that are no inputs.
    """

    def __init__(
        self, module: fx.GraphModule, names: set[str], stored: StoredNumbers, constants: Collection[str]
    ) -> None:
        super().__init__(module, names)
        self._stored, self._placeholders = stored, constants
        self._constants: set[fx.Node] = set()
        self._exact: set[fx.Node] = set()

    def computed(self, n: fx.Node) -> Any:
        """Return a node's value; what it reads of constants is rounded first where the package's value is float16."""
        if n.op == "placeholder":
            self._constants |= {n} if n.name in self._placeholders else set()
            self._exact |= {n} if n.name in self._stored.exact else set()
            return super().computed(n)
        if n.op != "call_function":
            return super().computed(n)
        read = [one for one in n.all_input_nodes if one not in self._constants]
        if not read:
            self._constants.add(n)
            return self._called(n, _plain)
        half = self._stored.halved.get(n.name)
        if not half and (half is False or all(one in self._exact for one in read)):
            self._exact.add(n)
            return self._called(n, _plain)
        if n.target is _aten.reciprocal.default:
            return 1 / (self.env[read[0]] + _INVERSE_EPSILON)
        if n.target is _aten.div.Tensor and n.args[1] not in read:
            divisor: Any = self.env[n.args[1]] if isinstance(n.args[1], fx.Node) else torch.tensor(float(n.args[1]))  # type: ignore[arg-type]
            return self._value(n.args[0], _rounded) * _rounded(1 / _plain(divisor))
        return self._called(n, _rounded)

    def _called(self, n: fx.Node, taken: Callable[[Any], Any]) -> Any:
        arguments = [self._value(one, taken) for one in n.args]
        options = {name: self._value(one, taken) for name, one in n.kwargs.items()}
        assert callable(n.target)
        return n.target(*arguments, **options)

    def _value(self, argument: Any, taken: Callable[[Any], Any]) -> Any:
        if isinstance(argument, fx.Node):
            value = self.env[argument]
            return taken(value) if argument in self._constants else value
        if isinstance(argument, float):
            return taken(argument)
        if isinstance(argument, (list, tuple)):
            return type(argument)(self._value(one, taken) for one in argument)
        return argument


def _plain(value: Any) -> Any:
    """Return a constant as float32: stored weights wait in float16."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _rounded(value: Any) -> Any:
    """Return a constant as float16 holds it."""
    if isinstance(value, float):
        return float(torch.tensor(value).half())
    return value.half().float() if isinstance(value, Tensor) and value.is_floating_point() else value
