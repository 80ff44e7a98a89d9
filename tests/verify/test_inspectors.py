"""Inspectors keep their contract, and nobody else knows an exporter by its name."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest

from s2search import registry
from s2search.testing.exporters import tiny_model
from s2search.testing.inspectors import check_inspector
from s2search.verification.check import results
from s2search.verification.checks.blocks import BlocksCheck
from s2search.verification.checks.operations import LintCheck
from s2search.verification.checks.placement import PlacementCheck
from s2search.verification.checks.residency import ResidencyCheck
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.inspectors.base import Inspector
from s2search.verification.result import CannotRunError, keeps_promise

ROOT = Path(__file__).parents[2]
EXPORTERS = sorted(registry.installed("exporters"))
#: An exporter's name that is the name of something else there. This list only shrinks.
HOMONYMS = {
    "s2search/errors.py": {"coreai", "coreml", "executorch", "onnx"},  # extras, and modules that come with them
    "s2search/exporters/executorch/delegates.py": {"coreml"},  # ExecuTorch's delegate
    "s2search/mil/library.py": {"executorch"},  # a library that coremltools would import
    "s2search/measurement/adb.py": {"executorch"},  # the tool that runs on the phone
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTERS)
def test_an_inspector_keeps_the_contract(name, tmp_path):
    if problem := registry.create("exporters", name).why_not():
        pytest.skip(problem)
    check_inspector(registry.create("inspectors", name), tiny_model("SL"), tmp_path)


def test_every_exporter_has_an_inspector_of_its_name():
    assert sorted(registry.installed("inspectors")) == EXPORTERS
    assert [registry.create("inspectors", name).name for name in EXPORTERS] == EXPORTERS


def test_nobody_but_a_runtimes_own_files_names_its_exporter():
    found = {}
    for path in [*(ROOT / "s2search").rglob("*.py"), *(ROOT / "blocks").rglob("*.py")]:
        place = path.relative_to(ROOT).as_posix()
        words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        if names := {name for name in EXPORTERS if name in words and name not in place}:
            found[place] = names
    assert found == HOMONYMS


def test_no_check_asks_which_exporter_wrote_a_package():
    for path in (ROOT / "s2search/verification").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                assert not any(isinstance(one, ast.Attribute) and one.attr == "exporter" for one in sides), path


def test_without_an_inspector_one_line_says_what_was_not_run(exported, open_package, monkeypatch):
    installed = registry.installed
    monkeypatch.setattr(registry, "installed", lambda group: {} if group == "inspectors" else installed(group))
    opened = open_package(exported)
    checks = (WeightsCheck(), BlocksCheck(), LintCheck(), ResidencyCheck(), PlacementCheck())
    found = [one for check in checks for one in results(check, opened)]
    assert [(one.name, one.status, one.required) for one in found] == [
        ("weights", "not_run", True),
        ("blocks", "not_run", False),
        ("lint", "not_run", False),
        ("residency", "not_run", False),
        ("placement", "not_run", False),
    ]
    assert all("'onnx'" in one.why and len(one.why.splitlines()) == 1 for one in found)
    assert not keeps_promise(found)


def test_an_inspector_that_says_nothing_answers_every_question():
    package = SimpleNamespace(manifest=SimpleNamespace(exporter="mine"), folder=Path("nowhere"))
    opened, quiet = SimpleNamespace(package=package), Inspector()
    for question in (
        lambda: quiet.stored_tensors(package),
        lambda: quiet.inside(opened, "first"),
        lambda: quiet.operations(opened),
        lambda: quiet.placement(opened),
        lambda: quiet.residency(opened),
        lambda: quiet.state_faults(package),
        lambda: quiet.in_mode(opened, "float32"),
    ):
        with pytest.raises(CannotRunError, match="'mine'"):
            question()
    assert (quiet.emulation(), quiet.largest(opened, "first")) == (None, None)
    assert not quiet.promises(opened)
    assert quiet.loading(package, "first", Path("nowhere"), lambda: 0.0) == {}
