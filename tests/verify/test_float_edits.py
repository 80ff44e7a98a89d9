"""A catalogue of broken graphs of packages in float32, of ONNX, of torch and of Core AI: each is found, and where."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass

import pytest
import torch

from s2search import registry
from s2search.exporters.package import Package
from s2search.verification.check import results
from s2search.verification.checks.blocks import BlocksCheck
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.sums import SumsCheck
from s2search.verification.opened import Opened, Options
from tests.verify.conftest import GRID, make_model
from tests.verify.float_graphs import FloatGraph, edit_asset, edit_onnx, edit_torch

pytestmark = pytest.mark.slow  # exports and traces whole models

EDITORS = {"onnx": edit_onnx, "torch_program": edit_torch, "coreai": edit_asset}


def scale_dropped(g: FloatGraph, block: str, nth: int = 0) -> None:
    node = g.find("mul", block, of=("mul", "add"), nth=nth)
    g.bypass(node, g.place_of(node, "mul"))


def shift_dropped(g: FloatGraph, block: str) -> None:
    (node,) = g.readers(g.find("mul", block, of=("mul", "add")))
    g.bypass(node, g.place_of(node, "mul"))


def relu_for_softplus(g: FloatGraph, nth: int) -> None:
    node = g.find("add", "layers.0", of=("relu", "log"), nth=nth)
    g.bypass(node, g.place_of(node, "relu"))


def gated(g: FloatGraph, module: str) -> tuple:
    """Return the product of a path with its gate, and the sum with what goes around it."""
    gate = g.reader(g.product(module), "mul")
    return gate, g.reader(gate, "add")


def gate_dropped(g: FloatGraph, module: str) -> None:
    product, (gate, _) = g.product(module), gated(g, module)
    g.replace(gate, product)


def path_dropped(g: FloatGraph, module: str) -> None:
    _, total = gated(g, module)
    g.changed(total, g.place_of(total, "mul"), "mul", 0.0)


def residual_dropped(g: FloatGraph, module: str) -> None:
    _, total = gated(g, module)
    g.changed(total, 1 - g.place_of(total, "mul"), "mul", 0.0)


def cross_attention_dropped(g: FloatGraph, layer: str) -> None:
    product = g.product(f"{layer}.cross_attention.output")
    g.bypass_to(g.reader(product, "add"), product)


def modulated(g: FloatGraph, product: str) -> tuple:
    """Return the scaling and the shift before a product."""
    shift = next(one for one in g.makers(g.multiplied(product)) if g.kind(one) == "add")
    return next(one for one in g.makers(shift) if g.kind(one) == "mul"), shift


def scale_before_dropped(g: FloatGraph, product: str) -> None:
    scaled, _ = modulated(g, product)
    g.bypass(scaled, g.place_of(scaled, "mul"))


def shift_before_dropped(g: FloatGraph, product: str) -> None:
    scaled, shift = modulated(g, product)
    g.replace(shift, scaled)


def norm_weight_dropped(g: FloatGraph, weight: str) -> None:
    node = g.reading(weight)
    g.bypass(node, g.place_of(node, "mul"))


def activation_dropped(g: FloatGraph) -> None:
    (activation,) = (one for one in g.makers(g.multiplied("stem.time.2")) if g.kind(one) in ("silu", "mul"))
    g.replace(activation, g.product("stem.time.0"))


def keys_for_values(g: FloatGraph, module: str) -> None:
    g.replace(g.product(f"{module}.value"), g.product(f"{module}.key"))


#: Of `advance`: what is wrong, where it must be found, and the change.
ADVANCE = {
    "past_bias ignored": ("layers.1", lambda g: g.input_changed("past_bias", 0.0)),
    "past_bias a ten-thousandth": ("layers.1", lambda g: g.input_changed("past_bias", 1e-4)),
    "gate's paths swapped": ("layers.0", lambda g: g.swap(g.find("sub", "layers.0", nth=-1))),
    "adaLN scale dropped": ("layers.0", lambda g: scale_dropped(g, "layers.0")),
    "adaLN scale of feed forward dropped": ("layers.1", lambda g: scale_dropped(g, "layers.1", 1)),
    "adaLN shift dropped": ("layers.2", lambda g: shift_dropped(g, "layers.2")),
    "relu for softplus of keys": ("layers.0", lambda g: relu_for_softplus(g, 0)),
    "relu for softplus of queries": ("layers.0", lambda g: relu_for_softplus(g, -1)),
    "rotation the other way": ("layers.1", lambda g: g.swap(g.find("sub", "layers.1"))),
    "cos for sin": ("stem", lambda g: g.retype(g.find("sin", "stem"), "cos")),
    "past values 0.1 % larger": ("layers.2", lambda g: g.input_changed("values_02", 1.001)),
    "exponent 1 % larger": ("layers.0", lambda g: g.changed(g.find("exp", "layers.0"), 0, "mul", 1.01)),
    "a thousandth more in the RMS norm": (
        "layers.1",
        lambda g: g.changed(g.find("mul", "layers.1", of=("sqrt", "clamp_min")), 0, "add", 1e-3),
    ),
    "a layer's norm 0.1 % larger": (
        "layers.1",
        lambda g: g.changed(g.find("mul", "layers.1", of=("mul", "add")), 0, "mul", 1.001),
    ),
    "S loses 5 % a chunk": ("layers.0", lambda g: g.input_changed("sum_00", 0.95)),
    "S loses a hundred-thousandth a chunk": ("layers.0", lambda g: g.input_changed("sum_00", 1 - 1e-5)),
    "z loses a thousandth a chunk": ("layers.0", lambda g: g.input_changed("norm_00", 0.999)),
    "keys of another layer": ("layers.2", lambda g: g.reads_other("keys_02", "keys_01")),
    "values for keys": ("layers.1", lambda g: g.reads_other("keys_01", "values_01")),
    "a tail that is never written": ("layers.0", lambda g: g.returns_input("new_tail_00", "tail_00")),
    "a ring that is never written": ("layers.1", lambda g: g.returns_input("new_keys_01", "keys_01")),
}
#: The same, and the function.
EDITS = [("advance", name, *edit) for name, edit in ADVANCE.items()] + [
    ("first", "gate of attention dropped", "layers.0", lambda g: gate_dropped(g, "layers.0.attention.output")),
    ("first", "residual dropped", "layers.2", lambda g: residual_dropped(g, "layers.2.feed_forward.narrow")),
    ("first", "cross attention dropped", "layers.1", lambda g: cross_attention_dropped(g, "layers.1")),
    ("first", "head's scale dropped", "head", lambda g: scale_before_dropped(g, "head.patch")),
    ("first", "time a thousandth later", "stem", lambda g: g.input_changed("s", 0.999)),
    (
        "first",
        "GELU of erf",
        "layers.1",
        lambda g: g.option(g.find("gelu", "layers.1"), "approximate", "approximate", "none"),
    ),
    ("first", "keys for values of the text", "layers.0", lambda g: keys_for_values(g, "layers.0.cross_attention")),
    ("denoise", "attention dropped", "layers.1", lambda g: path_dropped(g, "layers.1.attention.output")),
    (
        "denoise",
        "epsilon of layer norm a thousand times larger",
        "layers.0",
        lambda g: g.option(g.find("layer_norm", "layers.0"), "epsilon", 4, 1e-3),
    ),
    ("denoise", "head's shift dropped", "head", lambda g: shift_before_dropped(g, "head.patch")),
    (
        "denoise",
        "norm's weight dropped",
        "layers.1",
        lambda g: norm_weight_dropped(g, "layers.1.attention.query_norm.weight"),
    ),
    ("denoise", "activation of the time dropped", "stem", activation_dropped),
    (
        "denoise",
        "what is brought down 0.1 % too small",
        "down",
        lambda g: g.changed(g.multiplied("down.mix"), 0, "mul", 0.999),
    ),
    ("commit", "sin before cos", "stem", lambda g: g.turn_round(g.find("concat", "stem"))),
    ("commit", "feed forward dropped", "layers.0", lambda g: path_dropped(g, "layers.0.feed_forward.narrow")),
    (
        "commit",
        "the row that pads a grid before it",
        (
            "layers.0",
            "down",
        ),  # the last before its weights; where only ends of blocks can be seen, in what it is part of
        lambda g: g.turn_round(g.find("concat", "layers.0", nth=-1)),
    ),
    ("commit", "S is written 0.9 % too small", "layers.0", lambda g: g.output_changed("new_sum_00", 0.991)),
    ("commit", "z is written twice as large", "layers.0", lambda g: g.output_changed("new_norm_00", 2.0)),
    ("commit", "values where keys belong", "layers.1", lambda g: g.returns_other("new_keys_01", "new_values_01")),
]


@dataclass
class Whole:
    """An unbroken package; its source's graphs are the same for every broken copy."""

    opened: Opened
    edit: object

    def broken(self, function, change, folder):
        shutil.copytree(self.opened.package.folder, folder)
        self.edit(folder, function, change, self.opened)
        opened = Opened(Package.load(folder), Options(chunks=2))
        opened.__dict__.update({name: self.opened.__dict__[name] for name in ("programs", "graphs")})
        opened._states = self.opened._states
        opened.functions = lambda: (function,)
        return opened


@pytest.fixture(scope="module", params=EDITORS)
def whole(request, tmp_path_factory):
    if problem := registry.create("exporters", request.param).why_not():
        pytest.skip(problem)  # Core AI is a beta, which the tests do not install
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("packages") / "package"
    registry.create("exporters", request.param).export(make_model(), GRID, folder)
    opened = Opened(Package.load(folder), Options(chunks=2))
    _ = opened.programs, opened.graphs
    return Whole(opened, EDITORS[request.param])


def checked(opened):
    found = results(ParityCheck(), opened) + results(SumsCheck(), opened)
    return next((one for one in found if one.required and one.status == "failed"), None)


def test_the_whole_package_passes(whole):
    found = [one for check in (ParityCheck(), SumsCheck(), BlocksCheck()) for one in results(check, whole.opened)]
    assert {one.status for one in found} == {"passed"}, found


@pytest.mark.parametrize(("function", "name", "block", "change"), EDITS, ids=[" ".join(edit[:2]) for edit in EDITS])
def test_a_broken_graph_is_found_and_its_place_named(function, name, block, change, whole, tmp_path):
    found = checked(whole.broken(function, change, tmp_path / "package"))
    assert found is not None
    sys.stdout.write(f"{function}: {name}: {found.value:.1f} dB, {found.where}\n")
    layer = "" if isinstance(block, tuple) else block.rpartition(".")[2]
    assert found.where.startswith(block) or (layer.isdecimal() and f"_{int(layer):02}" in found.where), found


def test_every_function_is_broken_in_other_ways():
    """What `advance` has is not counted again."""
    others = {(name, function) for function, name, *_ in EDITS if function != "advance"}
    assert len({name for name, _ in others} - ADVANCE.keys()) >= 15
    assert {function for _, function in others} == {"first", "denoise", "commit"}
