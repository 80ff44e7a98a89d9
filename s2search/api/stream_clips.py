"""`stream --prompts`: many clips, one after another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.stream_setup import OpenedStream, Setup, interruption
from s2search.document import check_folder

if TYPE_CHECKING:
    from s2search.reporting.clips import ClipsReport
    from s2search.streaming.clips import StreamClips


def stream_clips(
    setup: Setup,
    out: Path,
    prompts: Path,
    samples: int,
    *,
    chunks: int,
) -> ClipsReport:
    """Stream a clip of every prompt and sample that is not there yet.

    Raises:
        InputError: The prompts cannot be read, or the folder holds something else.
    """
    from s2search.reporting.clips import ClipsReport
    from s2search.reporting.durations import duration
    from s2search.reporting.progress import progress_bar
    from s2search.streaming.clips import check_clip_folder, list_of, open_clips
    from s2search.streaming.prompt_list import PromptList

    listed = PromptList.read(prompts)
    asked = listed.clips(samples, setup.seed)
    check_folder(out)
    check_clip_folder(out)
    caveat = _caveat(setup.fps)
    with setup.opened() as opened, open_clips(out, asked, _heading(setup, opened, chunks)) as folder:
        report = ClipsReport(
            out=out,
            manifest=list_of(out),
            video=setup.video,
            device=setup.ran_on,
            dtype=setup.number_format,
            passes=setup.sampler.passes,
            prompts=len(listed.prompts),
            samples=samples,
            kept=len(asked) - len(folder.missing),
            caveat=caveat,
            notes=opened.notes + _repeated(listed.repeated),
        )
        total, done, began = chunks * len(folder.missing), 0, time.monotonic()
        with interruption() as interrupted, progress_bar("streaming clips") as progress:

            def count(_: object) -> None:
                nonlocal done
                done += 1
                left_s = (time.monotonic() - began) / done * (total - done)
                clip = report.made + 1
                progress(done, total, f"clip {clip} of {len(folder.missing)}, {duration(left_s)} left")

            for clip in folder.make(opened.pipeline, opened.start, on_chunk=count, stopped=interrupted):
                report.add(clip)
                if interrupted():
                    break
        report.seconds = time.monotonic() - began
    report.interrupted = report.made < len(folder.missing)
    return report


def _heading(setup: Setup, opened: OpenedStream, chunks: int) -> StreamClips:
    from s2search.streaming.clips import StreamClips

    model, sampler = opened.pipeline.model, setup.sampler
    return StreamClips(
        model=model.config.digest,
        weights=model.weights_digest(),
        schedule=sampler.schedule,
        commit=sampler.commit,
        flow_level=sampler.flow_level,
        video=setup.video,
        chunks=chunks,
        fps=setup.fps,
        codec=opened.codec,
        text=opened.text,
        device=setup.kind_of_device,
        dtype=setup.number_format,
        seed=setup.seed,
    )


def _caveat(fps: float) -> str:
    """Return what is to be said of the files; raise where none can be written."""
    from s2search.codec.video import VideoWriter

    return VideoWriter("clip.mp4", fps=fps).caveat


def _repeated(lines: int) -> tuple[str, ...]:
    if not lines:
        return ()
    return (f"{lines} line{'s repeat' if lines > 1 else ' repeats'} an earlier prompt, whose clips stand for all",)
