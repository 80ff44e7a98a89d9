"""Functions of saved packages in float32, to be broken by the same edits: of ONNX, of torch, and of Core AI."""

from __future__ import annotations

import abc
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from s2search.exporters.package import Package, write_manifest
from s2search.verification.inspectors.coreai_program import AssetProgram
from s2search.verification.reference import block_of, places

_aten = torch.ops.aten
#: What both call an operation.
_KINDS = {"layernormalization": "layer_norm", "log1p": "log", "cat": "concat", "maximum": "max", "clip": "clamp_min"}
_KINDS |= {"batch_matmul": "matmul", "divide": "div"}
_TARGETS = {"cos": _aten.cos.default, "add": _aten.add.Tensor, "mul": _aten.mul.Tensor}


class FloatGraph(abc.ABC):
    """One function. Values are known by their names; `nodes` are operations in their order."""

    nodes: list[Any]
    reads: list[list[str]]  # weights, by node
    blocks: list[str]

    def find(self, kind: str, block: str, *, of: Collection[str] = (), nth: int = 0, read_by: str = "") -> Any:
        """Return an operation of a kind and block whose inputs are made by operations of these kinds."""
        found = [
            node
            for node, place in zip(self.nodes, self.blocks, strict=True)
            if self.kind(node) == kind
            and place == block
            and (not of or set(of) == {self.kind(maker) for maker in self.makers(node)})
            and (not read_by or read_by in {self.kind(reader) for reader in self.readers(node)})
        ]
        return found[nth]

    def place_of(self, node: Any, kind: str) -> int:
        """Return which input of an operation is made by one of a kind."""
        names = self.inputs(node)
        return next(
            i for i, name in enumerate(names) if (maker := self.maker(name)) is not None and self.kind(maker) == kind
        )

    def reading(self, weight: str) -> Any:
        """Return the operation that reads a weight."""
        return next(node for node, names in zip(self.nodes, self.reads, strict=True) if weight in names)

    def product(self, module: str) -> Any:
        """Return the operation that gives a product with its bias."""
        return self.reading(f"{module}.bias")

    def multiplied(self, module: str) -> Any:
        """Return the operation whose first input is what a module multiplies."""
        product = self.product(module)
        return next((one for one in self.makers(product) if self.kind(one) == "matmul"), product)

    def reader(self, node: Any, kind: str) -> Any:
        """Return the first operation of a kind that reads what another makes."""
        return next(one for one in self.readers(node) if self.kind(one) == kind)

    def bypass_to(self, node: Any, other: Any) -> None:
        """Let everything that reads an operation read the input that is not made by another one."""
        (place,) = (i for i, name in enumerate(self.inputs(node)) if self.maker(name) is not other)
        self.bypass(node, place)

    def makers(self, node: Any) -> list[Any]:
        return [maker for name in self.inputs(node) if (maker := self.maker(name)) is not None]

    @abc.abstractmethod
    def kind(self, node: Any) -> str: ...

    @abc.abstractmethod
    def inputs(self, node: Any) -> list[str]: ...

    @abc.abstractmethod
    def maker(self, name: str) -> Any: ...

    @abc.abstractmethod
    def readers(self, node: Any) -> list[Any]: ...

    @abc.abstractmethod
    def bypass(self, node: Any, place: int) -> None:
        """Let everything that reads an operation read one of its inputs."""

    @abc.abstractmethod
    def swap(self, node: Any) -> None:
        """Let the two inputs change places."""

    @abc.abstractmethod
    def changed(self, node: Any, place: int, operator: str, number: float) -> None:
        """Let an operation read one of its inputs multiplied by a number, or with one added."""

    @abc.abstractmethod
    def retype(self, node: Any, kind: str) -> None: ...

    @abc.abstractmethod
    def input_changed(self, name: str, factor: float) -> None:
        """Let everything that reads an input of the function read it multiplied."""

    @abc.abstractmethod
    def reads_other(self, name: str, other: str) -> None:
        """Let everything that reads an input of the function read another one."""

    @abc.abstractmethod
    def replace(self, node: Any, other: Any) -> None:
        """Let everything that reads an operation read another one."""

    @abc.abstractmethod
    def turn_round(self, node: Any) -> None:
        """Let what is joined come in the other order."""

    @abc.abstractmethod
    def option(self, node: Any, name: str, place: int | str, value: Any) -> None:
        """Set an option by ONNX's name, and by torch's place or name."""

    @abc.abstractmethod
    def output_changed(self, output: str, factor: float) -> None:
        """Let the function return an output multiplied."""

    @abc.abstractmethod
    def returns_other(self, output: str, other: str) -> None:
        """Let the function return another output in place of one."""

    @abc.abstractmethod
    def returns_input(self, output: str, name: str) -> None:
        """Let the function return an input in place of an output."""


class OnnxGraph(FloatGraph):
    def __init__(self, graph: Any) -> None:
        self._graph, self.nodes = graph, list(graph.node)
        weights = {
            one.name: one.name.removeprefix("model.") for one in graph.initializer if one.name.startswith("model.")
        }
        self.reads = [[weights[name] for name in node.input if name in weights] for node in self.nodes]
        self.blocks = [block_of(place) for place in places(self.reads)]
        self._makers = {name: node for node in self.nodes for name in node.output}

    def kind(self, node):
        kind = node.op_type.lower()
        return _KINDS.get(kind, kind)

    def inputs(self, node):
        return list(node.input)

    def maker(self, name):
        return self._makers.get(name)

    def readers(self, node):
        return [one for one in self.nodes if set(node.output) & set(one.input)]

    def _read(self, name, other, nodes):
        for node in nodes:
            for place, given in enumerate(node.input):
                node.input[place] = other if given == name else given

    def bypass(self, node, place):
        self._read(node.output[0], node.input[place], [one for one in self.nodes if one is not node])

    def swap(self, node):
        node.input[0], node.input[1] = node.input[1], node.input[0]

    def _with(self, operator, name, number):
        from onnx import helper, numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(np.float32(number), "number"))
        return helper.make_node(operator.capitalize(), [name, "number"], ["changed"])

    def changed(self, node, place, operator, number):
        at = next(i for i, one in enumerate(self._graph.node) if one.output[:1] == node.output[:1])
        self._graph.node.insert(at, self._with(operator, node.input[place], number))
        self._graph.node[at + 1].input[place] = "changed"

    def retype(self, node, kind):
        node.op_type = kind.capitalize()

    def input_changed(self, name, factor):
        self._read(name, "changed", self.nodes)
        self._graph.node.insert(0, self._with("mul", name, factor))

    def reads_other(self, name, other):
        self._read(name, other, self.nodes)

    def replace(self, node, other):
        self._read(node.output[0], other.output[0], self.nodes)

    def turn_round(self, node):
        names = list(node.input)
        del node.input[:]
        node.input.extend(reversed(names))

    def option(self, node, name, place, value):
        from onnx import helper

        kept = [one for one in node.attribute if one.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    def _lose(self, output):
        """Let an output have another name."""
        made = self._makers[output].output
        made[list(made).index(output)] = "lost"
        self._read(output, "lost", self.nodes)

    def output_changed(self, output, factor):
        self._lose(output)
        changed = self._with("mul", "lost", factor)
        changed.output[0] = output
        self._graph.node.append(changed)

    def returns_other(self, output, other):
        from onnx import helper

        self._lose(output)
        self._graph.node.append(helper.make_node("Identity", [other], [output]))

    def returns_input(self, output, name):
        self.returns_other(output, name)


class TorchGraph(FloatGraph):
    """A program of torch; its inputs and outputs have the function's names here."""

    def __init__(self, program: Any, inputs: Collection[str], outputs: Collection[str]) -> None:
        self._graph, self._program = program.graph, program
        specs = program.graph_signature.input_specs
        weights = {spec.arg.name: str(spec.target).removeprefix("model.") for spec in specs if spec.target is not None}
        users = [spec.arg.name for spec in specs if spec.kind.name == "USER_INPUT"]
        by_name = {node.name: node for node in self._graph.nodes}
        self._inputs = {name: by_name[user] for name, user in zip(inputs, users, strict=True)}
        self._outputs = list(outputs)
        self.nodes = [node for node in self._graph.nodes if node.op == "call_function"]
        self.reads = [[weights[x.name] for x in node.all_input_nodes if x.name in weights] for node in self.nodes]
        self.blocks = [block_of(place) for place in places(self.reads)]
        self._by_name = by_name

    def kind(self, node):
        kind = str(node.target).removeprefix("aten.").partition(".")[0].removeprefix("_")
        return _KINDS.get(kind, kind)

    def inputs(self, node):
        return [one.name if isinstance(one, fx.Node) else "" for one in node.args]

    def maker(self, name):
        node = self._by_name.get(name)
        return node if node is not None and node.op == "call_function" else None

    def readers(self, node):
        return [one for one in node.users if one.op == "call_function"]

    def bypass(self, node, place):
        node.replace_all_uses_with(node.args[place])

    def swap(self, node):
        node.args = (node.args[1], node.args[0], *node.args[2:])

    def _with(self, operator, value, number):
        new = self._graph.call_function(_TARGETS[operator], (value, number))
        new.meta = {"val": value.meta["val"]}
        return new

    def changed(self, node, place, operator, number):
        with self._graph.inserting_before(node):
            node.update_arg(place, self._with(operator, node.args[place], number))

    def retype(self, node, kind):
        node.target = _TARGETS[kind]

    def input_changed(self, name, factor):
        value = self._inputs[name]
        users = list(value.users)
        with self._graph.inserting_before(self.nodes[0]):
            new = self._with("mul", value, factor)
        for user in users:
            user.replace_input_with(value, new)

    def reads_other(self, name, other):
        self._inputs[name].replace_all_uses_with(self._inputs[other])

    def replace(self, node, other):
        node.replace_all_uses_with(other)

    def turn_round(self, node):
        node.args = (list(reversed(node.args[0])), *node.args[1:])

    def option(self, node, name, place, value):
        if isinstance(place, int):
            node.update_arg(place, value)
        else:
            node.update_kwarg(place, value)

    def _returned(self, output):
        return self._graph.output_node().args[0][self._outputs.index(output)]

    def _returns(self, output, target, *arguments):
        """Let the function return what an operator gives in place of an output."""
        node = self._graph.output_node()
        returned = list(node.args[0])
        with self._graph.inserting_before(node):
            new = self._graph.call_function(target, arguments)
        new.meta = {"val": arguments[0].meta["val"]}
        returned[self._outputs.index(output)] = new
        node.args = (tuple(returned),)

    def output_changed(self, output, factor):
        self._returns(output, _TARGETS["mul"], self._returned(output), factor)

    def returns_other(self, output, other):
        self._returns(output, _aten.clone.default, self._returned(other))

    def returns_input(self, output, name):
        self._returns(output, _aten.clone.default, self._inputs[name])

    def finish(self) -> None:
        """Let the program's signature name what it returns."""
        specs = self._program.graph_signature.output_specs
        for spec, node in zip(specs, self._graph.output_node().args[0], strict=True):
            spec.arg.name = node.name
        self._graph.eliminate_dead_code()
        self._graph.lint()
        self._program.graph_module.recompile()


class AssetGraph(FloatGraph):
    """A graph of Core AI's module; its constants are no operations here."""

    def __init__(self, program: Any, function: str, opened: Any) -> None:
        from coreai._compiler import ir

        self._ir, self._module, self._graph = ir, program.module, program.graph(function)
        expected = opened.inspector.expects(opened.source, opened.exported.stored, opened.package.manifest.chunk_frames)
        arguments = self._names("arg_attrs")
        self._values = dict(zip(arguments, self._block.arguments, strict=True))
        self._constants: dict[Any, list[str]] = {}
        self.nodes, self.reads = [], []
        for node in (one.operation for one in self._block.operations):
            if node.name == "coreai.constant":
                digest = program.digest(node)
                self._constants[node.results[0]] = list(expected.source_names(digest)) if digest else []
            elif node.name != "coreai.output":
                self._values |= {f"v{len(self._values) + n}": value for n, value in enumerate(node.results)}
                self.nodes.append(node)
                self.reads.append([name for value in node.operands for name in self._constants.get(value, [])])
        self._by_value = {value: name for name, value in self._values.items()}
        self.blocks = [block_of(place) for place in places(self.reads)]

    @property
    def _block(self):
        return self._graph.regions[0].blocks[0]

    def _names(self, attribute):
        told = self._ir.ArrayAttr(self._graph.attributes[attribute])
        return [self._ir.StringAttr(self._ir.DictAttr(one)["coreai.name"]).value for one in told]

    def kind(self, node):
        kind = node.name.removeprefix("coreai.").removeprefix("decomposable.broadcasting_")
        if kind == "invoke" and "layer_norm" in str(node.attributes["callee"]):
            return "layer_norm"
        if kind == "maximum" and any(value in self._constants for value in node.operands):
            return "clamp_min"
        return _KINDS.get(kind, kind)

    def inputs(self, node):
        return [self._by_value.get(value, "") for value in node.operands]

    def maker(self, name):
        """What turns a value into another shape is looked through."""
        value = self._values.get(name)
        found = next((one for one in self.nodes if value is not None and value in list(one.results)), None)
        if found is not None and self.kind(found) == "reshape":
            return self.maker(self.inputs(found)[0]) or found
        return found

    def readers(self, node):
        found = [one for one in self.nodes if set(one.operands) & set(node.results)]
        return [x for one in found for x in ([one, *self.readers(one)] if self.kind(one) == "reshape" else [one])]

    def bypass(self, node, place):
        node.results[0].replace_all_uses_with(node.operands[place])

    def swap(self, node):
        node.operands[0], node.operands[1] = node.operands[1], node.operands[0]

    def _with(self, operator, value, number, before):
        ir = self._ir
        with self._graph.context, ir.Location.unknown():
            scalar = ir.Attribute.parse(f"dense<{number:e}> : tensor<f32>")
            at = ir.InsertionPoint(before)
            attributes, shape = {"value": scalar}, ir.RankedTensorType.get([], ir.F32Type.get())
            constant = ir.Operation.create("coreai.constant", results=[shape], attributes=attributes, ip=at)
            kind = f"coreai.decomposable.broadcasting_{operator}"
            operands = [value, constant.results[0]]
            return ir.Operation.create(kind, results=[value.type], operands=operands, ip=at).results[0]

    def changed(self, node, place, operator, number):
        node.operands[place] = self._with(operator, node.operands[place], number, node)

    def retype(self, node, kind):
        ir = self._ir
        with self._graph.context, ir.Location.unknown():
            results, operands = [one.type for one in node.results], list(node.operands)
            new = ir.Operation.create(f"coreai.{kind}", results=results, operands=operands, ip=ir.InsertionPoint(node))
        node.results[0].replace_all_uses_with(new.results[0])

    def input_changed(self, name, factor):
        value = self._values[name]
        new = self._with("mul", value, factor, self._block.operations[0])
        value.replace_all_uses_with(new)
        new.owner.operands[0] = value

    def reads_other(self, name, other):
        self._values[name].replace_all_uses_with(self._values[other])

    def replace(self, node, other):
        node.results[0].replace_all_uses_with(other.results[0])

    def turn_round(self, node):
        joined = list(node.operands)[1:]  # behind the axis
        for place, value in enumerate(reversed(joined), 1):
            node.operands[place] = value

    def option(self, node, name, place, value):
        """Options are attributes; those of what is invoked are also constants in its own graph."""
        ir = self._ir
        with self._graph.context:
            if self.kind(node) != "layer_norm":
                node.attributes[name] = type(node.attributes[name]).parse(
                    str(node.attributes[name]).replace("tanh", value)
                )
                return
            called = str(node.attributes["callee"]).partition("@")[2].partition(">")[0]
            for one in (one.operation for one in self._module.body.operations):
                if str(one.attributes["sym_name"]).strip('"') == called:
                    told = str(one.attributes["composite_decl"])
                    old = told.partition("eps = ")[2].partition(" :")[0]
                    one.attributes["composite_decl"] = ir.Attribute.parse(told.replace(old, f"{value:e}"))
                    for inner in (inner.operation for inner in one.regions[0].blocks[0].operations):
                        if inner.name == "coreai.constant" and old in str(inner.attributes["value"]):
                            inner.attributes["value"] = ir.Attribute.parse(f"dense<{value:e}> : tensor<f32>")

    @property
    def _returned(self):
        (node,) = (one.operation for one in self._block.operations if one.operation.name == "coreai.output")
        return node

    def output_changed(self, output, factor):
        place = self._names("res_attrs").index(output)
        self.changed(self._returned, place, "mul", factor)

    def returns_other(self, output, other):
        names = self._names("res_attrs")
        self._returned.operands[names.index(output)] = self._returned.operands[names.index(other)]

    def returns_input(self, output, name):
        self._returned.operands[self._names("res_attrs").index(output)] = self._values[name]


def edit_onnx(folder: Path, function: str, change: Callable[[FloatGraph], None], opened: Any) -> None:
    """Change a function of a package, and write the manifest anew, as one who hides it would."""
    import onnx

    path = folder / f"{function}.onnx"
    model = onnx.load(path, load_external_data=False)
    change(OnnxGraph(model.graph))
    onnx.save(model, path)
    write_manifest(folder, Package.load(folder).manifest)


def edit_torch(folder: Path, function: str, change: Callable[[FloatGraph], None], opened: Any) -> None:
    """Change the program that a function is a part of, and write the manifest anew."""
    whole = "first" if function == "first" else "advance"
    path = folder / f"{whole}.pt2"
    program = torch.export.load(path)
    graph = TorchGraph(program, opened.exported.inputs(whole), opened.exported.outputs(whole))
    change(graph)
    graph.finish()
    torch.export.save(program, path)
    write_manifest(folder, Package.load(folder).manifest)


def edit_asset(folder: Path, function: str, change: Callable[[FloatGraph], None], opened: Any) -> None:
    """Change a function of an asset, and write the manifest anew."""
    path = Package.load(folder).only_file()
    program = AssetProgram(path, ())
    change(AssetGraph(program, function, opened))
    assert program.module.operation.verify()
    shutil.rmtree(path)
    program.save(path)
    write_manifest(folder, Package.load(folder).manifest)
