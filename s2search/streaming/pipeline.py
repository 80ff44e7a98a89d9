"""From prompts to frames, chunk by chunk, with the time that every stage takes.

Decoding may overlap the next chunk's denoising, as on a phone, whose Neural Engine and GPU run them: here in a thread
of its own, and on a GPU in a CUDA stream of its own. The frames are the same.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2search.codec.base import LoadedCodec
from s2search.codec.pixels import frames_from_video
from s2search.errors import InputError
from s2search.preset import LATENT_CHANNELS
from s2search.streaming.base import StreamingModel
from s2search.streaming.chunk_sampler import ChunkSampler
from s2search.streaming.state import StreamState
from s2search.text.base import LoadedText

#: The prompt of a chunk, by its number from 0.
Prompts = Callable[[int], str]


@dataclass(frozen=True, kw_only=True)
class ChunkTimes:
    """Seconds of one chunk's stages; `text_s` is 0 where the prompt stays, `commit_s` where a step commits."""

    text_s: float
    denoise_s: float
    commit_s: float
    decode_s: float

    @property
    def transformer_s(self) -> float:
        """Seconds without the codec and the text encoder."""
        return self.denoise_s + self.commit_s


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """One chunk of video, and the state after it.

    Attributes:
        number: From 0.
        frames_THWC: 8-bit RGB: 9 frames first, then 12 (for chunks of 3 latent frames).
        times: Of its stages.
        finished_s: When its frames were there, in seconds since the stream was asked for.
        state: From which the stream can go on.
    """

    number: int
    frames_THWC: NDArray[np.uint8]
    times: ChunkTimes
    finished_s: float
    state: StreamState


@dataclass(frozen=True, kw_only=True)
class StreamPipeline:
    """A model with the text encoder and the codec around it.

    Attributes:
        model: Denoises.
        text: Encodes prompts; its tokens are as wide as the model reads them.
        codec: Decodes latents.
        sampler: Steps and commit policy: `sampler_of(model.config)` where nothing else is wanted.
        overlap: Decode while the next chunk is denoised.
    """

    model: StreamingModel
    text: LoadedText
    codec: LoadedCodec
    sampler: ChunkSampler
    overlap: bool = False

    def chunks(self, prompts: Prompts, count: int, state: StreamState) -> Iterator[Chunk]:
        """Yield the next chunks of a stream.

        Args:
            prompts: The prompt of each chunk; it is encoded again only where it changes.
            count: How many.
            state: Where the stream stands, of batch 1; left as it is.
        """
        if state.header.batch != 1:
            raise InputError(f"the stream has a batch of {state.header.batch}", allowed="1", remedy="use the sampler")
        _check_latents(self.codec, self.model)
        started, decoder = time.perf_counter(), _Decoder(self.codec, state)
        if not self.overlap:
            for chunk in self._latents(prompts, count, state):
                yield decoder.decode(chunk, started)
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as worker:
            waiting: Future[Chunk] | None = None
            for chunk in self._latents(prompts, count, state):
                before, waiting = waiting, worker.submit(decoder.decode, chunk, started)
                if before is not None:
                    yield before.result()
            if waiting is not None:
                yield waiting.result()

    def _latents(self, prompts: Prompts, count: int, state: StreamState) -> Iterator[_Latents]:
        device = next(self.model.parameters()).device
        prompt, text_BSE = "", None
        for number in range(state.header.chunks, state.header.chunks + count):
            marks = [_now(device)]
            if text_BSE is None or prompts(number) != prompt:
                prompt = prompts(number)
                text_BSE = self.text.encode([prompt])
                _check_width(text_BSE, self.model)
            marks.append(_now(device))
            z_BCTYX, layers = self.sampler.denoise(self.model, text_BSE, state)
            marks.append(_now(device))
            state = self.sampler.commit_chunk(self.model, text_BSE, state, z_BCTYX, layers)
            marks.append(_now(device))
            text_s, denoise_s, commit_s = np.diff(marks).tolist()
            times = ChunkTimes(text_s=text_s, denoise_s=denoise_s, commit_s=commit_s, decode_s=0.0)
            yield _Latents(number=number, z_BCTYX=z_BCTYX, times=times, state=state)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Latents:
    """A chunk before it is decoded; its state still has no decoder cache."""

    number: int
    z_BCTYX: Tensor
    times: ChunkTimes
    state: StreamState


class _Decoder:
    """Decodes chunks in their order, and hands its cache from one to the next."""

    def __init__(self, codec: LoadedCodec, state: StreamState) -> None:
        self._codec, self._cache = codec, state.decoder
        stream_class: Any = torch.cuda.Stream
        self._stream = stream_class(codec.device) if codec.device.type == "cuda" else None

    def decode(self, latents: _Latents, started: float) -> Chunk:
        begin = time.perf_counter()
        with torch.cuda.stream(self._stream):  # nothing where it is None
            video_BCTYX, self._cache = self._codec.decode(latents.z_BCTYX, self._cache)
            frames_THWC = frames_from_video(video_BCTYX)
        end = time.perf_counter()
        return Chunk(
            number=latents.number,
            frames_THWC=frames_THWC,
            times=dataclasses.replace(latents.times, decode_s=end - begin),
            finished_s=end - started,
            state=dataclasses.replace(latents.state, decoder=self._cache),
        )


def _now(device: torch.device) -> float:
    """Return the time in seconds once the device has finished what this thread asked; decoding may still run."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return time.perf_counter()


def _check_latents(codec: LoadedCodec, model: StreamingModel) -> None:
    mine, wanted = codec.latent_channels, model.config.latent_channels
    if mine != wanted:
        one = "dct" if wanted == LATENT_CHANNELS else f"dct[channels={wanted}]"
        raise InputError(
            f"the codec {codec.name} decodes latents of {mine} channels, and the model makes {wanted}",
            remedy=f"choose one of {wanted}, such as {one}",
        )


def _check_width(text_BSE: Tensor, model: StreamingModel) -> None:
    wanted = model.config.preset.text_channels
    if text_BSE.shape[-1] != wanted:
        raise InputError(
            f"the text encoder makes tokens of {text_BSE.shape[-1]} channels, and the model reads {wanted}",
            remedy="choose the text encoder that the model was trained with",
        )
