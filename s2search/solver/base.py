"""The contract of a solver.

A solver is a frozen keyword-only dataclass; its fields are its configuration. `solve` is given a problem and returns a
layout that the problem admits, or raises `InfeasibleError`; it never returns an empty answer. A family member writes
`_choose` for a problem whose groups are already folded into single layers (`group_size` 1), and returns None where no
layout fits; `solve` explains why, or unfolds the answer, recomputes every number from the layout by `Problem.price`,
and raises `CheckError` if the layout breaks a limit. A solver that takes long may have a field `progress`, which the
command line sets: a function of (done, total, label). One that can stop early, and then answers with the best layout
found and the bound proven so far, has a field `time_limit_s`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from s2search.errors import CheckError, InfeasibleError, InputError
from s2search.registry import Plugin
from s2search.solver.problem import FIXED_POINT, Problem
from s2search.solver.questions.infeasible import explain_infeasible


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a family member answers: a candidate per layer, and a proven bound on any layout's score (fixed-point).

    `method` says so where the answer came by another way than the solver's own.
    """

    choice_L: tuple[int, ...]
    upper_bound: int
    method: str = ""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A layout with its recomputed costs.

    `score` and `upper_bound` are in the score's unit; `optimal` says that the bound proves no layout scores higher.
    `memory_bytes` includes the fixed bytes but not the peak. `method` says how it was found.
    """

    choice_L: tuple[int, ...]
    score: float
    latency_us: int
    memory_bytes: int
    peak_bytes: int
    upper_bound: float
    optimal: bool
    method: str


class Solver(Plugin, ABC):
    """Finds the best layout that a problem admits."""

    def solve(self, problem: Problem) -> Solution:
        """Return the best layout found, with its recomputed costs and a proven upper bound.

        Raises:
            InfeasibleError: No layout meets the budgets; the message says which binds and what would do.
            CheckError: The solver returned a layout that the problem does not admit (a bug in the solver).
        """
        answer = self._choose(problem.by_group())
        if answer is None:
            error = explain_infeasible(problem)
            self._check_nothing_fits(problem, error.fields["nearest_L"])
            raise error
        return self._checked(problem, answer)

    def best(self, problem: Problem) -> Solution | None:
        """Return what `solve` does, or None where no layout fits: to say why takes searches of its own.

        Raises:
            CheckError: As `solve`.
        """
        try:
            answer = self._choose(problem.by_group())
        except InfeasibleError:  # of a solver that has a reason of its own
            return None
        return None if answer is None else self._checked(problem, answer)

    def _check_nothing_fits(self, problem: Problem, nearest_L: tuple[int, ...] | None) -> None:
        """Raise if the layout that a relaxation lets in fits without it."""
        if nearest_L is not None:
            repeats = len(problem.score_LC) // len(nearest_L)
            if problem.admits(tuple(c for c in nearest_L for _ in range(repeats))):
                raise CheckError(
                    f"the solver {self.name!r} says that no layout fits, and one of "
                    f"{problem.price(tuple(c for c in nearest_L for _ in range(repeats))).latency_us} us does",
                    remedy="choose another solver, and report this as a bug of this one",
                )

    def _checked(self, problem: Problem, answer: Choice) -> Solution:
        choice_L = tuple(c for c in answer.choice_L for _ in range(problem.group_size))
        layers, candidates = problem.score_LC.shape
        if len(choice_L) != layers or not all(0 <= c < candidates for c in choice_L):
            raise CheckError(
                f"the solver {self.name!r} chose {len(choice_L)} layers of candidates {sorted(set(choice_L))[:9]}",
                allowed=f"{layers} layers of candidates 0 to {candidates - 1}",
                remedy="report this as a bug of the solver",
            )
        price = problem.price(choice_L)
        if price.fixed_point_score > answer.upper_bound:
            raise CheckError(
                f"the solver {self.name!r} chose a layout of score {price.score} and claims that none scores above "
                f"{answer.upper_bound / FIXED_POINT}",
                remedy="report this as a bug of the solver",
            )
        if not problem.admits(choice_L):
            raise CheckError(
                f"the solver {self.name!r} chose a layout of {price.latency_us} us and {price.total_bytes} bytes, "
                f"outside the budgets {problem.latency_budget_us} us and {problem.memory_budget_bytes} bytes",
                remedy="report this as a bug of the solver",
            )
        return Solution(
            choice_L=choice_L,
            score=price.score,
            latency_us=price.latency_us,
            memory_bytes=price.memory_bytes,
            peak_bytes=price.peak_bytes,
            upper_bound=answer.upper_bound / FIXED_POINT,
            optimal=price.fixed_point_score == answer.upper_bound,
            method=answer.method or self.name,
        )

    @abstractmethod
    def _choose(self, problem: Problem) -> Choice | None:
        """Answer a problem whose `group_size` is 1; None where no layout fits."""


def check_time_limit(time_limit_s: float | None) -> None:
    """Raise unless a search may take so long."""
    if time_limit_s is not None and not 0 < time_limit_s < math.inf:
        raise InputError(
            f"the time limit of a search is {time_limit_s:g} s", allowed="more than 0 s", remedy="give one such as 10s"
        )


def unconstrained_bound(problem: Problem) -> int:
    """Return the score (fixed-point) of the best allowed candidate, and pair, at every layer: no layout scores more."""
    worst = problem.fixed_point_score_LC.min() - 1
    best_L = problem.fixed_point_score_LC.max(axis=1, where=problem.allowed_LC, initial=worst)
    pair_LCC = problem.fixed_point_pair_LCC
    return int(best_L.sum()) + (0 if pair_LCC is None else int(pair_LCC.max(axis=(1, 2)).sum()))
