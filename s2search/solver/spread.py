"""Spread: how the latencies of a problem's parts vary, and the latency that a layout keeps with some confidence.

The model: every layer, switch and fixed part is a normal variable around its latency in the table, independent of all
others, and one normal factor moves all of them together, each by the same fraction of its latency. The latency that a
layout keeps with confidence c is

    latency + z (sqrt(sum of variances) + sum of common deviations),   z = the standard normal quantile of c.

The layout's true deviation is sqrt(variances + common^2), never more than the sum of the two, so the budget holds at
least as often as asked; without a common factor, exactly as often.

Axes:  L layers  C candidates  S streams
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError, ProblemError
from s2search.solver.problem import Problem

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Standard deviations of the latencies of one `Problem`, microseconds; see there for the axes.

    `fixed_std_us` is that of all fixed parts together. `common_relative` is the deviation of the common factor, as a
    fraction of latency; 0 where there is none.

    Raises:
        ProblemError: A deviation is negative or not finite.
    """

    std_us_LC: Float
    switch_std_us_SS: Float
    fixed_std_us: float = 0.0
    common_relative: float = 0.0

    def __post_init__(self) -> None:
        for name in ("std_us_LC", "switch_std_us_SS", "fixed_std_us", "common_relative"):
            values = np.ravel(np.asarray(getattr(self, name), np.float64))
            wrong = values[~(np.isfinite(values) & (values >= 0))]
            if wrong.size:
                raise ProblemError(f"{name} holds {wrong[0]}", allowed="finite numbers, 0 or more")

    def check(self, problem: Problem) -> None:
        """Raise unless the arrays have the shapes of a problem's.

        Raises:
            ProblemError: They do not.
        """
        for name, other in (("std_us_LC", "latency_us_LC"), ("switch_std_us_SS", "switch_us_SS")):
            shape, asked = np.shape(getattr(self, name)), np.shape(getattr(problem, other))
            if shape != asked:
                raise ProblemError(f"{name} has the shape {shape}", allowed=f"{asked} as {other}")

    def deviation(self, problem: Problem, choice_L: Sequence[int]) -> Deviation:
        """Return how far a layout's latency varies, by the plain loop of the definition."""
        streams = [problem.first_stream, *(int(problem.stream_C[c]) for c in choice_L), problem.last_stream]
        variance = self.fixed_std_us**2
        variance += sum(float(self.std_us_LC[layer, c]) ** 2 for layer, c in enumerate(choice_L))
        variance += sum(float(self.switch_std_us_SS[before, after]) ** 2 for before, after in pairwise(streams))
        common_us = self.common_relative * problem.price(choice_L).latency_us
        return Deviation(independent_us=math.sqrt(variance), common_us=common_us)

    def quantile_us(self, problem: Problem, choice_L: Sequence[int], confidence: float) -> float:
        """Return the latency that a layout keeps with at least this probability, microseconds."""
        deviation = self.deviation(problem, choice_L)
        return problem.price(choice_L).latency_us + normal_quantile(confidence) * deviation.total_us

    def keeps(self, problem: Problem, choice_L: Sequence[int], confidence: float) -> bool:
        """Tell whether a problem admits a layout, and the latency budget holds with at least this probability."""
        within = self.quantile_us(problem, choice_L, confidence) <= problem.latency_budget_us
        return within and problem.admits(choice_L)


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Standard deviations of one layout's latency, microseconds: of its independent parts, and of the common factor."""

    independent_us: float
    common_us: float

    @property
    def total_us(self) -> float:
        """The sum, which is what a plan allows for: never less than the deviation of both together."""
        return self.independent_us + self.common_us


def normal_quantile(confidence: float) -> float:
    """Return z, the standard normal quantile of a confidence.

    Raises:
        InputError: It is not between 0.5 and 1.

    >>> round(normal_quantile(0.95), 3)
    1.645
    """
    check_confidence(confidence)
    return NormalDist().inv_cdf(confidence)


def check_confidence(confidence: float) -> None:
    """Raise unless a confidence lies between 0.5 and 1.

    Raises:
        InputError: It does not.
    """
    if not 0.5 < confidence < 1:
        raise InputError(
            f"the confidence is {confidence}", allowed="more than 0.5 and less than 1", remedy="give one such as 0.95"
        )
