"""What everything uses of a resource: exactly, and in the whole numbers of the search.

Axes:  L slots  C alternatives  S streams, and one for an end of the chain that has none
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2search.solver.problem import UNLIMITED, Resource

Exact = NDArray[np.object_]  # of fractions


@dataclass(frozen=True, kw_only=True, eq=False)
class Use:
    """What everything uses of one resource, exactly, in its unit; `step` is one whole number of the search.

    `exact` says that every use is a multiple of the step: nothing was rounded.
    """

    name: str
    unit: str
    cost_LC: Exact
    peak_LC: Exact
    switch_SS: Exact
    fixed: Fraction
    step: Fraction
    exact: bool
    budget: Fraction | None

    def spent(self, choice_L: Sequence[int], streams: Sequence[int]) -> Fraction:
        """Return what a layout that goes through these streams uses, exactly: the sums, and the largest peak."""
        switches = sum((self.switch_SS[a, b] for a, b in pairwise(streams)), Fraction(0))
        slots = sum((self.cost_LC[layer, c] for layer, c in enumerate(choice_L)), Fraction(0))
        peak: Fraction = max(self.peak_LC[layer, c] for layer, c in enumerate(choice_L))
        return self.fixed + slots + switches + peak

    def resource(self, allowed_LC: NDArray[np.bool_]) -> Resource:
        """Return it in whole numbers, rounded up, with the limit rounded down."""
        fixed = math.ceil(self.fixed / self.step)
        limit = UNLIMITED if self.budget is None else math.floor(self.budget / self.step) - fixed
        return Resource(
            name=self.name,
            use_LC=up(self.cost_LC, self.step, allowed_LC),
            switch_SS=up(self.switch_SS, self.step),
            peak_LC=up(self.peak_LC, self.step, allowed_LC),
            limit=limit,
            fixed=fixed,
            unit=self.unit,
        )


def up(value_XX: Exact, step: Fraction, where_XX: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return values in whole steps, rounded up; 0 where they do not count."""
    return _rounded(value_XX, step, where_XX, math.ceil)


def nearest(value_XX: Exact, step: Fraction, where_XX: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return values in whole steps, rounded to nearest; 0 where they do not count."""
    return _rounded(value_XX, step, where_XX, round)


def _rounded(value_XX: Exact, step: Fraction, where_XX: NDArray[np.bool_] | None, way: Any) -> NDArray[np.int64]:
    found_XX = np.zeros(value_XX.shape, np.int64)
    at = np.ones(value_XX.shape, np.bool_) if where_XX is None else where_XX
    known: dict[int, int] = {}  # by identity: what several slots share is one object, and to hash a fraction is slow
    for value in value_XX[at]:
        if id(value) not in known:
            known[id(value)] = way(value / step)
    found_XX[at] = [known[id(value)] for value in value_XX[at]]
    return found_XX
