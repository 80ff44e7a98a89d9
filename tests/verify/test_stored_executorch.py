"""ExecuTorch's programs, whose constants lost their names: whatever is changed in one is named all the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from s2search import registry
from s2search.exporters.package import Package, write_manifest
from s2search.testing.exporters import GRID, tiny_model
from s2search.verification.check import results
from s2search.verification.checks.files import FilesCheck
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.inspectors.executorch import ExecuTorchInspector
from s2search.verification.inspectors.stored_tensor import digest_of
from s2search.verification.opened import Opened, Options
from s2search.verification.verify import verify

pytestmark = pytest.mark.slow  # exports a whole model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("executorch")
    folder = tmp_path_factory.mktemp("packages") / "executorch"
    registry.create("exporters", "executorch").export(tiny_model("SL"), GRID, folder)
    return folder


@pytest.fixture
def package(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "package"))


def stored(package: Path, name: str) -> np.memmap:
    """Give a weight's numbers in the program's file, to be changed in place."""
    weight = dict(Opened(Package.load(package)).source.state_dict())[name].numpy().astype("<f4")
    data = (package / "model.pte").read_bytes()
    assert data.count(weight.tobytes()) == 1, "a test needs the place of the weight"
    return np.memmap(package / "model.pte", "<f4", "r+", data.index(weight.tobytes()), weight.shape)


def weights_of(package: Path):
    write_manifest(package, Package.load(package).manifest)
    opened = Opened(Package.load(package))
    assert results(FilesCheck(), opened)[0].status == "passed"
    (found,) = results(WeightsCheck(), opened)
    return found


def test_a_whole_package_is_verified(exported, tmp_path):
    found = verify(exported, Options(chunks=16))
    status = {check.name: check.status for check in found.checks}
    assert found.passed, [check for check in found.checks if check.status == "failed"]
    assert {status[name] for name in ("weights", "parity.denoise", "blocks", "stream.reuse_last")} == {"passed"}
    assert {status[name] for name in ("graph", "lint")} == {"not_run"}


def test_every_constant_of_xnnpack_has_the_name_of_its_numbers(exported):
    named = [one for one in ExecuTorchInspector().stored_tensors(Package.load(exported)) if one.values.size > 256]
    assert len(named) > 20
    assert all(one.name == digest_of(one.values) for one in named)


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        ("layers.0.attention.query.weight", (3, 5), "differs in 1 of 1,024 numbers"),  # XNNPACK's
        (
            "layers.1.attention.linear.feature_map.weight_AKK",
            (1, 2, 3),
            "differs in 1 of 256 numbers",
        ),  # ExecuTorch's own
        ("layers.0.attention.query_norm.weight", (2,), "differs in 1 of 8 numbers"),
    ],
)
def test_one_changed_weight_is_named_though_all_digests_are_right(package, name, place, words):
    stored(package, name)[place] *= 1.01
    found = weights_of(package)
    assert (found.status, found.value, found.where) == ("failed", 1, name)
    assert words in found.why
    assert "model.pte" in found.why


def test_swapped_layers_are_named(package):
    one, other = (stored(package, f"layers.{layer}.cross_attention.query.weight") for layer in (0, 1))
    one[:], other[:] = other.copy(), one.copy()
    del one, other
    found = weights_of(package)
    assert (found.status, found.value, found.where) == ("failed", 2, "layers.0.cross_attention.query.weight")


def test_a_kernel_of_a_convolution_that_was_changed_is_named(package):
    model = Opened(Package.load(package)).source
    kernel = model.get_parameter("layers.1.attention.local.depthwise.bias").numpy().repeat(3)
    data = (package / "model.pte").read_bytes()
    at = data.index(kernel.astype("<f4").tobytes())
    (package / "model.pte").write_bytes(data[:at] + np.float32(0.5).tobytes() + data[at + 4 :])
    found = weights_of(package)
    assert (found.status, found.where) == ("failed", "layers.1.attention.local.depthwise.bias")


def test_a_damaged_program_is_one_line(package):
    whole = (package / "model.pte").read_bytes()
    harmed = np.random.default_rng(0)
    for _ in range(12):
        damaged = bytearray(whole)
        for at in harmed.integers(0, 144_000, 40):
            damaged[at] = harmed.integers(0, 256)
        (package / "model.pte").write_bytes(damaged)
        found = weights_of(package)
        assert found.status in ("failed", "not_run", "passed")  # what harms no constant is for parity to find
        assert len(found.why.splitlines()) == 1
