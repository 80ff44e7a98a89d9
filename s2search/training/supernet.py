"""The network that layout search trains: both candidates at every layer, routed by a mask that can be learned.

Axes: M groups of equal layers; the others as in network.py

Source: S2DiT, section 3 (streams y_L and y_S, long skip, Gumbel-softmax with a straight-through estimator); Jang et
al., "Categorical Reparameterization with Gumbel-Softmax" (2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from s2search import registry
from s2search.block import Stream
from s2search.errors import InputError
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT, Switched, part_builders
from s2search.network.walk import Route, predicted
from s2search.preset import Preset


class Supernet(Switched):
    """One high-resolution and one low-resolution candidate per layer, and a mask m_n that mixes them.

    With a hard mask (1 high, 0 low) the result is that of the static network of `extract`. With a soft one both streams
    run at every layer. What the paper leaves open: before its first layer the low stream is the stem's output brought
    down, and the skip buffer is empty.
    """

    def __init__(
        self,
        preset: Preset,
        *,
        high: str = "lcha",
        low: str = "ssa",
        group_size: int = 1,
        **rest: Any,
    ) -> None:
        super().__init__()
        candidates = registry.create("blocks", high), registry.create("blocks", low)
        for block, stream in zip(candidates, Stream, strict=True):
            if block.stream is not stream:
                raise InputError(
                    f"the candidate {block.label!r} runs in the {Stream(block.stream).name.lower()} stream",
                    allowed="one of the high stream and one of the low stream",
                )
        if preset.depth % group_size:
            raise InputError(
                f"a depth of {preset.depth} does not divide into groups of {group_size}", remedy="choose a divisor"
            )
        self.group_size, self.labels = group_size, (candidates[0].label, candidates[1].label)
        self.config, low_config = (ModelConfig.new(preset, (label,) * preset.depth, **rest) for label in self.labels)
        of_high, of_low = part_builders(self.config), part_builders(low_config)
        self.stem, self.head = of_high["stem"](), of_high["head"]()
        self.down, self.up = of_low["down"](), of_low["up"]()
        self.high, self.low = (
            nn.ModuleList(build[f"layers.{layer}"]() for layer in range(preset.depth)) for build in (of_high, of_low)
        )

    @property
    def groups(self) -> int:
        """How many groups of equal layers, M."""
        return len(self.high) // self.group_size

    def forward(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, mask_M: Tensor) -> Tensor:
        """Return the velocity of a whole clip, bidirectionally, as `S2DiT.forward` does without a state.

        Args:
            latents_BCTYX: Noisy latents.
            s_BT: Noise levels.
            text_BSE: Text tokens.
            mask_M: How much of each group is high-resolution, 0 to 1.
        """
        x_BTHWD, modulation_BT6D, time_BTD = self.stem(latents_BCTYX, s_BT)
        route = Route(self, x_BTHWD, low=self.lowered(x_BTHWD))

        def layer(number: int, stream: Stream, x: Tensor) -> Tensor:
            layers = self.high if stream is Stream.HIGH else self.low
            return layers[number](x, modulation_BT6D, text_BSE)  # type: ignore[no-any-return]

        for number, m in enumerate(mask_M.repeat_interleave(self.group_size)):
            route.enter(m, partial(layer, number))
        return predicted(self, route.leave(), time_BTD, latents_BCTYX, s_BT)

    def extract(self, mask_M: Tensor) -> S2DiT:
        """Return the static network of a hard mask; it shares this one's parameters.

        Raises:
            InputError: The mask is soft, or has another length.
        """
        if mask_M.shape != (self.groups,) or not ((mask_M == 0) | (mask_M == 1)).all():
            raise InputError(f"the mask {mask_M.tolist()} is not one 0 or 1 for each of {self.groups} groups")
        high_L = mask_M.bool().repeat_interleave(self.group_size).tolist()
        layout = tuple(self.labels[0] if high else self.labels[1] for high in high_L)
        with torch.device("meta"):
            network = S2DiT(replace(self.config, layout=layout))
        network.stem, network.head = self.stem, self.head
        network.layers = nn.ModuleList((self.high if high else self.low)[layer] for layer, high in enumerate(high_L))
        if not all(high_L):
            network.down, network.up = self.down, self.up
        return network


class MaskedSupernet(nn.Module):
    """A supernet with the logits of its mask, in one module, so that both move alike and lie in one checkpoint.

    Attributes:
        leaning_M: What the logits come from; see `mask_logits`.
        supernet: Which the mask routes.
        rate: How many times as fast as any weight a logit moves.
    """

    def __init__(self, supernet: Supernet, *, rate: float = 1.0) -> None:
        super().__init__()
        self.leaning_M = nn.Parameter(torch.zeros(supernet.groups))
        self.supernet, self.rate = supernet, rate

    @property
    def layers(self) -> list[nn.Module]:
        """Those of both streams."""
        return [*self.supernet.high, *self.supernet.low]

    def forward(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, mask: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the velocity under the mask that `mask` makes of the logits: here, where they are whole."""
        velocity: Tensor = self.supernet(latents_BCTYX, s_BT, text_BSE, mask(mask_logits(self.leaning_M, self.rate)))
        return velocity


def mask_logits(leaning_M: Tensor, rate: float) -> Tensor:
    """Return the logits of a mask, in float32 or better: `rate` times a parameter, less their mean.

    The gradient is that of the logits, whatever the rate, so that it takes no larger part of a gradient that is cut to
    a length; an optimizer that moves every number by its learning rate moves a logit `rate` times as far.

    A mask keeps a count, so a number that is added to all logits changes nothing. What all of the gradient has in
    common (a high layer always helps) is therefore none of the expected loss's; without the mean it would be most of
    what the optimizer sees.
    """
    leaning_M = leaning_M.to(torch.promote_types(leaning_M.dtype, torch.float32))
    logits_M = leaning_M + (rate - 1) * leaning_M.detach()
    return logits_M - logits_M.mean()


def undecided(logits_M: Tensor, high: int) -> Tensor:
    """Return how open a mask of so many high groups still is: 1 where all logits are equal, 0 where it is settled.

    The mean entropy, in bits, of a logit's sigmoid around the middle between the last one taken and the first one left.

    >>> undecided(torch.zeros(4), 2), undecided(torch.tensor([9.0, 9.0, -9.0, -9.0]), 2) < 0.01
    (tensor(1.), tensor(True))
    """
    ordered_M = logits_M.sort(descending=True).values
    middle = (ordered_M[high - 1] + ordered_M[high]) / 2
    taken_M = torch.sigmoid(logits_M - middle)
    entropy_M: Tensor = (torch.special.entr(taken_M) + torch.special.entr(1 - taken_M)) / math.log(2)
    return entropy_M.mean()


def sample_mask(logits_M: Tensor, high: int, *, temperature: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw a hard mask with exactly so many high groups; its gradient is that of the soft one (straight-through).

    The `high` groups with the largest Gumbel-perturbed logits are 1. The soft mask is a sigmoid around the middle
    between the last one taken and the first one left.

    Args:
        logits_M: How much each group leans to the high stream.
        high: Groups of the high stream, 0 to M: stage 1's count.
        temperature: Above 0; lower is closer to the hard mask.
        generator: Of the noise.

    >>> sample_mask(torch.tensor([9.0, -9.0, 9.0]), 2, temperature=1.0).tolist()
    [1.0, 0.0, 1.0]
    """
    groups = len(logits_M)
    if not 0 <= high <= groups or not temperature > 0:
        raise InputError(
            f"a mask of {high} of {groups} groups at temperature {temperature:g}",
            allowed=f"0 to {groups} groups, a temperature above 0",
        )
    uniform_M = torch.rand(groups, generator=generator, dtype=torch.float64).to(logits_M)
    uniform_M = uniform_M.clamp(torch.finfo(logits_M.dtype).tiny, 1 - torch.finfo(logits_M.dtype).eps)
    leaning_M = logits_M + uniform_M.log() - torch.log1p(-uniform_M)  # the difference of two Gumbel variables
    order_M = leaning_M.argsort(descending=True)
    hard_M = torch.zeros_like(logits_M)
    hard_M[order_M[:high]] = 1
    if high in (0, groups):
        return hard_M
    middle = (leaning_M[order_M[high - 1]] + leaning_M[order_M[high]]).detach() / 2
    soft_M = torch.sigmoid((leaning_M - middle) / temperature)
    return hard_M + (soft_M - soft_M.detach())
