"""Random search problems, for tests, benchmarks and the conformance suite of solvers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from s2search.problem import Int, Problem

Costs = Literal["identical", "noisy", "random"]


def random_problem(
    rng: np.random.Generator,
    *,
    layers: int,
    candidates: int,
    costs: Costs = "random",
    tightness: float = 0.5,
    peaks: bool = True,
    switches: bool = True,
) -> Problem:
    """Return a problem with plausible costs, in which faster and smaller candidates score lower on average.

    Args:
        rng: Source of randomness.
        layers: How many layers.
        candidates: How many candidates.
        costs: Whether all layers cost and score the same, differ by 5 %, or have nothing in common.
        tightness: Where the budgets lie between the least (0) and the most (1) that layouts cost.
        peaks: Whether candidates have activation peaks.
        switches: Whether changing the stream costs time.
    """
    shape = (layers if costs == "random" else 1, candidates)
    quality = rng.uniform(0.5, 1.5, shape)
    score_LC, latency_LC, memory_LC = (
        _per_layer(rng, values, layers, costs)
        for values in (
            quality,
            1e3 * quality * rng.uniform(0.5, 1.5, shape),
            1e6 * quality * rng.uniform(0.5, 1.5, shape),
        )
    )
    latency_us_LC, memory_bytes_LC = np.rint(latency_LC).astype(np.int64), np.rint(memory_LC).astype(np.int64)
    peak_bytes_LC = np.repeat(rng.integers(0, 4, shape), layers // shape[0], axis=0) * (500_000 if peaks else 0)
    return Problem(
        score_LC=score_LC,
        latency_us_LC=latency_us_LC,
        memory_bytes_LC=memory_bytes_LC,
        peak_bytes_LC=peak_bytes_LC,
        allowed_LC=np.ones((layers, candidates), np.bool_),
        stream_C=np.arange(candidates) % 2,
        switch_us_SS=np.array([[0, 100], [150, 0]]) * int(switches),
        fixed_us=50,
        fixed_bytes=1000,
        latency_budget_us=_between(latency_us_LC, tightness) + 300 * int(switches),
        memory_budget_bytes=_between(memory_bytes_LC, tightness) + int(peak_bytes_LC.max()),
    )


def _per_layer(rng: np.random.Generator, values: NDArray[np.float64], layers: int, costs: Costs) -> NDArray[np.float64]:
    repeated = np.repeat(values, layers // len(values), axis=0)
    return repeated * rng.uniform(0.95, 1.05, repeated.shape) if costs == "noisy" else repeated


def _between(cost_LC: Int, tightness: float) -> int:
    least, most = int(cost_LC.min(axis=1).sum()), int(cost_LC.max(axis=1).sum())
    return least + round(tightness * (most - least))
