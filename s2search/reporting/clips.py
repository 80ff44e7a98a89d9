"""What many clips took: how many there are, and how fast they came."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Group, RenderableType
from rich.text import Text
from typing_extensions import TypedDict

from s2search.document import as_json
from s2search.reporting.durations import duration

if TYPE_CHECKING:
    from s2search.streaming.clips import StreamClip

ClipsFigures = TypedDict(  # noqa: UP013  fields of a class would look unused
    "ClipsFigures",
    {
        "schema": Literal["s2search.stream_clips_report/1"],
        "folder": str,
        "list": str,
        "video": str,
        "device": str,
        "dtype": str,
        "passes_per_chunk": int,
        "prompts": int,
        "samples": int,
        "clips": int,
        "kept": int,
        "made": int,
        "frames": int,
        "seconds": float,
        "interrupted": bool,
        "notes": list[str],
    },
)
"""What `stream --prompts --json` says: frames and seconds are those of the clips that this run made."""


@dataclass(kw_only=True, repr=False)
class ClipsReport:
    """Grows with every clip.

    Attributes:
        out: The folder.
        manifest: The list of the clips, beside it.
        video: Size of the frames.
        device: Where the model ran.
        dtype: Of the model.
        passes: Forward passes per chunk, the one that commits included.
        prompts: How many.
        samples: Of each.
        kept: Clips that were there already.
        caveat: What is to be said of the files; empty where nothing is.
        notes: What else is to be said, one line each.
        interrupted: Not all clips are there.
        made: Clips of this run.
        frames: Of them.
        seconds: That they took.
    """

    out: Path
    manifest: Path
    video: str
    device: str
    dtype: str
    passes: int
    prompts: int
    samples: int
    kept: int
    caveat: str = ""
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    made: int = 0
    frames: int = 0
    seconds: float = 0.0

    def add(self, clip: StreamClip) -> None:
        """Count one clip more."""
        self.made += 1
        self.frames += clip.frames

    def summary(self) -> ClipsFigures:
        """Return all figures."""
        return {
            "schema": "s2search.stream_clips_report/1",
            "folder": str(self.out),
            "list": str(self.manifest),
            "video": self.video,
            "device": self.device,
            "dtype": self.dtype,
            "passes_per_chunk": self.passes,
            "prompts": self.prompts,
            "samples": self.samples,
            "clips": self.kept + self.made,
            "kept": self.kept,
            "made": self.made,
            "frames": self.frames,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """Return the summary as indented JSON."""
        return as_json(self.summary())

    def __rich__(self) -> RenderableType:
        return clips_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.text_html(self)

    def __repr__(self) -> str:
        return f"<ClipsReport: {self.kept + self.made} clips in {self.out}>"


def clips_text(report: ClipsReport) -> RenderableType:
    """Return the figures as people read them."""
    asked = report.prompts * report.samples
    head = f"{report.kept + report.made} of {asked} clips in {report.out}"
    if report.interrupted:
        head = f"interrupted; {head}; the same command makes the others"
    asked_of = f"{report.prompts} prompts, {report.samples} of each"
    lines = [head, f"{asked_of}; {report.video}, {report.passes} passes a chunk"]
    if report.kept:
        lines.append(f"{report.kept} were there already")
    if report.made:
        rate = report.frames / max(report.seconds, 1e-9)
        lines.append(f"{report.made} made in {duration(report.seconds)}: {report.frames} frames, {rate:.1f} FPS")
    lines.append(f"prompts and seeds: {report.manifest.name}, beside the folder")
    said = [report.caveat, *report.notes] if report.caveat else report.notes
    return Group(*map(Text, (*lines, *said)))
