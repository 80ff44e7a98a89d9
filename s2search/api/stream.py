"""The command `stream`: video from a prompt, chunk after chunk, with the time that every stage takes."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from s2search.api.values import PathText, Texts, loaded, model_of, plugin_of, texts_of
from s2search.cost import CommitPolicy
from s2search.document import check_writable
from s2search.errors import InputError, keeping
from s2search.planner.plan import Plan
from s2search.preset import Preset, token_grid

if TYPE_CHECKING:
    import torch

    from s2search.block import Window
    from s2search.codec.base import Codec
    from s2search.network.network import S2DiT
    from s2search.report.stream import StreamReport
    from s2search.streaming.base import StreamingModel
    from s2search.streaming.header import Header
    from s2search.streaming.pipeline import Prompts
    from s2search.text.base import TextEncoder

NumberFormat = Literal["float32", "bfloat16", "float16"]


def stream(
    out: PathText,
    weights: PathText | S2DiT | None = None,
    *,
    preset: str | Preset | None = None,
    random_weights: bool = False,
    plan: PathText | Plan | None = None,
    layout: str | None = None,
    prompt: str = "",
    prompt_at: Texts | Mapping[int, str] = (),
    chunks: int = 8,
    video: str = "256x144",
    fps: float = 16.0,
    steps: int = 4,
    shift: float = 5.0,
    commit: CommitPolicy = "reuse_last",
    seed: int = 0,
    text: str | TextEncoder | None = None,
    codec: str | Codec = "dct",
    overlap: bool = False,
    compile: bool = False,
    device: str = "cpu",
    dtype: NumberFormat = "float32",
    threads: int | None = None,
    state_in: PathText | None = None,
    state_out: PathText | None = None,
) -> StreamReport:
    """Stream video from a prompt into a file, and say where the time goes.

    Args:
        out: The video file: .mp4.
        weights: A folder that save_pretrained wrote, or a model.
        preset: Model size, a TOML file of sizes, or the sizes; without weights.
        random_weights: Untrained weights: to time a model before it is trained.
        plan: Realize this plan (a JSON file, or the plan) at the preset's sizes.
        layout: Realize this layout: `L4S4`.
        prompt: What to show.
        prompt_at: From a chunk on, another prompt: `4:a dog`, or `{4: "a dog"}`.
        chunks: Chunks of 3 latent frames: 9 pixel frames, then 12 each.
        video: Video size.
        fps: Frames per second of the file.
        steps: Denoising passes per chunk.
        shift: How far noise levels are pushed towards 1.
        commit: As the model was trained.
        seed: Of the noise, and of random weights. A stream that goes on keeps its noise's own.
        text: Text encoder; `hashing`, as wide as the model, by default.
        codec: What decodes latents.
        overlap: Decode while the next chunk is denoised.
        compile: torch.compile the layers first; on a GPU also CUDA graphs.
        device: `cpu`, `cuda`, `cuda:1`.
        dtype: Of the model.
        threads: On a CPU; the fastest of a short trial by default.
        state_in: Go on from this state.
        state_out: Write the state after the last chunk.

    Raises:
        InputError: The options contradict each other, or a file or a device cannot be used.
    """
    if state_out is not None:
        check_writable(Path(state_out))
        if Path(state_out).resolve() == Path(out).resolve():
            raise InputError(f"video and state are both {str(out)!r}", remedy="name two files")
    check_writable(Path(out))
    grid, source = (
        token_grid(video),
        model_of(weights, preset=preset, random_weights=random_weights, plan=plan, layout=layout, seed=seed),
    )
    read_prompts(prompt, prompt_at)
    import torch

    from s2search.codec.video import VideoWriter
    from s2search.network.flow import few_step_schedule
    from s2search.report.progress import progress_bar
    from s2search.report.stream import StreamReport
    from s2search.streaming.header import Header
    from s2search.streaming.pipeline import StreamPipeline
    from s2search.streaming.sampler import FewStepSampler
    from s2search.streaming.state import StreamState

    sampler = FewStepSampler(schedule=few_step_schedule(steps, shift), commit=commit)
    where, decoder = _device(device), plugin_of("codecs", codec)
    encoder: TextEncoder | None = None if text is None else plugin_of("texts", text)
    before = None if state_in is None else Header.read(state_in)
    if before is not None:  # all that can be known before the weights are read
        said = None if encoder is None else encoder.label
        before.check(
            name=f"the state {str(state_in)!r}",
            grid=grid,
            dtype=dtype,
            schedule=sampler.schedule,
            commit=commit,
            codec=decoder.label,
            text=said,
        )
    prompts = read_prompts(prompt, prompt_at, end=chunks + (before.chunks if before else 0))
    writer = VideoWriter(Path(out), fps=fps)
    with _threads(threads):
        model = loaded(source).to(where, _dtype(dtype))
        sizes = model.config.preset
        notes = _settled_threads(model, grid) if threads is None and where.type == "cpu" else ()
        encoder = encoder or plugin_of("texts", f"hashing[channels={sizes.text_channels},tokens={sizes.text_tokens}]")
        pipeline = StreamPipeline(
            model=_compiled(model) if compile else model,
            text=encoder.load(where, _dtype(dtype)),
            codec=decoder.load(where),
            sampler=sampler,
            overlap=overlap,
        )
        if state_in is None:
            state = StreamState.start(pipeline.model, grid, seed=seed, codec=decoder.label, text=encoder.label)
        else:
            state = StreamState.load(state_in, pipeline.model)
            state.header.check(name=f"the state {str(state_in)!r}", text=encoder.label)
            notes += _taken_over(state.header, seed, sizes.window, {"--codec": decoder.label, "--text": encoder.label})
        report = StreamReport(
            passes=sampler.passes,
            video=video,
            device=device,
            dtype=dtype,
            threads=torch.get_num_threads(),
            out=Path(out),
            caveat=writer.caveat,
            notes=notes,
        )
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
        with keeping(report):
            state.save(Path(state_out))
    return report


def read_prompts(first: str, later: Texts | Mapping[int, str] = (), *, end: int | None = None) -> Prompts:
    """Return the prompt of every chunk: one from the start, and others from a chunk on.

    Args:
        first: From chunk 0 on.
        later: `4:a dog`, or `{4: "a dog"}`.
        end: The chunk after the last one, counted from the start of the stream.

    Raises:
        InputError: A later one does not say from which chunk on, or would never be seen.

    >>> prompts = read_prompts("a cat", ["2:a dog: wet"])
    >>> [prompts(chunk) for chunk in range(4)]
    ['a cat', 'a cat', 'a dog: wet', 'a dog: wet']
    """
    starts = {0: first} if first else {}
    pairs = later.items() if isinstance(later, Mapping) else map(_from_chunk, texts_of(later))
    for start, text in pairs:
        if start in starts:
            raise InputError(f"chunk {start} has two prompts: {starts[start]!r} and {text!r}", remedy="leave out one")
        if start < 0 or (end is not None and start >= end):
            allowed = "at least 0" if end is None else f"0 to {end - 1}, the last chunk of this stream"
            raise InputError(f"--prompt-at names chunk {start}", allowed=allowed, remedy="correct it, or stream longer")
        starts[start] = text
    starts.setdefault(0, first)
    return lambda chunk: starts[max(start for start in starts if start <= chunk)]


def _from_chunk(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"\s*(\d{1,9})\s*:\s*(.*)", text, re.DOTALL)
    if match is None:
        raise InputError(f"--prompt-at {text!r} does not name a chunk", remedy="write for example '4:a dog'")
    return int(match[1]), match[2]


def _taken_over(header: Header, seed: int, window: Window, plugins: Mapping[str, str]) -> tuple[str, ...]:
    """Return in words what a stream that goes on has from its state, and not from its options."""
    notes = []
    if header.seed != seed:
        notes.append(f"the noise goes on with the state's seed {header.seed}, not {seed}")
    if header.window != window:
        notes.append(f"the window is the state's: {header.window.frames} frames, a sink of {header.window.sink_frames}")
    for option, own in (("--codec", header.codec), ("--text", header.text)):
        if own is not None and "[" in own and own != plugins[option]:
            notes.append(f"{option} {plugins[option]} goes on where {own} was")
    if header.schedule is None and header.chunks:
        notes.append("the state does not say its steps and commit policy, which were taken to be these")
    return tuple(notes)


def _compiled(model: S2DiT) -> StreamingModel:
    from s2search.streaming.compiled import Compiled

    return Compiled(model)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads, and afterwards as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _settled_threads(model: S2DiT, grid: tuple[int, int]) -> tuple[str, ...]:
    """Let torch use as many threads as are fastest, and say so in words."""
    import torch

    from s2search.streaming.threads import fastest_threads, is_small, one_pass

    if (most := torch.get_num_threads()) == 1:
        return ()
    if not is_small(model, grid):
        return (f"{most} threads, as torch chose; on a busy machine fewer may be faster: --threads",)
    (best, ms), *others = fastest_threads(one_pass(model, grid), most).items()
    torch.set_num_threads(best)
    rest = ", ".join(f"{other_ms:.0f} ms with {count}" for count, other_ms in others)
    return (f"--threads {best} by a short trial: a pass took {ms:.0f} ms with it, {rest}",)


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Let a first Ctrl-C wait for the chunk at hand, so that file and state stay whole; a second one stops at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may handle signals
        return

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

    dtype: torch.dtype = getattr(torch, number_format)
    return dtype
