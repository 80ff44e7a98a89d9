"""dynamic: the exact solver, label-setting from both ends of the network with Lagrangian bounds."""

from __future__ import annotations

from dataclasses import dataclass

from s2search.errors import CheckError, InfeasibleError
from s2search.problem import Problem
from s2search.solver.base import Choice, Solver
from s2search.solver.graph import Graph
from s2search.solver.search import ALL_LABELS, MOST_LABELS, MOST_PER_SWEEP, search


@dataclass(frozen=True, kw_only=True)
class Dynamic(Solver):
    """Exact: sweeps the layers with few labels, then with more, until bounds prove that nothing better was cut.

    Among layouts of the best score it prefers the faster. Beyond `most_labels` in a layer, or fewer in a deep network,
    the problem is handed over to HiGHS for at most `hand_over_s` seconds, and the answer's `method` says so.

    >>> import numpy as np
    >>> from s2search.testing.problems import random_problem
    >>> problem = random_problem(np.random.default_rng(0), layers=6, candidates=3)
    >>> solution = Dynamic().solve(problem)
    >>> solution.optimal, solution.latency_us <= problem.latency_budget_us, solution.method
    (True, True, 'dynamic')
    """

    most_labels: int = MOST_LABELS
    hand_over_s: float = 60.0

    def _choose(self, problem: Problem) -> Choice | None:
        """Return the optimum; see the base class."""
        graph, limit_R = Graph.of(problem)
        most = min(self.most_labels, max(MOST_PER_SWEEP // graph.layers, 1))
        (answer,) = search(graph, limit_R[None], most_labels=most)
        if not answer.settled:
            return self._hand_over(problem, most)
        if answer.layout is None:
            return None
        return Choice(choice_L=answer.layout, upper_bound=answer.bound)

    def _hand_over(self, problem: Problem, most: int) -> Choice | None:
        from s2search.solver.milp import Milp

        method = f"milp, handed over by dynamic after {most:,} labels in a layer"
        try:
            solution = Milp(time_limit_s=self.hand_over_s).solve(problem)
        except InfeasibleError:
            return None
        except CheckError:
            return self._without_end(problem)
        score = problem.price(solution.choice_L).fixed_point_score
        return Choice(choice_L=solution.choice_L, upper_bound=score, method=method)

    def _without_end(self, problem: Problem) -> Choice | None:
        """Search with all the labels that memory allows, where HiGHS found no answer in time."""
        graph, limit_R = Graph.of(problem)
        (answer,) = search(graph, limit_R[None], most_labels=max(self.most_labels, ALL_LABELS))
        if not answer.settled:
            raise CheckError(
                f"neither {ALL_LABELS:,} labels in a layer nor {self.hand_over_s:g} s of HiGHS settle this problem",
                remedy="give dynamic a larger hand_over_s, or constrain the problem further",
            )
        return None if answer.layout is None else Choice(choice_L=answer.layout, upper_bound=answer.bound)
