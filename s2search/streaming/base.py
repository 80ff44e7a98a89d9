"""What streams: a model that reads and commits a state. `S2DiT` is one, and so is whatever stands for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from s2search.block import Window
from s2search.network.config import ModelConfig
from s2search.network.network import LayerStates


class StreamingModel(Protocol):
    """The part of `S2DiT` that a stream uses; see there for shapes and meaning.

    No call changes the state that it is given. `parameters` tells device and number format by its first tensor.
    """

    config: ModelConfig

    def parameters(self) -> Iterator[Any]:
        """Yield the weights."""
        ...

    def weights_digest(self) -> str:
        """Return a hash of the weights: a saved state belongs to them, and goes on with no others."""
        ...

    def __call__(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates | None = None, /
    ) -> Tensor:
        """Read: return the velocity."""
        ...

    def commit(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates, /) -> LayerStates:
        """Return the state with this chunk added."""
        ...

    def advance(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates, /
    ) -> tuple[Tensor, LayerStates]:
        """Read and commit in one pass."""
        ...

    def initial_state(
        self,
        batch: int,
        grid: tuple[int, int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        *,
        window: Window | None = None,
    ) -> LayerStates:
        """Return a state that remembers nothing yet."""
        ...
