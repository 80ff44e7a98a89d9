"""The model that a run leaves, written while its weights come from the processes that keep them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT
from s2search.network.weight_file import write_tensors
from s2search.training.run_folder import MODEL

if TYPE_CHECKING:
    from s2search.planner.plan import Plan


def write_model(
    config: ModelConfig, plan: Plan | None, tensors: Iterable[tuple[str, Tensor]], folder: Path | None
) -> None:
    """Write a model as save_pretrained does; one tensor is in memory at a time.

    Args:
        config: Of the model.
        plan: Behind it.
        tensors: Its weights with their names, in any order.
        folder: Of the run; without one the tensors are only read.
    """
    if folder is None:
        for _ in tensors:
            pass
        return
    _Written(config, plan=plan, tensors=tensors).save_pretrained(folder / MODEL)


class _Written(S2DiT):
    """A model on the meta device whose weights come one after another as it is saved."""

    def __init__(self, config: ModelConfig, *, plan: Plan | None, tensors: Iterable[tuple[str, Tensor]]) -> None:
        with torch.device("meta"):
            super().__init__(config, plan=plan)
        self._tensors = tensors

    def _save_weights(self, path: Path, metadata: dict[str, str]) -> None:
        write_tensors(path, self.state_dict(), self._tensors, metadata)
