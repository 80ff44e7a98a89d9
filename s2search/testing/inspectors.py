"""The conformance suite of inspectors: hold a plugin against the contract of `s2search.verification.inspectors.base`.

    def test_my_inspector(tmp_path):
        check_inspector(MyInspector(), tiny_model("SL"), tmp_path)

It exports with the exporter of the same name, which must run here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from s2search import registry
from s2search.exporters.base import Exporter
from s2search.exporters.package import Package
from s2search.network.network import S2DiT
from s2search.testing.exporters import GRID
from s2search.verification.check import results
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.inspectors.base import Inspector, inspector_of
from s2search.verification.opened import Opened
from s2search.verification.result import CannotRunError


def check_inspector(inspector: Inspector, model: S2DiT, folder: Path) -> None:
    """Look into a package with an inspector, and assert that it keeps the contract.

    Args:
        inspector: The plugin; it and its exporter must be installed under its name.
        model: Float32.
        folder: An empty folder to write in.
    """
    assert inspector.name in registry.installed("exporters"), f"no exporter is called {inspector.name!r}"
    assert registry.create("inspectors", inspector.name) == inspector, "it is not installed under its name"
    exporter: Exporter = registry.create("exporters", inspector.name)
    package = exporter.export(model, GRID, folder / "package")
    assert inspector_of(package) == inspector
    _check_weights(package)
    opened = Opened(package)
    for found in results(ParityCheck(), opened):
        assert found.status != "failed", f"{found.name}: {found.where} {found.why}"
    _check_inside(inspector, opened)
    _check_operations(inspector, opened)
    for question in (inspector.placement, lambda opened: inspector.in_mode(opened, "float32")):
        _answered(question, opened)
    if package.manifest.held:
        assert not inspector.state_faults(package)
    package.check_files()


def _check_weights(package: Package) -> None:
    """All weights are found, and a source of which one is another is told apart."""
    files = {entry.path for entry in package.manifest.files}
    for tensor in inspector_of(package).stored_tensors(package):
        file = tensor.file.partition(":")[0]
        assert any(path == file or path.startswith(f"{file}/") for path in files), f"{tensor.file!r} is no file of it"
    (found,) = results(WeightsCheck(), Opened(package))
    assert found.status == "passed", f"weights: {found.where} {found.why}"
    name = "layers.0.attention.query.weight"
    opened, other = Opened(package), S2DiT.from_pretrained(package.source, dtype=torch.float32).requires_grad_(False)
    other.get_parameter(name)[0, 0] *= 1.01
    opened.__dict__["source"] = other
    (found,) = results(WeightsCheck(), opened)
    assert (found.status, found.where) == ("failed", name), f"a changed weight is not told: {found.status} {found.why}"


def _check_inside(inspector: Inspector, opened: Opened) -> None:
    """Every value that is offered can be had."""
    function = opened.functions()[0]
    taps = _answered(lambda opened: inspector.inside(opened, function), opened)
    if taps is None:
        return
    names = taps.names()
    if taps.has_names:
        names &= {node.name for node in taps.program().graph.nodes if node.op == "call_function"}
    shared = sorted(names)
    assert shared, "the graph of the source shares no name with the package"
    wanted = {shared[0], shared[-1]}
    assert taps.run(opened.inputs(function), wanted).keys() == wanted, "a value that is offered is not given"


def _check_operations(inspector: Inspector, opened: Opened) -> None:
    rules = _answered(inspector.operations, opened)
    if rules is not None:
        assert len({one.rule for one in rules}) == len(rules) > 0, "a rule is listed twice, or none is"
        assert inspector.promises(opened) <= {one.rule for one in rules}, "a rule is promised that is not looked at"


def _answered(question: Callable[[Opened], Any], opened: Opened) -> Any:
    """Return an answer, or None where there is none and one line says so."""
    refusal = ""
    try:
        return question(opened)
    except CannotRunError as error:
        refusal = str(error)
    assert refusal.splitlines() == [refusal], f"{refusal!r} is not one line"
    return None
