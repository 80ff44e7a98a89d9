"""A step's functions as graphs of ATen operators. One trace serves those that read the state: each keeps its part."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from s2search.exporters.graph import VIEWS, banded, exported
from s2search.exporters.package import Progress
from s2search.exporters.past import FUNCTIONS, FunctionName
from s2search.mil.library import quiet

if TYPE_CHECKING:
    from s2search.exporters.step import Steps

_KEPT = ("val", "tensor_meta")
_CHECK = torch.ops.aten._assert_tensor_metadata.default


def trace_functions(
    steps: Steps, table: dict[Any, Any], progress: Progress, *, further: int
) -> dict[FunctionName, ExportedProgram]:
    """Export the wanted functions of a step, with depthwise 3-D convolutions rewritten and equal operations made one.

    Args:
        steps: The step.
        table: Operators to take apart; see `decompositions`.
        progress: Called before every trace.
        further: How much more work the caller has, in traces.
    """
    wanted = steps.functions
    reading = tuple(function for function in wanted if function != "first")
    whole: tuple[FunctionName, ...] = reading if len(reading) < 2 else ("advance",)
    traced = (*(function for function in wanted if function == "first"), *whole)
    programs: dict[FunctionName, ExportedProgram] = {}
    for done, function in enumerate(traced):
        progress(done, len(traced) + further, f"tracing {function}")
        programs |= trace_function(steps, function, table)
    return {function: programs[function] for function in FUNCTIONS if function in wanted}


def trace_function(steps: Steps, function: FunctionName, table: dict[Any, Any]) -> dict[FunctionName, ExportedProgram]:
    """Export one function; `advance` gives the two that are parts of it as well."""
    program = program_of(steps.function(function), tuple(steps.blank(function).values()), table)
    if function != "advance":
        return {function: program}
    with quiet():
        denoise = with_outputs(program, 0, 1)
        commit = with_outputs(program, 1, len(steps.outputs("advance")) - 1)
    return {"denoise": denoise, "commit": commit, "advance": program}


def program_of(module: nn.Module, inputs: tuple[Tensor, ...], table: dict[Any, Any]) -> ExportedProgram:
    """Export a module for inputs of these shapes, 3-D convolutions rewritten and equal operations made one."""
    program = exported(banded(module, inputs), inputs, table)
    _without_traces(program.graph)
    _share_equal(program)
    return program


def with_outputs(program: ExportedProgram, first: int, count: int) -> ExportedProgram:
    """Return a program with some of another's outputs, and without what only the others need. They share weights."""
    graph = copy.deepcopy(program.graph)
    output = graph.output_node()
    kept = output.args[0][first : first + count]
    output.args = (tuple(kept),)
    _remove_unused(graph)
    signature = program.graph_signature
    calls = copy.deepcopy(program.module_call_graph)
    assert calls[0].signature is not None
    calls[0].signature.out_spec = pytree.tree_structure(tuple(kept))
    calls[0].signature.outputs = calls[0].signature.outputs[first : first + count]
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=ExportGraphSignature(
            input_specs=copy.deepcopy(signature.input_specs),
            output_specs=copy.deepcopy(signature.output_specs[first : first + count]),
        ),
        state_dict=dict(program.state_dict),  # passes of converters take out what they fold
        range_constraints=program.range_constraints,
        module_call_graph=calls[:1],
        example_inputs=program.example_inputs,
        constants=dict(program.constants),
        verifiers=program.verifiers,
    )


def program_between(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> ExportedProgram:
    """Return the part of a program that makes some of its values of others. Names of values stay; weights are shared.

    Args:
        program: A graph.
        inputs: Names of values that are given, in the order in which they shall be.
        outputs: Names of values that are wanted, in their order.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    weights = [spec for spec in program.graph_signature.input_specs if spec.target is not None]
    given = [nodes[name] for name in inputs]
    # Views of views were joined, also across what is given here: they read it all the same.
    viewed = {node.args[0]: node for node in given if node.target in VIEWS}

    def read(by: fx.Node, node: fx.Node) -> fx.Node:
        return viewed.get(node, node) if by.target in VIEWS else node

    needed, open_ = set(given), [nodes[name] for name in outputs]
    while open_:
        node = open_.pop()
        if node not in needed:
            needed.add(node)
            open_ += [read(node, one) for one in node.all_input_nodes]
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    specs = [spec for spec in weights if nodes[spec.arg.name] in needed]
    for node in (*(nodes[spec.arg.name] for spec in specs), *given):
        copies[node] = graph.placeholder(node.name)
        copies[node].meta = dict(node.meta)
    for node in program.graph.nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, lambda one, by=node: copies[read(by, one)])  # type: ignore[misc]
    graph.output(tuple(copies[nodes[name]] for name in outputs))
    return _of_graph(program, graph, specs, tuple(copies[node] for node in given))


def _of_graph(
    program: ExportedProgram, graph: fx.Graph, weights: list[Any], given: tuple[fx.Node, ...]
) -> ExportedProgram:
    """Return a program of a graph that was copied from another's."""
    taken = [InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None) for node in given]
    kept: Any = graph.output_node().args[0]
    returned = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in kept]
    signature = ModuleCallSignature(
        inputs=[spec.arg for spec in taken],
        outputs=[spec.arg for spec in returned],
        in_spec=pytree.tree_structure((given, {})),
        out_spec=pytree.tree_structure(kept),
    )
    targets = {spec.target for spec in weights}
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=ExportGraphSignature(
            input_specs=[*copy.deepcopy(weights), *taken],
            output_specs=returned,
        ),
        state_dict={name: x for name, x in program.state_dict.items() if name in targets},
        range_constraints={},
        module_call_graph=[ModuleCallEntry(fqn="", signature=signature)],
        example_inputs=None,
        constants={name: x for name, x in program.constants.items() if name in targets},
        verifiers=program.verifiers,
    )


def _without_traces(graph: fx.Graph) -> None:
    """Drop what tracing leaves behind: checks of types, which are fixed, and where in the code a node came from."""
    for node in list(graph.nodes):
        node.meta = {key: value for key, value in node.meta.items() if key in _KEPT}
        if node.target is _CHECK:
            graph.erase_node(node)
    _remove_unused(graph)


def _remove_unused(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users:
            graph.erase_node(node)


def _share_equal(program: ExportedProgram) -> None:
    """Let operations of the same arguments be one: `advance` makes keys, values and sums once, not twice."""
    seen: dict[Any, fx.Node] = {}
    for node in list(program.graph.nodes):
        if node.op != "call_function":
            continue
        key = (node.target, _frozen(node.args), _frozen(tuple(sorted(node.kwargs.items()))))
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            program.graph.erase_node(node)
    for spec, node in zip(program.graph_signature.output_specs, program.graph.output_node().args[0], strict=True):
        spec.arg.name = node.name
    program.graph_module.recompile()


def _frozen(value: Any) -> Any:
    """Return an argument as something that can be a key: 1, 1.0 and True differ."""
    if isinstance(value, (tuple, list)):
        return tuple(_frozen(item) for item in value)
    return value if isinstance(value, fx.Node) else (type(value), value)
