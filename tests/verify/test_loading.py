from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from s2search.block import Precision, Window
from s2search.exporters.memory import predicted_memory_bytes
from s2search.exporters.package import Manifest, Sizes
from s2search.network.config import ModelConfig
from s2search.preset import PRESETS
from s2search.verification.check import results
from s2search.verification.checks.loading import LoadingCheck
from s2search.verification.inspectors.coreml import CoreMLInspector
from s2search.verification.load_probe import resident_bytes
from s2search.verification.opened import Options

CONFIG = ModelConfig(preset=PRESETS["s2dit-tiny"], layout=("lcha", "ssa") * 4)
MANIFEST = Manifest(
    exporter="onnx",
    options="",
    facts={},
    model=CONFIG,
    model_digest=CONFIG.digest,
    plan_digest=None,
    grid=(3, 4),
    chunk_frames=3,
    window=Window(frames=6),
    precision="float32",
    functions=(),
    states=(),
    sizes=Sizes(predicted_weight_bytes=1000, weight_bytes=0, predicted_state_bytes=100, state_bytes=0),
    files=(),
)


def loaded(*, measure=True, emulation=None, folder="nowhere"):
    package = SimpleNamespace(manifest=MANIFEST, folder=folder)
    return SimpleNamespace(
        package=package, options=Options(measure=measure), emulation=emulation, say=lambda label: None
    )


def of_a_mac(package):
    return {
        "first_s": 9.0,
        "call_s": 0.5,
        "memory_bytes": 2e6,
        "compile_s": 7.0,
        "first_load_s": 5.0,
        "load_s": 1.0,
        "compiled_bytes": 3e6,
    }


def test_every_figure_is_reported_and_none_is_required():
    found = {one.name: one for one in results(LoadingCheck(measure=of_a_mac), loaded())}
    assert {name: (one.value, one.unit) for name, one in found.items()} == {
        "loading.compile": (7.0, "s"),
        "loading.first_load": (5.0, "s"),
        "loading.load": (1.0, "s"),
        "loading.first": (9.0, "s"),
        "loading.memory": (2.0, "MB"),
    }
    assert not any(one.required for one in found.values())
    memory = found["loading.memory"]
    assert memory.parts["predicted_bytes"] == predicted_memory_bytes(MANIFEST)
    assert memory.parts["compiled_bytes"] == 3e6


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"emulation": CoreMLInspector().emulation()}, "only a Mac compiles and loads Core ML packages"),
        ({"measure": False}, "not asked for; give --measure"),
    ],
)
def test_what_cannot_be_loaded_here_has_not_run_and_says_why(asked, reason):
    (found,) = results(LoadingCheck(measure=of_a_mac), loaded(**asked))
    assert (found.status, found.required, found.why) == ("not_run", False, reason)


def test_a_process_that_fails_is_named_with_its_last_line():
    (found,) = results(LoadingCheck(), loaded(folder="/no/such/package"))
    assert found.status == "not_run"
    assert "ends with 1: s2search.errors.InputError: there is no package '/no/such/package'" in found.why


def test_predicted_memory_is_weights_state_and_the_largest_part():
    more = replace(MANIFEST, sizes=replace(MANIFEST.sizes, predicted_weight_bytes=5000))
    assert predicted_memory_bytes(more) - predicted_memory_bytes(MANIFEST) == 4000
    larger = replace(MANIFEST, grid=(6, 8))
    assert predicted_memory_bytes(larger) > 3 * predicted_memory_bytes(MANIFEST)
    shape = CONFIG.preset.shape("64x48", "stream", frames=3)
    head = predicted_memory_bytes(MANIFEST) - 1100
    assert head >= shape.tokens * shape.channels * Precision.named("float32").activation_bits // 8


def test_the_size_of_a_process_grows_with_what_it_holds_though_it_was_larger_once():
    for _ in range(2):
        before = resident_bytes()
        kept = bytearray(300_000_000)
        kept[::4096] = b"x" * len(kept[::4096])
        assert resident_bytes() - before > 290_000_000
        del kept


@pytest.mark.slow
def test_a_real_package_is_loaded_in_a_process_of_its_own(exported, open_package):
    found = {one.name: one for one in results(LoadingCheck(), open_package(exported, measure=True))}
    assert found.keys() == {"loading.first", "loading.memory"}
    assert found["loading.first"].value > 0
    assert found["loading.memory"].parts["measured_bytes"] > 0
