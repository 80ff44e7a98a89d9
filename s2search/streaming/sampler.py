"""The few-step sampler: one chunk of latents from noise, and what it leaves behind for the next one.

Source: S2DiT, sections 3 and 4 (four steps per chunk of three latent frames); Huang et al., "Self-Forcing" (2025),
algorithm 1 (denoise, renoise, commit).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.network.flow import clean, few_step_schedule, renoise
from s2search.network.network import LayerStates
from s2search.preset import PATCH
from s2search.streaming.base import StreamingModel
from s2search.streaming.state import StreamState


class Step(NamedTuple):
    """One step of a chunk: what the network was asked, and what its answer points to.

    Attributes:
        number: From 0.
        s: Noise level at which the network was asked.
        x_BCTYX: The latents that it saw, float32 at least.
        z_BCTYX: The clean latents that its answer points to.
        commit: In the last step, what `reuse_last` leaves for the next chunk; else None.
    """

    number: int
    s: float
    x_BCTYX: Tensor
    z_BCTYX: Tensor
    commit: LayerStates | None


@dataclass(frozen=True, kw_only=True)
class FewStepSampler:
    """Denoises chunk after chunk.

    Attributes:
        schedule: Noise levels at which the network is asked, from 1 down; after the last one comes 0.
        commit: `reuse_last` keeps what the last step's pass saw, noise included, for nothing; `clean_pass` runs the
            clean chunk through the network once more, at s = 0. A model must be trained with the one that it runs with.

    >>> FewStepSampler().passes, FewStepSampler(commit="clean_pass").passes
    (4, 5)
    """

    schedule: tuple[float, ...] = field(default_factory=few_step_schedule)
    commit: CommitPolicy = "reuse_last"

    def __post_init__(self) -> None:
        levels = (*self.schedule, 0.0)
        if not self.schedule or self.schedule[0] > 1 or any(a <= b for a, b in pairwise(levels)):
            raise InputError(f"the schedule is {self.schedule}", allowed="falling noise levels, at most 1 and above 0")

    @property
    def passes(self) -> int:
        """Forward passes per chunk."""
        return len(self.schedule) + (self.commit == "clean_pass")

    def next_chunk(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, *, frames: int | None = None
    ) -> tuple[Tensor, StreamState]:
        """Return the next chunk's clean latents and the state after it: `denoise`, then `commit_chunk`."""
        z_BCTYX, layers = self.denoise(model, text_BSE, state, frames=frames)
        return z_BCTYX, self.commit_chunk(model, text_BSE, state, z_BCTYX, layers)

    def denoise(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, *, frames: int | None = None
    ) -> tuple[Tensor, LayerStates | None]:
        """Return the next chunk's clean latents (B, C, T, Y, X), float32 at least, and what `reuse_last` commits."""
        *_, last = self.steps(model, text_BSE, state, frames=frames)
        return last.z_BCTYX, last.commit

    @torch.no_grad()
    def steps(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, *, frames: int | None = None
    ) -> Iterator[Step]:
        """Yield the steps that denoise the next chunk, without gradients; the last one's latents are the chunk.

        The same seed, chunk number and place in the batch give the same noise on one kind of device. A step can be
        run again, with gradients, from what it saw: `model(step.x_BCTYX, step.s, text, state.layers)`.

        Args:
            model: Reads, and under `reuse_last` commits in its last pass.
            text_BSE: The prompt's tokens; they may change from chunk to chunk.
            state: Left as it is.
            frames: T, latent frames; by default the preset's chunk.

        Raises:
            InputError: The stream was sampled or committed in another way so far, or its numbers are wider than the
                model's.
        """
        state.header.check(schedule=self.schedule, commit=self.commit)
        weight = next(model.parameters())
        state.header.check_narrow(weight.dtype)
        kind, exact = weight.dtype, torch.promote_types(weight.dtype, torch.float32)
        header, generators = state.header, state.noise(weight.device)
        rows, columns = PATCH[1] * header.grid[0], PATCH[2] * header.grid[1]
        size = (model.config.latent_channels, frames or model.config.preset.chunk_frames, rows, columns)

        def noise() -> Tensor:
            each = [torch.randn(size, generator=g, device=weight.device, dtype=torch.float32) for g in generators]
            return torch.stack(each).to(exact)

        def level(s: float) -> Tensor:
            return torch.full((header.batch, 1), s, device=weight.device, dtype=exact)

        x_BCTYX, layers = noise(), None
        for number, s in enumerate(self.schedule):
            last = number + 1 == len(self.schedule)
            if last and self.commit == "reuse_last":
                v_BCTYX, layers = model.advance(x_BCTYX.to(kind), level(s), text_BSE, state.layers)
            else:
                v_BCTYX = model(x_BCTYX.to(kind), level(s), text_BSE, state.layers)
            z_BCTYX = clean(x_BCTYX, s, v_BCTYX)
            yield Step(number, s, x_BCTYX, z_BCTYX, layers)
            if not last:
                x_BCTYX = renoise(z_BCTYX, self.schedule[number + 1], noise())

    @torch.no_grad()
    def commit_chunk(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, z_BCTYX: Tensor, layers: LayerStates | None
    ) -> StreamState:
        """Return the state after a chunk that `denoise` gave; under `clean_pass` this runs the network once more."""
        if layers is None:
            weight = next(model.parameters())
            level_BT = torch.zeros(len(z_BCTYX), 1, device=weight.device, dtype=z_BCTYX.dtype)
            layers = model.commit(z_BCTYX.to(weight.dtype), level_BT, text_BSE, state.layers)
        return state.after(layers, z_BCTYX.shape[2], schedule=self.schedule, commit=self.commit)
