"""What a run would cost: two steps of it, measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from s2search.document import Document
from s2search.training.parallel import local
from s2search.training.settings import RunSettings

if TYPE_CHECKING:
    from s2search.training.engine import Engine

_BYTES = {"weights": 4, "gradients": 4, "moments": 8, "average": 4}  # of a parameter, in float32


@dataclass(frozen=True, kw_only=True)
class RunEstimate(Document):
    """What a run would cost.

    Attributes:
        settings: All of them.
        parameters: Of the networks that move.
        memory_bytes: Of one process, by what takes it: weights, gradients, moments, average, what layers keep for the
            backward pass at its most, and weights that do not move: a frozen copy of the model, a teacher.
        step_s: Seconds of a step, the shorter of two.
        run_s: Seconds of all steps.
    """

    schema: Literal["s2search.training_estimate/1"] = "s2search.training_estimate/1"
    settings: RunSettings
    parameters: int
    memory_bytes: dict[str, int]
    step_s: float
    run_s: float


def estimated(engine: Engine) -> RunEstimate:
    """Run two steps, keep nothing, and return what they took."""
    networks, moved = engine.started()
    parameters = sum(p.numel() for name in moved for p in networks[name].parameters())
    took_s = []
    weights = {local(p).untyped_storage().data_ptr() for network in networks.values() for p in network.parameters()}
    with _kept(weights) as kept:
        for number in range(2):
            begun_s = time.perf_counter()
            engine.step(networks, moved, number)
            took_s.append(time.perf_counter() - begun_s)
    memory = {name: size * parameters // engine.where.count for name, size in _BYTES.items()}
    step_s = min(took_s)
    given = engine.trainer.networks(engine.run).items()
    answering = [networks[name] for name, one in given if not one.trained and not one.average_of]
    still = sum(p.numel() * p.element_size() for one in answering for p in one.parameters())
    memory |= {
        "kept for backward": kept[0],
        "weights that do not move": still // engine.where.count + engine.trainer.answering_bytes(engine.run),
    }
    return RunEstimate(
        settings=engine.run.settings,
        parameters=parameters,
        memory_bytes=memory,
        step_s=step_s,
        run_s=step_s * engine.run.settings.optimizer.steps,
    )


@contextmanager
def _kept(weights: set[int]) -> Iterator[list[int]]:
    """Yield the most bytes, in one place, that the graph of a step kept at once, without those of the weights.

    A memory that two tensors share counts once.
    """
    most, now, users = [0], [0], dict[int, int]()

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            storage = tensor.untyped_storage()
            self.tensor, self.place, self.size = tensor, storage.data_ptr(), storage.nbytes()
            if self.place in weights:
                self.size = 0
            now[0] += 0 if self.place in users else self.size
            users[self.place] = users.get(self.place, 0) + 1
            most[0] = max(most[0], now[0])

        def __del__(self) -> None:
            users[self.place] -= 1
            if not users[self.place]:
                del users[self.place]
                now[0] -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield most
