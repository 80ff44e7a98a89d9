"""`s2search measure`: latency and memory of blocks on this machine, into a table."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class RoleName(StrEnum):
    """What a row of a table is for. Typer repeats enumerations, but no literals."""

    BLOCK = "block"
    COMMIT = "commit"
    SWITCH = "switch"
    FIXED = "fixed"


class ScenarioName(StrEnum):
    """What one forward pass sees."""

    STREAM = "stream"
    CLIP = "clip"


def measure(
    out: Annotated[Path, typer.Option(help="The table's folder. An unfinished one is finished.")],
    profiler: Annotated[str, typer.Option(help="torch_cpu, torch_cuda[compile=true], ...")] = "torch_cpu",
    preset: Annotated[str, typer.Option(help="Model size: s2dit-tiny, s2dit-small, s2dit-1.8b.")] = "s2dit-tiny",
    video: Annotated[list[str] | None, typer.Option(help="Video size, WIDTHxHEIGHT. May be repeated.")] = None,
    scenario: Annotated[list[ScenarioName] | None, typer.Option(help="stream, clip, or both (default).")] = None,
    candidates: Annotated[str | None, typer.Option(help="Blocks to measure; all installed ones by default.")] = None,
    role: Annotated[
        list[RoleName] | None, typer.Option(help="Rows to measure: all that the profiler can (default), or some.")
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
) -> int:
    """Measure latency and memory of blocks on this machine, into a table with provenance."""
    from rich.console import Console

    from s2search import registry
    from s2search.measurement.campaign import measure as run
    from s2search.measurement.items import campaign_items
    from s2search.measurement.samples import Protocol, parse_seconds
    from s2search.preset import Preset
    from s2search.report.progress import progress_bar
    from s2search.report.terminal import table_text
    from s2search.space import parse_blocks

    sizes = Preset.named(preset)
    sizes = dataclasses.replace(
        sizes, chunk_frames=chunk or sizes.chunk_frames, window_chunks=window or sizes.window_chunks
    )
    chosen = registry.create("profilers", profiler)
    items = [
        item
        for size in video or ["256x144"]
        for item in campaign_items(
            sizes,
            size,
            scenarios=[name.value for name in scenario or ScenarioName],
            candidates=parse_blocks(candidates or ""),
            clip_frames=clip_frames,
            roles=[name.value for name in role] if role else chosen.roles(),
        )
    ]
    with progress_bar("measuring") as progress:
        seconds = None if sustained is None else parse_seconds(sustained)
        protocol = Protocol(rounds=rounds, seed=seed, sustained_s=seconds, pairs=pairs)
        table = run(chosen, items, out, preset=sizes.name, protocol=protocol, progress=progress)
    Console(highlight=False, markup=False).print(table_text(table))
    return 0
