"""The sampler of models that follow the flow: many steps along it for each chunk, then one more pass that commits it.

Source: Liu et al., "Flow Straight and Fast" (2022), equation 1 (Euler steps along the flow); Huang et al.,
"Self-Forcing" (2025), section 3.1 (a model trained by teacher forcing, sampled chunk after chunk).

Axes: B streams  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.network.config import CausalForm
from s2search.network.flow import clean, few_step_schedule, renoise
from s2search.network.network import LayerStates
from s2search.streaming.base import StreamingModel
from s2search.streaming.chunk_sampler import ChunkSampler, Step, level_of, noise_of
from s2search.streaming.state import StreamState

#: As often as the causal model of the paper's comparisons is asked.
FLOW_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class FlowSampler(ChunkSampler):
    """Follows the flow of every chunk from noise by Euler steps, and commits what it comes to by a pass of its own.

    Attributes:
        schedule: Noise levels at which the network is asked, from 1 down; after the last one comes 0.
        commit: `clean_pass` commits the clean chunk; `reuse_last` one with as much fresh noise as `level` says, as the
            few steps that the model is meant for will leave it.
        level: Noise level of what is committed: 0 under `clean_pass`.

    >>> FlowSampler().passes, FlowSampler(schedule=few_step_schedule(8), commit="reuse_last", level=0.625).passes
    (51, 9)
    """

    schedule: tuple[float, ...] = field(default_factory=partial(few_step_schedule, FLOW_STEPS))
    commit: CommitPolicy = "clean_pass"
    level: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        CausalForm(commit=self.commit, level=self.level)  # the same law

    @property
    @override
    def passes(self) -> int:
        return len(self.schedule) + 1

    @property
    @override
    def commit_level(self) -> float:
        return self.level

    @property
    @override
    def flow_level(self) -> float | None:
        return self.level

    @override
    @torch.no_grad()
    def steps(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, *, frames: int | None = None
    ) -> Iterator[Step]:
        self.check(model, state, frames=frames)
        kind, x_BCTYX = next(model.parameters()).dtype, noise_of(model, state, frames=frames)()
        for number, (s, after) in enumerate(zip(self.schedule, (*self.schedule[1:], 0.0), strict=True)):
            v_BCTYX = model(x_BCTYX.to(kind), level_of(x_BCTYX, s), text_BSE, state.layers)
            yield Step(number, s, x_BCTYX, clean(x_BCTYX, s, v_BCTYX), None)
            x_BCTYX = x_BCTYX + (after - s) * v_BCTYX.to(x_BCTYX.dtype)

    @override
    @torch.no_grad()
    def commit_chunk(
        self, model: StreamingModel, text_BSE: Tensor, state: StreamState, z_BCTYX: Tensor, layers: LayerStates | None
    ) -> StreamState:
        if layers is not None:
            raise InputError("a chunk that follows the flow is committed by a pass of its own", remedy="give no layers")
        kind, seen_BCTYX = next(model.parameters()).dtype, z_BCTYX
        if self.level:
            noise = noise_of(model, state, frames=z_BCTYX.shape[2])
            noise()  # the chunk began with this one
            seen_BCTYX = renoise(z_BCTYX, self.level, noise())
        new = model.commit(seen_BCTYX.to(kind), level_of(z_BCTYX, self.level), text_BSE, state.layers)
        return self.after(state, new, z_BCTYX.shape[2])
