"""A catalogue of broken graphs of packages in float32, of ONNX and of torch: each is found, and where."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pytest
import torch

from s2search import registry
from s2search.exporters.package import Package
from s2search.verification.check import results
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.sums import SumsCheck
from s2search.verification.opened import Opened, Options
from tests.verify.conftest import GRID, make_model
from tests.verify.float_graphs import FloatGraph, edit_onnx, edit_torch

pytestmark = pytest.mark.slow  # exports and traces whole models

FUNCTION = "advance"
EDITORS = {"onnx": edit_onnx, "torch_program": edit_torch}


def scale_dropped(g: FloatGraph, block: str, nth: int = 0) -> None:
    node = g.find("mul", block, of=("mul", "add"), nth=nth)
    g.bypass(node, g.place_of(node, "mul"))


def shift_dropped(g: FloatGraph, block: str) -> None:
    (node,) = g.readers(g.find("mul", block, of=("mul", "add")))
    g.bypass(node, g.place_of(node, "mul"))


def relu_for_softplus(g: FloatGraph, nth: int) -> None:
    node = g.find("add", "layers.0", of=("relu", "log"), nth=nth)
    g.bypass(node, g.place_of(node, "relu"))


#: What is wrong, where it must be found, and the change.
EDITS = {
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


@dataclass
class Whole:
    """An unbroken package; its source's graphs are the same for every broken copy."""

    opened: Opened
    edit: object

    def broken(self, change, folder):
        shutil.copytree(self.opened.package.folder, folder)
        self.edit(folder, FUNCTION, change, self.opened)
        opened = Opened(Package.load(folder), Options(chunks=2))
        opened.__dict__.update({name: self.opened.__dict__[name] for name in ("programs", "graphs")})
        opened._states = self.opened._states
        opened.functions = lambda: (FUNCTION,)
        return opened


@pytest.fixture(scope="module", params=EDITORS)
def whole(request, tmp_path_factory):
    pytest.importorskip("onnxscript")
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
    found = results(ParityCheck(), whole.opened) + results(SumsCheck(), whole.opened)
    assert {one.status for one in found} == {"passed"}, found


@pytest.mark.parametrize("name", EDITS)
def test_a_broken_graph_is_found_and_its_place_named(name, whole, tmp_path):
    block, change = EDITS[name]
    found = checked(whole.broken(change, tmp_path / "package"))
    assert found is not None
    layer = block.rpartition(".")[2]
    assert found.where.startswith(block) or (layer.isdecimal() and f"_{int(layer):02}" in found.where), found
