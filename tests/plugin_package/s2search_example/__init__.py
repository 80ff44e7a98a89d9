"""A third party's plugins: a score and a solver here, a block in `shift`, an exporter in `listing`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.score.base import Score
from s2search.solver.base import Choice, Solver, unconstrained_bound
from s2search.solver.problem import Problem
from s2search.space import Space


@dataclass(frozen=True, kw_only=True)
class PreferEarly(Score):
    """Likes the first candidate early."""

    name = "prefer_early"
    statement = "made up: the first candidate, the earlier the better"
    digest = "sha256:none"

    def score_LC(self, space: Space) -> NDArray[np.float64]:
        score_LC = np.zeros((space.depth, len(space.candidates)))
        score_LC[:, 0] = np.linspace(1.0, 0.1, space.depth)
        return score_LC


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
