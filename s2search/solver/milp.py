"""milp: the same problem as a mixed-integer linear program for HiGHS (scipy), an independent cross-check.

Variables: x[l, c] = 1 where candidate c stands at layer l; f[l, s, t] = 1 where stream t follows stream s at layer l
(and once more at the head); z = 1 where the peak of a resource reaches its n-th value; q, whole numbers that carry from
the low digits of a sum to its high ones.

HiGHS works to absolute tolerances of 1e-6, which is wider than the last microsecond, byte or billionth of a score that
decides. So every limit is asked for in digits small enough that one unit is far above the tolerance. So is the score:
once a layout is found, HiGHS is asked for one that scores at least a billionth more, until there is none. What was
tried instead: docs/decisions/solver.md, "milp claims what whole numbers prove".
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from typing_extensions import override

from s2search.errors import CheckError
from s2search.solver.base import Choice, Solver
from s2search.solver.problem import UNLIMITED, Int, Problem, Resource

_DIGIT = 10_000  # times HiGHS's tolerance of whole numbers (1e-6), summed over a hundred of them: about one unit


@dataclass(frozen=True, kw_only=True)
class Milp(Solver):
    """Exact: every layout is priced in integers, and the last question asked is whether a better one exists.

    Stopping at `time_limit_s` is an error, not an answer.
    """

    time_limit_s: float = 600.0

    @override
    def _choose(self, problem: Problem) -> Choice | None:
        deadline = time.monotonic() + self.time_limit_s
        best: tuple[int, ...] | None = None
        while (better := _Model(problem, better_than=best).solve(deadline)) is not None:
            best = better
        if best is None:
            return None
        return Choice(choice_L=best, upper_bound=problem.price(best).fixed_point_score)


class _Model:
    """The program's arrays, for a layout that scores higher than a known one, or for any.

    Candidates that exceed a limit all by themselves are struck out, or their coefficients would be larger than HiGHS
    accepts; so are those that no better layout can have. The objective is scaled to what is left, to the order of 1.
    """

    def __init__(self, problem: Problem, *, better_than: tuple[int, ...] | None) -> None:
        self.problem = problem
        self.above = None if better_than is None else problem.price(better_than).fixed_point_score
        self.layers, self.candidates = problem.score_LC.shape
        self.streams = len(problem.switch_us_SS)
        self.rows: list[tuple[NDArray[np.int64], NDArray[np.float64], float, float]] = []
        self.integral: list[bool] = []
        self.upper: list[float] = []
        self.allowed_LC, self.allowed_SS = problem.allowed_LC, np.ones((self.streams, self.streams), np.bool_)
        resources = [resource for resource in problem.resources if resource.limit < UNLIMITED]
        for resource in resources:
            self.allowed_LC = self.allowed_LC & (resource.use_LC + resource.peak_LC <= resource.limit)
            self.allowed_SS = self.allowed_SS & (resource.switch_SS <= resource.limit)
        lost_LC, most_lost = self._lost(better_than)
        self.x = self._variables(self.allowed_LC, integral=True)
        shape = (self.layers + 1, self.streams, self.streams)
        self.f = self._variables(np.broadcast_to(self.allowed_SS, shape), integral=False)
        self._place()
        self._route()
        for resource in resources:
            self._limit(resource)
        if most_lost is not None:
            self._at_most(self.x.ravel(), lost_LC.ravel(), most_lost)
        self.objective = np.zeros(len(self.upper))
        self.objective[self.x] = lost_LC / max(int(lost_LC.max()), 1)

    def _lost(self, better_than: tuple[int, ...] | None) -> tuple[Int, int | None]:
        """Return how much less each candidate scores than the best of its layer, and the most that all may lose."""
        score_LC = self.problem.fixed_point_score_LC
        best_L = score_LC.max(axis=1, keepdims=True, where=self.allowed_LC, initial=-(2**60))
        lost_LC: Int = best_L - score_LC
        if better_than is None:
            return np.where(self.allowed_LC, lost_LC, 0), None
        most_lost = int(lost_LC[np.arange(self.layers), better_than].sum()) - 1
        self.allowed_LC = self.allowed_LC & (lost_LC <= most_lost)
        return np.where(self.allowed_LC, lost_LC, 0), most_lost

    def solve(self, deadline: float) -> tuple[int, ...] | None:
        """Return a layout that the problem admits, the best but for HiGHS's tolerance; None where there is none.

        Raises:
            CheckError: HiGHS gave no answer in time.
        """
        while True:
            result = milp(
                self.objective,
                integrality=np.asarray(self.integral, np.int64),
                bounds=Bounds(np.zeros(len(self.upper)), np.asarray(self.upper, np.float64)),
                constraints=self._constraints(),
                options={"mip_rel_gap": 0.0, "time_limit": max(deadline - time.monotonic(), 0.0)},
            )
            if result.status == 2:
                return None
            if result.x is None or result.status != 0:
                raise CheckError(
                    f"HiGHS gave no answer: {result.message}", remedy="raise time_limit_s, or use --solver dynamic"
                )
            choice_L = tuple(int(c) for c in result.x[self.x].argmax(axis=1))
            if self.problem.admits(choice_L) and self._is_better(choice_L):
                return choice_L
            self._exclude(choice_L)  # within HiGHS's tolerance of a limit, but over it

    def _is_better(self, choice_L: tuple[int, ...]) -> bool:
        return self.above is None or self.problem.price(choice_L).fixed_point_score > self.above

    def _variables(self, upper: NDArray[Any], *, integral: bool) -> NDArray[np.int64]:
        """Add variables from 0 to `upper`, and return their places in its shape."""
        places = len(self.upper) + np.arange(np.size(upper)).reshape(np.shape(upper))
        self.upper += np.ravel(upper).tolist()
        self.integral += [integral] * np.size(upper)
        return places

    def _add(self, index: object, value: object, low: float, high: float) -> None:
        indices = np.ravel(np.asarray(index))
        self.rows.append((indices, np.broadcast_to(np.ravel(np.asarray(value, np.float64)), indices.shape), low, high))

    def _place(self) -> None:
        """One candidate stands at each layer."""
        for layer in range(self.layers):
            self._add(self.x[layer], 1, 1, 1)

    def _route(self) -> None:
        """The flow between streams follows the candidates, from the first stream to the last."""
        self._add(self.f[0, self.problem.first_stream], 1, 1, 1)
        self._add(self.f[0], 1, 1, 1)
        self._add(self.f[self.layers, :, self.problem.last_stream], 1, 1, 1)
        self._add(self.f[self.layers], 1, 1, 1)
        for layer in range(self.layers):
            for stream in range(self.streams):
                here = self.x[layer, self.problem.stream_C == stream]
                into, out = self.f[layer, :, stream], self.f[layer + 1, stream, :]
                self._add([*into, *here], [1] * into.size + [-1] * here.size, 0, 0)
                self._add([*out, *here], [1] * out.size + [-1] * here.size, 0, 0)

    def _limit(self, resource: Resource) -> None:
        """What layers and stream changes use, and the largest peak, stay within the limit of one resource."""
        use_LC, peak_LC = (np.where(self.allowed_LC, values, 0) for values in (resource.use_LC, resource.peak_LC))
        switch_SS = np.where(self.allowed_SS, resource.switch_SS, 0)
        z, step_N = self._peak(peak_LC)
        places = np.concatenate([self.x.ravel(), self.f.ravel(), z])
        uses = np.concatenate([use_LC.ravel(), np.broadcast_to(switch_SS, self.f.shape).ravel(), step_N])
        self._at_most(places, uses, resource.limit)

    def _peak(self, peak_LC: Int) -> tuple[NDArray[np.int64], Int]:
        """Return variables that are 1 up to the largest peak of a layout, and what each adds to it."""
        values = np.unique(peak_LC[self.allowed_LC])
        values = values[values > 0]
        z = self._variables(np.ones(len(values)), integral=True)
        for lower, higher in pairwise(z):
            self._add([lower, higher], [1, -1], 0, np.inf)
        for layer, peak_C in enumerate(peak_LC):
            for n in np.flatnonzero(np.isin(values, peak_C[self.allowed_LC[layer]])):
                reaches = self.x[layer, peak_C >= values[n]]
                self._add([*reaches, z[n]], [-1] * len(reaches) + [1], 0, np.inf)
        return z, np.diff(values, prepend=0)

    def _at_most(self, places: NDArray[np.int64], uses: Int, limit: int) -> None:
        """A sum of whole numbers times variables is at most a whole number, exactly: digit by digit, with carries."""
        while limit >= _DIGIT:
            carry = int(self._variables(np.full(1, np.inf), integral=True)[0])
            low = uses % _DIGIT
            self._add([*places, carry], [*low, -_DIGIT], -np.inf, limit % _DIGIT)
            places, uses, limit = np.append(places, carry), np.append(uses // _DIGIT, 1), limit // _DIGIT
        self._add(places, uses, -np.inf, limit)

    def _exclude(self, choice_L: tuple[int, ...]) -> None:
        """Forbid one layout."""
        self._add(self.x[np.arange(self.layers), choice_L], 1, 0, self.layers - 1)

    def _constraints(self) -> LinearConstraint:
        """Return all rows as one sparse constraint."""
        row = np.concatenate([np.full(index.size, n) for n, (index, *_) in enumerate(self.rows)])
        column = np.concatenate([index for index, *_ in self.rows])
        value = np.concatenate([value for _, value, *_ in self.rows])
        matrix = coo_array((value, (row, column)), shape=(len(self.rows), len(self.upper))).tocsr()
        return LinearConstraint(matrix, [low for *_, low, _ in self.rows], [high for *_, high in self.rows])
