"""Ranges of what matrices are multiplied with: the source streams as it was trained, and every pass is watched.

The ring of past frames is full for the last two chunks of every stream; every noise level of the sampler and its
committing pass are met. A model that follows the flow is watched at twelve steps along it; one
that was not trained to stream by either commit policy in turn. coremltools calibrates by predictions of Core ML, which
takes a Mac (and keeps the last sample's range only, version 9.0).

Why streams, and of which prompts: docs/decisions/export.md, "Ranges are those of the model's own streams".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from s2search.exporters.prompt_tokens import PromptTokens
from s2search.exporters.quantised import InputRange, Recorder, matrices
from s2search.exporters.step import StepShape
from s2search.network.network import S2DiT
from s2search.network.walk import Pass
from s2search.streaming.chunk_sampler import ChunkSampler
from s2search.streaming.sampler_of import sampler_of, samplers_to_check
from s2search.streaming.state import StreamState

CALIBRATION_SEED = 1000  # of the first stream; each further one has the next
_FURTHER_CHUNKS = 2  # behind those that fill the ring
_FLOW_STEPS = 12

#: Called with passes done, passes to do, and what comes next.
Progress = Callable[[int, int, str], Any]


class Call(NamedTuple):
    """A pass of a stream: in which chunk, at which noise level, and what was asked."""

    chunk: int
    s: float
    what: Pass


@dataclass(frozen=True, kw_only=True)
class RangeStreams:
    """The streams that ranges come from: one of every prompt.

    Attributes:
        shape: Of the step.
        prompts: Tokens as the model was trained to read them.
        chunks: Of every stream; 0 for those that fill the ring and two more.
        seed: Of the first stream's noise.
    """

    shape: StepShape
    prompts: PromptTokens
    chunks: int = 0
    seed: int = CALIBRATION_SEED

    @property
    def chunks_each(self) -> int:
        """Chunks of every stream."""
        return self.chunks or -(-self.shape.slots // self.shape.frames) + _FURTHER_CHUNKS

    def passes(self, model: S2DiT) -> int:
        """Return what it costs: forward passes of the model."""
        return sum(self.chunks_each * sampler.passes for sampler in self.samplers(model))

    def samplers(self, model: S2DiT) -> tuple[ChunkSampler, ...]:
        """Return what makes the chunks of every stream."""
        config = model.config
        flows = config.causal is not None and config.causal.schedule is None
        several = (sampler_of(config, steps=_FLOW_STEPS),) if flows else samplers_to_check(config)
        return tuple(several[stream % len(several)] for stream in range(len(self.prompts.for_ranges)))

    def told(self, model: S2DiT) -> str:
        """Return in words where ranges come from."""
        streams = f"{len(self.prompts.for_ranges)} streams of {self.chunks_each} chunks"
        return f"{streams}, {self.passes(model)} passes, prompts by {self.prompts.encoder}, seed {self.seed}"


def calibrate(
    model: S2DiT, calibration: RangeStreams, progress: Progress = lambda done, total, label: None
) -> dict[str, InputRange]:
    """Return the range of what every matrix is multiplied with over all streams, by linear layer.

    A package has one range per matrix: a function serves all noise levels and all chunks.
    """
    found: dict[str, InputRange] = {}
    for ranges in ranges_by_call(model, calibration, progress).values():
        for name, span in ranges.items():
            found[name] = found[name].over(span) if name in found else span
    return found


@torch.no_grad()
def ranges_by_call(
    model: S2DiT, calibration: RangeStreams, progress: Progress = lambda done, total, label: None
) -> dict[Call, dict[str, InputRange]]:
    """Return the ranges of every pass, by linear layer; those of all streams together.

    Args:
        model: In float32, in evaluation mode.
        calibration: Which streams.
        progress: Called before every pass.
    """
    watched, shape = _Watched(model, calibration.passes(model), progress), calibration.shape
    with ExitStack() as undo:
        for name, linear in matrices(model).items():
            undo.callback(linear.register_forward_pre_hook(watched.hook(name)).remove)
        for stream, sampler in enumerate(calibration.samplers(model)):
            text_BSE = calibration.prompts.for_ranges[stream : stream + 1]
            state = StreamState.start(watched, shape.grid, seed=calibration.seed + stream, window=shape.window)
            for chunk in range(calibration.chunks_each):
                watched.chunk = chunk
                _, state = sampler.next_chunk(watched, text_BSE, state, frames=shape.frames)
    return watched.found


class _Watched(Recorder):
    """A model that notes what its matrices read in every pass."""

    def __init__(self, model: S2DiT, passes: int, progress: Progress) -> None:
        super().__init__(model)
        self.chunk, self.found = 0, dict[Call, dict[str, InputRange]]()
        self._passes, self._done, self._progress = passes, 0, progress
        self._now: dict[str, InputRange] = {}

    @override
    def began(self, latents_BCTYX: Tensor, s_BT: Tensor, what: Pass) -> None:
        self._progress(self._done, self._passes, f"ranges of activations: pass {self._done + 1} of {self._passes}")
        self._done += 1
        self._now = self.found.setdefault(Call(self.chunk, round(float(s_BT.flatten()[0]), 6), what), {})

    @override
    def answered(self, velocity_BCTYX: Tensor) -> None:
        pass

    def hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        """Return what notes the inputs of a linear layer."""

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._now[name] = self._now.get(name, InputRange(low=0.0, high=0.0)).joined(inputs[0])

        return note
