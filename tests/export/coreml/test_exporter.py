"""The Core ML package's form. Its numbers are held against the model by `s2search verify`, which evaluates it."""

from __future__ import annotations

import shutil

import pytest
from s2search_blocks.softmax.ssa import SSA

from s2search.errors import InputError
from s2search.exporters.base import open_runtime
from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.package import Package, write_manifest
from s2search.exporters.step import FUNCTIONS
from s2search.exporters.streamed import StreamedPackage
from s2search.mil.library import load_coremltools
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.testing.exporters import GRID, stream_snr_db, tiny_model
from s2search.verification.check import results
from s2search.verification.checks.operations import LintCheck
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.state import StateCheck
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.inspectors.coreml_emulated import EmulatedCoreML
from s2search.verification.opened import Opened

pytestmark = pytest.mark.slow  # exports and traces whole models

FEATURE = {65552: "float16", 65568: "float32"}
FLOAT16, FLOAT32 = 10, 11  # of a program's values
EXACT = {"s", "sum_01", "norm_01", "new_sum_01", "new_norm_01"}
HELD = ("keys_00", "values_00", "tail_01")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return CoreMLExporter().export(tiny_model("SL"), GRID, tmp_path_factory.mktemp("coreml") / "package")


@pytest.fixture(scope="module")
def spec(package):
    return load_coremltools().utils.load_spec(str(package.folder / "model.mlpackage"))


def test_a_package_has_four_functions_with_the_features_that_the_manifest_states(package, spec):
    assert {function.name for function in spec.description.functions} == set(FUNCTIONS)
    assert spec.description.defaultFunctionName == "denoise"
    for function in spec.description.functions:
        stated = package.manifest.function(function.name)
        held = {one.name: one.type.stateType.arrayType for one in function.state}
        written = {f"new_{name}": array for name, array in held.items() if function.name in ("commit", "advance")}
        for features, states, expected in (
            (function.input, held, stated.inputs),
            (function.output, written, stated.outputs),
        ):
            found = {one.name: one.type.multiArrayType for one in features} | states
            assert {name: (tuple(array.shape), FEATURE[array.dataType]) for name, array in found.items()} == {
                one.name: (one.shape, one.dtype) for one in expected
            }


def test_rings_and_tails_are_states_of_every_function_with_a_past_and_denoise_writes_none(package, spec):
    assert package.manifest.held == HELD
    for function in spec.description.functions:
        assert [one.name for one in function.state] == ([] if function.name == "first" else [*HELD])
        block = next(iter(spec.mlProgram.functions[function.name].block_specializations.values()))
        kinds = [operation.type for operation in block.operations]
        assert kinds.count("write_state") == (len(HELD) if function.name in ("commit", "advance") else 0)


def test_one_state_carries_a_stream_through_all_functions(package):
    found = results(StateCheck(), Opened(package))
    assert [(one.name, one.status, one.where) for one in found] == [
        ("state.form", "passed", ""),
        ("state.kept", "passed", ""),
    ]


def test_a_read_that_writes_the_state_is_named(package, tmp_path):
    copy = shutil.copytree(package.folder, tmp_path / "package")
    model = copy / "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    spec = load_coremltools().utils.load_spec(str(copy / "model.mlpackage"))
    block = next(iter(spec.mlProgram.functions["denoise"].block_specializations.values()))
    read = next(one for one in block.operations if one.type == "read_state")
    write = block.operations.add(type="write_state")
    write.inputs["input"].arguments.add(name="keys_00")
    write.inputs["data"].arguments.add(name="values_00_read")
    assert read.inputs["input"].arguments[0].name == "keys_00"
    model.write_bytes(spec.SerializeToString())
    form, kept = results(StateCheck(), Opened(write_manifest(copy, package.manifest)))
    assert (form.status, form.where) == ("failed", "denoise writes keys_00")
    assert (kept.status, kept.where) == ("failed", "keys_00 after denoise of chunk 1"), kept.why


@pytest.mark.slow
def test_a_state_that_is_passed_in_and_out_streams_the_same(package, tmp_path):
    plain = CoreMLExporter(state="plain").export(tiny_model("SL"), GRID, tmp_path / "package")
    assert (plain.manifest.held, plain.manifest.exporter_text) == ((), "coreml[state=plain]")
    (found,) = results(StateCheck(), Opened(plain))
    assert (found.status, found.required) == ("not_run", False)
    streamed = [StreamedPackage(one, EmulatedCoreML(one)) for one in (package, plain)]
    ratios = [list(stream_snr_db(tiny_model("SL"), one, commit="reuse_last", chunks=3)) for one in streamed]
    assert ratios[0] == ratios[1]


def test_only_the_noise_level_and_the_sums_are_float32(package):
    for function in package.manifest.functions:
        for one in (*function.inputs, *function.outputs):
            assert (one.dtype == "float32") == (one.name in EXACT), one.name


def test_sinusoids_and_sums_are_computed_in_float32_and_products_in_float16(spec):
    for name in FUNCTIONS:
        block = next(iter(spec.mlProgram.functions[name].block_specializations.values()))
        kinds = {}
        for operation in block.operations:
            for output in operation.outputs:
                kinds.setdefault(operation.type, set()).add(output.type.tensorType.dataType)
        assert kinds["cos"] == kinds["sin"] == {FLOAT32}
        assert kinds["conv"] == kinds["matmul"] == kinds["layer_norm"] == {FLOAT16}
        added = [operation for operation in block.operations if operation.type == "add"]
        exact = [one for one in added if one.outputs[0].type.tensorType.dataType == FLOAT32]
        assert len(exact) == {"first": 0, "denoise": 2, "commit": 2, "advance": 2}[name]


def test_the_functions_share_their_weights(package):
    weights = next(entry for entry in package.manifest.files if entry.path.endswith("weight.bin"))
    parameters = tiny_model("SL").parameter_count
    assert 2 * parameters < weights.bytes < 2.6 * parameters
    assert weights.bytes == pytest.approx(package.manifest.sizes.predicted_weight_bytes, rel=0.03)


def test_no_value_but_the_velocity_has_more_than_four_axes_and_only_the_text_is_transposed(spec):
    for name in FUNCTIONS:
        block = next(iter(spec.mlProgram.functions[name].block_specializations.values()))
        outputs = {output.name: output.type.tensorType.rank for one in block.operations for output in one.outputs}
        assert {output for output, rank in outputs.items() if rank > 4} <= {"velocity"}
        kinds = [operation.type for operation in block.operations]
        assert not {"softplus", "linear"} & {*kinds}
        (transposed,) = [operation for operation in block.operations if operation.type == "transpose"]
        assert transposed.inputs["x"].arguments[0].name == "text"


def test_the_lint_of_four_axes_is_required_and_clean(package):
    (found,) = [one for one in results(LintCheck(), Opened(package)) if one.name == "lint.rank_above_4"]
    assert (found.status, found.required) == ("passed", True)


def test_one_changed_kernel_is_named(package, tmp_path):
    copy = shutil.copytree(package.folder, tmp_path / "package")
    weights = copy / "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    source = tiny_model("SL").layers[1].feed_forward.widen.weight.detach().half().numpy().tobytes()
    content = weights.read_bytes()
    place = content.index(source) + 100
    weights.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    (found,) = results(WeightsCheck(), Opened(Package.load(copy)))
    assert (found.status, found.value, found.where) == ("failed", 1, "layers.1.feed_forward.widen.weight")


@pytest.mark.slow
def test_the_layout_of_the_blocks_is_there_too_and_its_lint_is_advice(tmp_path):
    package = CoreMLExporter(layout="blocks").export(tiny_model("L"), GRID, tmp_path / "package")
    assert package.manifest.exporter_text == "coreml[layout=blocks]"
    assert package.manifest.function("denoise").inputs[-1].shape == (1, 2, 12, 32)
    opened = Opened(package)
    (found,) = [one for one in results(LintCheck(), opened) if one.name == "lint.rank_above_4"]
    assert (found.status, found.required) == ("failed", False)
    for check in (WeightsCheck(), ParityCheck()):
        assert {one.status for one in results(check, opened)} == {"passed"}


@pytest.mark.slow
def test_a_layer_without_a_twin_keeps_its_layout_and_the_package_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(SSA, "channels_first", lambda *sizes: None)
    package = CoreMLExporter().export(tiny_model("SL"), GRID, tmp_path / "package")
    assert package.manifest.facts["layers_in_their_own_layout"] == "0"


def test_the_digests_of_model_and_plan_are_in_the_metadata(package, spec):
    found = dict(spec.description.metadata.userDefined)
    assert found["s2search.model"] == package.manifest.model_digest
    assert found["s2search.plan"] == "none"


def test_here_it_says_where_it_runs(package):
    with pytest.raises(InputError, match="Core ML does not run on Linux; take the package to a Mac"):
        open_runtime(package)


@pytest.mark.slow
def test_four_bits_are_palettes_of_16_values_and_of_256_for_text_and_latents(tmp_path):
    preset = Preset(name="tiny", depth=1, channels=64, heads=4, feed_forward=64, text_channels=48, text_tokens=5)
    package = CoreMLExporter(bits=4).export(S2DiT.from_preset(preset, "S"), GRID, tmp_path / "package")
    assert (package.manifest.precision, package.manifest.options) == ("w4a16", "bits=4")
    spec = load_coremltools().utils.load_spec(str(package.folder / "model.mlpackage"))
    block = next(iter(spec.mlProgram.functions["denoise"].block_specializations.values()))
    sizes = {
        operation.outputs[0].name: max(
            axis.constant.size for axis in operation.inputs["lut"].arguments[0].value.type.tensorType.dimensions
        )
        for operation in block.operations
        if operation.type == "constexpr_lut_to_dense"
    }
    assert set(sizes.values()) == {16, 256}
    for name, size in sizes.items():
        sensitive = any(word in name for word in ("stem_", "down_", "up_", "head_", "attention_key", "attention_value"))
        in_a_layer_of_its_own = "layers_" in name and "cross_" not in name
        assert size == (256 if sensitive and not in_a_layer_of_its_own else 16), name
