"""`s2search stream`: video from a prompt, chunk after chunk, with the time that every stage takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from s2search.cli.options import (
    LayoutOption,
    PlanOption,
    PresetOption,
    WeightsArgument,
    printed_anyway,
    say,
    say_json,
)
from s2search.cost import CommitPolicy

if TYPE_CHECKING:
    from s2search.reporting.clips import ClipsReport
    from s2search.reporting.stream import StreamReport

_INTERRUPTED = 130


def stream(
    out: Annotated[Path, typer.Option(help="The video file: .mp4; with --prompts a folder.")],
    weights: WeightsArgument = None,
    preset: PresetOption = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Untrained weights: to time a model before it is trained.")
    ] = False,
    plan: PlanOption = None,
    layout: LayoutOption = None,
    package: Annotated[
        list[Path] | None,
        typer.Option(help="Stream what export wrote: a step; with it a text encoder, a decoder. Repeatable."),
    ] = None,
    prompt: Annotated[str, typer.Option(help="What to show.")] = "",
    prompt_at: Annotated[
        list[str] | None, typer.Option(help="From a chunk on, another prompt: '4:a dog'. Repeatable.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Many clips: a text file of one prompt a line; --out is a folder.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Clips of each prompt of --prompts; VBench reads 5.")] = 1,
    chunks: Annotated[int, typer.Option(min=1, help="Chunks of 3 latent frames: 9 pixel frames, then 12 each.")] = 8,
    video: Annotated[
        str | None,
        typer.Option(help="Video size, WIDTHxHEIGHT.", show_default="256x144, or the package's"),
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames per second of the file.")] = 16.0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising passes per chunk.", show_default="as trained; else 4")
    ] = None,
    shift: Annotated[
        float | None,
        typer.Option(help="How far noise levels are pushed towards 1.", show_default="as trained; else 5"),
    ] = None,
    commit: Annotated[
        CommitPolicy | None, typer.Option(help="Who writes the state.", show_default="as trained; else reuse_last")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of random weights.")] = 0,
    text: Annotated[
        str | None,
        typer.Option(help="Text encoder: clip[folder=FOLDER], hashing.", show_default="hashing, as wide as the model"),
    ] = None,
    codec: Annotated[
        str | None, typer.Option(help="Codec: dct, wan[folder=FOLDER].", show_default="dct, or a package")
    ] = None,
    overlap: Annotated[bool, typer.Option("--overlap", help="Decode while the next chunk is denoised.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile the layers first; on a GPU also CUDA graphs.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Number format of the model.")
    ] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads on a CPU.", show_default="the fastest of a short trial")
    ] = None,
    state_in: Annotated[Path | None, typer.Option(help="Go on from this state.")] = None,
    state_out: Annotated[Path | None, typer.Option(help="Write the state after the last chunk.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the times as JSON.")] = False,
) -> int:
    """Stream video from a prompt, or many clips from a file of prompts, and print where the time goes."""
    from s2search.api.stream import stream as run

    def show(report: StreamReport | ClipsReport) -> None:
        if as_json:
            say_json(report.to_json())
        else:
            say(report)

    with printed_anyway(show):
        report = run(
            out,
            weights,
            preset=preset,
            random_weights=random_weights,
            plan=plan,
            layout=layout,
            package=package or (),
            prompt=prompt,
            prompt_at=prompt_at or (),
            prompts=prompts,
            samples=samples,
            chunks=chunks,
            video=video,
            fps=fps,
            steps=steps,
            shift=shift,
            commit=commit,
            seed=seed,
            text=text,
            codec=codec,
            overlap=overlap,
            compile=compiled,
            device=device,
            dtype=dtype,
            threads=threads,
            state_in=state_in,
            state_out=state_out,
        )
    show(report)
    if report.interrupted:
        raise SystemExit(_INTERRUPTED)
    return 0
