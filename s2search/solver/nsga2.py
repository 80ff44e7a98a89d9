"""nsga2: evolution (optuna's NSGA-II) for scores that do not add up over layers, and a rival of the exact solvers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from typing_extensions import override

from s2search.errors import CheckError, InputError, require
from s2search.solver.base import Choice, Solution, Solver, unconstrained_bound
from s2search.solver.problem import FIXED_POINT, Problem
from s2search.solver.questions.infeasible import anything_fits, explain_infeasible

#: Called with (trials done, trials in all, what is known so far).
Progress = Callable[[int, int, str], None]
#: The score of a layout, a candidate per layer; it need not be a sum over layers. Larger is better.
LayoutScore = Callable[[tuple[int, ...]], float]


@dataclass(frozen=True, kw_only=True)
class Nsga2(Solver):
    """Evolves a population of layouts towards a better score, less latency and less memory; it proves nothing.

    The population starts from good layouts, children are repaired to keep every limit, and no layout is evaluated
    twice. The same seed gives the same answer, unless several processes search together. With `storage` the trials
    are kept in a database: repeating an interrupted search continues it, and other processes and machines with the
    same storage join it. `trials` counts the finished trials of all of them.
    Source: Deb et al., 2002 (NSGA-II), as optuna implements it.

    Args:
        trials: How many layouts are evaluated.
        population: How many layouts make a generation.
        seed: Seed of everything random.
        storage: A database for optuna, as an SQLAlchemy URL such as `sqlite:///search.db`; none by default.
        study: Name of the search in the storage; by default made from the problem's digest.
        progress: Called before the first trial and after every one.

    >>> import numpy as np
    >>> from s2search.testing.problems import random_problem
    >>> problem = random_problem(np.random.default_rng(0), layers=6, candidates=3)
    >>> solution = Nsga2(trials=60, population=20).solve(problem)
    >>> solution.latency_us <= problem.latency_budget_us, solution.score <= solution.upper_bound
    (True, True)
    """

    trials: int = 2000
    population: int = 100
    seed: int = 0
    storage: str | None = field(default=None, repr=False)  # may hold a password
    study: str | None = None
    progress: Progress = field(default=lambda done, total, label: None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("population", 2), ("seed", 0)):
            if (value := getattr(self, name)) < least:
                raise InputError(f"{name} of nsga2 is {value}", allowed=f"{least} or more", remedy="correct the option")

    def front(self, problem: Problem, *, score: LayoutScore | None = None) -> list[Solution]:
        """Return the layouts found that the problem admits and no other dominates, by rising score.

        A layout dominates another if it is better in score, latency or memory (the peak included) and as good in the
        others. The last layout is the best that was found.

        Args:
            problem: The search. Its own scores suggest layouts to begin with, even where `score` is given.
            score: A score of whole layouts, in place of the sum of the problem's; it is asked once per layout.

        Raises:
            InfeasibleError: No layout meets the budgets.
            CheckError: No layout was found, although there may be one; or the storage holds another search.
            MissingExtraError: optuna is not installed.
            InputError: The storage cannot be used, or the score is not a finite number.
        """
        require("optuna")
        from s2search.solver.nsga2_study import evolve

        if score is not None and self.storage is not None and self.study is None:
            raise InputError(
                "a score of whole layouts is given with a storage, and the search has no name",
                remedy="give study=..., a name that stands for this problem and this score",
            )
        grouped = problem.by_group()
        if not anything_fits(grouped):
            raise explain_infeasible(problem)
        size = problem.group_size
        found = evolve(self, grouped, None if score is None else lambda choice_G: score(_unfold(choice_G, size)))
        if not found:
            raise CheckError(
                f"no layout within the budgets and constraints was found in {self.trials:,} trials",
                remedy="give nsga2 more trials, or use --solver dynamic, which tells whether there is one",
            )
        bound = unconstrained_bound(grouped) / FIXED_POINT if score is None else math.inf
        return [self._solution(problem, _unfold(choice_G, size), value, bound) for choice_G, value in found]

    @override
    def _choose(self, problem: Problem) -> Choice:
        best = self.front(problem)[-1]
        return Choice(choice_L=best.choice_L, upper_bound=unconstrained_bound(problem))

    def _solution(self, problem: Problem, choice_L: tuple[int, ...], score: float, bound: float) -> Solution:
        price = problem.price(choice_L)
        return Solution(
            choice_L=choice_L,
            score=score,
            latency_us=price.latency_us,
            memory_bytes=price.memory_bytes,
            peak_bytes=price.peak_bytes,
            upper_bound=bound,
            optimal=score == bound,
            method=self.name,
        )


def _unfold(choice_G: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(c for c in choice_G for _ in range(size))
