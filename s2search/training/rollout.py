"""Rollouts: what inference itself would do, without gradients, and one step of each chunk again with them.

The rollout is the few-step sampler with its own states and commits, so that a chunk sees in training what it will see
in a stream. No gradient crosses a chunk: each is replayed, and its gradient taken, by itself, and the most that is in
memory is one chunk's graph.

Source: Huang et al., "Self-Forcing" (2025), algorithm 1; S2DiT, section 4.3.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E token channels
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from s2search.errors import CheckError
from s2search.network.flow import clean
from s2search.network.network import LayerStates
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState


@dataclass(frozen=True, kw_only=True, eq=False)
class RolledChunk:
    """A chunk of a rollout, at its exit step.

    Attributes:
        s: Noise level of that step.
        x_BCTYX: What the network saw.
        z_BCTYX: The clean latents that its answer points to.
        state: What it read.
    """

    s: float
    x_BCTYX: Tensor
    z_BCTYX: Tensor
    state: LayerStates

    def replayed(self, model: Any, text_BSE: Tensor, dtype: torch.dtype) -> Tensor:
        """Return z_BCTYX again, with gradients of the weights."""
        level_B1 = torch.full((len(self.x_BCTYX), 1), self.s, device=self.x_BCTYX.device, dtype=self.x_BCTYX.dtype)
        return clean(self.x_BCTYX, self.s, model(self.x_BCTYX.to(dtype), level_B1, text_BSE, self.state))


class InFormat:
    """A network as a stream uses it, in the number format that it computes in, whatever its weights are kept in."""

    def __init__(self, network: Any, dtype: torch.dtype) -> None:
        self._network, self._like = network, torch.empty(0, dtype=dtype, device=next(network.parameters()).device)
        self.config, self.commit, self.advance = network.config, network.commit, network.advance
        self.initial_state, self.weights_digest = network.initial_state, network.weights_digest

    def parameters(self) -> Iterator[Tensor]:
        """Yield a tensor of the device and the number format."""
        yield self._like

    def __call__(self, *asked: Any) -> Tensor:
        """Return the velocity."""
        velocity: Tensor = self._network(*asked)
        return velocity


def rolled_out(
    model: Any, sampler: FewStepSampler, text_BSE: Tensor, chunks: int, exit_step: int, state: StreamState
) -> Iterator[RolledChunk]:
    """Yield the chunks of a stream as `FewStepSampler.next_chunk` makes them, each at its exit step.

    Raises:
        CheckError: A number is not finite; it names chunk and step.
    """
    for number in range(chunks):
        steps = []
        for step in sampler.steps(model, text_BSE, state):
            if not step.z_BCTYX.isfinite().all():
                raise CheckError(
                    f"chunk {number} of the rollout is not finite at step {step.number + 1} of {len(sampler.schedule)}",
                    remedy="lower optimizer.lr, or begin anew; the last checkpoint is kept",
                )
            steps.append(step)
        chosen = steps[exit_step]
        yield RolledChunk(s=chosen.s, x_BCTYX=chosen.x_BCTYX, z_BCTYX=chosen.z_BCTYX, state=state.layers)
        state = sampler.commit_chunk(model, text_BSE, state, steps[-1].z_BCTYX, steps[-1].commit)
