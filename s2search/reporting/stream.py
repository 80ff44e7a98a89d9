"""What a stream took: per chunk and per stage, with and without the codec."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from typing_extensions import TypedDict

from s2search.cost import format_bytes
from s2search.document import as_json

if TYPE_CHECKING:
    from s2search.streaming.pipeline import Chunk, ChunkTimes

_STAGES = ("text", "DiT", "commit", "decode")
_RECENT = 10


StreamFigures = TypedDict(  # noqa: UP013  fields of a class would look unused
    "StreamFigures",
    {
        "schema": Literal["s2search.stream_report/1"],
        "video": str,
        "device": str,
        "dtype": str,
        "threads": int,
        "interrupted": bool,
        "notes": list[str],
        "chunks": int,
        "frames": int,
        "passes_per_chunk": int,
        "first_chunk_ms": float,
        "chunk_p50_ms": float,
        "chunk_p95_ms": float,
        "stage_ms": dict[str, float],
        "frames_per_second": dict[str, float],
        "state_bytes": int,
        "codec_cache_bytes": int,
        "peak_process_bytes": int,
    },
)
"""What `stream --json` says: times in milliseconds, memory in bytes, rates in pixel frames per second."""


@dataclass(kw_only=True, repr=False)
class StreamReport:
    """Grows with every chunk; holds their times, not their frames.

    Attributes:
        passes: Forward passes per chunk, a clean pass included.
        video: Size of the frames.
        device: Where the model ran.
        dtype: Of the model.
        threads: Of torch, on a CPU.
        out: The video file.
        caveat: What is to be said of the file; empty where nothing is.
        notes: What else is to be said, one line each: what was taken over from a state.
        interrupted: The stream ended before its last chunk.
    """

    passes: int
    video: str
    device: str
    dtype: str
    threads: int = 0
    out: Path
    caveat: str = ""
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    frames: int = 0
    state_bytes: int = 0
    codec_bytes: int = 0
    times: list[ChunkTimes] = field(default_factory=list)
    finished_s: list[float] = field(default_factory=list)
    frames_of_chunk: list[int] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Count one chunk more."""
        self.times.append(chunk.times)
        self.finished_s.append(chunk.finished_s)
        self.frames_of_chunk.append(len(chunk.frames_THWC))
        self.frames += len(chunk.frames_THWC)
        self.state_bytes = chunk.state.transformer_bytes
        self.codec_bytes = 0 if chunk.state.decoder is None else chunk.state.decoder.cache_bytes

    @property
    def chunks(self) -> int:
        """How many."""
        return len(self.times)

    @property
    def live_fps(self) -> float:
        """Pixel frames per second of the latest chunks."""
        recent = slice(max(1, self.chunks - _RECENT), None)
        began = self.finished_s[recent.start - 1] if self.chunks > 1 else 0.0
        frames = sum(self.frames_of_chunk[recent]) if self.chunks > 1 else self.frames
        return frames / max(self.finished_s[-1] - began, 1e-9)

    def summary(self) -> StreamFigures:
        """Return all figures: times in milliseconds, memory in bytes, rates in pixel frames per second.

        Chunk times and rates leave the first chunk out, where there are others: it starts the model up.
        """
        steady = self.times[1:] or self.times
        frames = self.frames_of_chunk[1:] or self.frames_of_chunk
        periods_s = np.diff(self.finished_s).tolist() if self.chunks > 1 else self.finished_s
        stage_ms = {
            "text": 1000 * np.mean([t.text_s for t in self.times]),
            "DiT": 1000 * np.mean([t.denoise_s for t in steady]),
            "commit": 1000 * np.mean([t.commit_s for t in steady]),
            "decode": 1000 * np.mean([t.decode_s for t in steady]),
        }
        return {
            "schema": "s2search.stream_report/1",
            "video": self.video,
            "device": self.device,
            "dtype": self.dtype,
            "threads": self.threads,
            "interrupted": self.interrupted,
            "notes": list(self.notes),
            "chunks": self.chunks,
            "frames": self.frames,
            "passes_per_chunk": self.passes,
            "first_chunk_ms": 1000 * self.finished_s[0],
            "chunk_p50_ms": 1000 * float(np.percentile(periods_s, 50)),
            "chunk_p95_ms": 1000 * float(np.percentile(periods_s, 95)),
            "stage_ms": {stage: float(value) for stage, value in stage_ms.items()},
            "frames_per_second": {
                "all": sum(frames) / max(sum(periods_s), 1e-9),
                "without_codec": sum(frames) / max(sum(t.text_s + t.transformer_s for t in steady), 1e-9),
                "transformer": sum(frames) / max(sum(t.transformer_s for t in steady), 1e-9),
            },
            "state_bytes": self.state_bytes,
            "codec_cache_bytes": self.codec_bytes,
            "peak_process_bytes": _peak_process_bytes(),
        }

    def to_json(self) -> str:
        """Return the summary as indented JSON."""
        return as_json(self.summary())

    def __rich__(self) -> RenderableType:
        return stream_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.text_html(self)

    def __repr__(self) -> str:
        return f"<StreamReport: {self.frames} frames in {self.chunks} chunks to {self.out}>"


def stream_text(report: StreamReport) -> RenderableType:
    """Return the figures as people read them."""
    found = report.summary()
    rate, stages = found["frames_per_second"], found["stage_ms"]
    lines = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    first = f"{found['first_chunk_ms']:.0f} ms from the prompt to {report.frames_of_chunk[0]} frames"
    lines.add_row("first chunk", first)
    lines.add_row("chunk", f"p50 {found['chunk_p50_ms']:.1f} ms, p95 {found['chunk_p95_ms']:.1f} ms")
    lines.add_row(
        "rate",
        f"{rate['all']:.1f} FPS; {rate['without_codec']:.1f} without the codec, {rate['transformer']:.1f} DiT alone",
    )
    total = sum(stages.values())
    for stage in _STAGES:
        passes = f"  {report.passes} passes" if stage == "DiT" else ""
        lines.add_row(f"  {stage}", f"{stages[stage]:8.1f} ms  {stages[stage] / max(total, 1e-9):4.0%}{passes}")
    lines.add_row("state", f"{format_bytes(report.state_bytes)}, codec {format_bytes(report.codec_bytes)}")
    lines.add_row("process", f"{format_bytes(found['peak_process_bytes'])} at its peak")
    size = f"{report.video}, {report.device}, {report.dtype}"
    head = f"{report.frames} frames in {report.chunks} chunks to {report.out} ({size})"
    if report.interrupted:
        head = f"interrupted; {head}"
    said = [report.caveat, *report.notes] if report.caveat else report.notes
    return Group(Text(head), lines, *map(Text, said))


def _peak_process_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
