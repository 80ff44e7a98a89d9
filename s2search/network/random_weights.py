"""A model with random weights that need not be in memory all at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT, part_builders
from s2search.network.weight_file import write_tensors

if TYPE_CHECKING:
    from s2search.planner.plan import Plan

_LAST = "head.patch."  # of the weights


class RandomS2DiT(S2DiT):
    """A model on the meta device, whose random weights are drawn when it is saved: one part is in memory at a time.

    They are those that `S2DiT(config)` has after `torch.manual_seed(seed)`; with `silent`, the head's last layer is
    zero, so that its output is: the beginning of training a residual.
    """

    def __init__(self, config: ModelConfig, *, plan: Plan | None = None, seed: int = 0, silent: bool = False) -> None:
        with torch.device("meta"):
            super().__init__(config, plan=plan)
        self.seed, self.silent = seed, silent
        self.eval()

    def drawn(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights with their names, in the order in which they are drawn."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for part, build in part_builders(self.config).items():
                for name, tensor in build().state_dict().items():
                    quiet = self.silent and f"{part}.{name}".startswith(_LAST)
                    yield f"{part}.{name}", torch.zeros_like(tensor) if quiet else tensor

    def _save_weights(self, path: Path, metadata: dict[str, str]) -> None:
        write_tensors(path, self.state_dict(), self.drawn(), metadata)
