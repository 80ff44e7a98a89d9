"""The smallest package of torch's own programs, made once; tests break copies."""

from __future__ import annotations

import pytest

from s2search.exporters.package import Package
from s2search.exporters.torch_program import TorchProgramExporter
from s2search.testing.exporters import GRID, tiny_model


@pytest.fixture(scope="session")
def labels() -> list[str]:
    """Return what the export of `made` said was next."""
    return []


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, labels: list[str]) -> Package:
    def progress(done: int, total: int, label: str) -> None:
        labels.append(label)

    folder = tmp_path_factory.mktemp("made") / "package"
    return TorchProgramExporter().export(tiny_model("S"), GRID, folder, progress)
