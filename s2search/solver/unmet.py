"""Why no layout keeps every constraint."""

from __future__ import annotations

from s2search.errors import InfeasibleError
from s2search.problem import Problem
from s2search.solver.infeasible import explain_infeasible


def explain_unmet(problem: Problem) -> InfeasibleError:
    """Return the error for a problem without an answer: what its budgets alone would need, or which constraints it has.

    Constraints are named where the budgets alone leave a layout: together they rule out all of them.
    """
    _, _, *others = problem.resources
    error = explain_infeasible(problem.with_budgets_only())
    within_us = error.fields["fastest_within_memory_us"]
    if not others or within_us is None or within_us > problem.latency_budget_us:
        return error
    names = ", ".join(dict.fromkeys(resource.name for resource in others))
    return InfeasibleError(
        f"no layout within the budgets keeps every constraint: {names}", remedy="relax one of them", **error.fields
    )
