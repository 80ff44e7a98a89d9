"""What `s2search data` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from s2search.training.data.clips import Clips
    from s2search.training.data.inspect import Inspection


def made_text(clips: Clips, folder: Path) -> RenderableType:
    """Return how many clips there are, of which size, and what gave none."""
    geometry, train, apart = clips.heading.geometry, clips.of("train"), clips.of("held-out")
    lines = [
        f"{folder}: {len(train)} clips to train on and {len(apart)} held out, of {geometry.frames} frames of "
        f"{geometry.video}, {'encoded' if clips.heading.cached else 'to be encoded'} by {clips.heading.codec}"
    ]
    if clips.skipped:
        first = clips.skipped[0]
        lines.append(f"{len(clips.skipped)} recordings gave no clip (skipped.csv); the first: {first.reason}")
    return Text("\n".join(lines))


def inspection_text(found: Inspection) -> RenderableType:
    """Return the parts with their most frequent captions, and the latents' distribution."""
    heading = found.heading
    facts = Text(
        f"{heading.geometry.frames} frames of {heading.geometry.video}, seed {heading.seed}; "
        f"encoded by {heading.codec}, {heading.codec_digest[:19]}\n{found.skipped} recordings gave no clip\n"
        + "\n".join(f"{one.source}: {one.recordings} recordings" for one in heading.sources)
        + f"\n{found.digest}"
    )
    table = Table("part", box=None, pad_edge=False, header_style="")
    for name in ("recordings", "clips"):
        table.add_column(name, justify="right")
    table.add_column("most frequent captions", overflow="fold")
    for name, part in found.parts.items():
        captions = "; ".join(f"{caption} ({count})" for caption, count in part.captions) or "none"
        table.add_row(name, str(part.recordings), str(part.clips), captions)
    moments = Table("channel", box=None, pad_edge=False, header_style="")
    for name in ("mean", "standard deviation"):
        moments.add_column(name, justify="right")
    for channel, (mean, std) in enumerate(zip(found.channel_mean, found.channel_std, strict=True)):
        moments.add_row(str(channel), f"{round(mean, 2) + 0.0:.2f}", f"{std:.2f}")
    return Group(facts, "", table, "", moments)


def problems_text(problems: tuple[str, ...], folder: Path) -> RenderableType:
    """Return what does not hold, or that all does."""
    return Text("\n".join(problems) if problems else f"{folder}: all files are as they were written")
