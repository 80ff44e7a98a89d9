"""The Core ML package's form. Its numbers are held against the model by `s2search verify`, which evaluates it."""

from __future__ import annotations

import dataclasses
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


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return CoreMLExporter().export(tiny_model("SL"), GRID, tmp_path_factory.mktemp("coreml") / "package")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The same, with rings and tails as a state of Core ML's own."""
    return CoreMLExporter(state="core_ml").export(tiny_model("SL"), GRID, tmp_path_factory.mktemp("kept") / "package")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return CoreMLExporter(state="plain").export(tiny_model("SL"), GRID, tmp_path_factory.mktemp("plain") / "package")


@pytest.fixture(scope="module")
def spec(package):
    return spec_of(package)


def spec_of(package):
    return load_coremltools().utils.load_spec(str(package.folder / "model.mlpackage"))


def blocks_of(spec):
    for name in FUNCTIONS:
        yield name, next(iter(spec.mlProgram.functions[name].block_specializations.values()))


@pytest.mark.parametrize("form", ["package", "kept", "plain"])
def test_a_package_has_four_functions_with_the_features_that_the_manifest_states(form, request):
    package = request.getfixturevalue(form)
    spec = spec_of(package)
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


def test_nothing_is_kept_and_all_that_goes_in_and_out_is_float16_of_whole_64_bytes(package, spec):
    assert package.manifest.held == ()
    for function in spec.description.functions:
        assert not function.state
        for feature in (*function.input, *function.output):
            array = feature.type.multiArrayType
            assert FEATURE[array.dataType] == "float16", feature.name
            assert array.shape[-1] % 32 == 0, feature.name
            assert len(array.shape) == 4


def test_functions_return_what_is_new_of_a_chunk_and_not_the_ring(package):
    taken = {one.name: one.shape for one in package.manifest.function("advance").inputs}
    new = {one.name: one.shape for one in package.manifest.function("advance").outputs}
    assert [*taken] == ["latents", "time", "text", "past_bias", "keys", "values", "tails", "sums"]
    assert [*new] == ["velocity", "new_keys", "new_values", "new_tails", "new_sums"]
    assert new["new_keys"][:3] == taken["keys"][:3] == (1, 32, 1)
    assert (package.manifest.host.slots, package.manifest.host.ring_frames) == (6, 3)


def test_no_value_is_float32_and_nothing_is_cast_or_transposed(spec):
    for name, block in blocks_of(spec):
        computed = [one for one in block.operations if one.type != "const"]
        wide = [one.type for one in computed for output in one.outputs if output.type.tensorType.dataType == FLOAT32]
        assert not wide, (name, wide)
        assert not {"cast", "transpose", "cos", "sin", "read_state", "softplus", "linear"} & {
            operation.type for operation in block.operations
        }


def test_the_form_has_no_more_operations_than_the_one_that_passes_its_state(spec, plain):
    ours, theirs = (
        {name: sum(one.type != "const" for one in block.operations) for name, block in blocks_of(one)}
        for one in (spec, spec_of(plain))
    )
    assert all(ours[name] <= theirs[name] for name in FUNCTIONS), (ours, theirs)


def test_core_ml_keeps_rings_and_tails_in_one_state_which_denoise_does_not_write(kept):
    assert kept.manifest.held == ("past",)
    spec = spec_of(kept)
    for function in spec.description.functions:
        assert [one.name for one in function.state] == ([] if function.name == "first" else ["past"])
    for name, block in blocks_of(spec):
        kinds = [operation.type for operation in block.operations]
        assert kinds.count("write_state") == (name in ("commit", "advance"))


def test_what_the_host_keeps_is_what_the_source_remembers(package):
    found = results(StateCheck(), Opened(package))
    assert [(one.name, one.status, one.where) for one in found] == [
        ("state.form", "passed", ""),
        ("state.host", "passed", ""),
    ]


def test_one_state_carries_a_stream_through_all_functions(kept):
    found = results(StateCheck(), Opened(kept))
    assert [(one.name, one.status, one.where) for one in found] == [
        ("state.form", "passed", ""),
        ("state.kept", "passed", ""),
        ("state.host", "passed", ""),
    ]


def test_a_read_that_writes_the_state_is_named(kept, tmp_path):
    copy = shutil.copytree(kept.folder, tmp_path / "package")
    model = copy / "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    spec = load_coremltools().utils.load_spec(str(copy / "model.mlpackage"))
    block = next(iter(spec.mlProgram.functions["denoise"].block_specializations.values()))
    read = next(one for one in block.operations if one.type == "read_state")
    doubled = block.operations.add(type="add")
    doubled.CopyFrom(next(one for one in block.operations if one.type == "add"))
    for key in ("x", "y"):
        doubled.inputs[key].arguments[0].name = "past_read"
    doubled.outputs[0].CopyFrom(read.outputs[0])
    doubled.outputs[0].name = "twice"
    write = block.operations.add(type="write_state")
    write.inputs["input"].arguments.add(name="past")
    write.inputs["data"].arguments.add(name="twice")
    model.write_bytes(spec.SerializeToString())
    form, same, _ = results(StateCheck(), Opened(write_manifest(copy, kept.manifest)))
    assert (form.status, form.where) == ("failed", "denoise writes past")
    assert (same.status, same.where) == ("failed", "past after denoise of chunk 1"), same.why


@pytest.mark.slow
def test_every_keeper_of_the_state_streams_the_same(package, kept, plain):
    assert (plain.manifest.held, plain.manifest.host, plain.manifest.exporter_text) == ((), None, "coreml[state=plain]")
    (found,) = results(StateCheck(), Opened(plain))
    assert (found.status, found.required) == ("not_run", False)
    streamed = [StreamedPackage(one, EmulatedCoreML(one)) for one in (package, kept, plain)]
    ratios = [list(stream_snr_db(tiny_model("SL"), one, commit="reuse_last", chunks=5)) for one in streamed]
    assert ratios[0] == ratios[1]
    assert min(ratios[0]) > 50
    assert min(ratios[2]) > 50


def test_only_the_noise_level_and_the_sums_are_float32_where_all_of_the_state_is_passed(plain):
    for function in plain.manifest.functions:
        for one in (*function.inputs, *function.outputs):
            assert (one.dtype == "float32") == (one.name in EXACT), one.name


def test_a_package_of_before_is_refused_in_one_line(package, tmp_path):
    copy = shutil.copytree(package.folder, tmp_path / "package")
    write_manifest(copy, dataclasses.replace(package.manifest, host=None, held=("keys_00",)))
    with pytest.raises(InputError, match=r"when Core ML kept a state for every ring, .*; export it again$"):
        open_runtime(Package.load(copy))


def test_the_blocks_layout_packs_no_state():
    with pytest.raises(InputError, match=r"state=host packs a state .*; layout=blocks,state=plain; correct the"):
        CoreMLExporter(layout="blocks")


def test_the_functions_share_their_weights(package):
    weights = next(entry for entry in package.manifest.files if entry.path.endswith("weight.bin"))
    parameters = tiny_model("SL").parameter_count
    assert 2 * parameters < weights.bytes < 2.6 * parameters
    assert weights.bytes == pytest.approx(package.manifest.sizes.predicted_weight_bytes, rel=0.03)


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
    package = CoreMLExporter(layout="blocks", state="plain").export(tiny_model("L"), GRID, tmp_path / "package")
    assert package.manifest.exporter_text == "coreml[layout=blocks,state=plain]"
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
