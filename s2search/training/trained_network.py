"""A network that is trained: its weights, the moments that move them, and their average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from s2search.training.parallel import local, whole
from s2search.training.settings import OptimizerSettings

_MOMENTS = ("exp_avg", "exp_avg_sq")  # as AdamW calls them


class TrainedNetwork:
    """Weights, moments and the exponential moving average of the weights; every process has its part of each.

    Args:
        network: Its parameters are those that move.
        settings: Of the optimizer.
        rate: Its learning rate, as a multiple of theirs.
        average: A network whose weights are the average; it begins as `network` does.

    Attributes:
        network: Of the weights as they are.
        updates: How often they moved.
    """

    def __init__(
        self, network: nn.Module, settings: OptimizerSettings, *, rate: float = 1.0, average: nn.Module | None = None
    ) -> None:
        self.network, self.settings, self.updates, self._rate = network, settings, 0, rate
        self._weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self._average = {name: weight.detach().clone() for name, weight in self._weights.items()}
        if average is not None:
            self._average = {name: weight.detach() for name, weight in average.named_parameters()}
        self._optimizer = torch.optim.AdamW(
            self._weights.values(), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )
        for weight in self._weights.values():
            # What AdamW would make at its first step: there from the beginning, to be loaded into.
            zeros = {name: torch.zeros_like(weight) for name in _MOMENTS}
            self._optimizer.state[weight] = {"step": torch.zeros((), device=local(weight).device), **zeros}

    def clip_gradient(self) -> float:
        """Return the length of the gradient, which is cut to the longest allowed."""
        length = nn.utils.clip_grad_norm_(self._weights.values(), self.settings.clip)
        return float(whole(length))

    def update(self, step: int) -> None:
        """Move the weights along their gradient, forget it, and go on with the average."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * learning_rate(self.settings, step)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.updates += 1
        keep = min(self.settings.ema, self.updates / (self.updates + 10))
        with torch.no_grad():
            for name, weight in self._weights.items():
                local(self._average[name]).lerp_(local(weight), 1 - keep)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """Yield the network with the average in place of its weights."""
        self._swap()
        self.network.eval()
        try:
            with torch.no_grad():
                yield self.network
        finally:
            self._swap()
            self.network.train()

    def average(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the averaged weights with their names, one after another, whole; all processes must ask."""
        for name, tensor in self.network.state_dict().items():
            yield name, whole(self._average.get(name, tensor)).detach().cpu()

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return all that goes on from step to step, by names that begin with this one."""
        found = {f"weights.{name}.{key}": tensor for key, tensor in self.network.state_dict().items()}
        found |= self.averages(name)
        for key, weight in self._weights.items():
            state: dict[str, Any] = self._optimizer.state[weight]
            for moment in _MOMENTS:
                found[f"{moment}.{name}.{key}"] = state[moment]
        return found

    def averages(self, name: str) -> dict[str, Tensor]:
        """Return the averaged weights among them."""
        return {f"average.{name}.{key}": tensor for key, tensor in self._average.items()}

    def resumed(self, updates: int) -> None:
        """Count on from so many updates, when the tensors were loaded."""
        self.updates = updates
        for state in self._optimizer.state.values():
            state["step"].fill_(updates)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._weights.items():
            mine, other = local(weight), local(self._average[name])
            kept = mine.clone()
            mine.copy_(other)
            other.copy_(kept)


def learning_rate(settings: OptimizerSettings, step: int) -> float:
    """Return the learning rate of a step, from 0: a straight rise, then a cosine to 0 behind the last one.

    >>> settings = OptimizerSettings(steps=100, warmup=10, lr=1.0)
    >>> [round(learning_rate(settings, step), 3) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * (1 + math.cos(math.pi * done)) / 2
