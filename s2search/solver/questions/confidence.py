"""The best plan that keeps its latency budget with a given probability, by additive problems for an exact solver.

The condition (see `solver/spread.py`) holds a square root of the summed variances V, which no additive problem can.
Replaced by a line, it can:

- a tangent, sqrt(V) <= V / (2 t) + t / 2 for every t > 0, is never below: what its problem admits keeps the budget;
- a chord, sqrt(V) >= (V + a b) / (a + b) for sqrt(V) from a to b, is never above there: no layout with such a V
  scores higher than its problem's best.

The search begins with the chord over all possible V. The best layout of the highest bound is the answer if it keeps the
budget; if not, the tangent at its own V offers a safe one, and its V divides the chord in two, neither of which admits
that layout again. It ends when no chord is left that promises more than the best safe layout: a proven optimum.

Source of the tangents: Bertsimas and Sim, "Robust Discrete Optimization under Ellipsoidal Uncertainty Sets" (2004),
which solves the same condition as a sequence of additive problems.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from s2search.errors import InfeasibleError, ProblemError
from s2search.solver.base import Solution, Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.problem import UNLIMITED, Int, Problem
from s2search.solver.questions.infeasible import exact_ms
from s2search.solver.spread import Float, Spread, normal_quantile

_FINEST = 2.0**20  # of a microsecond
_LARGEST_BUDGET = 2.0**39  # in those units: sums of a thousand layers stay exact
_FINE_ENOUGH_US = 1e-6

Rounding = Callable[[Float], Float]


@dataclass(frozen=True, kw_only=True)
class ConfidentSolution:
    """The best layout that keeps the budget with the confidence asked, and the best one without that condition.

    `quantile_us` is the latency that the layout keeps with that confidence; `solves` how many additive problems it
    took. `solution.optimal` says that no layout that keeps the condition scores higher.
    """

    solution: Solution
    quantile_us: float
    plain: Solution
    solves: int


def solve_with_confidence(
    problem: Problem, spread: Spread, confidence: float, solver: Solver, *, most_chords: int = 200
) -> ConfidentSolution:
    """Return the layout of the best score whose latency keeps the budget with at least this probability.

    The probability is that of the problem's own latency; its other budgets, those of further devices included, hold as
    they stand.

    Args:
        problem: The search; it must have a latency budget.
        spread: Standard deviations of its latencies.
        confidence: Between 0.5 and 1.
        solver: An exact solver.
        most_chords: After so many, the best safe layout so far is the answer, with the bound that was reached.

    Raises:
        InfeasibleError: No layout keeps the budget with that confidence; the message says which budget would do.
        ProblemError: There is no latency budget, or the solver does not prove its answers.
    """
    spread.check(problem)
    if problem.latency_budget_us >= UNLIMITED:
        raise ProblemError("there is no latency budget to be confident of", remedy="give one")
    search = _Search(problem, spread, normal_quantile(confidence), solver)
    plain = search.prove(problem)
    if plain is None:
        raise _infeasible(problem, spread, confidence)
    found = plain if spread.keeps(problem, plain.choice_L, confidence) else search.best(confidence, most_chords)
    if found is None:
        raise _infeasible(problem, spread, confidence)
    quantile_us = spread.quantile_us(problem, found.choice_L, confidence)
    return ConfidentSolution(solution=found, quantile_us=quantile_us, plain=plain, solves=search.solves)


def least_quantile_us(problem: Problem, spread: Spread, confidence: float) -> int:
    """Return the least latency budget that some layout keeps with this confidence, rounded up to a microsecond.

    Raises:
        InfeasibleError: No layout keeps the problem's other constraints, whatever its latency.
    """
    bare = dataclasses.replace(
        problem, score_LC=np.zeros_like(problem.score_LC), pair_score_LCC=None, latency_budget_us=UNLIMITED
    )
    solver = Dynamic()  # of equal scores it prefers the faster
    best_us = spread.quantile_us(problem, solver.solve(bare).choice_L, confidence)
    bare = dataclasses.replace(bare, latency_budget_us=math.ceil(best_us) + 1)
    search = _Search(bare, spread, normal_quantile(confidence), solver)
    for chord in search.chords(lambda solution: solution.latency_us):
        if chord.solution.latency_us / search.scale > best_us - _FINE_ENOUGH_US:
            break
        best_us = min(best_us, spread.quantile_us(problem, chord.solution.choice_L, confidence))
    return math.ceil(best_us)


def _infeasible(problem: Problem, spread: Spread, confidence: float) -> InfeasibleError:
    least_us = least_quantile_us(problem, spread, confidence)
    return InfeasibleError(
        f"no layout keeps {exact_ms(problem.latency_budget_us)} with confidence {confidence}: "
        f"the surest of {problem.layouts:,} needs {exact_ms(least_us)}",
        remedy=f"raise the latency budget to {exact_ms(least_us)}, or lower the confidence",
        least_quantile_us=least_us,
    )


@dataclass(frozen=True, kw_only=True)
class _Chord:
    """The best layout where sqrt(V) is replaced by its chord between two values, and that layout's own sqrt(V)."""

    low_us: float
    high_us: float
    solution: Solution
    independent_us: float


class _Search:
    """Additive problems in which a line stands for the square root, in the finest unit whose sums are exact."""

    def __init__(self, problem: Problem, spread: Spread, z: float, solver: Solver) -> None:
        self.problem, self.spread, self.z, self.solver = problem, spread, z, solver
        self.solves = 0
        self.scale = min(_FINEST, 2.0 ** math.floor(math.log2(_LARGEST_BUDGET / (problem.latency_budget_us + 1))))

    def best(self, confidence: float, most_chords: int) -> Solution | None:
        """Return the best layout that keeps the condition, with its bound, or None where there is none."""
        problem, spread = self.problem, self.spread
        best: Solution | None = None
        bound = -math.inf
        for n, chord in enumerate(self.chords(lambda solution: -solution.score)):
            if best is not None and chord.solution.score <= best.score:
                break
            if spread.keeps(problem, chord.solution.choice_L, confidence):
                best = chord.solution
                break
            tangent = self._tangent(chord.independent_us)
            if tangent is not None and spread.keeps(problem, tangent.choice_L, confidence):
                best = tangent if best is None or tangent.score > best.score else best
            last = best is not None and n + 1 >= most_chords
            if last or not self._divides(chord):
                bound = max(bound, chord.solution.score)
            if last:
                break
        return None if best is None else self._restated(best, max(bound, best.score))

    def chords(self, rank: Callable[[Solution], float]) -> Iterator[_Chord]:
        """Yield chords by rising rank of their best layouts, dividing each after it was yielded."""
        order = count()
        heap: list[tuple[float, int, _Chord]] = []
        pending = [self._range_us()]
        while pending or heap:
            for low_us, high_us in pending:
                chord = self._chord(low_us, high_us)
                if chord is not None:
                    heapq.heappush(heap, (rank(chord.solution), next(order), chord))
            pending = []
            if heap:
                chord = heapq.heappop(heap)[-1]
                yield chord
                if self._divides(chord):
                    pending = [(chord.low_us, chord.independent_us), (chord.independent_us, chord.high_us)]

    def prove(self, problem: Problem) -> Solution | None:
        """Solve a problem to the proven optimum; None where nothing fits."""
        self.solves += 1
        solution = self.solver.best(problem)
        if solution is not None and not solution.optimal:
            raise ProblemError(
                f"the solver {self.solver.name!r} does not prove its answer, which a confidence needs",
                remedy="use --solver dynamic",
            )
        return solution

    def _divides(self, chord: _Chord) -> bool:
        """Tell whether a chord's own layout lies between its ends, and the chord is above rounding from the root."""
        inside = chord.low_us < chord.independent_us * (1 - 1e-9) < chord.high_us * (1 - 2e-9)
        gap_us = self.z * (chord.high_us - chord.low_us) ** 2 / (4 * max(chord.high_us + chord.low_us, 1e-300))
        return inside and gap_us * self.scale > 1

    def _range_us(self) -> tuple[float, float]:
        """Return limits of sqrt(V) over all layouts."""
        allowed_LC, layers = self.problem.allowed_LC, len(self.problem.allowed_LC)
        variance_LC = self.spread.std_us_LC**2
        least = variance_LC.min(axis=1, where=allowed_LC, initial=np.inf).sum()
        most = variance_LC.max(axis=1, where=allowed_LC, initial=0.0).sum()
        most += (layers + 1) * float((self.spread.switch_std_us_SS**2).max())
        fixed = self.spread.fixed_std_us**2
        return math.sqrt(fixed + least), math.sqrt(fixed + most)

    def _chord(self, low_us: float, high_us: float) -> _Chord | None:
        """Solve with the chord between two values of sqrt(V): every cost rounded down, the budget up."""
        ends = low_us + high_us
        slope, intercept_us = (1 / ends, low_us * high_us / ends) if ends else (0.0, 0.0)
        solution = self._solve(slope, intercept_us, np.floor, spare=2)
        if solution is None:
            return None
        independent_us = self.spread.deviation(self.problem, solution.choice_L).independent_us
        return _Chord(low_us=low_us, high_us=high_us, solution=solution, independent_us=independent_us)

    def _tangent(self, at_us: float) -> Solution | None:
        """Solve with the tangent at one value of sqrt(V): every cost rounded up, the budget down."""
        slope, intercept_us = (0.5 / at_us, 0.5 * at_us) if at_us else (0.0, 0.0)
        return self._solve(slope, intercept_us, np.ceil, spare=0)

    def _solve(self, slope: float, intercept_us: float, rounded: Rounding, *, spare: int) -> Solution | None:
        """Return the best layout where sqrt(V) is intercept + slope x V, or None where nothing fits."""
        problem, spread = self.problem, self.spread
        budget = math.floor(self.scale * problem.latency_budget_us) + spare

        def cost(latency_us: Int | int, std_us: Float | float, constant_us: float = 0.0) -> Int:
            mean_us = (1 + self.z * spread.common_relative) * latency_us
            exact = np.asarray(self.scale * (mean_us + self.z * (slope * std_us**2 + constant_us)))
            return np.minimum(rounded(exact), budget + 1).astype(np.int64)  # over the budget is over it by any amount

        line = dataclasses.replace(
            problem,
            latency_us_LC=cost(problem.latency_us_LC, spread.std_us_LC),
            switch_us_SS=cost(problem.switch_us_SS, spread.switch_std_us_SS),
            fixed_us=int(cost(problem.fixed_us, spread.fixed_std_us, intercept_us)),
            latency_budget_us=budget,
        )
        return self.prove(line)

    def _restated(self, solution: Solution, bound: float) -> Solution:
        """Return a line's layout with its costs in the problem's own units."""
        price = self.problem.price(solution.choice_L)
        return dataclasses.replace(
            solution, latency_us=price.latency_us, upper_bound=bound, optimal=price.score == bound
        )
