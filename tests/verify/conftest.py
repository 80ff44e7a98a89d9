"""A tiny model's package, made once, and ways to break a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2search import registry
from s2search.exporters.package import Package, write_manifest
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.verification.opened import Opened, Options

GRID = (3, 4)  # 64x48


def make_model(channels: int = 32, layout: str = "L1S2", depth: int = 3) -> S2DiT:
    """A model whose weights are all different, and whose gates, norms and scales are far from neutral.

    Matrices of 48 channels are large enough for palettes.
    """
    sizes = {"channels": channels, "heads": 4, "feed_forward": 2 * channels, "text_channels": 16, "text_tokens": 4}
    preset = Preset(name="test", depth=depth, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = S2DiT.from_preset(preset, layout).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            if "norm" in name:
                parameter.mul_(torch.empty_like(parameter).uniform_(0.5, 2))
            elif "gate" in name or "table" in name:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it was exported; tests break copies."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("packages") / "onnx"
    registry.create("exporters", "onnx").export(make_model(), GRID, folder)
    return folder


@pytest.fixture(scope="session")
def traced(exported: Path) -> dict[str, Any]:
    """The source's graphs: tracing takes longest, and they are the same for every copy."""
    return {"programs": Opened(Package.load(exported)).programs, "graphs": {}}


@pytest.fixture
def package(exported: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(exported, tmp_path / "package"))


@pytest.fixture
def open_package(traced: dict[str, Any]) -> Callable[[Path], Opened]:
    """Open a folder for checks, with a short stream."""

    def made(folder: Path, **options: Any) -> Opened:
        opened = Opened(Package.load(folder), Options(**{"chunks": 3, **options}))
        opened.__dict__.update(traced)
        return opened

    return made


@pytest.fixture
def edit_graph(package: Path) -> Callable[..., None]:
    """Change graphs of the package and write the manifest anew, as one who hides it would."""

    def edit(change: Callable[[Any], None], *functions: str) -> None:
        import onnx

        for function in functions or ("first", "denoise", "commit", "advance"):
            path = package / f"{function}.onnx"
            graph = onnx.load(path, load_external_data=False)
            change(graph.graph)
            onnx.save(graph, path)
        write_manifest(package, Package.load(package).manifest)

    return edit


@pytest.fixture
def stored_weight(package: Path) -> Iterator[Callable[[str], np.ndarray]]:
    """Give a weight of the package's file, to be changed in place; the manifest is written anew at the end."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo

    graph = onnx.load(package / "advance.onnx", load_external_data=False).graph
    by_name = {tensor.name: tensor for tensor in graph.initializer}

    def weight(name: str) -> np.ndarray:
        tensor = by_name[f"model.{name}"]
        place = ExternalDataInfo(tensor)
        return np.memmap(package / place.location, np.float32, "r+", int(place.offset), tuple(tensor.dims))

    return weight
