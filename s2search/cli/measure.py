"""`s2search measure`: latency and memory of blocks on this machine, into a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.options import PipelineOption, RoleName, ScenarioName, say


def measure(
    out: Annotated[Path, typer.Option(help="The table's folder. An unfinished one is finished.")],
    profiler: Annotated[str, typer.Option(help="torch_cpu, torch_cuda[compile=true], ...")] = "torch_cpu",
    preset: Annotated[str, typer.Option(help="Model size: s2dit-tiny, s2dit-small, s2dit-1.8b.")] = "s2dit-tiny",
    video: Annotated[
        list[str] | None, typer.Option(help="Video size, WIDTHxHEIGHT. May be repeated.", show_default="256x144")
    ] = None,
    scenario: Annotated[list[ScenarioName] | None, typer.Option(help="stream, clip, or both (default).")] = None,
    candidates: Annotated[str | None, typer.Option(help="Blocks to measure; all installed ones by default.")] = None,
    role: Annotated[
        list[RoleName] | None, typer.Option(help="Rows to measure: all that the profiler can (default), or some.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A row to measure, 'stream ssa 3x18x32', or a design.json: what settles it."),
    ] = None,
    chunk: Annotated[int | None, typer.Option(min=1, help="Latent frames of a stream's chunk.")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Past chunks that a stream still sees.")] = None,
    clip_frames: Annotated[int | None, typer.Option(min=1, help="Latent frames of a clip.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="How often every row is timed.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the order.")] = 0,
    sustained: Annotated[
        str | None, typer.Option(help="Load the device for this long, and keep only the last third: 5m or 300s.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Also time blocks in the context of each other.")] = False,
    pipeline: PipelineOption = None,
) -> int:
    """Measure latency and memory of blocks on this machine, into a table with provenance."""
    from s2search.api.measure import measure as run
    from s2search.reporting.terminal import table_text

    table = run(
        out,
        profiler=profiler,
        preset=preset,
        video=video or "256x144",
        scenario=[name.value for name in scenario] if scenario else None,
        candidates=candidates,
        role=[name.value for name in role] if role else None,
        only=only or (),
        chunk=chunk,
        window=window,
        clip_frames=clip_frames,
        rounds=rounds,
        seed=seed,
        sustained=sustained,
        pairs=pairs,
        pipeline=pipeline,
    )
    say(table_text(table))
    return 0
