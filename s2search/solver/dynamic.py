"""dynamic: the exact solver, a label-setting dynamic program over (layer, stream)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s2search.problem import Problem
from s2search.solver.base import Choice, Solver, unconstrained_bound
from s2search.solver.infeasible import explain_infeasible
from s2search.solver.labels import memory_binds, peak_levels, sweep


@dataclass(frozen=True, kw_only=True)
class Dynamic(Solver):
    """Exact: keeps every undominated (latency, memory, score) per stream, one sweep per activation peak that can win.

    Among layouts of the best score it takes the fastest; the answer does not depend on the platform.

    >>> from s2search.testing.problems import random_problem
    >>> problem = random_problem(np.random.default_rng(0), layers=6, candidates=3)
    >>> solution = Dynamic().solve(problem)
    >>> solution.optimal, solution.latency_us <= problem.latency_budget_us
    (True, True)
    """

    def _choose(self, problem: Problem) -> Choice:
        """Return the optimum; see the base class."""
        best_rank: tuple[int, int] | None = None
        best_layout: tuple[int, ...] = ()
        for _, limited in peak_levels(problem):
            if best_rank is not None and unconstrained_bound(limited) < best_rank[0]:
                break  # lower peaks leave still fewer choices
            swept = sweep(limited)
            for n in np.lexsort((swept.final.latency_N, -swept.final.score_N))[:1]:
                rank = (int(swept.final.score_N[n]), -int(swept.final.latency_N[n]))
                if best_rank is None or rank > best_rank:
                    best_rank, best_layout = rank, swept.layout(n)
            if not memory_binds(limited):
                break  # every layout of a lower peak was among these
        if best_rank is None:
            raise explain_infeasible(problem)
        return Choice(choice_L=best_layout, upper_bound=best_rank[0])
