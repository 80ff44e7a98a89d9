"""allocation: the paper's first stage, which fills the budgets and knows no score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from s2search.errors import InfeasibleError, ProblemError
from s2search.solver.base import Choice, Solver, unconstrained_bound
from s2search.solver.problem import UNLIMITED, Price, Problem
from s2search.space import interleave


@dataclass(frozen=True, kw_only=True)
class Allocation(Solver):
    """Chooses how many layers each type gets so that (latency, memory) comes closest to the budgets.

    Closeness is the Euclidean distance of (L / L_max, M / M_max) to (1, 1); without a memory budget only latency
    counts. The layers are then interleaved evenly, and counts whose interleaving breaks a constraint are passed over.
    Costs and constraints must not depend on the layer.
    Source: S2DiT (Zhao et al., 2026), section 3, stage 1; the distance and the interleaving are our reading.
    """

    limit: int = 2_000_000

    @override
    def _choose(self, problem: Problem) -> Choice:
        self._check(problem)
        layers, candidates = problem.score_LC.shape
        best: tuple[float, tuple[int, ...]] | None = None
        for counts_C in _compositions(layers, candidates):
            choice_L = interleave(counts_C, problem.stream_C.tolist())
            distance = _distance(problem, problem.price(choice_L))
            if problem.admits(choice_L) and (best is None or distance < best[0]):
                best = (distance, choice_L)
        if best is None:
            raise InfeasibleError(
                "no evenly interleaved layout meets what is asked",
                remedy="use --solver dynamic, which tries every order",
            )
        return Choice(choice_L=best[1], upper_bound=unconstrained_bound(problem))

    def _check(self, problem: Problem) -> None:
        layers, candidates = problem.score_LC.shape
        for resource in problem.resources:
            if (resource.use_LC != resource.use_LC[0]).any() or (resource.peak_LC != resource.peak_LC[0]).any():
                raise ProblemError(
                    f"{resource.name} depends on the layer, and allocation only counts", remedy="use --solver dynamic"
                )
        if (count := math.comb(layers + candidates - 1, candidates - 1)) > self.limit:
            raise ProblemError(
                f"allocation would try {count:,} counts, more than {self.limit:,}", remedy="use --solver dynamic"
            )


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write a total as an ordered sum of counts."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _distance(problem: Problem, price: Price) -> float:
    """Return how far a price is from both budgets, in units of the budgets."""
    spent = np.array([price.latency_us, price.total_bytes], np.float64)
    budgets = np.array([problem.latency_budget_us, problem.memory_budget_bytes])
    return float(np.linalg.norm((1 - spent / np.maximum(budgets, 1))[budgets < UNLIMITED]))
