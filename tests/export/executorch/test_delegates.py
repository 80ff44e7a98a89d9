from __future__ import annotations

import pytest

from s2search import registry
from s2search.errors import InputError
from s2search.exporters.package import Package
from s2search.testing.exporters import GRID, tiny_model
from s2search.verification.verify import verify


def test_a_delegate_whose_sdk_is_missing_says_so_before_any_work(monkeypatch, tmp_path):
    pytest.importorskip("executorch")
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    exporter = registry.create("exporters", "executorch[delegate=qnn]")
    with pytest.raises(InputError, match="needs Qualcomm's AI Engine Direct SDK; install it and set QNN_SDK_ROOT"):
        exporter.export(tiny_model("S"), GRID, tmp_path / "package")
    assert not list(tmp_path.iterdir())


def test_an_unknown_delegate_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"'coremll' \(did you mean 'coreml'\?\)"):
        registry.create("exporters", "executorch[delegate=coremll]")


@pytest.mark.slow
def test_a_package_for_core_mls_delegate_is_one_delegate_and_what_cannot_run_here_is_listed(tmp_path):
    pytest.importorskip("executorch")
    exporter = registry.create("exporters", "executorch[delegate=coreml]")
    exporter.export(tiny_model("S"), GRID, tmp_path / "package", functions=("denoise",))
    package = Package.load(tmp_path / "package")
    assert package.manifest.exporter_text == "executorch[delegate=coreml]"
    assert int(package.manifest.facts["operations_coreml"]) > 50
    found = {check.name: check for check in verify(package.folder).checks}
    assert found["files"].status == found["placement.executorch"].status == "passed"
    assert {found[name].status for name in ("weights", "parity", "stream")} == {"not_run"}
    assert "take the package to an Apple device" in found["parity"].why
    assert "delegate CoreMLBackend" in found["weights"].why
