"""The command `kit`: measure a phone with a Mac, without s2search on either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.values import Blocks, PathText, Texts, blocks_of, pipeline_of, preset_of, rows_of, table_of, texts_of
from s2search.block import Block, Scenario
from s2search.cost import Pipeline
from s2search.document import check_folder
from s2search.errors import InputError
from s2search.exporters.coreml.form import Form, Layout, StateKeeper
from s2search.preset import Preset
from s2search.space import DEFAULT_CANDIDATES, parse_blocks
from s2search.tables.row import ROLES
from s2search.tables.table import LatencyTable

if TYPE_CHECKING:
    from s2search.kit.campaign import KitPrecision
    from s2search.kit.ingest import Ingested
    from s2search.kit.manifest import ComputeUnits, KitManifest
    from s2search.kit.shots import ShotChoice
    from s2search.measurement.base import Item


def kit_build(
    out: PathText,
    *,
    preset: str | Preset = "s2dit-1.8b",
    video: Texts = "512x288",
    scenario: Sequence[Scenario] = ("stream",),
    candidates: Blocks | None = None,
    only: Texts | PathText = (),
    clip_frames: int | None = None,
    precision: Sequence[KitPrecision] = ("float16",),
    compute_units: Sequence[ComputeUnits] = ("cpu_and_neural_engine",),
    layout: Layout = "bc1s",
    state: StateKeeper = "host",
    shots: int | None = None,
    known: Sequence[str | LatencyTable] = (),
    layouts: int = 0,
    layout_depth: int = 6,
    contexts: bool = False,
    package: PathText | None = None,
    rounds: int = 30,
    sustained: str | None = None,
    seed: int = 0,
) -> KitManifest:
    """Make a folder for a Mac: Core ML packages, the order, a runner, Swift sources, a README.

    Args:
        out: The kit's folder. An unfinished one is finished.
        preset: Model size.
        video: One video size, or several.
        scenario: `stream`, `clip` or both.
        candidates: Blocks to measure; all installed ones by default.
        only: Rows to measure and no others, by key (`stream ssa 3x18x32`), or a design's JSON file: those that would
            settle it. With `shots` these blocks are timed before any other.
        clip_frames: Latent frames of a clip.
        precision: `float16`, `w4a16` (4-bit palettes) or both.
        compute_units: What Core ML may use.
        layout: Axes of the package to be shipped: `bc1s` or `blocks`.
        state: Who keeps what it remembers: the `host`, which packs it, `core_ml`, or the caller (`plain`).
        shots: Time only so many blocks per scenario and size, those of default plans first; the rest is predicted.
        known: Known devices' tables, which predict the rest.
        layouts: Random layouts of the blocks to time whole, drawn as `recalibrate` draws them.
        layout_depth: Layers of those.
        contexts: Also time every block as two and three equal layers, and every two blocks in both orders.
        package: An exported Core ML package to time as well: first chunk, later steps and commit.
        rounds: How often every row is timed.
        sustained: Then heat the phone for so long, and keep the last third too: `5m` or `300s`.
        seed: Seed of the order and of the layouts.

    Raises:
        InputError: There is nothing to measure, the folder holds something else, or the package is none of Core ML.
        CheckError: A file of the package has changed.
    """
    check_folder(Path(out))
    from s2search.dates import duration_s
    from s2search.kit.build import build
    from s2search.kit.manifest import KitProtocol
    from s2search.kit.whole import Wholes, whole_items
    from s2search.measurement.items import FORWARD, campaign_items, only_items
    from s2search.reporting.progress import progress_bar

    sizes = preset_of(preset)
    items = [
        item
        for size in texts_of(video)
        for item in campaign_items(
            sizes,
            size,
            scenarios=scenario,
            candidates=blocks_of(candidates),
            clip_frames=clip_frames,
            roles=ROLES if shots is None else FORWARD,
        )
    ]
    asked_rows = only_items(items, keys) if (keys := rows_of(only)) else ()
    needed = parse_blocks(DEFAULT_CANDIDATES) if candidates is None else ()  # who names blocks means them all alike
    first = [item.part.label for item in asked_rows] or [block.label for block in needed]
    if asked_rows and shots is None:
        items = list(asked_rows)
    choice = _choice(items, shots, known, first)
    blocks = tuple(dict.fromkeys(item.part for item in items if isinstance(item.part, Block)))
    asked = Wholes(contexts=contexts, layouts=layouts, depth=layout_depth, seed=seed)
    if (contexts or layouts) and "stream" not in scenario:
        raise InputError(
            "whole programs are steps of a stream, and the kit times clips alone",
            remedy="add --scenario stream, or leave out --layouts and --contexts",
        )
    seconds = None if sustained is None else duration_s(sustained)
    with progress_bar("converting") as progress:
        return build(
            Path(out),
            choice.timed if choice else items,
            preset=sizes.name,
            precisions=precision,
            compute_units=compute_units,
            form=Form(layout=layout, state=state),
            protocol=KitProtocol(rounds=rounds, seed=seed, sustained_s=seconds),
            choice=choice,
            wholes=[item for size in texts_of(video) for item in whole_items(sizes, size, blocks, asked)],
            package=package,
            progress=progress,
        )


def kit_ingest(
    results: PathText,
    *,
    out: PathText = "latency_tables",
    pipeline: PathText | Pipeline | None = None,
    keep_misplaced: bool = False,
) -> Ingested:
    """Check what a phone measured, correct its drift, and write latency tables.

    Args:
        results: results.jsonl in the kit's folder, or that folder.
        out: Where tables go; one folder each.
        pipeline: What runs once per chunk beside the transformer, for `fps` budgets: a JSON file of `chunk_frames`,
            `steps`, `text_ms` and `decoder_ms`, or the pipeline itself.
        keep_misplaced: Keep rows that did not run where the kit asked, as rows of the unit that they ran on.

    Raises:
        InputError: The results are not whole, or a row did not run where the kit asked.
    """
    from s2search.kit.ingest import ingest

    check_folder(Path(out))
    return ingest(results, out, pipeline=pipeline_of(pipeline), keep_misplaced=keep_misplaced)


def _choice(
    items: Sequence[Item], shots: int | None, known: Sequence[str | LatencyTable], needed: Sequence[str]
) -> ShotChoice | None:
    from s2search.kit.shots import choose_items

    if known and shots is None:
        raise InputError("--known is given without --shots", remedy="say how many blocks to time, or drop --known")
    return None if shots is None else choose_items(items, shots, [table_of(name) for name in known], needed)
