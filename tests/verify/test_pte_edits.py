"""A catalogue of broken programs of ExecuTorch, XNNPACK's graphs and its own kernels: each is found, and where."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from s2search import registry
from s2search.exporters.package import Package
from s2search.exporters.step import FunctionName
from s2search.verification.check import results
from s2search.verification.checks.blocks import BlocksCheck
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.sums import SumsCheck
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.opened import Opened, Options
from tests.verify.conftest import GRID, make_model
from tests.verify.pte_graph import NOTHING, PteGraph, edit_pte

pytestmark = pytest.mark.slow  # exports a whole model: 3 minutes
CHECKS = (ParityCheck(), SumsCheck(), BlocksCheck())


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A change of one method, and where it must be found."""

    name: str
    function: FunctionName
    where: str
    change: Callable[[PteGraph], None]

    def __str__(self) -> str:
        return f"{self.function}, {self.where}: {self.name}"


def bypassed(kind: str, place: str, through: str, **picked: Any) -> Callable[[PteGraph], None]:
    """What reads a node reads one of its inputs, which an operation of another kind made."""

    def change(g: PteGraph) -> None:
        node = g.find(kind, place, **picked)
        g.bypass(node, g.key_of(node, through))

    return change


def retyped(kind: str, other: str, place: str, **picked: Any) -> Callable[[PteGraph], None]:
    return lambda g: g.retype(g.find(kind, place, **picked), other)


def swapped(kind: str, place: str, **picked: Any) -> Callable[[PteGraph], None]:
    return lambda g: g.swap(g.find(kind, place, **picked))


def times(factor: float, kind: str, place: str = "", **picked: Any) -> Callable[[PteGraph], None]:
    return lambda g: g.times(g.find(kind, place, **picked), "input_id", factor)


def kernel(kind: str, name: str, overload: str, place: str, **picked: Any) -> Callable[[PteGraph], None]:
    return lambda g: g.calls(g.find(kind, place, **picked), name, overload)


def epsilon_of_layer_norm(place: str, **picked: Any) -> Callable[[PteGraph], None]:
    def change(g: PteGraph) -> None:
        node = g.find("aten::native_layer_norm.out", place, **picked)
        g.argument(node, 4, lambda old: type(old)(double_val=1000 * old.double_val))

    return change


def halves_turned_round(place: str, **picked: Any) -> Callable[[PteGraph], None]:
    """The parts of a split come in the other order."""

    def change(g: PteGraph) -> None:
        for one in g.find("aten::split_with_sizes_copy.out", place, **picked).call.args[-2:]:
            g.plan.values[one].val.items.reverse()

    return change


def where_turned_round(g: PteGraph) -> None:
    args = g.find("aten::where.self_out").call.args
    args[1], args[2] = args[2], args[1]


def moved(by: int, **picked: Any) -> Callable[[PteGraph], None]:
    """A slice of what the past and the chunk are together begins elsewhere."""

    def change(g: PteGraph) -> None:
        g.find("XNNStaticSlice", of="XNNConcatenate2", **picked).fields["offsets"][1] += by

    return change


def one_row_off(g: PteGraph) -> None:
    fields = g.find("XNNConv2d", "layers.0").fields
    fields["padding_top"], fields["padding_bottom"] = fields["padding_top"] - 1, fields["padding_bottom"] + 1


def query_for_key(g: PteGraph) -> None:
    a, b = (g.find("XNNFullyConnected", f"layers.1.attention.{name}").fields for name in ("query", "key"))
    a["filter_id"], b["filter_id"] = b["filter_id"], a["filter_id"]


def bias_dropped(place: str) -> Callable[[PteGraph], None]:
    def change(g: PteGraph) -> None:
        g.find("XNNFullyConnected", place).fields["bias_id"] = NOTHING

    return change


def relu_from_a_tenth(g: PteGraph) -> None:
    inside = g.find("XNNClamp", "layers.0").inside
    assert inside is not None
    inside["output_min_max"]["output_min"] = 0.1


EDITS = [
    Edit(name=name, function=function, where=where, change=change)
    for name, function, where, change in (
        # XNNPACK's graphs: what hides frames, gates, scales, shifts.
        (
            "past_bias ignored",
            "advance",
            "layers.1",
            bypassed("XNNAdd", "layers.1.attention", "XNNStaticReshape", of="XNNStaticReshape", nth=-1),
        ),
        ("past_bias a ten-thousandth", "denoise", "layers.1", times(1e-4, "XNNStaticReshape", reads="past_bias")),
        (
            "the paths of the gate swapped",
            "first",
            "layers.0",
            swapped("XNNSubtract", "layers.0", of="XNNFullyConnected"),
        ),
        (
            "adaLN scale dropped",
            "advance",
            "layers.0",
            bypassed("XNNMultiply", "layers.0", "XNNMultiply", of="XNNAdd"),
        ),
        ("adaLN scale dropped", "commit", "layers.1", bypassed("XNNMultiply", "down", "XNNMultiply", of="XNNAdd")),
        ("adaLN shift dropped", "denoise", "layers.0", bypassed("XNNAdd", "layers.0", "XNNMultiply", of="XNNMultiply")),
        (
            "gate of attention dropped",
            "first",
            "layers.0",
            bypassed("XNNMultiply", "layers.0", "XNNFullyConnected", of="XNNFullyConnected"),
        ),
        (
            "cross attention dropped",
            "denoise",
            "layers.0",
            bypassed("XNNAdd", "layers.0", "XNNAdd", of="XNNFullyConnected", nth=-1),
        ),
        (
            "feed forward dropped",
            "advance",
            "layers.2",
            bypassed("XNNAdd", "layers.2", "XNNAdd", of="XNNMultiply", nth=-1),
        ),
        # Other operations.
        (
            "relu for softplus of keys",
            "commit",
            "layers.0",
            bypassed("XNNAdd", "layers.0", "XNNClamp", of="aten::log1p.out"),
        ),
        (
            "relu for softplus of queries",
            "denoise",
            "layers.0",
            bypassed("XNNAdd", "layers.0", "XNNClamp", of="aten::log1p.out", nth=-1),
        ),
        ("cos for sin", "denoise", "stem", retyped("XNNSin", "XNNCos", "stem")),
        ("sin before cos", "commit", "stem", swapped("XNNConcatenate2", "stem")),
        ("tanh for a sigmoid in GELU", "first", "layers.2", retyped("XNNSigmoid", "XNNTanh", "layers.2.feed_forward")),
        ("minimum for maximum", "denoise", "layers.0", retyped("XNNMaximum", "XNNMinimum", "layers.0")),
        ("softmax dropped", "advance", "layers.1", lambda g: g.bypass(g.find("XNNSoftmax", "layers.1"), "input_id")),
        ("rotation the other way", "denoise", "layers.1", swapped("XNNSubtract", "layers.1.attention")),
        ("the weights of queries and keys swapped", "first", "layers.1", query_for_key),
        ("the past behind the chunk", "denoise", "layers.1", swapped("XNNConcatenate2", "layers.1.attention")),
        ("the row that pads a grid before it", "first", "down", swapped("XNNConcatenate2", "layers.0", nth=-1)),
        # Constants.
        ("exponent 1 % larger", "advance", "layers.0", times(1.01, "XNNExp", "layers.0")),
        ("relu from 0.1", "advance", "layers.0", relu_from_a_tenth),
        ("bias of a product dropped", "commit", "layers.1", bias_dropped("layers.1.attention.key")),
        ("local neighbours one row off", "advance", "layers.0", one_row_off),
        ("a switch 0.1 % too weak", "advance", "up", times(0.999, "XNNStaticReshape", "up", of="XNNFullyConnected")),
        (
            "velocity 0.1 % too small",
            "denoise",
            "head",
            times(0.999, "XNNStaticReshape", "head", of="XNNFullyConnected"),
        ),
        # State.
        ("past values 0.1 % larger", "denoise", "layers.2", times(1.001, "XNNStaticReshape", reads="values_02")),
        ("S loses 5 % a chunk", "commit", "layers.0", times(0.95, "XNNStaticReshape", reads="sum_00")),
        (
            "S loses a hundred-thousandth a chunk",
            "advance",
            "layers.0",
            times(1 - 1e-5, "XNNStaticReshape", reads="sum_00"),
        ),
        ("z loses a thousandth a chunk", "commit", "layers.0", times(0.999, "XNNStaticReshape", reads="norm_00")),
        ("keys of another layer", "denoise", "layers.2", lambda g: g.reads_other("keys_02", "keys_01")),
        ("values for keys", "advance", "layers.1", lambda g: g.reads_other("keys_01", "values_01")),
        ("a tail that is never written", "commit", "layers.0", lambda g: g.returns_input("new_tail_00", "tail_00")),
        ("a ring that is never written", "advance", "layers.1", lambda g: g.returns_input("new_keys_01", "keys_01")),
        ("the tail ends a frame early", "commit", "layers.0", moved(-1)),
        ("a ring keeps its oldest keys", "advance", "layers.1", moved(-3, nth=1)),
        # ExecuTorch's own kernels.
        ("log for log1p", "advance", "layers.0", kernel("aten::log1p.out", "aten::log", "out", "layers.0")),
        (
            "a mean for a sum in the norm",
            "denoise",
            "layers.2",
            kernel("aten::sum.IntList_out", "aten::mean", "out", "layers.2"),
        ),
        ("the paths of the gate swapped", "advance", "layers.0", where_turned_round),
        ("epsilon of layer norm a thousand times larger", "first", "layers.0", epsilon_of_layer_norm("layers.0")),
        ("epsilon of layer norm a thousand times larger", "denoise", "head", epsilon_of_layer_norm("up")),
        ("halves of the rotation swapped", "advance", "layers.1", halves_turned_round("layers.1.attention")),
        ("halves of the rotation swapped", "commit", "layers.0", halves_turned_round("layers.0.attention")),
    )
]


class Whole:
    """An unbroken package; its source's values are the same for every broken copy."""

    def __init__(self, folder) -> None:
        self.opened = Opened(Package.load(folder), Options(chunks=2))

    def broken(self, edit, folder):
        shutil.copytree(self.opened.package.folder, folder)
        edit_pte(folder, edit.function, edit.change, self.opened)
        opened = Opened(Package.load(folder), Options(chunks=2))
        opened.__dict__["source"] = self.opened.source
        opened._states = self.opened._states
        opened.functions = lambda: (edit.function,)
        return opened


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    pytest.importorskip("executorch")
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("packages") / "package"
    registry.create("exporters", "executorch").export(make_model(), GRID, folder)
    return Whole(folder)


def test_the_whole_package_passes(whole):
    found = [one for check in (*CHECKS, WeightsCheck()) for one in results(check, whole.opened)]
    assert {one.status for one in found} == {"passed"}, found


def test_blocks_are_found_though_no_constant_is_one_blocks_alone(whole):
    opened = Opened(whole.opened.package, Options(chunks=2))
    opened.kept["blocks of constants"] = {}
    (found,) = results(BlocksCheck(), opened)
    assert found.status == "passed", found


def test_the_catalogue_is_large_enough():
    assert len(EDITS) >= 15
    assert {edit.function for edit in EDITS} == {"first", "denoise", "commit", "advance"}


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_a_broken_program_is_found_and_its_place_named(edit, whole, tmp_path):
    opened = whole.broken(edit, tmp_path / "package")
    found = next((one for check in CHECKS for one in results(check, opened) if one.status == "failed"), None)
    assert found is not None
    sys.stdout.write(f"{edit}: {found.value:.1f} dB, {found.where}\n")
    layer = edit.where.rpartition(".")[2]
    assert found.where.startswith(edit.where) or (layer.isdecimal() and f"_{int(layer):02}" in found.where), found


@pytest.mark.parametrize("edit", EDITS[:1], ids=str)
def test_no_weight_was_touched(edit, whole, tmp_path):
    (found,) = results(WeightsCheck(), whole.broken(edit, tmp_path / "package"))
    assert found.status == "passed", found
