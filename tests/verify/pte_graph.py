"""A method of a saved program of ExecuTorch, to be broken: its kernels' calls, and the nodes of XNNPACK's graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2search.exporters.package import Package, write_manifest
from s2search.mil.library import quiet
from s2search.verification.inspectors.executorch_program import PteMethod, PteProgram
from s2search.verification.inspectors.unnamed import UnnamedOperation
from s2search.verification.opened import Opened
from s2search.verification.reference import places

NOTHING = 2**32 - 1  # XNN_INVALID_VALUE_ID


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation.

    Attributes:
        operation: As the inspector reads it.
        place: Its module.
        call: The call of the kernel, or of the delegate.
        inside: The node in the delegate's graph; None of a kernel.
    """

    operation: UnnamedOperation
    place: str
    call: Any
    inside: dict[str, Any] | None

    @property
    def fields(self) -> dict[str, Any]:
        assert self.inside is not None
        return self.inside["xnode_union"][1]


class PteGraph:
    """One method, changed in place.

    Args:
        program: It is left as it is.
        function: The method.
        weights: Names in the source by names of constants.
        inputs: Of the method, in their order.
        outputs: As well.
    """

    def __init__(
        self,
        program: PteProgram,
        function: str,
        weights: Callable[[str], tuple[str, ...]],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        self.plans = copy.deepcopy(program.content.execution_plan)
        self.plan = next(plan for plan in self.plans if plan.name == function)
        self.method = PteMethod(program=program, plan=self.plan)
        self._inputs = dict(zip(inputs, self.plan.inputs, strict=True))
        self._outputs = list(outputs)
        reads = [[name for one in op.reads for name in weights(one)[:1]] for op in self.method.operations]
        owners = []
        for call in (one.instr_args for one in self.plan.chains[0].instructions):
            place = getattr(call, "delegate_index", None)
            inside = [None] if place is None else self.method.graphs[place]["xnodes"]
            owners += [(call, node) for node in inside]
        self.nodes = [
            Node(operation=operation, place=place, call=call, inside=inside)
            for operation, place, (call, inside) in zip(self.method.operations, places(reads), owners, strict=True)
        ]
        self._makers = {name: node for node in self.nodes for name in node.operation.writes}

    def find(self, kind: str, place: str = "", *, of: str = "", reads: str = "", nth: int = 0) -> Node:
        """Return an operation of a kind inside a module that reads an input, or what one of another kind made."""
        found = [
            node
            for node in self.nodes
            if node.operation.kind == kind
            and (not place or f"{node.place}.".startswith(f"{place}."))
            and (not of or of in [maker.operation.kind for maker in self.makers(node)])
            and (not reads or f"v{self._inputs[reads]}" in node.operation.reads)
        ]
        return found[nth]

    def makers(self, node: Node) -> list[Node]:
        return [self._makers[name] for name in node.operation.reads if name in self._makers]

    def key_of(self, node: Node, kind: str) -> str:
        """Return the input of a node with two that an operation of a kind made."""
        made = [name in self._makers and self._makers[name].operation.kind == kind for name in node.operation.reads]
        return f"input{made.index(True) + 1}_id"

    def bypass(self, node: Node, key: str) -> None:
        """Let a node of XNNPACK give one of its inputs."""
        inner = node.fields
        self._becomes(node, "XNNCopy", {"input_id": inner[key], "output_id": inner["output_id"], "flags": 0})

    def retype(self, node: Node, kind: str) -> None:
        self._becomes(node, kind, node.fields)

    def _becomes(self, node: Node, kind: str, fields: dict[str, Any]) -> None:
        assert node.inside is not None
        node.inside.update(xnode_union=(kind, fields), output_min_max=None)

    def swap(self, node: Node) -> None:
        """Let the two inputs change places."""
        inner = node.fields
        inner["input1_id"], inner["input2_id"] = inner["input2_id"], inner["input1_id"]

    def times(self, node: Node, key: str, factor: float) -> None:
        """Let a node of XNNPACK read one of its inputs multiplied: its graphs hold no numbers, but slopes of ReLU."""
        graph = self.method.graphs[node.call.delegate_index]
        _, value = graph["xvalues"][node.fields[key]]["xvalue_union"]
        for kind, told in 2 * (("XNNLeakyReLU", {"negative_slope": factor}), ("XNNNegate", {})):
            place = len(graph["xvalues"])
            new = value | {"external_id": NOTHING, "flags": 0, "id_out": place, "constant_buffer_idx": 0}
            graph["xvalues"].append({"xvalue_union": ("XNNTensorValue", new)})
            inner = {"input_id": node.fields[key], "output_id": place, "flags": 0} | told
            added = {"xnode_union": (kind, inner), "debug_handle": 0, "output_min_max": None}
            graph["xnodes"].insert(next(i for i, one in enumerate(graph["xnodes"]) if one is node.inside), added)
            node.fields[key] = place

    def calls(self, node: Node, name: str, overload: str) -> None:
        """Let another kernel be called."""
        node.call.op_index = len(self.plan.operators)
        self.plan.operators.append(type(self.plan.operators[0])(name=name, overload=overload))

    def argument(self, node: Node, place: int, change: Callable[[Any], Any]) -> None:
        """Give a call another argument, made from the one that it has."""
        value = copy.deepcopy(self.plan.values[node.call.args[place]])
        value.val = change(value.val)
        node.call.args[place] = len(self.plan.values)
        self.plan.values.append(value)

    def reads_other(self, name: str, other: str) -> None:
        """Let everything that reads an input of the method read another one."""
        old, new = self._inputs[name], self._inputs[other]
        for call in (one.instr_args for one in self.plan.chains[0].instructions):
            call.args[:] = [new if one == old else one for one in call.args]

    def returns_input(self, output: str, name: str) -> None:
        """Let the method return an input in place of an output."""
        self.plan.outputs[self._outputs.index(output)] = self._inputs[name]


def edit_pte(folder: Path, function: str, change: Callable[[PteGraph], None], opened: Opened) -> None:
    """Change a method of a package, and write the manifest anew, as one who hides it would."""
    path = folder / "model.pte"
    program = PteProgram.load(path)
    key = "names of constants"
    if key not in opened.kept:
        manifest = opened.package.manifest
        opened.kept[key] = opened.inspector.expects(opened.source, opened.exported.stored, manifest.chunk_frames)
    weights = opened.kept[key].source_names
    with quiet():
        graph = PteGraph(
            program, function, weights, opened.exported.inputs(function), opened.exported.outputs(function)
        )
        change(graph)
        graphs = {(function, place): inside for place, inside in graph.method.graphs.items()}
        program.write(folder / "broken.pte", graph.plans, graphs)
    (folder / "broken.pte").replace(path)
    write_manifest(folder, Package.load(folder).manifest)
