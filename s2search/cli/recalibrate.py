"""The command `recalibrate`: a table corrected by whole packages, timed on this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer


def recalibrate(
    table: Annotated[str, typer.Argument(help="A table that was measured here: its folder, or an installed one.")],
    out: Annotated[Path, typer.Option(help="The new table's folder. An unfinished recalibration is finished.")],
    layouts: Annotated[int, typer.Option(min=1, help="Random layouts to time; two in three are held out.")] = 30,
    runtime: Annotated[str | None, typer.Option(help="onnxruntime or executorch; by default the table's own.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Model size or a TOML file of sizes; by default the table's own.")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Layers of the layouts; by default the preset's.")] = None,
    video: Annotated[
        str | None, typer.Option(help="Video size, WIDTHxHEIGHT; by default the table's only one.")
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(help="Blocks in the layouts; by default all of the table's.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="How often everything is timed.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws layouts, weights and orders.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.recalibration/1).")] = False,
) -> int:
    """Time whole layouts against a table, and write a corrected version of it.

    A third of the layouts gives the correction, the others tell what it gains.
    """
    from s2search.errors import InputError
    from s2search.preset import PRESETS, Preset, token_grid
    from s2search.recalibration.recalibrate import Settings, bench_of
    from s2search.recalibration.recalibrate import recalibrate as run
    from s2search.recalibration.version import correction_text
    from s2search.report.progress import progress_bar
    from s2search.report.recalibration import recalibration_text
    from s2search.space import parse_blocks
    from s2search.tables.table import open_table

    old = open_table(table)
    bench = bench_of(old, runtime)
    if preset is None and old.card.preset not in PRESETS:
        raise InputError(
            f"the table {old.name!r} was measured for the preset {old.card.preset!r}, which is not installed",
            remedy="name its file: --preset FILE.toml",
        )
    sizes = Preset.named(preset or old.card.preset)
    settings = Settings(
        preset=dataclasses.replace(sizes, depth=depth or sizes.depth),
        layouts=layouts,
        candidates=parse_blocks(candidates or ""),
        rounds=rounds,
        seed=seed,
    )
    scope = old.scope("stream", video=token_grid(video) if video else None)
    found = run(old, scope, settings, out, bench, progress=progress_bar)
    if as_json:
        typer.echo(found.to_json(), nl=False)
    else:
        from rich.console import Console

        Console(highlight=False, markup=False).print(recalibration_text(found, correction_text(found.correction)))
    return 0
