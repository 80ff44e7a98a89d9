"""What `stream` streams with: checked before weights are read, and then opened."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s2search.api.stream_packages import DecoderPackage, StreamPackages, TextPackage
from s2search.api.values import loaded, plugin_of
from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.preset import token_grid

if TYPE_CHECKING:
    import torch

    from s2search.codec.base import Codec
    from s2search.network.network import S2DiT
    from s2search.network.source import ModelSource
    from s2search.streaming.base import StreamingModel
    from s2search.streaming.chunk_sampler import ChunkSampler
    from s2search.streaming.pipeline import StreamPipeline
    from s2search.streaming.state import StreamState
    from s2search.text.base import TextEncoder

NumberFormat = Literal["float32", "bfloat16", "float16"]
_UNTRAINED = "the weights do not say that they were trained to stream: steps, shift and commit policy are {}"


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedStream:
    """A pipeline with its weights, and what is to be said of it.

    Attributes:
        pipeline: Model, text encoder, codec and sampler.
        codec: As people write it.
        text: Likewise.
        grid: Token rows and columns.
        notes: One line each.
    """

    pipeline: StreamPipeline
    codec: str
    text: str
    grid: tuple[int, int]
    notes: tuple[str, ...]

    def start(self, seed: int) -> StreamState:
        """Return the state before the first chunk of a stream."""
        from s2search.streaming.state import StreamState

        return StreamState.start(self.pipeline.model, self.grid, seed=seed, codec=self.codec, text=self.text)


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """What was asked for, without weights: they are read by `opened`.

    Attributes:
        source: Where the model comes from, the model, or a package of it.
        video: Size of the frames.
        fps: Frames per second of a file.
        seed: Of the noise.
        sampler: Of its chunks.
        decoder: Decodes latents.
        encoder: Of prompts; None is `hashing`, as wide as the model.
        overlap: Decode while the next chunk is denoised.
        compile: torch.compile the layers first.
        where: The device of what torch runs.
        dtype: Of the model.
        threads: On a CPU; None is the fastest of a short trial.
        notes: What is to be said of the sampler.
    """

    source: ModelSource | S2DiT | StreamPackages
    video: str
    fps: float
    seed: int
    sampler: ChunkSampler
    decoder: Codec | DecoderPackage
    encoder: TextEncoder | TextPackage | None
    overlap: bool
    compile: bool
    where: torch.device
    dtype: NumberFormat
    threads: int | None
    notes: tuple[str, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns."""
        return token_grid(self.video)

    @property
    def ran_on(self) -> str:
        """The device of the model, or the runtime of its package."""
        return self.source.runtime if isinstance(self.source, StreamPackages) else str(self.where)

    @property
    def kind_of_device(self) -> str:
        """The same of every device of a kind: clips made on one go on on another."""
        return self.source.runtime if isinstance(self.source, StreamPackages) else self.where.type

    @property
    def number_format(self) -> str:
        """Of the model, or the precision of its package."""
        return self.source.step.manifest.precision if isinstance(self.source, StreamPackages) else self.dtype

    @contextmanager
    def opened(self) -> Iterator[OpenedStream]:
        """Yield the pipeline; torch has its threads while it is used."""
        from s2search.streaming.pipeline import StreamPipeline

        with _threads(self.threads):
            model, notes = self._model()
            sizes = model.config.preset
            hashing = f"hashing[channels={sizes.text_channels},tokens={sizes.text_tokens}]"
            encoder: TextEncoder | TextPackage = self.encoder or plugin_of("texts", hashing)
            pipeline = StreamPipeline(
                model=model,
                text=encoder.load(self.where, _dtype(self.dtype)),
                codec=self.decoder.load(self.where),
                sampler=self.sampler,
                overlap=self.overlap,
            )
            yield OpenedStream(
                pipeline=pipeline,
                codec=self.decoder.label,
                text=encoder.label,
                grid=self.grid,
                notes=self.notes + notes,
            )

    def _model(self) -> tuple[StreamingModel, tuple[str, ...]]:
        """Return the model, loaded, and what is to be said of how it runs."""
        if isinstance(self.source, StreamPackages):
            return self.source.load(), self.source.notes
        model = loaded(self.source).to(self.where, _dtype(self.dtype))
        settled = self.threads is None and self.where.type == "cpu"
        notes = _settled_threads(model, self.grid) if settled else ()
        return _compiled(model) if self.compile else model, notes


def sampler_and_notes(
    source: ModelSource | S2DiT | StreamPackages, steps: int | None, shift: float | None, commit: CommitPolicy | None
) -> tuple[ChunkSampler, tuple[str, ...]]:
    """Return the sampler of a model whose weights need not be read yet, and what is to be said of it.

    Raises:
        InputError: The weights were trained for something else.
    """
    from s2search.streaming.sampler_of import sampler_of

    config = source.config
    sampler = sampler_of(config, steps=steps, shift=shift, commit=commit)
    if config is None or config.causal is not None:
        return sampler, ()
    given = {"--steps": steps, "--shift": shift, "--commit": commit}
    asked = [option for option, value in given.items() if value is not None]
    return sampler, (_UNTRAINED.format(f"the paper's, but for {', '.join(asked)}" if asked else "the paper's"),)


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
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


def device_of(text: str) -> torch.device:
    """Return the device of a name.

    Raises:
        InputError: It cannot be used.
    """
    import torch

    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"the device {text!r} cannot be used: {problem}", remedy="use --device cpu") from error
    return device


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


def _dtype(number_format: NumberFormat) -> torch.dtype:
    import torch

    dtype: torch.dtype = getattr(torch, number_format)
    return dtype
