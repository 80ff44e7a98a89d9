"""A step of the source as a graph of operations whose values can be looked at, each with its place in the model.

Exporters start from the same graph, and what they write keeps the names of its values: so a value of a package can be
compared with the source's, and the module that it belongs to can be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from s2search.export.step import FunctionName, Steps
from s2search.verify.stored import PREFIX

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the source.

    Attributes:
        name: Of its value in the graph.
        target: The operator.
        block: The part of the model: `stem`, `layers.3`, `down`, `up`, `head`.
        module: The module inside: `layers.3.attention.query`. That of the block where it is in none.
    """

    name: str
    target: str
    block: str
    module: str

    @property
    def place(self) -> str:
        """The operation as people read it."""
        return f"{self.module}: {self.target} ({self.name})"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One function of the source as a graph."""

    function: FunctionName
    steps: Steps
    program: ExportedProgram

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """All operations that give one tensor, in the order in which they run."""
        return tuple(_operations([node for node in self.program.graph.nodes if node.op == "call_function"]))

    @cached_property
    def blocks(self) -> dict[str, tuple[Operation, ...]]:
        """The operations of every block, in the order in which blocks run; `down#2` is the second time."""
        blocks: dict[str, list[Operation]] = {}
        name, before, times = "", "", dict[str, int]()
        for operation in self.operations:
            if operation.block != before:
                before = operation.block
                times[before] = times.get(before, 0) + 1
                name = before if times[before] == 1 else f"{before}#{times[before]}"
            blocks.setdefault(name, []).append(operation)
        return {name: tuple(operations) for name, operations in blocks.items()}

    @torch.no_grad()
    def values(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        """Return the values of these names in float32, for inputs as the package gets them."""
        given = iter(inputs[name] for name in self.steps.inputs(self.function))
        own = {**self.program.constants, **self.program.state_dict}
        arguments = [
            torch.from_numpy(next(given).astype(np.float32))
            if spec.kind is InputKind.USER_INPUT
            else own[str(spec.target)]
            for spec in self.program.graph_signature.input_specs
        ]
        recorder = _Recorder(fx.GraphModule(self.program.graph_module, self.program.graph), names)
        recorder.run(*arguments)
        return recorder.found


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the tensors of some names."""

    def __init__(self, module: fx.GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self.found: dict[str, NDArray[Any]] = {}
        self._names = names

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._names and isinstance(value, Tensor):
            self.found[n.name] = value.numpy().copy()
        return value


def _operations(nodes: list[fx.Node]) -> Iterator[Operation]:
    block = module = ""
    places: dict[str, tuple[str, str]] = {}
    for node in reversed(nodes):  # what stands in no module prepares the next one
        path = _path(node)
        block, module = (_block(path), path) if path else (block, block)
        places[node.name] = (block, module)
    for node in nodes:
        if isinstance(node.meta.get("val"), Tensor):
            block, module = places[node.name]
            target = getattr(node.target, "__name__", None) or str(node.target)
            yield Operation(name=node.name, target=target.removesuffix(".default"), block=block, module=module)


def _path(node: fx.Node) -> str:
    stack = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    deepest: str = max(stack, key=len, default="")
    return deepest.removeprefix(PREFIX)


def _block(path: str) -> str:
    words = path.split(".")
    return ".".join(words[:2]) if words[0] == "layers" else words[0]
