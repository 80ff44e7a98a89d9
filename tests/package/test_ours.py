"""Packages that `export` wrote: the default breaks no rule, the form of before broke five; `verify` says the same."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import s2search
from s2search.errors import InputError
from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.coreml.state import hold_states
from s2search.exporters.package import Package
from s2search.mil.library import load_coremltools
from s2search.mil.program import Program
from s2search.mil.rules.rule import PLACE_RULES
from s2search.testing.exporters import GRID, tiny_model
from s2search.verification.check import results
from s2search.verification.checks.operations import LintCheck
from s2search.verification.checks.residency import ResidencyCheck
from s2search.verification.opened import Opened
from s2search.verification.result import CheckResult
from tests.conftest import Outcome
from tests.export.test_quantised import small

pytestmark = pytest.mark.slow  # exports and traces whole models

#: What the form that passes its whole state breaks.
PASSED = {"float32_operation", "io_width", "ring_by_concat"}
#: What the default broke until 2026-11-30: the same form, each ring and tail a state that Core ML kept.
BEFORE = PASSED | {"states", "state_width"}


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Package:
    exporter = CoreMLExporter(state="plain")
    return exporter.export(tiny_model("SL"), GRID, tmp_path_factory.mktemp("coreml") / "package")


@pytest.fixture(scope="module")
def opened(package: Package) -> Opened:
    return Opened(package)


@pytest.fixture(scope="module")
def checks(opened: Opened) -> dict[str, CheckResult]:
    return {one.name: one for check in (LintCheck(), ResidencyCheck()) for one in results(check, opened)}


def test_the_default_of_before_breaks_five_rules_and_lint_says_which(
    package: Package, tmp_path: Path, s2search: Callable[..., Outcome]
) -> None:
    coremltools = load_coremltools()
    path = package.folder / "model.mlpackage"
    specification = coremltools.utils.load_spec(str(path))
    held = [one.name for one in package.manifest.states if one.dtype == "float16" and one.name != "past_bias"]
    hold_states(specification, held)
    coremltools.utils.save_spec(
        specification, str(tmp_path / "before.mlpackage"), weights_dir=str(path / "Data/com.apple.CoreML/weights")
    )
    done = s2search("package", "lint", str(tmp_path / "before.mlpackage"))
    assert done.code == 1
    assert "5 of 13 rules broken" in " ".join(done.out.split())
    assert all(f"\n{rule}: " in done.out for rule in BEFORE)


@pytest.mark.parametrize(
    "options", [{}, {"state": "core_ml"}, {"bits": 4}, {"bits": 4, "activations": 8}], ids=lambda given: str(given)
)
def test_the_default_form_breaks_none_and_is_required_to(options: dict[str, Any], tmp_path: Path) -> None:
    model, shape = small("SL")  # as narrow as the narrowest whose matrices are compressed
    window = model.config.preset.window
    package = CoreMLExporter(**options).export(model, shape.grid, tmp_path / "package", window=window)
    (linted,) = s2search.package_lint(package.folder).packages
    assert linted.findings == ()
    for function in Program.load(package.folder / "model.mlpackage").functions.values():
        rounded = [operation for operation in function.operations if operation.type == "quantize"]
        assert bool(rounded) == ("activations" in options)
    if "state" in options:
        return
    checks = {one.name: one for check in (LintCheck(), ResidencyCheck()) for one in results(check, Opened(package))}
    assert {rule for rule in PLACE_RULES if checks[f"lint.{rule}"].required} == {*CoreMLExporter().promised_rules}
    assert all(one.value == 100 and one.required for name, one in checks.items() if name.startswith("residency."))


def test_verify_reports_the_same_findings_and_requires_none_that_the_exporter_does_not_promise(
    package: Package, checks: dict[str, CheckResult]
) -> None:
    (linted,) = s2search.package_lint(package.folder).packages
    counts = Counter(finding.rule for finding in linted.findings)
    assert {rule: checks[f"lint.{rule}"].value for rule in PLACE_RULES} == {
        rule: float(counts[rule]) for rule in PLACE_RULES
    }
    assert {rule for rule in PLACE_RULES if checks[f"lint.{rule}"].status == "failed"} == PASSED
    assert not any(checks[f"lint.{rule}"].required for rule in PLACE_RULES)
    assert "pad the last axis" in checks["lint.io_width"].why
    assert linted.coremltools == package.manifest.facts["coremltools"]


def test_what_an_exporter_promises_is_required(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoreMLExporter, "promised_rules", ("states", "float32_operation"), raising=False)
    found = {one.name: one.required for check in (LintCheck(), ResidencyCheck()) for one in results(check, opened)}
    required = {f"lint.{rule}" for rule in PLACE_RULES if found[f"lint.{rule}"]}
    assert required == {"lint.states", "lint.float32_operation"}
    assert found["residency.denoise"]


def test_residency_is_of_every_function_and_lists_runs_elsewhere(checks: dict[str, CheckResult]) -> None:
    found = {name: one for name, one in checks.items() if name.startswith("residency.")}
    assert set(found) == {f"residency.{name}" for name in ("first", "denoise", "commit", "advance")}
    for one in found.values():
        assert not one.required
        assert one.value is not None
        assert 0 < one.parts["operations"] < 100
        runs = {name: share for name, share in one.parts.items() if name.startswith("from ")}
        assert one.value + sum(runs.values()) == pytest.approx(100)
        assert "float32" in one.why
    assert len(found["residency.denoise"].parts) > len(found["residency.first"].parts)


def test_a_function_of_a_folder_of_ours_is_evaluated_as_its_runtime_does(package: Package, opened: Opened) -> None:
    inputs = opened.inputs("denoise")
    found = s2search.package_evaluate(package.folder, inputs, function="denoise")
    wanted = opened.runtime.run("denoise", inputs)
    np.testing.assert_array_equal(found.outputs["velocity"].astype(np.float16), wanted["velocity"])


def test_a_folder_of_ours_without_a_core_ml_package_says_what_wrote_it(package: Package, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(package.folder, tmp_path / "copy"))
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace("model.mlpackage", "model.onnx"))
    with pytest.raises(InputError, match=r"holds no \.mlpackage: it is a package of coreml"):
        s2search.package_lint(copy)
    manifest.write_text(manifest.read_text().replace("model.onnx", "../model.mlpackage"))
    with pytest.raises(InputError, match="names a file outside of it"):
        s2search.package_lint(copy)
