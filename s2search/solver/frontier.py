"""The latency-score front: the best score for every latency, at one memory budget."""

from __future__ import annotations

import dataclasses

import numpy as np

from s2search.problem import UNLIMITED, Problem
from s2search.solver.base import Solution, Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.infeasible import smallest_relaxations


def frontier(
    problem: Problem, *, latency_budgets_us: list[int] | None = None, points: int = 40, solver: Solver | None = None
) -> list[Solution]:
    """Return layouts of rising latency and score, none dominated by another, one solve per latency budget.

    Args:
        problem: The search; its memory budget holds, its latency budget is replaced by each of the sweep's.
        latency_budgets_us: The budgets to try; by default `points` of them, evenly spaced from the fastest layout to
            the best one.
        points: How many, where no budgets are given.
        solver: An exact solver; `Dynamic` by default.

    Raises:
        InfeasibleError: No layout fits the memory budget, or none of the given latency budgets.
    """
    solver = solver or Dynamic()
    best = solver.solve(dataclasses.replace(problem, latency_budget_us=UNLIMITED))
    limited = dataclasses.replace(problem, latency_budget_us=best.latency_us)
    fastest_us = smallest_relaxations(limited)["latency"].needed
    if latency_budgets_us is None:
        latency_budgets_us = [int(b) for b in np.linspace(fastest_us, best.latency_us, points)]
    possible = [budget for budget in latency_budgets_us if budget >= fastest_us] or latency_budgets_us[-1:]
    found = [solver.solve(dataclasses.replace(problem, latency_budget_us=budget)) for budget in possible]
    return _front(found)


def _front(solutions: list[Solution]) -> list[Solution]:
    """Keep the solutions that no other dominates, by rising latency."""
    front: list[Solution] = []
    for solution in sorted(solutions, key=lambda s: (s.latency_us, -s.score)):
        if not front or solution.score > front[-1].score:
            front.append(solution)
    return front
