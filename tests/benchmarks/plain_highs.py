"""The rival: the program as one would write it for HiGHS, solved once to a zero gap, with HiGHS's own tolerances.

`s2search.solver.milp` asks the same question in digits, and once more for the proof: exact, and slower. A claim of
speed must not gain by that. Scaled to the order of one, or HiGHS answers wrongly: docs/decisions/solver.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from typing_extensions import override

from s2search.errors import CheckError
from s2search.solver.base import Choice, Solver
from s2search.solver.problem import UNLIMITED, Problem, Resource


@dataclass(frozen=True, kw_only=True)
class PlainHighs(Solver):
    """Exact up to HiGHS's own tolerances. Stopping at `time_limit_s` is an error, not an answer."""

    time_limit_s: float = 600.0

    @override
    def _choose(self, problem: Problem) -> Choice | None:
        model, deadline = _Model(problem), time.monotonic() + self.time_limit_s
        while True:
            result = milp(
                model.objective,
                integrality=model.integrality,
                bounds=model.bounds,
                constraints=model.constraints(),
                options={"mip_rel_gap": 0.0, "time_limit": max(deadline - time.monotonic(), 0.0)},
            )
            if result.status == 2:
                return None
            if result.x is None or result.status != 0:
                raise CheckError(
                    f"HiGHS gave no answer: {result.message}", remedy="raise time_limit_s, or use --solver dynamic"
                )
            choice_L = model.layout(result.x)
            if problem.admits(choice_L):
                return Choice(choice_L=choice_L, upper_bound=problem.price(choice_L).fixed_point_score)
            model.exclude(choice_L)  # within HiGHS's tolerance of a budget, but over it


class _Model:
    """The program's arrays.

    HiGHS works to absolute tolerances of 1e-6, so everything is scaled to the order of 1: limits to 1, peaks to the
    largest one, scores to their own range (unscaled, it has returned layouts 1 % below the optimum as optimal). What
    exceeds a limit all by itself is struck out, or its coefficient would be larger than HiGHS accepts.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.resources = [resource for resource in problem.resources if resource.limit < UNLIMITED]
        self.layers, self.candidates = problem.score_LC.shape
        self.streams = len(problem.switch_us_SS)
        self.x = np.arange(self.layers * self.candidates).reshape(self.layers, self.candidates)
        flows = np.arange((self.layers + 1) * self.streams**2) + self.x.size
        self.f = flows.reshape(self.layers + 1, self.streams, self.streams)
        self.peak = self.x.size + self.f.size + np.arange(len(self.resources))
        self.size = self.x.size + self.f.size + self.peak.size
        self.rows: list[tuple[NDArray[np.int64], NDArray[np.float64], float, float]] = []
        self.allowed_LC, self.allowed_SS = problem.allowed_LC, np.ones((self.streams, self.streams), np.bool_)
        for resource in self.resources:
            self.allowed_LC = self.allowed_LC & (resource.use_LC + resource.peak_LC <= resource.limit)
            self.allowed_SS = self.allowed_SS & (resource.switch_SS <= resource.limit)
        best_L = problem.fixed_point_score_LC.max(axis=1, keepdims=True, where=self.allowed_LC, initial=-(2**60))
        self.objective = np.zeros(self.size)
        worse_LC = np.where(self.allowed_LC, best_L - problem.fixed_point_score_LC, 0)
        self.objective[self.x] = worse_LC / max(int(worse_LC.max()), 1)
        self.integrality = np.zeros(self.size, np.int64)
        self.integrality[self.x] = 1
        upper = np.ones(self.size)
        upper[self.x], upper[self.f] = self.allowed_LC, self.allowed_SS
        self.bounds = Bounds(np.zeros(self.size), upper)
        self._place()
        self._route()
        for resource, peak in zip(self.resources, self.peak, strict=True):
            self._limit(resource, int(peak))

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

    def _limit(self, resource: Resource, peak: int) -> None:
        """What layers and stream changes use, and the largest peak, stay within the limit of one resource."""
        scale = max(resource.limit, 1)
        use_LC, peak_LC = (np.where(self.allowed_LC, values, 0) for values in (resource.use_LC, resource.peak_LC))
        switch_SS = np.where(self.allowed_SS, resource.switch_SS, 0)
        largest_peak = int(peak_LC.max())
        used = [*use_LC.ravel(), *np.broadcast_to(switch_SS, self.f.shape).ravel(), largest_peak]
        row = np.asarray(used, np.float64) / scale
        self._add([*self.x.ravel(), *self.f.ravel(), peak], row, -np.inf, resource.limit / scale)
        for layer in range(self.layers if largest_peak else 0):
            self._add([*self.x[layer], peak], [*-peak_LC[layer] / largest_peak, 1], 0, np.inf)

    def exclude(self, choice_L: tuple[int, ...]) -> None:
        """Forbid one layout."""
        self._add(self.x[np.arange(self.layers), choice_L], 1, 0, self.layers - 1)

    def constraints(self) -> LinearConstraint:
        """Return all rows as one sparse constraint."""
        row = np.concatenate([np.full(index.size, n) for n, (index, *_) in enumerate(self.rows)])
        column = np.concatenate([index for index, *_ in self.rows])
        value = np.concatenate([value for _, value, *_ in self.rows])
        matrix = coo_array((value, (row, column)), shape=(len(self.rows), self.size)).tocsr()
        return LinearConstraint(matrix, [low for *_, low, _ in self.rows], [high for *_, high in self.rows])

    def layout(self, solution: NDArray[np.float64]) -> tuple[int, ...]:
        """Read the candidates from a solution."""
        return tuple(int(c) for c in solution[self.x].argmax(axis=1))
