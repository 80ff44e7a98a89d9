"""The command `stream`: video from a prompt, chunk after chunk, with the time that every stage takes."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from s2search.api.values import PathText, Texts, model_of, plugin_of, texts_of
from s2search.cost import CommitPolicy
from s2search.document import check_writable
from s2search.errors import InputError
from s2search.planner.plan import Plan
from s2search.preset import Preset, token_grid

if TYPE_CHECKING:
    import torch

    from s2search.codec.base import Codec
    from s2search.network.network import S2DiT
    from s2search.report.stream import StreamReport
    from s2search.streaming.base import StreamingModel
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
        seed: Of the noise, and of random weights.
        text: Text encoder; `hashing`, as wide as the model, by default.
        codec: What decodes latents.
        overlap: Decode while the next chunk is denoised.
        compile: torch.compile the layers first; on a GPU also CUDA graphs.
        device: `cpu`, `cuda`, `cuda:1`.
        dtype: Of the model.
        threads: Threads on a CPU; as many as cores by default.
        state_in: Go on from this state.
        state_out: Write the state after the last chunk.

    Raises:
        InputError: The options contradict each other, or a file or a device cannot be used.
    """
    from s2search.codec.video import VideoWriter
    from s2search.network.flow import few_step_schedule
    from s2search.report.progress import progress_bar
    from s2search.report.stream import StreamReport
    from s2search.streaming.pipeline import StreamPipeline
    from s2search.streaming.sampler import FewStepSampler
    from s2search.streaming.state import StreamState

    if state_out is not None:
        check_writable(Path(state_out))
    sampler = FewStepSampler(schedule=few_step_schedule(steps, shift), commit=commit)
    prompts, grid, where = read_prompts(prompt, prompt_at), token_grid(video), _device(device)
    writer = VideoWriter(Path(out), fps=fps)
    with _threads(threads):
        model = model_of(weights, preset=preset, random_weights=random_weights, plan=plan, layout=layout, seed=seed).to(
            where, _dtype(dtype)
        )
        sizes = model.config.preset
        encoder: TextEncoder = plugin_of(
            "texts", text or f"hashing[channels={sizes.text_channels},tokens={sizes.text_tokens}]"
        )
        decoder: Codec = plugin_of("codecs", codec)
        pipeline = StreamPipeline(
            model=_compiled(model) if compile else model,
            text=encoder.load(where, _dtype(dtype)),
            codec=decoder.load(where),
            sampler=sampler,
            overlap=overlap,
        )
        state = StreamState.start(model, grid, seed=seed) if state_in is None else StreamState.load(state_in, model)
        report = StreamReport(
            passes=sampler.passes, video=video, device=device, dtype=dtype, out=Path(out), caveat=writer.caveat
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
        state.save(Path(state_out))
    return report


def read_prompts(first: str, later: Texts | Mapping[int, str] = ()) -> Prompts:
    """Return the prompt of every chunk: one from the start, and others from a chunk on.

    Raises:
        InputError: A later one does not say from which chunk on.

    >>> prompts = read_prompts("a cat", ["2:a dog: wet"])
    >>> [prompts(chunk) for chunk in range(4)]
    ['a cat', 'a cat', 'a dog: wet', 'a dog: wet']
    """
    starts = {0: first} | (dict(later) if isinstance(later, Mapping) else dict(map(_from_chunk, texts_of(later))))
    return lambda chunk: starts[max(start for start in starts if start <= chunk)]


def _from_chunk(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"\s*(\d+)\s*:\s*(.*)", text, re.DOTALL)
    if match is None:
        raise InputError(f"--prompt-at {text!r} does not name a chunk", remedy="write for example '4:a dog'")
    return int(match[1]), match[2]


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
