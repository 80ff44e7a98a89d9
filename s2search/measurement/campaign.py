"""The protocol of a measurement: what makes ratios between rows hold, and what survives an interruption.

All items are prepared once, called until they are warm, and stay ready. Every round times each of them in a fresh
order, so that a drift of the machine falls on all rows alike; a sentinel, the first block, is timed again between them,
so that the drift is known and can be taken out (`correction`). Items of short calls are also sampled with twice the
repetitions, which tells what starting a sample costs. Every sample is on disk before the next one begins
(samples.jsonl); the same command goes on where the last one stopped.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from s2search.border.regular_file import read_regular_text
from s2search.cost import Pipeline
from s2search.errors import InputError
from s2search.measurement.base import Item, Profiler
from s2search.measurement.interleaved import Clock, Progress, take_samples, utc_now
from s2search.measurement.samples import Campaign, Protocol, open_samples
from s2search.measurement.schedule import expected_samples, schedule
from s2search.measurement.tabulate import tabulate
from s2search.preset import video_size
from s2search.registry import own_version
from s2search.tables.table import LatencyTable, refuse_existing


def measure(
    profiler: Profiler,
    items: Sequence[Item],
    out: str | os.PathLike[str],
    *,
    preset: str,
    protocol: Protocol | None = None,
    pipeline: Pipeline | None = None,
    progress: Progress = lambda done, total, label: None,
    clock: Clock = utc_now,
) -> LatencyTable:
    """Measure a table into a folder: samples.jsonl while it runs, table.csv and card.json at the end.

    Args:
        profiler: What times one call.
        items: What to time; see `campaign_items`.
        out: The table's folder, whose name becomes the table's. If it holds an unfinished campaign of the same
            configuration, that one is finished.
        preset: The model's name, for the card.
        protocol: Rounds, seed and so on.
        pipeline: What runs once per chunk beside the transformer, for the card.
        progress: Called before every preparation and every sample, and at the end.
        clock: The time of day.

    Raises:
        InputError: The profiler cannot run here, or the folder holds another campaign.
        TableError: The folder already holds a finished table.
    """
    folder, protocol = Path(out), protocol or Protocol()
    if reason := profiler.why_not():
        raise InputError(f"the profiler {profiler.name!r} cannot run here: {reason}", profiler=profiler.name)
    _refuse_finished(folder)
    campaign = _campaign(profiler, items, preset, protocol)
    with open_samples(folder / "samples.jsonl", campaign) as journal:
        take_samples(
            profiler,
            {item.key: partial(profiler.prepare, item) for item in items},
            schedule(items, journal, protocol),
            journal,
            protocol,
            expected=lambda: expected_samples(items, journal, protocol),
            progress=progress,
            clock=clock,
        )
        table = tabulate(folder.resolve().name, profiler, campaign, items, journal)
        table = dataclasses.replace(table, card=table.card.with_pipeline(pipeline))
        _save(table, folder)
    return table


def _campaign(profiler: Profiler, items: Sequence[Item], preset: str, protocol: Protocol) -> Campaign:
    keys = [item.key for item in items]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise InputError(f"the item {twice!r} is named twice", remedy="name it once")
    if not any(item.role in ("block", "commit") for item in items):
        raise InputError(
            "there is no block to measure", remedy="name at least one candidate, and the role block or commit"
        )
    if untimed := next((item for item in items if item.role not in profiler.roles()), None):
        raise InputError(
            f"the profiler {profiler.name!r} cannot time {untimed.key!r}",
            allowed=f"roles: {', '.join(profiler.roles())}",
            remedy=f"leave the role {untimed.role} out",
            item=untimed,
        )
    if profiler.sample == "job" and (protocol.pairs or protocol.sustained_s is not None):
        raise InputError(
            f"the profiler {profiler.name!r} times every row in a job of its own: it cannot time "
            f"{'pairs' if protocol.pairs else 'a device that stays hot'}",
            remedy="measure these on a phone at hand: adb, or a kit",
        )
    return Campaign(
        code_version=f"s2search {own_version()}",
        preset=preset,
        profiler={"name": profiler.name, **dataclasses.asdict(profiler)},  # type: ignore[call-overload]
        device=profiler.device(),
        protocol=protocol,
        items=[_description(item) for item in items],
    )


def _description(item: Item) -> dict[str, object]:
    video = video_size(item.shape.height, item.shape.width)
    return {"key": item.key, "role": item.role, "video": video, **dataclasses.asdict(item.shape)}


def _refuse_finished(folder: Path) -> None:
    """Raise if the folder holds a table; what a process left that died while saving one is no table yet."""
    if (folder / "card.json").exists() or not (folder / "samples.jsonl").exists():
        refuse_existing(folder)


def _save(table: LatencyTable, folder: Path) -> None:
    rows = folder / "table.csv"
    if rows.exists() and read_regular_text(rows) == table.to_csv():
        rows.unlink()  # saved by a process that died before it saved the card
    try:
        table.save(folder)
    except OSError as error:
        raise InputError(
            f"the table cannot be written to {str(folder)!r}: {error.strerror}",
            remedy="make room; the same command then writes it from the samples",
        ) from error
