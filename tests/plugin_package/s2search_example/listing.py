"""listing: an exporter and its inspector. Weights as safetensors, each function as a list of ATen operators in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import fx

from s2search.exporters.base import Exporter, Runtime, Written
from s2search.exporters.functions import trace_functions
from s2search.exporters.graph import decompositions
from s2search.exporters.package import Package
from s2search.verification.inspectors.base import Inspector
from s2search.verification.inspectors.stored_tensor import StoredTensor


@dataclass(frozen=True, kw_only=True)
class Listing(Exporter):
    """Writes graphs that people can read, and runs them operator by operator."""

    name: ClassVar[str] = "listing"

    def why_not(self) -> str | None:
        return None  # or one line: what is missing here, and the remedy

    def write(self, steps, folder, progress):
        programs = trace_functions(steps, decompositions(), progress, further=1)
        weights = {}
        for function, program in programs.items():
            own = {**program.state_dict, **program.constants}
            listing = {"inputs": [], "operators": [], "outputs": []}
            for spec in program.graph_signature.input_specs:
                listing["inputs"].append([spec.arg.name, spec.target])
                if spec.target is not None:
                    weights[f"{function}.{spec.target}"] = own[spec.target].detach().clone().contiguous()
            for node in program.graph.nodes:
                if node.op == "call_function":
                    listing["operators"].append([node.name, str(node.target), plain(node.args), plain(node.kwargs)])
            listing["outputs"] = [node.name for node in program.graph.output_node().args[0]]
            (folder / f"{function}.json").write_text(json.dumps(listing))
        save_file(weights, folder / "weights.safetensors")
        progress(3, 3, "")
        return Written(files={function: f"{function}.json" for function in programs}, facts={"torch": version("torch")})

    def open(self, package: Package) -> Runtime:
        return ListingRuntime(package)


class ListingRuntime(Runtime):
    def __init__(self, package: Package) -> None:
        self.package, self.weights = package, load_file(package.folder / "weights.safetensors")

    @torch.no_grad()
    def run(self, function: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        spec = self.package.manifest.function(function)
        listing = json.loads((self.package.folder / spec.file).read_text())
        given = iter(torch.from_numpy(inputs[one.name].copy()) for one in spec.inputs)
        values = {
            name: next(given) if target is None else self.weights[f"{function}.{target}"]
            for name, target in listing["inputs"]
        }
        for name, operator, args, kwargs in listing["operators"]:
            values[name] = found(operator)(*filled(args, values), **filled(kwargs, values))
        return {
            one.name: values[name].numpy().copy() for one, name in zip(spec.outputs, listing["outputs"], strict=True)
        }


@dataclass(frozen=True, kw_only=True)
class ListingInspector(Inspector):
    """Reads the weights, which have the names of the model's behind that of their function."""

    def stored_tensors(self, package: Package) -> Iterator[StoredTensor]:
        for name, tensor in load_file(package.folder / "weights.safetensors").items():
            _, _, weight = name.partition(".")
            yield StoredTensor(file="weights.safetensors", name=weight, values=tensor.numpy())


def plain(value):
    """Turn arguments into JSON: a value by its name, a type of torch by its own."""
    if isinstance(value, fx.Node):
        return {"value": value.name}
    if isinstance(value, (torch.dtype, torch.device, torch.layout, torch.memory_format)):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def filled(value, values):
    """Turn JSON into arguments."""
    if isinstance(value, list):
        return [filled(item, values) for item in value]
    if isinstance(value, dict):
        if "value" in value:
            return values[value["value"]]
        if "torch" in value:
            return torch.device("cpu") if value["torch"] == "cpu" else getattr(torch, value["torch"])
        return {key: filled(item, values) for key, item in value.items()}
    return value


def found(operator: str):
    """Return an operator of ATen, and none but those: a package must not name code to run."""
    library, *words = operator.split(".")
    if library == "<built-in function getitem>":
        return lambda values, index: values[index]
    if library != "aten" or len(words) != 2:
        raise ValueError(f"the operator {operator!r}")
    return getattr(getattr(torch.ops.aten, words[0]), words[1])
