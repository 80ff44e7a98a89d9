"""A search as a mixed-integer linear program for HiGHS (scipy), claimed only as far as whole numbers prove it.

Variables: x[l, c] = 1 where candidate c stands at layer l; f[l, s, t] = 1 where stream t follows stream s at layer l
(and once more at the head), where neighbours matter every candidate being a stream of its own; z = 1 where the peak of
a resource reaches its n-th value; q, whole numbers that carry from the low digits of a sum to its high ones.

HiGHS works to absolute tolerances of 1e-6, which is wider than the last microsecond, byte or billionth of a score that
decides. So every limit is asked for in digits small enough that one unit is far above the tolerance. So is the goal:
once a layout is found, HiGHS is asked for one that uses at least one unit less, until there is none. What was tried
instead: docs/decisions/solver.md, "milp claims what whole numbers prove".

Axes:  L layers  C candidates  S streams  N values of peaks
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import coo_array

from s2search.solver.exact.graph import Graph
from s2search.solver.problem import UNLIMITED, Int, Problem, Resource

_DIGIT = 10_000  # times HiGHS's tolerance of whole numbers (1e-6), summed over a hundred of them: about one unit
_INFEASIBLE, _OPTIMAL = 2, 0  # scipy's words for how HiGHS ended


@dataclass(frozen=True, kw_only=True)
class Least:
    """The layout that uses least of a goal, None where none is known; `proven` that none uses less, or none fits."""

    layout: tuple[int, ...] | None
    proven: bool


def least(problem: Problem, goal: Resource, *, deadline: float, known: tuple[int, ...] | None = None) -> Least:
    """Return the layout within all limits that uses least of a goal, its peak included.

    Args:
        problem: The search; its `group_size` is 1, its score does not count.
        goal: What to use least of; its limit is one more that holds.
        deadline: When to stop (`time.monotonic`); what was found by then is returned.
        known: A layout within all limits.
    """
    best = known
    while True:
        below = goal.limit if best is None else min(goal.limit, goal.spent(problem, best) - 1)
        asked = dataclasses.replace(goal, limit=below)
        better, ended = _ask(problem, asked, deadline)
        best = better or best
        if ended and better is None:
            return Least(layout=best, proven=True)
        if not ended:
            return Least(layout=best, proven=False)


def fits(problem: Problem, *, deadline: float) -> bool | None:
    """Tell whether some layout keeps all limits of a problem whose `group_size` is 1; None where there was no time."""
    nothing = Resource.of("nothing", np.zeros_like(problem.latency_us_LC), UNLIMITED, streams=len(problem.switch_us_SS))
    found = least(problem, nothing, deadline=deadline)
    return found.layout is not None if found.proven or found.layout is not None else None


def _ask(problem: Problem, goal: Resource, deadline: float) -> tuple[tuple[int, ...] | None, bool]:
    """Return a layout within all limits, the least but for HiGHS's tolerance, and whether HiGHS came to an end."""
    model = _Model(problem, goal)
    while not model.impossible:
        result = model.solve(deadline)
        if result.status == _INFEASIBLE:
            break
        if result.x is None:
            return None, False
        choice_L = model.layout(result.x)
        if problem.admits(choice_L) and goal.spent(problem, choice_L) <= goal.limit:
            return choice_L, result.status == _OPTIMAL
        if result.status != _OPTIMAL:
            return None, False
        model.exclude(choice_L)  # within HiGHS's tolerance of a limit, but over it
    return None, True


class _Model:
    """The program's arrays, for a layout within all limits that uses little of a goal.

    What every layout uses is taken off, and candidates that exceed a limit even where all other layers use least are
    struck out, or their coefficients would be larger than HiGHS accepts. The objective is scaled to what is left, to
    the order of 1. `impossible` where nothing is left at some layer.
    """

    def __init__(self, problem: Problem, goal: Resource) -> None:
        self.layers, self.candidates = problem.score_LC.shape
        self.rows: list[tuple[NDArray[np.int64], NDArray[np.float64], float, float]] = []
        self.integral: list[bool] = []
        self.upper: list[float] = []
        self.peaks: dict[bytes, tuple[NDArray[np.int64], Int]] = {}
        limits = [r for r in (*problem.resources, goal) if r.limit < UNLIMITED]
        self.graph = Graph.of_resources(problem, [*limits, goal])
        self.allowed_LC, self.allowed_FSS = _left_over(self.graph, limits)
        self.impossible = not self.allowed_LC.any(axis=1).all()
        if self.impossible:
            return
        self.x = self._variables(self.allowed_LC, integral=True)
        self.f = self._variables(self.allowed_FSS, integral=False)
        self._place()
        self._route()
        for r, resource in enumerate(limits):
            self._limit(r, resource.limit)
        self._minimize(len(limits))

    def solve(self, deadline: float) -> OptimizeResult:
        """Return what HiGHS says."""
        with _silent():
            return milp(
                self.objective,
                integrality=np.asarray(self.integral, np.int64),
                bounds=Bounds(np.zeros(len(self.upper)), np.asarray(self.upper, np.float64)),
                constraints=self._constraints(),
                options={"mip_rel_gap": 0.0, "time_limit": max(deadline - time.monotonic(), 0.0)},
            )

    def layout(self, solution: NDArray[np.float64]) -> tuple[int, ...]:
        """Read the candidates from a solution."""
        return tuple(int(c) for c in solution[self.x].argmax(axis=1))

    def exclude(self, choice_L: tuple[int, ...]) -> None:
        """Forbid one layout."""
        self._add(self.x[np.arange(self.layers), choice_L], 1, 0, self.layers - 1)

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
        self._add(self.f[0, self.graph.first_stream], 1, 1, 1)
        self._add(self.f[0], 1, 1, 1)
        self._add(self.f[self.layers, :, self.graph.last_stream], 1, 1, 1)
        self._add(self.f[self.layers], 1, 1, 1)
        for layer in range(self.layers):
            for stream in range(len(self.graph.follows_SS)):
                here = self.x[layer, self.graph.stream_C == stream]
                into, out = self.f[layer, :, stream], self.f[layer + 1, stream, :]
                self._add([*into, *here], [1] * into.size + [-1] * here.size, 0, 0)
                self._add([*out, *here], [1] * out.size + [-1] * here.size, 0, 0)

    def _uses(self, r: int) -> tuple[NDArray[np.int64], Int, int]:
        """Return the variables that use a resource, what each uses, and what all layouts do."""
        use_LC = np.where(self.allowed_LC, self.graph.use_RLC[r], 0)
        least_L = use_LC.min(axis=1, where=self.allowed_LC, initial=2**60)
        use_LC = np.where(self.allowed_LC, use_LC - least_L[:, None], 0)
        step_FSS = np.where(self.allowed_FSS, self.graph.step_RFSS[r], 0)
        z, step_N = self._peak(np.where(self.allowed_LC, self.graph.peak_RLC[r], 0))
        places = np.concatenate([self.x.ravel(), self.f.ravel(), z])
        uses = np.concatenate([use_LC.ravel(), step_FSS.ravel(), step_N])
        return places, uses, int(least_L.sum())

    def _limit(self, r: int, limit: int) -> None:
        """What layers and steps use, and the largest peak, stay within the limit of one resource."""
        places, uses, least_use = self._uses(r)
        if least_use > limit:
            self.impossible = True
        elif uses.sum() > limit - least_use:
            self._at_most(places, uses, limit - least_use)

    def _minimize(self, r: int) -> None:
        places, uses, _ = self._uses(r)
        self.objective = np.zeros(len(self.upper))
        self.objective[places] = uses / max(int(uses.max()), 1)

    def _peak(self, peak_LC: Int) -> tuple[NDArray[np.int64], Int]:
        """Return variables that are 1 up to the largest peak of a layout, and what each adds to it."""
        if (known := self.peaks.get(peak_LC.tobytes())) is not None:
            return known
        values = np.unique(peak_LC[self.allowed_LC])
        values = values[values > 0]
        z = self._variables(np.ones(len(values)), integral=True)
        for lower, higher in pairwise(z):
            self._add([lower, higher], [1, -1], 0, np.inf)
        for layer, peak_C in enumerate(peak_LC):
            for n in np.flatnonzero(np.isin(values, peak_C[self.allowed_LC[layer]])):
                reaches = self.x[layer, peak_C >= values[n]]
                self._add([*reaches, z[n]], [-1] * len(reaches) + [1], 0, np.inf)
        self.peaks[peak_LC.tobytes()] = z, np.diff(values, prepend=0)
        return self.peaks[peak_LC.tobytes()]

    def _at_most(self, places: NDArray[np.int64], uses: Int, limit: int) -> None:
        """A sum of whole numbers times variables is at most a whole number, exactly: digit by digit, with carries."""
        while limit >= _DIGIT:
            carry = int(self._variables(np.full(1, np.inf), integral=True)[0])
            low = uses % _DIGIT
            self._add([*places, carry], [*low, -_DIGIT], -np.inf, limit % _DIGIT)
            places, uses, limit = np.append(places, carry), np.append(uses // _DIGIT, 1), limit // _DIGIT
        self._add(places, uses, -np.inf, limit)

    def _constraints(self) -> LinearConstraint:
        """Return all rows as one sparse constraint."""
        row = np.concatenate([np.full(index.size, n) for n, (index, *_) in enumerate(self.rows)])
        column = np.concatenate([index for index, *_ in self.rows])
        value = np.concatenate([value for _, value, *_ in self.rows])
        matrix = coo_array((value, (row, column)), shape=(len(self.rows), len(self.upper))).tocsr()
        return LinearConstraint(matrix, [low for *_, low, _ in self.rows], [high for *_, high in self.rows])


def _left_over(graph: Graph, limits: list[Resource]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the candidates and steps that keep each limit where all other layers use least."""
    allowed_LC = graph.allowed_LC
    allowed_FSS = np.ones((graph.layers + 1, *graph.follows_SS.shape), np.bool_)
    for use_LC, peak_LC, step_FSS, resource in zip(
        graph.use_RLC,
        graph.peak_RLC,
        graph.step_RFSS,
        limits,
        strict=False,  # the goal, the last, is no limit
    ):
        least_L = use_LC.min(axis=1, where=allowed_LC, initial=2**50)
        spare = resource.limit - int(least_L.sum())
        allowed_LC = allowed_LC & (use_LC - least_L[:, None] + peak_LC <= spare)
        allowed_FSS = allowed_FSS & (step_FSS <= spare)
    return allowed_LC, allowed_FSS


@contextmanager
def _silent() -> Iterator[None]:
    """Send to stderr what HiGHS prints on the process's own stdout, where a caller's JSON belongs."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        stdout, elsewhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # closed: there is nothing to keep clean
        yield
        return
    try:
        os.dup2(elsewhere if 2 in (stdout, elsewhere) else 2, 1)  # 2 is stderr but where that was closed
        yield
    finally:
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).fflush(None)  # what C has not yet written would come after the descriptor is back
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(elsewhere)
