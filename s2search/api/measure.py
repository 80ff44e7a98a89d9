"""The command `measure`: latency and memory of blocks on this machine, into a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.values import Blocks, PathText, Texts, blocks_of, pipeline_of, plugin_of, preset_of, rows_of, texts_of
from s2search.block import Scenario
from s2search.cost import Pipeline
from s2search.document import check_folder
from s2search.preset import Preset
from s2search.tables.row import Role
from s2search.tables.table import LatencyTable

if TYPE_CHECKING:
    from s2search.measurement.base import Profiler


def measure(
    out: PathText,
    *,
    profiler: str | Profiler = "torch_cpu",
    preset: str | Preset = "s2dit-tiny",
    video: Texts = "256x144",
    scenario: Sequence[Scenario] | None = None,
    candidates: Blocks | None = None,
    role: Sequence[Role] | None = None,
    only: Texts | PathText = (),
    chunk: int | None = None,
    window: int | None = None,
    clip_frames: int | None = None,
    rounds: int = 30,
    seed: int = 0,
    sustained: str | None = None,
    pairs: bool = False,
    pipeline: PathText | Pipeline | None = None,
) -> LatencyTable:
    """Measure latency and memory of blocks on this machine, into a table with provenance.

    Args:
        out: The table's folder. An unfinished one is finished.
        profiler: What times a call: `torch_cpu`, `torch_cuda[compile=true]`, or the profiler itself.
        preset: Model size: an installed one, a TOML file, or the sizes themselves.
        video: One video size, or several.
        scenario: `stream`, `clip`, or both by default.
        candidates: Blocks to measure; all installed ones by default.
        role: Rows to measure; all that the profiler can by default.
        only: Rows to measure and no others, by key (`stream ssa 3x18x32`), or a design's JSON file: those that would
            settle it, the most telling first.
        chunk: Latent frames of a stream's chunk.
        window: Past chunks that a stream still sees.
        clip_frames: Latent frames of a clip.
        rounds: How often every row is timed.
        seed: Seed of the order.
        sustained: Heat the device for so long, and keep the last third: `5m` or `300s`.
        pairs: Also time blocks in the context of each other.
        pipeline: What runs once per chunk beside the transformer, for `fps` budgets: a JSON file of `chunk_frames`,
            `steps`, `text_ms` and `decoder_ms`, or the pipeline itself.

    Raises:
        InputError: The profiler cannot run here, or the folder holds another campaign.
        TableError: The folder holds a finished table.
    """
    check_folder(Path(out))
    from s2search.dates import duration_s
    from s2search.measurement.campaign import measure as run
    from s2search.measurement.items import SCENARIOS, campaign_items, only_items
    from s2search.measurement.samples import Protocol
    from s2search.reporting.progress import progress_bar

    told, sizes, keys = pipeline_of(pipeline), preset_of(preset), rows_of(only)
    sizes = dataclasses.replace(
        sizes, chunk_frames=chunk or sizes.chunk_frames, window_chunks=window or sizes.window_chunks
    )
    chosen: Profiler = plugin_of("profilers", profiler)
    items = [
        item
        for size in texts_of(video)
        for item in campaign_items(
            sizes,
            size,
            scenarios=scenario or SCENARIOS,
            candidates=blocks_of(candidates),
            clip_frames=clip_frames,
            roles=role or chosen.roles(),
        )
    ]
    seconds = None if sustained is None else duration_s(sustained)
    protocol = Protocol(rounds=rounds, seed=seed, sustained_s=seconds, pairs=pairs)
    with progress_bar("measuring") as progress:
        return run(
            chosen, only_items(items, keys), out, preset=sizes.name, protocol=protocol, pipeline=told, progress=progress
        )
