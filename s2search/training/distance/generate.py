"""What models make from noise by the captions of held-out clips: as many samples as a distance needs, kept in files.

A sample's noise follows from the seed and the sample's number, whatever is made beside it. A file is written before its
line, so what has a line is whole, and the same command goes on where it stopped.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s2search.border.regular_file import check_regular
from s2search.errors import CheckError, InputError
from s2search.journal import open_journal
from s2search.network.config import CausalForm
from s2search.network.flow import few_step_schedule
from s2search.network.network import S2DiT
from s2search.network.weight_file import save_tensors
from s2search.preset import PATCH, PIXEL_FRAMES
from s2search.streaming.flow_sampler import FlowSampler
from s2search.streaming.full_steps import FullStepSampler
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from s2search.training.captions import Captions, text_encoder
from s2search.training.data.base import digest_of
from s2search.training.distance.documents import GeneratedHeading, GeneratedShard, Speed
from s2search.training.share import generator

if TYPE_CHECKING:
    from s2search.training.data.clips import Clip, Clips

JOURNAL, OF = "generated.jsonl", "generation of samples"
#: Steps of a model that follows the flow, and how far its noise levels are pushed towards 1.
FLOW_STEPS, SHIFT = 50, 5.0
_TIMED = 5

#: Called with (samples done, samples in all, what is made).
Progress = Callable[[int, int, str], None]
#: Returns the next chunk's clean latents and the state after it, of a stream with text_BSE.
NextChunk = Callable[[Tensor, StreamState], tuple[Tensor, StreamState]]


@dataclass(frozen=True, kw_only=True)
class Maker:
    """A model that makes samples, and how it is asked.

    Attributes:
        folder: Of its weights.
        model: In evaluation mode, on the device.
        steps: Of the sampler, per chunk or per clip.
        captions: Encodes prompts.
    """

    folder: Path
    model: S2DiT
    steps: int
    captions: Captions

    @classmethod
    def of(cls, folder: Path, clips: Clips, device: torch.device, *, steps: int | None, text: str | None) -> Maker:
        """Load a model.

        Args:
            folder: What `train` left in `model/`, or save_pretrained wrote.
            clips: Of the latents and captions that it makes.
            device: Where it computes, in float32.
            steps: By default those that it was trained for, or 50 of one that follows the flow.
            text: Its text encoder; `hashing`, as wide as the model, by default.

        Raises:
            InputError: It cannot be read, does not make such latents, or cannot make them in so many steps.
        """
        if not folder.is_dir():
            raise InputError(
                f"there is no folder of weights {str(folder)!r}", remedy="name what `train` wrote: RUN/model"
            )
        model: S2DiT = S2DiT.from_pretrained(folder).requires_grad_(False).eval()
        clips.check_channels(model.config.latent_channels)
        causal = model.config.causal
        trained = len(causal.schedule) if causal and causal.schedule else FLOW_STEPS
        maker = cls(
            folder=folder,
            model=model.to(device, torch.float32),
            steps=steps or trained,
            captions=Captions(text_encoder(text, model.config.preset), device, torch.float32),
        )
        if causal:
            next_chunk(maker.model, causal, maker.steps)
        return maker

    @cached_property
    def weights(self) -> str:
        """A hash of the weights and of what is made of them."""
        return digest_of(self.model.config.digest, self.model.weights_digest())

    @property
    def sampler(self) -> str:
        """How samples are made, in words."""
        causal = self.model.config.causal
        if causal is None:
            return f"whole clips, Euler's steps, shift {SHIFT:g}"
        how = "Euler's steps" if causal.schedule is None else "few steps"
        return f"chunk by chunk, {how}, shift {SHIFT:g}, {causal.commit}"

    @torch.no_grad()
    def made(self, size: tuple[int, int, int, int], prompts: Sequence[str], seed: int, first: int) -> Tensor:
        """Return latents_BCTYX, float32 on the processor, of samples from number `first` on.

        Args:
            size: Channels, frames, rows and columns.
            prompts: Of each.
            seed: Of all noise.
            first: The number of the first one.
        """
        text_BSE, causal = self.captions.tokens(prompts), self.model.config.causal
        if causal is None:
            numbers = range(first, first + len(prompts))
            noise_BCTYX = torch.stack(
                [torch.randn(size, generator=generator("distance", seed, number)) for number in numbers]
            ).to(text_BSE.device)
            sampler = FullStepSampler(steps=self.steps, solver="euler", shift=SHIFT, guidance=1.0)
            return sampler.sample(lambda *asked: self.model(*asked), noise_BCTYX, text_BSE).float().cpu()
        chunks: list[Tensor] = []
        state = self._start(size, len(prompts), seed, first)
        ask = next_chunk(self.model, causal, self.steps)
        while sum(chunk.shape[2] for chunk in chunks) < size[1]:
            z_BCTYX, state = ask(text_BSE, state)
            chunks.append(z_BCTYX)
        return torch.cat(chunks, 2)[:, :, : size[1]].float().cpu()

    def speed(self, size: tuple[int, int, int, int], prompt: str) -> Speed | None:
        """Time chunks of one stream behind a full window; None for a model that makes whole clips."""
        causal, preset = self.model.config.causal, self.model.config.preset
        if causal is None:
            return None
        text_BSE, state = self.captions.tokens([prompt]), self._start(size, 1, 0, 0)
        ask, cuda = next_chunk(self.model, causal, self.steps), text_BSE.device.type == "cuda"
        clock, times = time.perf_counter if cuda else time.process_time, []
        for _ in range(1 + (preset.window_chunks or 0) + preset.sink_chunks + _TIMED):
            begun = clock()
            _, state = ask(text_BSE, state)
            if cuda:
                torch.cuda.synchronize(text_BSE.device)
            times.append(clock() - begun)
        median = statistics.median(times[-_TIMED:])
        fps = preset.chunk_frames * PIXEL_FRAMES / median
        return Speed(chunk_ms=1000 * median, fps=fps, clock="wall" if cuda else "processor")

    def _start(self, size: tuple[int, int, int, int], batch: int, seed: int, first: int) -> StreamState:
        grid = size[2] // PATCH[1], size[3] // PATCH[2]
        return StreamState.start(self.model, grid, seed=seed, batch=batch, first=first)


def next_chunk(model: S2DiT, causal: CausalForm, steps: int) -> NextChunk:
    """Return how a causal model makes its next chunk in so many steps.

    Raises:
        InputError: It commits what its last step saw, and one step sees nothing but noise.
    """
    own = causal.schedule
    levels = own if own is not None and len(own) == steps else few_step_schedule(steps, SHIFT)
    if causal.schedule is None:
        flow = FlowSampler(schedule=levels, commit=causal.commit, level=causal.level)
        return lambda text_BSE, state: flow.next_chunk(model, text_BSE, state)
    if causal.commit == "reuse_last" and steps == 1:
        raise InputError(
            "1 step of a model that was trained to commit what its last step saw",
            allowed="2 or more, or one trained with commit=clean_pass",
            remedy="leave 1 out of --steps",
        )
    sampler = FewStepSampler(schedule=levels, commit=causal.commit, as_trained=False)
    return lambda text_BSE, state: sampler.next_chunk(model, text_BSE, state)


def generate(
    maker: Maker,
    clips: Clips,
    asked: Sequence[Clip],
    folder: Path,
    *,
    seed: int,
    batch: int,
    progress: Progress = lambda done, total, label: None,
) -> Iterator[Tensor]:
    """Yield latents_BCTYX of a sample per clip, by its caption: those in the folder, and those that are made now.

    Args:
        maker: Makes them.
        clips: The data set.
        asked: Clips of it whose captions are asked for.
        folder: For the files. It may hold the beginning of the same.
        seed: Of all noise.
        batch: Samples that are made side by side.
        progress: Told before every batch.

    Raises:
        InputError: The folder holds samples of something else, or a file of it was changed.
        CheckError: A sample is not finite.
    """
    heading = _heading(maker, clips, len(asked), seed, batch)
    with open_journal(folder / JOURNAL, heading, GeneratedShard, of=OF) as journal:
        lines: dict[int, GeneratedShard] = {line.number: line for line in journal.lines}
        for number in range(heading.shards):
            numbers = heading.numbers(number)
            path = folder / f"{number:06}.safetensors"
            progress(numbers.start, heading.samples, f"{maker.folder}, {maker.steps} steps")
            if number not in lines or not path.exists():
                prompts = [asked[sample].caption for sample in numbers]
                latents_BCTYX = maker.made(heading.latent_size, prompts, seed, numbers.start)
                _check_finite(latents_BCTYX, maker, numbers)
                line = _written(latents_BCTYX, path, number)
                if number not in lines:
                    journal.append(line)
                elif line != lines[number]:
                    raise InputError(
                        f"{str(path)!r} was gone and is made otherwise now", remedy="choose another folder"
                    )
            yield _read(path, lines.get(number), heading.latent_size)


def _heading(maker: Maker, clips: Clips, samples: int, seed: int, batch: int) -> GeneratedHeading:
    return GeneratedHeading(
        weights=maker.weights,
        data=clips.digest,
        text=maker.captions.encoder.label,
        latent_size=clips.heading.latent_size,
        sampler=maker.sampler,
        steps=maker.steps,
        samples=samples,
        seed=seed,
        device=next(maker.model.parameters()).device.type,
        batch=batch,
    )


def _check_finite(latents_BCTYX: Tensor, maker: Maker, numbers: range) -> None:
    finite_B = latents_BCTYX.isfinite().flatten(1).all(1)
    if not finite_B.all():
        raise CheckError(
            f"sample {numbers[int((~finite_B).nonzero()[0])]} of {str(maker.folder)!r} has numbers that are not finite",
            remedy="look at the model: its training has diverged",
        )


def _written(latents_BCTYX: Tensor, path: Path, number: int) -> GeneratedShard:
    hidden = path.with_name(f".{path.name}.partial")
    save_tensors({"latents": latents_BCTYX.contiguous()}, hidden, {"format": "pt"})
    digest = hashlib.sha256(hidden.read_bytes()).hexdigest()
    hidden.replace(path)
    return GeneratedShard(number=number, file=path.name, sha256=digest)


def _read(path: Path, line: GeneratedShard | None, size: tuple[int, int, int, int]) -> Tensor:
    try:
        check_regular(path)
        if line is not None and hashlib.sha256(path.read_bytes()).hexdigest() != line.sha256:
            raise InputError(f"{str(path)!r} was changed since it was written", remedy="remove it: it is made again")
        latents_BCTYX: Tensor = load_file(path)["latents"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}", remedy="remove it: it is made again") from error
    if latents_BCTYX.shape[1:] != size:
        raise InputError(f"{str(path)!r} has samples of another size", remedy="remove it: it is made again")
    return latents_BCTYX
