from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from s2search.exporters.counters import why_no_counters
from s2search.exporters.package import Package
from s2search.verification.bisect import look_inside
from s2search.verification.check import results
from s2search.verification.checks import memory
from s2search.verification.checks.activations import SourceWatch
from s2search.verification.checks.arithmetic import ArithmeticCheck
from s2search.verification.checks.latency import LatencyCheck
from s2search.verification.checks.memory import MemoryCheck
from s2search.verification.checks.operations import LintCheck
from s2search.verification.checks.sizes import SizesCheck
from s2search.verification.inspectors.onnx import convolutions

pytestmark = pytest.mark.slow  # exports and traces whole models


class Overflow(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Identity(), nn.ReLU()

    def forward(self, x):
        return self.second(self.first(x) * 300) - 1


def test_the_first_operation_that_is_not_finite_is_named():
    watch, model = SourceWatch(), Overflow()
    with torch.no_grad(), watch.modules(model), watch:
        model(torch.tensor([250.0], dtype=torch.float16))
    assert watch.first_non_finite == "aten.mul.Tensor in or after first"


def test_the_largest_activation_is_named():
    watch, model = SourceWatch(), Overflow()
    with torch.no_grad(), watch.modules(model), watch:
        model(torch.tensor([2.0, -3.0]))
    assert (watch.largest, watch.at) == (900.0, "aten.mul.Tensor in or after first")
    assert not watch.first_non_finite


@pytest.mark.parametrize("check", [LatencyCheck(), MemoryCheck(), ArithmeticCheck()])
def test_what_cannot_run_is_listed_with_its_reason(check, exported, open_package):
    (found,) = results(check, open_package(exported))
    assert (found.status, found.required, found.value) == ("not_run", False, None)
    assert found.why


@pytest.mark.parametrize("check", [LatencyCheck(), MemoryCheck()])
def test_a_measurement_without_a_plan_has_not_run(check, exported, open_package):
    (found,) = results(check, open_package(exported, measure=True))
    assert found.status == "not_run"
    assert "no plan" in found.why


@pytest.mark.skipif(why_no_counters() is not None, reason="this system does not say what a process takes")
def test_a_promise_of_memory_is_missed_where_the_process_takes_more_and_held_where_it_takes_less(
    exported, open_package, monkeypatch
):
    opened = open_package(exported, measure=True)
    monkeypatch.setattr(memory, "table_of", lambda plan, name: SimpleNamespace(card=SimpleNamespace(threads=1)))

    def promise(predicted):
        plan = SimpleNamespace(memory_bytes=SimpleNamespace(predicted=predicted))
        monkeypatch.setattr(memory, "promise_of", lambda opened: plan)
        return results(MemoryCheck(), opened)

    one, all_ = promise(1_000_000)
    assert (one.name, one.status, one.required) == ("memory", "failed", False)
    assert (all_.name, all_.status) == ("memory.functions", "failed")
    assert one.parts["measured_bytes"] < all_.parts["measured_bytes"]
    assert one.value == pytest.approx(100 * (one.parts["measured_bytes"] / 1_000_000 - 1))
    assert {found.status for found in promise(10**12)} == {"passed"}
    assert {found.value for found in promise(10**12)} == {0.0}


def test_the_state_has_the_bytes_that_were_foretold(package, open_package):
    state, _ = results(SizesCheck(), open_package(package))
    assert (state.status, state.value) == ("passed", 0)
    manifest = package / "manifest.json"
    before = Package.load(package).manifest.sizes.predicted_state_bytes
    manifest.write_text(
        manifest.read_text().replace(f'"predicted_state_bytes": {before}', f'"predicted_state_bytes": {before // 2}')
    )
    state, _ = results(SizesCheck(), open_package(package))
    assert (state.status, state.value) == ("failed", 100)


def test_a_convolution_over_three_axes_is_found(package, edit_graph, open_package):
    found = []

    def change(graph):
        assert not list(convolutions(graph, "first"))
        node = next(node for node in graph.node if node.op_type == "Conv")
        next(tensor for tensor in graph.initializer if tensor.name == node.input[1]).dims.append(1)
        found.extend(convolutions(graph, "first"))

    assert {one.status for one in results(LintCheck(), open_package(package)) if one.required} == {"passed"}
    edit_graph(change, "first")
    assert found == [("conv_3d", "Conv in first")]
    assert [one.status for one in results(LintCheck(), open_package(package))] == [
        "not_run"
    ]  # its shapes contradict each other


@pytest.mark.slow
@pytest.mark.parametrize("function", ["denoise", "commit"])
def test_a_part_of_advance_has_the_names_of_its_source(exported, open_package, function):
    opened = open_package(exported)
    inside = look_inside(opened, function, opened.inputs(function))
    found = inside.parity_db(inside.reference.operations)
    assert len(found) > 0.7 * len(inside.reference.operations)  # constants are folded
    assert min(found.values()) > 90
