"""Core ML packages that were broken after the export, each with digests written anew: verification names the place."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.package import Package, write_manifest
from s2search.verification.check import results
from s2search.verification.checks.blocks import BlocksCheck
from s2search.verification.checks.each_operation import EachOperationCheck
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.streaming import LEAST_DB, StreamingCheck, one_pass_db
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.opened import Opened, Options
from tests.verify.conftest import GRID, make_model

pytestmark = pytest.mark.slow  # exports and traces whole models

SPECIFICATION = "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coreml") / "package"
    return CoreMLExporter(state="plain").export(make_model(), GRID, folder).folder


@pytest.fixture(scope="module")
def programs(exported):
    """The source's graphs: tracing takes longest, and they are the same for every copy."""
    return Opened(Package.load(exported)).programs


@pytest.fixture
def package(exported, tmp_path):
    return Path(shutil.copytree(exported, tmp_path / "package"))


@pytest.fixture
def open_package(programs):
    def made(folder):
        opened = Opened(Package.load(folder), Options(chunks=3))
        opened.__dict__["programs"] = programs
        return opened

    return made


def renew(package):
    write_manifest(package, Package.load(package).manifest)


def read(package):
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString((package / SPECIFICATION).read_bytes())


def edit(package, change, *functions):
    """Change the operations of functions, and write the manifest anew, as one who hides it would."""
    specification = read(package)
    for name in functions:
        (block,) = specification.mlProgram.functions[name].block_specializations.values()
        change(block)
    (package / SPECIFICATION).write_bytes(specification.SerializeToString())
    renew(package)


def stored(package, name):
    """Return a constant of the file of weights, to be changed in place."""
    (block,) = read(package).mlProgram.functions["denoise"].block_specializations.values()
    constant = next(one for one in block.operations if one.type == "const" and one.outputs[0].name == name)
    value = constant.attributes["val"]
    shape = tuple(axis.constant.size for axis in value.type.tensorType.dimensions)
    with (package / WEIGHTS).open("rb") as file:
        file.seek(value.blobFileValue.offset)
        _, _, _, start = struct.unpack("<IIQQ", file.read(24))
    return np.memmap(package / WEIGHTS, np.float16, "r+", start, shape)


def weight_name(tensor):
    return f"p_model_{tensor}_to_fp16".replace(".", "_").lower()


def copies(block):
    return [type(one).FromString(one.SerializeToString()) for one in block.operations]


def put(block, operations):
    del block.operations[:]
    block.operations.extend(operations)


def of(found, name):
    return next(result for result in found if result.name == name)


def bindings(block):
    for operation in block.operations:
        for argument in operation.inputs.values():
            yield from (one for one in argument.arguments if one.WhichOneof("binding") == "name")


def test_a_whole_package_passes(package, open_package):
    opened = open_package(package)
    for check in (WeightsCheck(), ParityCheck(), BlocksCheck(), EachOperationCheck(), StreamingCheck()):
        assert {result.status for result in results(check, opened)} == {"passed"}, check.name


def test_one_changed_weight_is_named_though_all_digests_are_right(package, open_package):
    stored(package, weight_name("layers.1.attention.query.weight"))[3, 5] *= np.float16(1.01)
    renew(package)
    (found,) = results(WeightsCheck(), open_package(package))
    assert (found.status, found.value, found.where) == ("failed", 1, "layers.1.attention.query.weight")
    assert "1 of 1,024 numbers" in found.why


def test_a_weight_that_is_left_out_is_named(package, open_package):
    lost, other = (weight_name(f"layers.1.attention.{part}.bias") for part in ("query", "key"))

    def change(block):
        for one in bindings(block):
            one.name = other if one.name == lost else one.name
        put(block, [one for one in copies(block) if lost not in [x.name for x in one.outputs]])

    edit(package, change, "first", "denoise", "commit", "advance")
    (found,) = results(WeightsCheck(), open_package(package))
    assert (found.status, found.where) == ("failed", "layers.1.attention.query.bias")
    assert "is not stored" in found.why


def test_swapped_layers_are_named(package, open_package):
    for part in ("query", "key", "value", "output"):
        one, other = (stored(package, weight_name(f"layers.{layer}.attention.{part}.weight")) for layer in (1, 2))
        one[:], other[:] = other.copy(), one.copy()
    renew(package)
    opened = open_package(package)
    (found,) = results(WeightsCheck(), opened)
    assert (found.status, found.value, found.where) == ("failed", 8, "layers.1.attention.query.weight")
    assert of(results(BlocksCheck(), opened), "blocks.float16").where in ("layers.1", "layers.2")


def test_layers_that_run_in_the_wrong_order_are_named_though_all_weights_are_right(package, open_package):
    def change(block):
        put(block, sorted(copies(block), key=lambda one: one.type != "const"))  # all are known before they are used
        for one in bindings(block):
            one.name = one.name.replace("layers_1_attention", "@").replace("layers_2_attention", "layers_1_attention")
            one.name = one.name.replace("@", "layers_2_attention")

    edit(package, change, "denoise")
    opened = open_package(package)
    found = of(results(ParityCheck(), opened), "parity.denoise")
    assert (found.status, found.mode) == ("failed", "float16")
    assert found.where.startswith("layers.1")
    blocks = of(results(BlocksCheck(), opened), "blocks.float16")
    assert (blocks.status, blocks.required) == ("failed", True)
    assert {block for block, value in blocks.parts.items() if value < 50} == {"layers.1", "layers.2"}


def test_gelu_with_erf_in_one_function_is_named_though_it_hides_in_rounding(package, open_package):
    def change(block):
        gelu = [one for one in block.operations if one.type == "gelu"][1]
        name = gelu.inputs["mode"].arguments[0].name
        (mode,) = [one for one in block.operations if name in [output.name for output in one.outputs]]
        other = type(mode).FromString(mode.SerializeToString())
        other.outputs[0].name = gelu.inputs["mode"].arguments[0].name = "another_mode"
        other.attributes["val"].immediateValue.tensor.strings.values[0] = "EXACT"
        put(block, [other, *copies(block)])

    edit(package, change, "commit")
    opened = open_package(package)
    assert {result.status for result in results(ParityCheck(), opened)} == {"passed"}
    found = results(EachOperationCheck(), opened)
    failed = of(found, "operations.commit")
    assert [result.name for result in found if result.status == "failed"] == ["operations.commit"]
    assert failed.where == "layers.1.feed_forward: gelu (gelu_1)"
    assert 70 < failed.value < 80


def test_a_dropped_state_is_named(package, open_package):
    taken = {one.name: one.type for one in read(package).mlProgram.functions["denoise"].inputs}

    def change(block):
        operations = copies(block)
        (reader,) = [one for one in operations if "keys_01" in _names(one) and one.type == "reshape"]
        nothing = type(reader)(type="sub")
        for key in ("x", "y"):
            nothing.inputs[key].arguments.add().name = "keys_01"
        nothing.outputs.add().name = "nothing"
        for argument in reader.inputs["x"].arguments:
            argument.name = "nothing"
        nothing.outputs[0].type.CopyFrom(taken["keys_01"])
        put(block, [nothing, *operations])

    edit(package, change, "denoise", "commit", "advance")
    opened = open_package(package)
    assert results(WeightsCheck(), opened)[0].status == "passed"
    found = results(ParityCheck(), opened)
    assert of(found, "parity.first").status == "passed"
    assert of(found, "parity.denoise").where.startswith("layers.1.attention")
    assert of(results(BlocksCheck(), opened), "blocks.float16").where == "layers.1"
    streamed = one_pass_db(opened, "float16")
    assert streamed[0] > LEAST_DB["float16"] > streamed[1]


def test_a_tail_that_is_never_written_shows_in_the_stream_from_the_second_chunk_on(package, open_package):
    def change(block):
        operations = copies(block)
        (writer,) = [one for one in operations if "new_tail_00" in [output.name for output in one.outputs]]
        same = type(writer)(type="identity")
        same.outputs.add().CopyFrom(writer.outputs[0])
        same.inputs["x"].arguments.add().name = "tail_00"
        writer.outputs[0].name = "lost"
        put(block, [*operations, same])

    edit(package, change, "advance")
    opened = open_package(package)
    found = results(ParityCheck(), opened)
    assert [result.status for result in found] == ["passed", "passed", "passed", "failed"]
    assert found[-1].parts["new_tail_00"] < 10
    streamed = one_pass_db(opened, "float16")
    assert streamed[0] > LEAST_DB["float16"] > streamed[2]


def _names(operation):
    return [one.name for argument in operation.inputs.values() for one in argument.arguments]


def test_a_rope_offset_of_one_frame_is_named(package, open_package):
    (block,) = read(package).mlProgram.functions["denoise"].block_specializations.values()
    tables = [
        one.outputs[0].name
        for one in block.operations
        if one.type == "const"
        and one.attributes["val"].WhichOneof("value") == "blobFileValue"
        and [axis.constant.size for axis in one.outputs[0].type.tensorType.dimensions] == [8, 12]
    ]
    cosine, sine = (stored(package, name) for name in tables)  # of queries, twice: sines first with the other sign
    turned = cosine[:4].astype(np.float32) + 1j * sine[4:].astype(np.float32)
    in_time = 2  # of four pairs
    turned[:in_time] *= np.exp(1j * 10_000.0 ** (-np.arange(in_time) / in_time))[:, None]
    cosine[:], sine[:] = np.tile(turned.real, (2, 1)), np.concatenate((-turned.imag, turned.imag))
    renew(package)
    opened = open_package(package)
    assert results(WeightsCheck(), opened)[0].status == "passed"
    found = of(results(BlocksCheck(), opened), "blocks.float16")
    assert found.status == "failed"
    assert found.where in ("layers.1", "layers.2")
