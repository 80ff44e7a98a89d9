"""What every sampler of chunks has in common: how a chunk begins, and how its steps become a chunk and a state.

Axes: B streams  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.network.network import LayerStates
from s2search.preset import PATCH
from s2search.streaming.as_trained import check_sampling, check_shape
from s2search.streaming.base import StreamingModel
from s2search.streaming.state import StreamState

#: Returns standard normal noise (B, C, T, Y, X), other one at each call.
Noise = Callable[[], Tensor]


class Step(NamedTuple):
    """One step of a chunk: what the network was asked, and what its answer points to.

    Attributes:
        number: From 0.
        s: Noise level at which the network was asked.
        x_BCTYX: The latents that it saw, float32 at least.
        z_BCTYX: The clean latents that its answer points to.
        commit: In the last step, what that step's pass leaves for the next chunk, if it does; else None.
    """

    number: int
    s: float
    x_BCTYX: Tensor
    z_BCTYX: Tensor
    commit: LayerStates | None


@dataclass(frozen=True, kw_only=True)
class ChunkSampler(abc.ABC):
    """Makes chunk after chunk of a stream from noise.

    `steps` and `denoise` change no state, so a chunk may be made twice from one; the noise of a chunk and of its commit
    depends on the state's seed, the chunk's number and the stream's number alone.

    Attributes:
        schedule: Noise levels at which the network is asked, from 1 down; after the last one comes 0.
        commit: What the next chunks see of this one: what the last step saw or something as noisy (`reuse_last`), or
            the clean chunk (`clean_pass`). A model must be trained with what it runs with.
        as_trained: Refuse a model that was trained to stream in another way; False is for who measures what that does.
    """

    schedule: tuple[float, ...]
    commit: CommitPolicy
    as_trained: bool = True

    def __post_init__(self) -> None:
        levels = (*self.schedule, 0.0)
        if not self.schedule or self.schedule[0] > 1 or any(a <= b for a, b in pairwise(levels)):
            raise InputError(f"the schedule is {self.schedule}", allowed="falling noise levels, at most 1 and above 0")

    @property
    @abc.abstractmethod
    def passes(self) -> int:
        """Forward passes per chunk."""

    @property
    @abc.abstractmethod
    def commit_level(self) -> float:
        """Noise level at which a chunk is committed; 0 is clean."""

    @property
    def flow_level(self) -> float | None:
        """`commit_level` where chunks follow the flow, None where they come in few steps: states are of one of them."""
        return None

    @abc.abstractmethod
    def steps(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, *, frames: int | None = None
    ) -> Iterator[Step]:
        """Yield the steps that make the next chunk, without gradients; the last one's `z_BCTYX` is the chunk.

        The same seed, chunk number and place in the batch give the same noise on one kind of device. A step can be
        run again, with gradients, from what it saw: `model(step.x_BCTYX, step.s, text, state.layers)`.

        Args:
            model: Reads; where the last step commits, it commits as well.
            text_BSE: The prompt's tokens; they may change from chunk to chunk.
            state: Left as it is.
            frames: T, latent frames; by default the preset's chunk.

        Raises:
            InputError: The stream was sampled or committed in another way so far, the model was trained to stream in
                another one, or the state's numbers are wider than the model's.
        """

    @abc.abstractmethod
    def commit_chunk(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, z_BCTYX: Tensor, layers: LayerStates | None
    ) -> StreamState:
        """Return the state after a chunk that `denoise` gave; without `layers` this runs the network once more."""

    def next_chunk(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, *, frames: int | None = None
    ) -> tuple[Tensor, StreamState]:
        """Return the next chunk's clean latents and the state after it: `denoise`, then `commit_chunk`."""
        z_BCTYX, layers = self.denoise(model, text_BSE, state, frames=frames)
        return z_BCTYX, self.commit_chunk(model, text_BSE, state, z_BCTYX, layers)

    def denoise(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, *, frames: int | None = None
    ) -> tuple[Tensor, LayerStates | None]:
        """Return the next chunk's clean latents (B, C, T, Y, X), float32 at least, and what the last step commits."""
        *_, last = self.steps(model, text_BSE, state, frames=frames)
        return last.z_BCTYX, last.commit

    def check(self, model: StreamingModel, state: StreamState, *, frames: int | None = None) -> None:
        """Raise unless this model's stream may go on from this state by this sampler.

        Raises:
            InputError: See `steps`.
        """
        state.header.check(schedule=self.schedule, commit=self.commit, flow_level=self.flow_level)
        if self.as_trained:
            check_sampling(model.config, self.schedule, self.commit, self.commit_level)
        check_shape(model.config, window=state.header.window, frames=frames)
        state.header.check_narrow(next(model.parameters()).dtype)

    def after(self, state: StreamState, layers: LayerStates, frames: int) -> StreamState:
        """Return the state with a chunk more, and how that was made."""
        return state.after(layers, frames, schedule=self.schedule, commit=self.commit, flow_level=self.flow_level)


def noise_of(model: StreamingModel, state: StreamState, *, frames: int | None = None) -> Noise:
    """Return what draws the noise of the next chunk: the same again where it is asked for again."""
    weight, header = next(model.parameters()), state.header
    generators, exact = state.noise(weight.device), torch.promote_types(weight.dtype, torch.float32)
    rows, columns = PATCH[1] * header.grid[0], PATCH[2] * header.grid[1]
    size = (model.config.latent_channels, frames or model.config.preset.chunk_frames, rows, columns)

    def noise() -> Tensor:
        each = [torch.randn(size, generator=g, device=weight.device, dtype=torch.float32) for g in generators]
        return torch.stack(each).to(exact)

    return noise


def level_of(x_BCTYX: Tensor, s: float) -> Tensor:
    """Return one noise level (B, 1) for every stream of some latents."""
    return torch.full((len(x_BCTYX), 1), s, device=x_BCTYX.device, dtype=x_BCTYX.dtype)
