"""Conditions on a layout that are no sums: a latency budget kept with a probability, and the 95th percentile of a pass.

Both go by the exact search of `solver/questions/confidence.py`: a normal latency around a sum, whose variance is a sum
too. They differ in what varies:

- `--confidence` asks about the table: the deviations are those that it states of its rows, around its medians.
- `p95` asks about passes: the deviations are those of single calls, around their means, from the samples beside the
  table (`tables/samples.py`). What a call has of its own averages out over the layers; what all calls of a pass share
  does not.

A pass of mean m, whose own deviation is s, has the 95th percentile m + z sqrt(s^2 + (c m)^2), where c is what its calls
share. The search keeps a bound of it, with (c T)^2 in the place of (c m)^2: T is the budget, which m does not exceed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s2search.block import Stream
from s2search.cost import Budget
from s2search.errors import InfeasibleError, InputError
from s2search.solver.base import Solver
from s2search.solver.problem import UNLIMITED, FurtherDevice, Problem
from s2search.solver.questions.confidence import ConfidentSolution, least_quantile_us, solve_with_confidence
from s2search.solver.questions.infeasible import exact_ms
from s2search.solver.spread import Spread, normal_quantile
from s2search.space import Space
from s2search.tables.samples import CallTimes, PassTimes, pass_times
from s2search.tables.table import LatencyTable, Scope

PERCENTILE = 0.95
_BY_MEDIANS = "one pass"  # the device that keeps the budgets of medians beside that of the percentile
_MOST_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """The latency budget holds with a probability, by the deviations that the table states."""

    asked: float
    spread: Spread

    def admits(self, problem: Problem, choice_L: Sequence[int]) -> bool:
        """Tell whether a problem admits a layout, and the condition holds."""
        return self.spread.keeps(problem, choice_L, self.asked)

    def solve(self, problem: Problem, solver: Solver) -> ConfidentSolution:
        """Return the best layout under the condition; `plain` is the best one without it.

        Raises:
            InfeasibleError: There is none.
        """
        return solve_with_confidence(problem, self.spread, self.asked, solver)


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """The 95th percentile of a forward pass is within a budget, by the samples beside the first device's table.

    Attributes:
        table: The device's.
        scope: Which of its rows count.
        space: Its candidates are the columns of the problem.
        budget: Of the kind `p95`.
    """

    table: LatencyTable
    scope: Scope
    space: Space
    budget: Budget

    @property
    def budget_us(self) -> int:
        """The limit in microseconds, rounded down."""
        return int(self.budget.amount)

    def times(self, budget_us: int | None = None) -> PassTimes:
        """Return how calls vary within passes as long as the budget.

        Raises:
            TableError: There are no samples, or too few.
        """
        within_us = self.budget_us if budget_us is None else budget_us
        return self.table.remember(
            ("pass_times", self.scope, within_us),
            lambda: pass_times(self.table, self.scope, within_ms=within_us / 1000),
        )

    def admits(self, problem: Problem, choice_L: Sequence[int]) -> bool:
        """Tell whether a problem admits a layout, and the bound on its 95th percentile keeps the budget."""
        if not problem.admits(choice_L):
            return False
        of_passes, spread = self.pose(problem)
        return spread.keeps(of_passes, choice_L, PERCENTILE)

    def solve(self, problem: Problem, solver: Solver) -> ConfidentSolution:
        """Return the best layout within the budget and all others.

        Raises:
            InfeasibleError: There is none.
        """
        try:
            return solve_with_confidence(*self.pose(problem), PERCENTILE, solver)
        except InfeasibleError as error:
            if "least_quantile_us" not in error.fields:
                raise
            raise self._infeasible(problem) from error

    def price_us(self, problem: Problem, choice_L: Sequence[int]) -> PercentileTerms:
        """Return the 95th percentile of a layout's passes, its bound, and what they are made of, in microseconds."""
        of_passes, spread = self.pose(problem)
        mean_us = of_passes.price(choice_L).latency_us
        both_us = spread.deviation(of_passes, choice_L).independent_us
        common, z = self.times().common_relative, normal_quantile(PERCENTILE)
        own_us = math.sqrt(max(0.0, both_us**2 - (common * self.budget_us) ** 2))
        return PercentileTerms(
            mean_us=mean_us,
            own_std_us=own_us,
            common_std_us=common * mean_us,
            p95_us=mean_us + z * math.hypot(own_us, common * mean_us),
            bound_us=mean_us + z * both_us,
        )

    def pose(self, problem: Problem, budget_us: int | None = None) -> tuple[Problem, Spread]:
        """Return a problem over mean calls, within the percentile's budget, and how they vary.

        Its budget on medians, if it has one, stays: as that of a device of its own.
        """
        limit_us = self.budget_us if budget_us is None else budget_us
        times, depth = self.times(limit_us), len(problem.score_LC)
        block_C = [_of(times, block.label) for block in self.space.candidates]
        fixed = [call for label, call in times.calls.items() if label in self._fixed]
        switches = ((Stream.HIGH, Stream.LOW, _of(times, "down")), (Stream.LOW, Stream.HIGH, _of(times, "up")))
        switch_us_SS, switch_std_us_SS = np.zeros_like(problem.switch_us_SS), np.zeros(problem.switch_us_SS.shape)
        for before, after, call in switches:
            switch_us_SS[before, after], switch_std_us_SS[before, after] = call.mean_us, call.own_std_us
        of_passes = dataclasses.replace(
            problem,
            latency_us_LC=np.tile(np.array([call.mean_us for call in block_C], np.int64), (depth, 1)),
            switch_us_SS=switch_us_SS,
            fixed_us=sum(call.mean_us for call in fixed),
            latency_budget_us=limit_us,
            devices=(*problem.devices, *_medians(problem)),
        )
        shared_us = times.common_relative * limit_us
        return of_passes, Spread(
            std_us_LC=np.tile([call.own_std_us for call in block_C], (depth, 1)),
            switch_std_us_SS=switch_std_us_SS,
            fixed_std_us=math.hypot(*(call.own_std_us for call in fixed), shared_us),
        )

    @property
    def _fixed(self) -> set[str]:
        return {row.part_label for row in self.table.in_scope(self.scope) if row.role == "fixed"}

    def _infeasible(self, problem: Problem) -> InfeasibleError:
        """Return the error that no layout keeps the budget, with the least one that some layout does."""
        least_us = self.budget_us
        for _ in range(_MOST_STEPS):  # a larger budget allows for more of what calls share: from below, to the end
            needed_us = least_quantile_us(*self.pose(problem, least_us), PERCENTILE)
            if needed_us <= least_us:
                break
            least_us = needed_us
        return InfeasibleError(
            f"no layout keeps {self.budget.text}: the least 95th percentile of {problem.layouts:,} layouts is bounded "
            f"by {exact_ms(least_us)}",
            remedy=f"raise the p95 budget to {exact_ms(least_us)}",
            least_p95_us=least_us,
        )


@dataclass(frozen=True, kw_only=True)
class PercentileTerms:
    """A layout's 95th percentile and its bound, and what they are made of, in microseconds."""

    mean_us: int
    own_std_us: float
    common_std_us: float
    p95_us: float
    bound_us: float


def check_percentile(budget: Budget, model: str, confidence: float | None) -> None:
    """Raise where a 95th percentile cannot be asked for beside the rest.

    Raises:
        InputError: A confidence is asked for too, or rows are not read as they stand.
    """
    if confidence is not None:
        raise InputError(
            f"{budget.text} and --confidence {confidence:g} both say how sure",
            remedy="leave out one: p95 is about single passes, a confidence about the table's medians",
        )
    if model != "lookup":
        raise InputError(
            f"{budget.text} is priced from samples of the table's own rows, and the latency model is {model!r}",
            allowed="lookup",
            remedy="leave out --latency-model, or give a latency budget such as 300ms",
        )


def _of(times: PassTimes, label: str) -> CallTimes:
    """Return how a part's calls vary; a part that takes no time does not."""
    return times.calls.get(label, CallTimes(mean_ms=0.0, own_std_ms=0.0, samples=0))


def _medians(problem: Problem) -> tuple[FurtherDevice, ...]:
    """Return what keeps a problem's own latency budget, in medians, where it has one."""
    if problem.latency_budget_us >= UNLIMITED:
        return ()
    return (
        FurtherDevice(
            name=_BY_MEDIANS,
            latency_us_LC=problem.latency_us_LC,
            memory_bytes_LC=problem.memory_bytes_LC,
            peak_bytes_LC=problem.peak_bytes_LC,
            switch_us_SS=problem.switch_us_SS,
            fixed_us=problem.fixed_us,
            fixed_bytes=problem.fixed_bytes,
            latency_budget_us=problem.latency_budget_us,
        ),
    )
