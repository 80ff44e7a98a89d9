"""Why no layout keeps every constraint."""

from __future__ import annotations

from s2search.errors import InfeasibleError
from s2search.problem import UNLIMITED, Problem
from s2search.solver.infeasible import explain_infeasible


def explain_unmet(problem: Problem, *, tried: str = "layout") -> InfeasibleError:
    """Return the error for a problem without an answer: what its budgets lack, or which limits clash.

    Args:
        problem: The problem, its groups folded.
        tried: What was looked for, if not any layout.
    """
    error = explain_infeasible(problem.with_budgets_only())
    within_us = error.fields["fastest_within_memory_us"]
    if within_us is None or within_us > problem.latency_budget_us:
        return error
    names = ", ".join(resource.name for resource in problem.resources if resource.limit < UNLIMITED)
    return InfeasibleError(f"no {tried} keeps all limits: {names}", remedy="relax one of them", **error.fields)
