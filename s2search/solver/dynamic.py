"""dynamic: the exact solver, a label-setting dynamic program over (layer, stream) with Lagrangian bounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from s2search.problem import Problem
from s2search.solver.base import Choice, Solver
from s2search.solver.dual import lagrangian_dual
from s2search.solver.infeasible import explain_infeasible, fastest_within_memory_us
from s2search.solver.labels import NOTHING, Rank, Sweep, peak_levels, sweep, within_peaks
from s2search.solver.symmetry import break_symmetry

_FIRST_WIDTH, _WIDER = 64, 8


@dataclass(frozen=True, kw_only=True)
class Dynamic(Solver):
    """Exact: sweeps the layers with few labels, then with more, until bounds prove that nothing better was cut.

    Among layouts of the best score it prefers the faster. Activation peaks are searched in spans: the relaxation of a
    whole span (peaks up to its highest level, memory left by its lowest) is swept first, and the span is halved only
    where that does not settle it. Beyond `most_labels` in a layer the problem is handed over to HiGHS, and the answer's
    `method` says so.

    >>> import numpy as np
    >>> from s2search.testing.problems import random_problem
    >>> problem = random_problem(np.random.default_rng(0), layers=6, candidates=3)
    >>> solution = Dynamic().solve(problem)
    >>> solution.optimal, solution.latency_us <= problem.latency_budget_us, solution.method
    (True, True, 'dynamic')
    """

    most_labels: int = 262_144

    def _choose(self, problem: Problem) -> Choice:
        """Return the optimum; see the base class."""
        best = _Best(problem)
        levels = peak_levels(problem)
        spans = [(0, len(levels) - 1)] if levels else []
        while spans:
            low, high = spans.pop()
            relaxed = within_peaks(problem, levels[low], levels[high])
            if relaxed is None or self._settles(break_symmetry(relaxed), best, widen=low == high):
                continue
            if low == high:
                return self._hand_over(problem)
            middle = (low + high) // 2
            spans += [(low, middle), (middle + 1, high)]
        if best.layout is None:
            raise explain_infeasible(problem)
        return Choice(choice_L=best.layout, upper_bound=best.rank[0])

    def _settles(self, relaxed: Problem, best: _Best, *, widen: bool) -> bool:
        """Improve the best layout from one span of peaks; tell whether nothing better can be left in it."""
        dual = lagrangian_dual(relaxed)
        width = _FIRST_WIDTH
        while width <= self.most_labels:
            found = sweep(relaxed, dual, width=width, best=best.rank)
            admitted = best.improve(found)
            if best.layout is None and found.cut > NOTHING[0] and best.nothing_fits:
                return True  # without a layout no bound drops a label: wider sweeps would only cost time
            if admitted and found.cut <= best.rank[0]:
                return True
            if not widen and (not admitted or width > _FIRST_WIDTH):
                return False
            width *= _WIDER
        return False

    def _hand_over(self, problem: Problem) -> Choice:
        from s2search.solver.milp import Milp

        solution = Milp().solve(problem)
        score = problem.price(solution.choice_L).fixed_point_score
        method = f"milp, handed over by dynamic after {self.most_labels:,} labels in a layer"
        return Choice(choice_L=solution.choice_L, upper_bound=score, method=method)


class _Best:
    """The best layout known."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.layout: tuple[int, ...] | None = None
        self.rank: Rank = NOTHING

    @cached_property
    def nothing_fits(self) -> bool:
        """Whether even the fastest layout within the memory budget is too slow."""
        fastest_us = fastest_within_memory_us(self.problem)
        return fastest_us is None or fastest_us > self.problem.latency_budget_us

    def improve(self, found: Sweep) -> bool:
        """Take a better layout over; False where a relaxation found one that the problem does not admit."""
        if found.layout is None:
            return True
        if not self.problem.admits(found.layout):
            return False
        price = self.problem.price(found.layout)
        rank = (price.fixed_point_score, -price.latency_us)
        if rank > self.rank:
            self.layout, self.rank = found.layout, rank
        return True
