"""Random search problems, for tests, benchmarks and the conformance suite of solvers."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from s2search.solver.problem import FurtherDevice, Int, Problem, Resource

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


def with_random_constraints(rng: np.random.Generator, problem: Problem) -> Problem:
    """Return the problem with further constraints, each as likely as not; for about half of them no layout is left.

    Counts, at most n stream changes, a layout to resemble, a further device, a further limit, groups of two; and, which
    constrains nothing, scores of pairs.
    """
    layers, candidates = problem.score_LC.shape
    changes: dict[str, Any] = {}
    if rng.random() < 0.5:
        changes["counts"] = _counts(rng, layers, candidates)
    if rng.random() < 0.5:
        changes["max_switches"] = int(rng.integers(0, layers + 1))
    if rng.random() < 0.5:
        changes["reference_L"] = tuple(int(rng.integers(0, candidates)) for _ in range(layers))
        changes["max_changes"] = int(rng.integers(0, layers + 1))
    if rng.random() < 0.5:
        changes["devices"] = (_device(rng, problem),)
    if rng.random() < 0.5:
        use_LC = rng.integers(0, 10, (layers, candidates))
        changes["limits"] = (
            Resource(
                name="energy",
                use_LC=use_LC,
                switch_SS=rng.integers(0, 3, problem.switch_us_SS.shape),
                peak_LC=rng.integers(0, 5, (layers, candidates)),
                limit=_between(use_LC, rng.uniform(0.3, 1)) + layers,
                pair_LCC=rng.integers(0, 2, (layers, candidates, candidates)) if rng.random() < 0.5 else None,
            ),
        )
    if layers % 2 == 0 and rng.random() < 0.5:
        changes["group_size"] = 2
    if rng.random() < 0.5:
        changes["pair_score_LCC"] = random_pairs(rng, layers, candidates)
    return dataclasses.replace(problem, **changes)


def random_pairs(rng: np.random.Generator, layers: int, candidates: int) -> NDArray[np.float64]:
    """Return what pairs of candidates score on top, of the size of what candidates differ by; most of them nothing."""
    pair_LCC = rng.normal(0, 0.3, (layers, candidates, candidates)) * (rng.random((candidates, candidates)) < 0.4)
    pair_LCC[0] = 0
    return pair_LCC


def _counts(rng: np.random.Generator, layers: int, candidates: int) -> dict[int, int | tuple[int, int]]:
    """Return counts that some layout of so many layers keeps, exact or as ranges around it."""
    kept_C = np.bincount(rng.integers(0, candidates, layers), minlength=candidates).tolist()
    named = rng.permutation(candidates)[: rng.integers(1, candidates + 1)].tolist()
    return {
        c: kept_C[c] if rng.random() < 0.5 else (max(kept_C[c] - 1, 0), kept_C[c] + int(rng.integers(0, 2)))
        for c in named
    }


def _device(rng: np.random.Generator, problem: Problem) -> FurtherDevice:
    """Return a device whose costs differ from the problem's by up to half, with budgets from tight to loose."""
    latency_us_LC, memory_bytes_LC = (
        np.rint(values_LC * rng.uniform(0.5, 1.5, values_LC.shape)).astype(np.int64)
        for values_LC in (problem.latency_us_LC, problem.memory_bytes_LC)
    )
    return FurtherDevice(
        name="another",
        latency_us_LC=latency_us_LC,
        memory_bytes_LC=memory_bytes_LC,
        peak_bytes_LC=problem.peak_bytes_LC,
        switch_us_SS=2 * problem.switch_us_SS,
        fixed_us=70,
        fixed_bytes=2000,
        latency_budget_us=_between(latency_us_LC, rng.uniform(0.2, 1)) + 600,
        memory_budget_bytes=_between(memory_bytes_LC, rng.uniform(0.2, 1)) + int(problem.peak_bytes_LC.max()) + 2000,
    )


def _per_layer(rng: np.random.Generator, values: NDArray[np.float64], layers: int, costs: Costs) -> NDArray[np.float64]:
    repeated = np.repeat(values, layers // len(values), axis=0)
    return repeated * rng.uniform(0.95, 1.05, repeated.shape) if costs == "noisy" else repeated


def _between(cost_LC: Int, tightness: float) -> int:
    least, most = int(cost_LC.min(axis=1).sum()), int(cost_LC.max(axis=1).sum())
    return least + round(tightness * (most - least))
