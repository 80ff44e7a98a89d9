"""Threshold: how far something must change before a better layout fits. Exact, with any exact solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s2search.errors import ProblemError
from s2search.solver.base import Solution, Solver
from s2search.solver.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The least change at which a layout fits that scores more, and the best layout there."""

    change: int
    solution: Solution


def first_better(
    pose: Callable[[int], Problem], best: Solution, solver: Solver, *, same: int, reach: int
) -> Threshold | None:
    """Return the least change at which some layout scores more than the best one so far; None where none does.

    The search halves the bracket. Every layout found on the way moves the bracket's end to where that layout begins to
    fit, which costs no search, and every other trial is just below that end: where the front has few steps, it ends
    the search at once.

    Args:
        pose: The search after a change of so much. What it admits, it must admit after larger changes too, and scores
            must not depend on the change.
        best: The optimum without a change.
        solver: An exact solver.
        same: A change for which `best` is known to be the best, such as 0.
        reach: The largest change to look at.

    Raises:
        ProblemError: The solver does not prove its answers.
    """
    found, better = proven(solver, pose(reach)), reach
    if found.score <= best.score:
        return None
    halve = True
    while True:
        choice_L = found.choice_L
        better = first(lambda change: pose(change).admits(choice_L), same, better)  # noqa: B023
        if better - same == 1:
            return Threshold(change=better, solution=found)
        tried = (same + better) // 2 if halve else better - 1
        halve = not halve
        there = proven(solver, pose(tried))
        if there.score > best.score:
            better, found = tried, there
        else:
            same = tried


def first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the least change above `low` from which on something holds, as it is known to at `high`; by bisection."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def proven(solver: Solver, problem: Problem) -> Solution:
    """Return the optimum.

    Raises:
        ProblemError: The solver does not prove that it is one.
        InfeasibleError: No layout fits.
    """
    return _with_its_proof(solver.solve(problem))


def proven_if_any(solver: Solver, problem: Problem) -> Solution | None:
    """Return the optimum, or None where no layout fits.

    Raises:
        ProblemError: The solver does not prove that it is one.
    """
    solution = solver.best(problem)
    return None if solution is None else _with_its_proof(solution)


def _with_its_proof(solution: Solution) -> Solution:
    if not solution.optimal:
        raise ProblemError(
            f"{solution.method} does not prove its layouts optimal, so nothing exact can be said about others",
            remedy="use an exact solver, such as --solver dynamic",
        )
    return solution
