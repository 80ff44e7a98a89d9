"""How many threads a model runs fastest with, here and now, by a short trial.

More threads than free cores wait for each other at every operation, so on a busy machine a small model is tens of times
slower with all cores than with one. Which holds cannot be told from the number of cores.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from s2search.network.network import S2DiT

_LARGEST_TRIAL = 2e10  # floating-point operations of a pass: about a second of one core
_REPETITIONS = 3
_HOPELESS, _HOPELESS_MS = 3, 500  # a first call so many times, and so much, slower than the best so far ends its trial


def fastest_threads(
    run: Callable[[], Any], most: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Return the median milliseconds of a call by the number of threads, the fastest first.

    Args:
        run: The call; torch's threads are changed around it, and left changed.
        most: Tried, and its halves down to 1, beginning with 1.
        clock: Seconds.

    >>> sorted(fastest_threads(lambda: None, 4))
    [1, 2, 4]
    """

    def call_ms() -> float:
        start = clock()
        run()
        return 1000 * (clock() - start)

    found: dict[int, float] = {}
    for count in _halves(most):
        torch.set_num_threads(count)
        first, best = call_ms(), min(found.values(), default=math.inf)  # it starts the threads
        hopeless = first > max(_HOPELESS * best, best + _HOPELESS_MS)
        found[count] = first if hopeless else statistics.median(call_ms() for _ in range(_REPETITIONS))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _halves(most: int) -> list[int]:
    return [*(_halves(most // 2) if most > 1 else ()), most]


def is_small(model: S2DiT, grid: tuple[int, int]) -> bool:
    """Return whether passes over a chunk are short enough to try some."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return 2 * parameters * model.config.preset.chunk_frames * grid[0] * grid[1] <= _LARGEST_TRIAL


@torch.no_grad()
def one_pass(model: S2DiT, grid: tuple[int, int]) -> Callable[[], Any]:
    """Return a call that reads one chunk at the start of a stream."""
    preset, weight = model.config.preset, next(model.parameters())
    x_BCTYX = torch.zeros(
        1, model.config.latent_channels, preset.chunk_frames, 2 * grid[0], 2 * grid[1], dtype=weight.dtype
    )
    text_BSE = torch.zeros(1, preset.text_tokens, preset.text_channels, dtype=weight.dtype)
    state, s_BT = model.initial_state(1, grid), torch.ones(1, 1)

    def run() -> Any:
        with torch.no_grad():
            return model(x_BCTYX, s_BT, text_BSE, state)

    return run
