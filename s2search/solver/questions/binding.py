"""Which of several devices holds the score down: its budgets are lifted, and the problem is solved again."""

from __future__ import annotations

import dataclasses

from s2search.solver.base import Solver
from s2search.solver.problem import UNLIMITED, Problem


def scores_without_budgets(problem: Problem, solver: Solver) -> tuple[float, ...]:
    """Return the best score if one device had no budgets and all others kept theirs: the problem's own device first.

    A device binds where that score is higher than the best one within all budgets. Empty where the solver did not prove
    one of them.
    """
    unlimited = {"latency_budget_us": UNLIMITED, "memory_budget_bytes": UNLIMITED}
    relaxed = [dataclasses.replace(problem, **unlimited)]  # type: ignore[arg-type]
    for i, device in enumerate(problem.devices):
        freed = dataclasses.replace(device, **unlimited)  # type: ignore[arg-type]
        devices = (*problem.devices[:i], freed, *problem.devices[i + 1 :])
        relaxed.append(dataclasses.replace(problem, devices=devices))
    found = [solver.solve(one) for one in relaxed]
    return tuple(one.score for one in found) if all(one.optimal for one in found) else ()
