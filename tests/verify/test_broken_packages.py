"""Packages that were broken after the export, each with digests written anew: verification names the place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from s2search.exporters.package import Package, write_manifest
from s2search.verification.check import results
from s2search.verification.checks.files import FilesCheck
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.streaming import StreamingCheck
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.result import CheckResult

pytestmark = pytest.mark.slow  # exports and traces whole models


def of(found: tuple[CheckResult, ...], name: str) -> CheckResult:
    return next(result for result in found if result.name == name)


def renew(package: Path) -> None:
    write_manifest(package, Package.load(package).manifest)


def test_a_whole_package_passes(package, open_package):
    opened = open_package(package)
    for check in (FilesCheck(), WeightsCheck(), ParityCheck(), StreamingCheck()):
        assert {result.status for result in results(check, opened)} == {"passed"}, check.name


def test_one_changed_weight_is_named_though_all_digests_are_right(package, stored_weight, open_package):
    stored_weight("layers.1.attention.query.weight")[3, 5] *= 1.01
    renew(package)
    opened = open_package(package)
    assert results(FilesCheck(), opened)[0].status == "passed"
    (found,) = results(WeightsCheck(), opened)
    assert (found.status, found.value, found.where) == ("failed", 1, "layers.1.attention.query.weight")
    assert "1 of 1,024 numbers" in found.why


def test_parity_names_the_operation_of_a_changed_weight(package, stored_weight, open_package):
    stored_weight("layers.1.attention.query.weight")[3, 5] += 1
    renew(package)
    found = of(results(ParityCheck(), open_package(package)), "parity.first")
    assert found.status == "failed"
    assert found.where.startswith("layers.1.attention.query: linear (linear_")


def test_a_small_weight_inside_one_graph_is_named(package, edit_graph, open_package):
    def change(graph):
        tensor = next(one for one in graph.initializer if one.name == "model.layers.2.attention.key_norm.weight")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.0001), tensor.name))

    edit_graph(change, "commit")
    (found,) = results(WeightsCheck(), open_package(package))
    assert (found.status, found.where) == ("failed", "layers.2.attention.key_norm.weight")
    assert "commit.onnx" in found.why


def test_swapped_layers_are_named(package, edit_graph, open_package):
    def change(graph):
        for tensor in graph.initializer:
            for one, other in (("layers.1.", "layers.@."), ("layers.2.", "layers.1."), ("layers.@.", "layers.2.")):
                tensor.name = tensor.name.replace(f"model.{one}", f"model.{other}")

    edit_graph(change)
    opened = open_package(package)
    (found,) = results(WeightsCheck(), opened)
    assert (found.status, found.where) == ("failed", "layers.1.table_6D")
    assert found.value == sum(name.startswith(("layers.1.", "layers.2.")) for name in opened.source.state_dict())
    first = of(results(ParityCheck(), opened), "parity.first")
    assert first.status == "failed"
    assert first.where.startswith("layers.1: ")


def test_layers_that_run_in_the_wrong_order_are_named_though_all_weights_are_right(package, edit_graph, open_package):
    def change(graph):
        for node in graph.node:
            for i, name in enumerate(node.input):
                for one, other in (("layers.1.", "layers.2."), ("layers.2.", "layers.1.")):
                    if name.startswith(f"model.{one}"):
                        node.input[i] = name.replace(one, other)

    edit_graph(change)
    opened = open_package(package)
    assert results(WeightsCheck(), opened)[0].status == "passed"
    found = of(results(ParityCheck(), opened), "parity.denoise")
    assert found.status == "failed"
    assert found.where.startswith("layers.1: ")


def test_a_dropped_state_is_named(package, edit_graph, open_package):
    def change(graph):
        (shape,) = [[one.dim_value for one in x.type.tensor_type.shape.dim] for x in graph.input if x.name == "keys_01"]
        graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), "nothing"))
        for node in graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = "nothing" if name == "keys_01" else name

    edit_graph(change, "denoise", "commit", "advance")
    opened = open_package(package)
    assert results(WeightsCheck(), opened)[0].status == "passed"
    found = results(ParityCheck(), opened)
    assert of(found, "parity.first").status == "passed"
    assert of(found, "parity.denoise").where.startswith("layers.1.attention: ")
    assert {of(found, f"parity.{name}").status for name in ("denoise", "advance")} == {"failed"}
    streamed = of(results(StreamingCheck(), opened), "stream.reuse_last")
    assert (streamed.status, streamed.where) == ("failed", "chunk 1 is the first below")
    assert streamed.parts["chunk 0"] > 90


def test_a_tail_that_is_never_written_shows_in_the_stream_from_the_second_chunk_on(package, edit_graph, open_package):
    def change(graph):
        (output,) = [one for one in graph.output if one.name == "new_tail_00"]
        (node,) = [one for one in graph.node if "new_tail_00" in one.output]
        node.output[list(node.output).index("new_tail_00")] = "lost"
        graph.node.append(helper.make_node("Identity", ["tail_00"], [output.name]))

    edit_graph(change, "advance")
    opened = open_package(package)
    found = results(ParityCheck(), opened)
    assert [result.status for result in found] == ["passed", "passed", "passed", "failed"]
    assert found[-1].parts["new_tail_00"] < 10
    streamed = of(results(StreamingCheck(), opened), "stream.reuse_last")
    assert streamed.status == "failed"
    assert streamed.parts["chunk 0"] > 90 > streamed.parts["chunk 1"]
    assert of(results(StreamingCheck(), opened), "stream.clean_pass").status == "passed"


def test_a_rope_offset_of_one_frame_is_named(package, edit_graph, open_package):
    def change(graph):
        cosine, sine = [x for x in graph.initializer if x.name.startswith("view_") and list(x.dims) == [12, 1, 4]]
        tables = numpy_helper.to_array(cosine) + 1j * numpy_helper.to_array(sine)
        pairs = tables.shape[-1] - 2 * (tables.shape[-1] // 3)
        offset = np.exp(1j * 10_000.0 ** (-np.arange(pairs) / pairs))
        tables = np.concatenate([tables[..., :pairs] * offset, tables[..., pairs:]], axis=-1)
        for tensor, array in ((cosine, tables.real), (sine, tables.imag)):
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))

    edit_graph(change, "denoise")
    opened = open_package(package)
    assert results(WeightsCheck(), opened)[0].status == "passed"
    found = results(ParityCheck(), opened)
    assert [result.name for result in found if result.status == "failed"] == ["parity.denoise"]
    assert of(found, "parity.denoise").where.startswith("layers.1.attention: view (view_")
