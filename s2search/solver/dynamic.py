"""dynamic: the exact solver, label-setting from both ends of the network with Lagrangian bounds."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from dataclasses import dataclass

from typing_extensions import override

from s2search.errors import CheckError
from s2search.solver.base import Choice, Solver, check_time_limit
from s2search.solver.exact.graph import Graph
from s2search.solver.exact.search import MOST_IN_ALL, MOST_LABELS, Answer, search
from s2search.solver.problem import Problem

_MOST_FASTER = 1024
_TO_FIT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Dynamic(Solver):
    """Exact: sweeps the layers with few labels, then with more, until bounds prove that nothing better was cut.

    Among layouts of the best score it prefers the faster, as far as labels tell them apart. Beyond `most_labels` in a
    layer, or two million in all, the problem is handed over to HiGHS for at most `hand_over_s` seconds, and the
    answer's `method` says so. What neither settles, or not within `time_limit_s` seconds, is answered by the best
    layout found and a proven bound on all others.

    >>> import numpy as np
    >>> from s2search.testing.problems import random_problem
    >>> problem = random_problem(np.random.default_rng(0), layers=6, candidates=3)
    >>> solution = Dynamic().solve(problem)
    >>> solution.optimal, solution.latency_us <= problem.latency_budget_us, solution.method
    (True, True, 'dynamic')
    """

    most_labels: int = MOST_LABELS
    hand_over_s: float = 30.0
    time_limit_s: float | None = None

    def __post_init__(self) -> None:
        check_time_limit(self.time_limit_s)

    @override
    def _choose(self, problem: Problem) -> Choice | None:
        deadline = math.inf if self.time_limit_s is None else time.monotonic() + self.time_limit_s
        graph, limit_R = Graph.of(problem)
        (answer,) = search(
            graph,
            limit_R[None],
            most_labels=self.most_labels,
            most_in_all=MOST_IN_ALL,
            fits=functools.partial(_may_fit, problem),
            deadline=deadline,
        )
        if not answer.settled:
            return self._hand_over(problem, answer, deadline)
        if answer.layout is None:
            return None
        layout = _fastest(problem, answer.layout, deadline) if answer.tied else answer.layout
        return Choice(choice_L=layout, upper_bound=answer.bound)

    def _hand_over(self, problem: Problem, answer: Answer, deadline: float) -> Choice | None:
        from s2search.solver.exact.program import least

        late = min(deadline, time.monotonic() + self.hand_over_s)
        found = least(problem, problem.score_lost(), deadline=late, known=answer.layout)
        if found.proven:
            if found.layout is None:
                return None
            method = (
                f"milp, handed over by dynamic after {self.most_labels:,} labels in a layer or {MOST_IN_ALL:,} in all"
            )
            score = problem.price(found.layout).fixed_point_score
            return Choice(choice_L=_fastest(problem, found.layout, deadline), upper_bound=score, method=method)
        limit_s = self.time_limit_s if time.monotonic() >= deadline else self.hand_over_s
        if found.layout is None:
            raise CheckError(
                f"no layout was found in {limit_s:g} s, and none is proven to be impossible",
                remedy="give the search more time (--time-limit, or a larger hand_over_s of dynamic)",
            )
        score = problem.price(found.layout).fixed_point_score
        method = f"the best that dynamic and milp found in {limit_s:g} s"
        return Choice(choice_L=found.layout, upper_bound=max(answer.bound, score), method=method)


def _may_fit(problem: Problem) -> bool:
    """Ask HiGHS whether some layout keeps the limits; yes where it does not know in time."""
    from s2search.solver.exact.program import fits

    return fits(problem, deadline=time.monotonic() + _TO_FIT_S) is not False


def _fastest(problem: Problem, choice_L: tuple[int, ...], deadline: float) -> tuple[int, ...]:
    """Return a layout of at least the same score that is as fast as labels find: the score becomes one more limit."""
    lost = problem.score_lost(least_score=problem.price(choice_L).fixed_point_score)
    graph, limit_R = Graph.of(dataclasses.replace(problem, limits=(*problem.limits, lost)))
    graph = graph.minimizing(0, graph.allowed_LC)
    (answer,) = search(
        graph,
        limit_R[None],
        most_labels=_MOST_FASTER,
        above=graph.scored(choice_L),
        feasible=True,
        deadline=deadline,
    )
    return answer.layout or choice_L
