"""Random search problems, for tests, benchmarks and the conformance suite of solvers."""

from __future__ import annotations

import numpy as np

from s2search.problem import Int, Problem


def random_problem(
    rng: np.random.Generator,
    *,
    layers: int,
    candidates: int,
    identical_layers: bool = False,
    tightness: float = 0.5,
    peaks: bool = True,
    switches: bool = True,
) -> Problem:
    """Return a problem with plausible costs, in which faster and smaller candidates score lower on average.

    Args:
        rng: Source of randomness.
        layers: How many layers.
        candidates: How many candidates.
        identical_layers: Whether costs and scores are the same at every layer.
        tightness: Where the budgets lie between the least (0) and the most (1) that layouts cost.
        peaks: Whether candidates have activation peaks.
        switches: Whether changing the stream costs time.
    """
    shape = (1 if identical_layers else layers, candidates)
    quality = rng.uniform(0.5, 1.5, shape)
    latency = np.rint(1000 * quality * rng.uniform(0.5, 1.5, shape)).astype(np.int64)
    memory = np.rint(1e6 * quality * rng.uniform(0.5, 1.5, shape)).astype(np.int64)
    peak = rng.integers(0, 4, shape) * (500_000 if peaks else 0)
    copies = layers // shape[0]
    return Problem(
        score_LC=np.repeat(quality, copies, axis=0),
        latency_us_LC=np.repeat(latency, copies, axis=0),
        memory_bytes_LC=np.repeat(memory, copies, axis=0),
        peak_bytes_LC=np.repeat(peak, copies, axis=0),
        allowed_LC=np.ones((layers, candidates), np.bool_),
        stream_C=np.arange(candidates) % 2,
        switch_us_SS=np.array([[0, 100], [150, 0]]) * int(switches),
        fixed_us=50,
        fixed_bytes=1000,
        latency_budget_us=_between(latency, copies, tightness) + 300 * int(switches),
        memory_budget_bytes=_between(memory, copies, tightness) + int(peak.max()),
    )


def _between(cost_LC: Int, copies: int, tightness: float) -> int:
    least, most = copies * int(cost_LC.min(axis=1).sum()), copies * int(cost_LC.max(axis=1).sum())
    return least + round(tightness * (most - least))
