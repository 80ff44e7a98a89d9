"""`s2search export`: a model as a package for the phone's runtimes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.options import LayoutOption, PlanOption, PresetOption, VideoOption, WeightsArgument, say


def export(
    exporter: Annotated[str, typer.Option(help="Exporter: onnx, executorch, torch_program, coreai, coreml[bits=4].")],
    out: Annotated[Path, typer.Option(help="The package's folder; it must not exist yet.")],
    weights: WeightsArgument = None,
    preset: PresetOption = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Untrained weights: to try a runtime before there is a model.")
    ] = False,
    plan: PlanOption = None,
    layout: LayoutOption = None,
    video: VideoOption = "256x144",
    seed: Annotated[int, typer.Option(help="Seed of random weights.")] = 0,
    text: Annotated[
        str | None,
        typer.Option(
            help="Text encoder that the model was trained with: clip[folder=FOLDER].",
            show_default="hashing, as wide as the model",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="A text file of prompts, one a line: ranges of 8-bit activations come from streams of all but the "
            "last, which verify streams.",
            show_default="five of our own",
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Instead of the step: clip[folder=DIR], wan[folder=DIR] or dct (its decoder).")
    ] = None,
) -> int:
    """Export a model's streaming step, or a part around it, as a package with the weights to verify it against."""
    from s2search.api.export import export as run

    start = time.perf_counter()
    package = run(
        exporter,
        out,
        weights,
        preset=preset,
        random_weights=random_weights,
        plan=plan,
        layout=layout,
        video=video,
        seed=seed,
        part=part,
        text=text,
        prompts=prompts,
    )
    seconds = time.perf_counter() - start
    from s2search.exporters.component.package import ComponentPackage
    from s2search.reporting.package import component_text, package_text

    if isinstance(package, ComponentPackage):
        say(component_text(package, seconds=seconds))
    else:
        say(package_text(package, seconds=seconds))
    return 0
