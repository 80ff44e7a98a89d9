"""The command `stream`: video from a prompt, chunk after chunk, with the time that every stage takes."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2search.errors import InputError

if TYPE_CHECKING:
    import torch

    from s2search.network.network import S2DiT
    from s2search.streaming.base import StreamingModel
    from s2search.streaming.pipeline import Prompts


_INTERRUPTED = 130


class CommitPolicyName(StrEnum):
    """Who writes the streaming state."""

    REUSE_LAST = "reuse_last"
    CLEAN_PASS = "clean_pass"


class NumberFormat(StrEnum):
    """Of weights and activations."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def stream(
    out: Annotated[Path, typer.Option(help="The video file: .mp4.")],
    weights: Annotated[Path | None, typer.Argument(help="A folder that save_pretrained wrote.")] = None,
    preset: Annotated[str | None, typer.Option(help="Model size, or a TOML file of sizes; without weights.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Untrained weights: to time a model before it is trained.")
    ] = False,
    plan: Annotated[Path | None, typer.Option(help="Realize this plan (JSON) at the preset's sizes.")] = None,
    layout: Annotated[str | None, typer.Option(help="Realize this layout: L4S4.")] = None,
    prompt: Annotated[str, typer.Option(help="What to show.")] = "",
    prompt_at: Annotated[
        list[str] | None, typer.Option(help="From a chunk on, another prompt: '4:a dog'. Repeatable.")
    ] = None,
    chunks: Annotated[int, typer.Option(min=1, help="Chunks of 3 latent frames: 9 pixel frames, then 12 each.")] = 8,
    video: Annotated[str, typer.Option(help="Video size, WIDTHxHEIGHT.")] = "256x144",
    fps: Annotated[float, typer.Option(help="Frames per second of the file.")] = 16.0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising passes per chunk.")] = 4,
    shift: Annotated[float, typer.Option(help="How far noise levels are pushed towards 1.")] = 5.0,
    commit: Annotated[
        CommitPolicyName, typer.Option(help="Who writes the state; choose as the model was trained.")
    ] = CommitPolicyName.REUSE_LAST,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of random weights.")] = 0,
    text: Annotated[
        str | None,
        typer.Option(help="Text encoder: clip[folder=FOLDER], hashing.", show_default="hashing, as wide as the model"),
    ] = None,
    codec: Annotated[str, typer.Option(help="Codec: dct, wan[folder=FOLDER].")] = "dct",
    overlap: Annotated[bool, typer.Option("--overlap", help="Decode while the next chunk is denoised.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile the layers first; on a GPU also CUDA graphs.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    number_format: Annotated[
        NumberFormat, typer.Option("--dtype", help="Number format of the model.")
    ] = NumberFormat.FLOAT32,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads on a CPU.", show_default="as many as cores")
    ] = None,
    state_in: Annotated[Path | None, typer.Option(help="Go on from this state.")] = None,
    state_out: Annotated[Path | None, typer.Option(help="Write the state after the last chunk.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the times as JSON.")] = False,
) -> int:
    """Stream video from a prompt, and print where the time goes."""
    import torch

    from s2search import registry
    from s2search.codec.video import VideoWriter
    from s2search.document import check_writable
    from s2search.network.flow import few_step_schedule
    from s2search.network.source import ModelSource, load_model
    from s2search.preset import token_grid
    from s2search.report.progress import progress_bar
    from s2search.report.stream import StreamReport, stream_text
    from s2search.streaming.pipeline import StreamPipeline
    from s2search.streaming.sampler import FewStepSampler
    from s2search.streaming.state import StreamState

    if state_out is not None:
        check_writable(state_out)
    if threads is not None:
        torch.set_num_threads(threads)
    sampler = FewStepSampler(schedule=few_step_schedule(steps, shift), commit=commit.value)
    prompts, grid, where = read_prompts(prompt, prompt_at or []), token_grid(video), _device(device)
    writer = VideoWriter(out, fps=fps)
    source = ModelSource(
        weights=weights, preset=preset, plan=plan, layout=layout, random_weights=random_weights, seed=seed
    )
    model = load_model(source).to(where, _dtype(number_format))
    sizes = model.config.preset
    runner: StreamingModel = model
    if compiled:
        from s2search.streaming.compiled import Compiled

        runner = Compiled(model)
    encoder = registry.create("texts", text or f"hashing[channels={sizes.text_channels},tokens={sizes.text_tokens}]")
    pipeline = StreamPipeline(
        model=runner,
        text=encoder.load(where, _dtype(number_format)),
        codec=registry.create("codecs", codec).load(where),
        sampler=sampler,
        overlap=overlap,
    )
    state = StreamState.start(model, grid, seed=seed) if state_in is None else StreamState.load(state_in, model)
    report = StreamReport(passes=sampler.passes, video=video, device=device, dtype=number_format.value)
    with writer, _interruption() as interrupted, progress_bar("streaming") as progress:
        for chunk in pipeline.chunks(prompts, chunks, state):
            writer.append(chunk.frames_THWC)
            report.add(chunk)
            state = chunk.state
            progress(report.chunks, chunks, f"{report.live_fps:.1f} FPS")
            if interrupted():
                break
        report.interrupted = report.chunks < chunks
    if state_out is not None:
        state.save(state_out)
    if as_json:
        typer.echo(report.to_json(), nl=False)
    else:
        from rich.console import Console

        Console(highlight=False, markup=False).print(stream_text(report, out, caveat=writer.caveat))
    if report.interrupted:
        raise SystemExit(_INTERRUPTED)
    return 0


def read_prompts(first: str, later: list[str]) -> Prompts:
    """Read the prompts of a stream: one from the start, and others from a chunk on.

    Raises:
        InputError: A later one does not say from which chunk on.

    >>> prompts = read_prompts("a cat", ["2:a dog: wet"])
    >>> [prompts(chunk) for chunk in range(4)]
    ['a cat', 'a cat', 'a dog: wet', 'a dog: wet']
    """
    starts = {0: first}
    for text in later:
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(.*)", text, re.DOTALL)
        if match is None:
            raise InputError(f"--prompt-at {text!r} does not name a chunk", remedy="write for example '4:a dog'")
        starts[int(match[1])] = match[2]
    return lambda chunk: starts[max(start for start in starts if start <= chunk)]


def _model(
    weights: Path | None, preset: str | None, plan: Path | None, layout: str | None, random_weights: bool, seed: int
) -> S2DiT:
    """Load the weights, or realize a plan, a layout or a preset with random ones."""
    if weights is not None:
        for option, value in {"--preset": preset, "--layout": layout, "--random-weights": random_weights}.items():
            if value:
                raise InputError(
                    f"{option} cannot be combined with the weights {str(weights)!r}", remedy="leave out one"
                )
        if not weights.is_dir():
            raise InputError(
                f"there is no folder of weights {str(weights)!r}", remedy="name what save_pretrained wrote"
            )
    elif preset is None or not random_weights:
        raise InputError(
            "there are no weights",
            allowed="a folder of weights, or --preset NAME --random-weights",
            remedy="name one of them",
        )
    if plan is not None and layout is not None:
        raise InputError("--plan and --layout are both given", remedy="leave out one")

    import torch

    from s2search.network.network import S2DiT, realize
    from s2search.planner.plan import Plan
    from s2search.preset import Preset

    planned = None if plan is None else Plan.load(plan)
    if weights is not None:
        return S2DiT.from_pretrained(weights, plan=planned)
    sizes = Preset.named(preset or "")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = S2DiT.from_preset(sizes, layout or "") if planned is None else realize(planned, sizes)
    return model.eval()


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Let a first Ctrl-C wait for the chunk at hand, so that file and state stay whole; a second one stops at once."""
    asked = []

    def ask(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


def _device(text: str) -> torch.device:
    import torch

    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"the device {text!r} cannot be used: {problem}", remedy="use --device cpu") from error
    return device


def _dtype(number_format: NumberFormat) -> torch.dtype:
    import torch

    dtype: torch.dtype = getattr(torch, number_format.value)
    return dtype
