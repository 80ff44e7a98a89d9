"""The few-step sampler: one chunk of latents from noise, and what it leaves behind for the next one.

Source: S2DiT, sections 3 and 4 (four steps per chunk of three latent frames); Huang et al., "Self-Forcing" (2025),
algorithm 1 (denoise, renoise, commit).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import override

from s2search.cost import CommitPolicy
from s2search.network.flow import clean, few_step_schedule, renoise
from s2search.network.network import LayerStates
from s2search.streaming.base import StreamingModel
from s2search.streaming.chunk_sampler import ChunkSampler, Step, level_of, noise_of
from s2search.streaming.state import StreamState


@dataclass(frozen=True, kw_only=True)
class FewStepSampler(ChunkSampler):
    """Denoises chunk after chunk in few steps, and between two of them puts fresh noise on what a step points to.

    Attributes:
        schedule: Noise levels at which the network is asked, from 1 down; after the last one comes 0.
        commit: `reuse_last` keeps what the last step's pass saw, noise included, for nothing; `clean_pass` runs the
            clean chunk through the network once more, at s = 0. A model must be trained with the one that it runs with.

    >>> FewStepSampler().passes, FewStepSampler(commit="clean_pass").passes
    (4, 5)
    """

    schedule: tuple[float, ...] = field(default_factory=few_step_schedule)
    commit: CommitPolicy = "reuse_last"

    @property
    @override
    def passes(self) -> int:
        return len(self.schedule) + (self.commit == "clean_pass")

    @property
    @override
    def commit_level(self) -> float:
        return self.schedule[-1] if self.commit == "reuse_last" else 0.0

    @override
    @torch.no_grad()
    def steps(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, *, frames: int | None = None
    ) -> Iterator[Step]:
        self.check(model, state, frames=frames)
        kind, noise = next(model.parameters()).dtype, noise_of(model, state, frames=frames)
        x_BCTYX, layers = noise(), None
        for number, s in enumerate(self.schedule):
            asked = (x_BCTYX.to(kind), level_of(x_BCTYX, s), text_BSE, state.layers)
            last = number + 1 == len(self.schedule)
            if last and self.commit == "reuse_last":
                v_BCTYX, layers = model.advance(*asked)
            else:
                v_BCTYX = model(*asked)
            z_BCTYX = clean(x_BCTYX, s, v_BCTYX)
            yield Step(number, s, x_BCTYX, z_BCTYX, layers)
            if not last:
                x_BCTYX = renoise(z_BCTYX, self.schedule[number + 1], noise())

    @override
    @torch.no_grad()
    def commit_chunk(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, z_BCTYX: Tensor, layers: LayerStates | None
    ) -> StreamState:
        if layers is None:
            kind = next(model.parameters()).dtype
            layers = model.commit(z_BCTYX.to(kind), level_of(z_BCTYX, 0.0), text_BSE, state.layers)
        return self.after(state, layers, z_BCTYX.shape[2])
