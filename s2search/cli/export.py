"""The command `export`: a model as a package for the phone's runtimes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2search.errors import InputError

if TYPE_CHECKING:
    from s2search.exporters.base import Exporter


def export(
    exporter: Annotated[str, typer.Option(help="Exporter: onnx, executorch, torch_program, coreai, coreml[bits=4].")],
    out: Annotated[Path, typer.Option(help="The package's folder; it must not exist yet.")],
    weights: Annotated[Path | None, typer.Argument(help="A folder that save_pretrained wrote.")] = None,
    preset: Annotated[str | None, typer.Option(help="Model size, or a TOML file of sizes; without weights.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Untrained weights: to try a runtime before there is a model.")
    ] = False,
    plan: Annotated[Path | None, typer.Option(help="Realize this plan (JSON) at the preset's sizes.")] = None,
    layout: Annotated[str | None, typer.Option(help="Realize this layout: L4S4.")] = None,
    video: Annotated[str, typer.Option(help="Video size, WIDTHxHEIGHT.")] = "256x144",
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    part: Annotated[
        str | None, typer.Option(help="Instead of the step: clip[folder=DIR], wan[folder=DIR] or dct (its decoder).")
    ] = None,
) -> int:
    """Export a model's streaming step, or a part around it, as a package with the weights to verify it against."""
    from rich.console import Console

    from s2search import registry
    from s2search.network.source import ModelSource, open_model
    from s2search.preset import token_grid
    from s2search.report.package import package_text
    from s2search.report.progress import progress_bar

    if part is not None:
        model_options = {"WEIGHTS": weights, "--preset": preset, "--plan": plan, "--layout": layout}
        _refuse_beside_part(model_options | {"--random-weights": random_weights, "--seed": seed})
        return _export_part(part, exporter, out, token_grid(video))
    plugin: Exporter = registry.create("exporters", exporter)
    grid = token_grid(video)
    model = open_model(
        ModelSource(weights=weights, preset=preset, plan=plan, layout=layout, random_weights=random_weights, seed=seed)
    )
    start = time.perf_counter()
    with progress_bar("exporting") as progress:
        package = plugin.export(model, grid, out, progress)
    text = package_text(package, seconds=time.perf_counter() - start)
    Console(highlight=False, markup=False).print(text)
    return 0


def _refuse_beside_part(options: dict[str, object]) -> None:
    """Refuse what is for a streaming step only, which would be lost in silence."""
    for name, value in options.items():
        if value:
            raise InputError(
                f"{name} cannot be combined with --part, which has no such model", remedy="leave one of them out"
            )


def _export_part(plugin: str, exporter: str, out: Path, grid: tuple[int, int]) -> int:
    from rich.console import Console

    from s2search.exporters.component.package import export_component
    from s2search.report.progress import progress_bar

    start = time.perf_counter()
    with progress_bar("exporting") as progress:
        package = export_component(plugin, exporter, out, progress, grid=grid)
    manifest, seconds = package.manifest, time.perf_counter() - start
    lines = [f"{manifest.part} of {manifest.plugin} by {exporter} in {out}, {manifest.precision}, {seconds:.0f} s"]
    lines += [f"  {one.name}: {len(one.inputs)} inputs, {len(one.outputs)} outputs" for one in manifest.functions]
    size = sum(file.bytes for file in manifest.files if not file.path.startswith("source/"))
    lines.append(f"  {size / 1e6:.2f} MB, and {sum(one.bytes for one in manifest.states) / 1e6:.2f} MB of cache")
    Console(highlight=False, markup=False).print("\n".join(lines))
    return 0
