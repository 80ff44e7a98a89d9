"""greedy: a solver in one file. It proves nothing, and the conformance suite of solvers says so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s2search.solver.base import Choice, Solver, unconstrained_bound
from s2search.solver.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Greedy(Solver):
    """Improves the fastest layout one layer at a time."""

    def _choose(self, problem: Problem) -> Choice | None:
        choice = [int(c) for c in problem.latency_us_LC.argmin(axis=1)]
        if not problem.admits(choice):
            return None
        for layer in range(len(choice)):
            for c in np.argsort(-problem.score_LC[layer]):
                changed = [*choice[:layer], int(c), *choice[layer + 1 :]]
                if problem.admits(changed):
                    choice = changed
                    break
        return Choice(choice_L=tuple(choice), upper_bound=unconstrained_bound(problem))
