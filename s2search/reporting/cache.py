"""What `s2search cache` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes
from s2search.reporting.durations import duration

if TYPE_CHECKING:
    from s2search.training.cache.documents import CacheHeading
    from s2search.training.cache.inspect import CacheInspection
    from s2search.training.cache.make import CacheEstimate
    from s2search.training.cache.records import TeacherCache


def made_text(cache: TeacherCache) -> RenderableType:
    """Return how many answers there are, of whom, and how large they are."""
    heading, train, apart = cache.heading, len(cache.of("train")), len(cache.of("held-out"))
    return Text(
        f"{cache.folder}: {train + apart:,} answers of {heading.teacher.teacher}, {train:,} to train on and {apart:,} "
        f"held out, {format_bytes(heading.record_bytes)} each in {heading.stored}"
    )


def estimate_text(found: CacheEstimate) -> RenderableType:
    """Return what a cache would cost."""
    held = ", ".join(f"{name} {format_bytes(amount)}" for name, amount in found.weights_bytes.items())
    peak = "" if found.peak_bytes is None else f"; the most that the device held: {format_bytes(found.peak_bytes)}"
    table = Table("expert", box=None, pad_edge=False, header_style="")
    for name in ("records", "a record", "all of them"):
        table.add_column(name, justify="right")
    for name, count in found.of_expert.items():
        seconds = found.seconds[name]
        table.add_row(name, f"{count:,}", f"{seconds:.3g} s", duration(count * seconds))
    facts = (
        f"{found.records:,} records of {format_bytes(found.record_bytes)}, and prompts of "
        f"{format_bytes(found.text_bytes)}: {format_bytes(found.total_bytes)} on the disk\n"
        f"weights, one after another on the device: {held}{peak}\n"
        f"one process needs {duration(found.hours * 3600)}, from {found.timed} batches of each expert here; "
        "n of them need an n-th"
    )
    return Group(_told(found.heading), Text(facts), Text(), table)


def inspection_text(found: CacheInspection) -> RenderableType:
    """Return records by expert and noise level, bytes, and what is missing."""
    heading = found.heading
    lines = [
        f"{found.records:,} records of {format_bytes(found.record_bytes)} in {found.shards} shards; "
        f"{found.prompts} prompts, {format_bytes(found.prompt_bytes)}"
    ]
    if found.missing:
        listed = ", ".join(map(str, found.missing_first)) + (
            ", ..." if found.missing > len(found.missing_first) else ""
        )
        lines.append(f"not whole: {found.missing} of {heading.shards} shards are missing ({listed})")
    table = Table("records at noise levels from", box=None, pad_edge=False, header_style="")
    for low in next(iter(found.bands.values())):
        table.add_column(low, justify="right")
    for name, counts in found.bands.items():
        table.add_row(name, *(f"{count:,}" for count in counts.values()))
    return Group(_told(heading), Text("\n".join(lines)), Text(), table)


def problems_text(problems: tuple[str, ...], folder: Path, recomputed: int) -> RenderableType:
    """Return what does not hold, or that all does."""
    if problems:
        return Text("\n".join(problems))
    again = f", and the teacher answers {recomputed} of them as before" if recomputed else ""
    return Text(f"{folder}: all records are as they were written{again}")


def _told(heading: CacheHeading) -> Text:
    experts = ", ".join(
        f"{one.name} from {one.low:g} to {one.high:g} with guidance {one.guidance:g}" for one in heading.teacher.experts
    )
    return Text(
        f"{heading.teacher.teacher}: {experts}\n"
        f"{heading.levels} noise levels of each of {sum(heading.clips):,} clips, shifted by {heading.shift:g}, "
        f"seed {heading.seed}; computed in {heading.computed}, kept in {heading.stored}"
    )
