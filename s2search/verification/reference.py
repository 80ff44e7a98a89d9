"""A step of the source as a graph of operations whose values can be looked at, each with its place in the model.

Exporters start from the same graph, and what they write keeps the names of its values: so a value of a package can be
compared with the source's, and the module that it belongs to can be named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from s2search.exporters.step import FunctionName, Steps
from s2search.verification.inspectors.stored_tensor import PREFIX
from s2search.verification.numbers import PackageNumbers, SourceNumbers, StoredNumbers

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class SourceOperation:
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
    """One function of the source as a graph, which computes with the source's numbers or with those of a package."""

    function: FunctionName
    steps: Steps
    program: ExportedProgram
    stored: StoredNumbers | None = None

    @cached_property
    def operations(self) -> tuple[SourceOperation, ...]:
        """All operations that give one tensor, in the order in which they run."""
        specs = self.program.graph_signature.input_specs
        weights = {spec.arg.name: str(spec.target).removeprefix(PREFIX) for spec in specs if spec.target is not None}
        return tuple(_operations([node for node in self.program.graph.nodes if node.op == "call_function"], weights))

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of their values."""
        return frozenset(operation.name for operation in self.operations)

    @cached_property
    def blocks(self) -> dict[str, tuple[SourceOperation, ...]]:
        """The operations of every block, in the order in which blocks run; `down#2` is the second time."""
        blocks: dict[str, list[SourceOperation]] = {}
        for operation, block in zip(self.operations, turns([one.block for one in self.operations]), strict=True):
            blocks.setdefault(block, []).append(operation)
        return {block: tuple(operations) for block, operations in blocks.items()}

    def values(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        """Return the values of operations or outputs by name in float32, for inputs as the package gets them."""
        nodes = (node.name for node in self.program.graph.output_node().args[0])
        outputs = dict(zip(self.steps.outputs(self.function), nodes, strict=True))
        node_of = {name: outputs.get(name, name) for name in names}
        found = {node: x.numpy().copy() for node, x in self.stream(inputs, {*node_of.values()})}
        return {name: found[node] for name, node in node_of.items() if node in found}

    @torch.no_grad()
    def stream(self, inputs: Mapping[str, NDArray[Any]], names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield values of the graph by name, in its order; nothing is kept that no later operation reads."""
        given = iter(inputs[name] for name in self.steps.inputs(self.function))
        arguments = [
            torch.from_numpy(next(given).astype(np.float32))
            if spec.kind is InputKind.USER_INPUT
            else self._constant(str(spec.target))
            for spec in self.program.graph_signature.input_specs
        ]
        interpreter = self._interpreter()
        nodes = interpreter.graph.nodes
        left = iter(arguments)
        for node in nodes:
            if node.op == "output":
                return
            value = interpreter.value(node, next(left) if node.op == "placeholder" else None)
            interpreter.env[node] = value
            for unused in interpreter.user_to_last_uses.get(node, []):
                del interpreter.env[unused]
            if node.name in names and isinstance(value, Tensor):
                yield node.name, value.detach()  # a placeholder may be a parameter

    def _interpreter(self) -> SourceNumbers:
        if self.stored is None:
            return SourceNumbers(self._module)
        specs = self.program.graph_signature.input_specs
        fixed = {spec.arg.name for spec in specs if spec.kind is not InputKind.USER_INPUT}
        taken = (spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT)
        inputs = zip(taken, self.steps.inputs(self.function), strict=True)
        exact = [node for node, name in inputs if name in self.stored.exact]
        return PackageNumbers(self._module, self.stored, constants=fixed, exact=exact)

    @cached_property
    def _module(self) -> fx.GraphModule:
        return fx.GraphModule(self.program.graph_module, self.program.graph)

    def _constant(self, target: str) -> Tensor:
        """Return a parameter, a buffer or a lifted constant, with the numbers of the package where it stores them."""
        own: Tensor = self.program.constants.get(target, self.program.state_dict.get(target))
        stored = None if self.stored is None else self.stored.weights.get(target)
        return own if stored is None else stored.view(own.shape)


def folded(program: ExportedProgram, weight: str) -> list[Tensor]:
    """Return everything that a program computes of one weight and constants alone: what converters may store instead.

    Args:
        program: A graph of the source.
        weight: Its name in the source.
    """
    names = {spec.arg.name: str(spec.target) for spec in program.graph_signature.input_specs}
    values: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and names.get(node.name) == PREFIX + weight:
            values[node] = program.state_dict[PREFIX + weight]
        elif node.op == "call_function" and node.all_input_nodes and all(x in values for x in node.all_input_nodes):
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda x: values[x])
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
    return [x for x in values.values() if isinstance(x, Tensor)]


def _operations(nodes: list[fx.Node], weights: Mapping[str, str]) -> Iterator[SourceOperation]:
    reads = [[weights[x.name] for x in node.all_input_nodes if x.name in weights] for node in nodes]
    for node, place in zip(nodes, places(reads), strict=True):
        if isinstance(node.meta.get("val"), Tensor):
            target = getattr(node.target, "__name__", None) or str(node.target)
            yield SourceOperation(
                name=node.name, target=target.removesuffix(".default"), block=block_of(place), module=place
            )


def places(reads: Sequence[Sequence[str]]) -> list[str]:
    """Return the module of every operation, in the order in which they run, from the weights that each of them reads.

    One that reads a weight is in the weight's module. Others are in the module that the reads before and after them
    have in common; between two blocks, in the first.

    >>> places([["layers.0.query.weight"], [], ["layers.0.key.weight"], [], ["layers.1.query.weight"]])
    ['layers.0.query', 'layers.0', 'layers.0.key', 'layers.0', 'layers.1.query']
    """
    modules = [_module(names) for names in reads]
    later, after = [""] * len(modules), ""
    for i in reversed(range(len(modules))):
        after = modules[i] or after
        later[i] = after
    found, before = [], ""
    for module, following in zip(modules, later, strict=True):
        before = module or before
        found.append(module or _common(before or following, following))
    return found


def turns(blocks: Sequence[str]) -> list[str]:
    """Return the block of every operation, `down#2` for the second time that a block runs.

    >>> turns(["down", "layers.1", "down", "down"])
    ['down', 'layers.1', 'down#2', 'down#2']
    """
    found, before, times = list[str](), "", Counter[str]()
    for block in blocks:
        times[block] += block != before
        before = block
        found.append(block if times[block] == 1 else f"{block}#{times[block]}")
    return found


def block_of(module: str) -> str:
    """Return the block that a module is in.

    >>> block_of("layers.3.attention.query"), block_of("stem.patch")
    ('layers.3', 'stem')
    """
    words = module.split(".")
    return ".".join(words[:2]) if words[0] == "layers" else words[0]


def _module(read: Sequence[str]) -> str:
    """Return the module whose weight an operation reads."""
    return read[0].rpartition(".")[0].removesuffix(".convolution") if read else ""


def _common(before: str, after: str) -> str:
    words = []
    for a, b in zip(before.split("."), (after or before).split("."), strict=False):
        if a != b:
            break
        words.append(a)
    common = ".".join(words)
    return common if common.startswith(block_of(before)) else block_of(before)
