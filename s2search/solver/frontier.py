"""The latency x memory x score front: the best score for every pair of budgets, from one run.

Where few partial layouts differ, all of them are walked once and the front is complete. Otherwise the budgets of a grid
are searched side by side, each exactly or within a relative epsilon, and what lies between them is bounded: no layout
scores above the best of the next larger pair of budgets, nor above a Lagrangian bound.

Axes:  L layers  R resources  K pairs of budgets  N labels or points  P price sets

Why: docs/decisions/solver.md, "A front is many searches side by side".
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from s2search.document import Document, read_json
from s2search.errors import CheckError, InputError
from s2search.solver.base import Solution, Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.exact.graph import BOUNDLESS, Cases, Graph, least_to_go
from s2search.solver.exact.labels import Labels, extended, trace, undominated
from s2search.solver.exact.search import Answer, least_use, search
from s2search.solver.problem import FIXED_POINT, UNLIMITED, Int, Problem
from s2search.solver.questions.infeasible import explain_infeasible, smallest_relaxations

SCHEMA: Literal["s2search.front/1"] = "s2search.front/1"

#: A complete front is walked while no layer has more labels; side by side, pairs of budgets keep so many of them each.
_MOST_COMPLETE, _MOST_TOGETHER = 4_000, 256
_GRID = 30


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """A layout that no other dominates: latency (us), memory with the largest peak (bytes), score, candidates."""

    latency_us: int
    memory_bytes: int
    score: float
    choice_L: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class BudgetBound:
    """No layout within these budgets (us, bytes) scores above this."""

    latency_us: int
    memory_bytes: int
    upper_bound: float


@dataclass(frozen=True, kw_only=True)
class Front(Document):
    """The best layouts for all budgets, with a certificate.

    `points` rise in latency; none has another that is as fast, as small and scores as high. `complete` says that no
    layout is missing. Otherwise `bounds` hold what was proven at the budgets that were searched, and `epsilon` is the
    largest distance there between the best layout found and the bound, relative to the score. No layout of the front
    is over `latency_limit_us` or `memory_limit_bytes`, the search's own budgets.
    """

    json_indent: ClassVar[int] = 1

    schema: Literal["s2search.front/1"] = SCHEMA
    points: tuple[FrontPoint, ...]
    bounds: tuple[BudgetBound, ...] = ()
    complete: bool
    epsilon: float
    latency_limit_us: int
    memory_limit_bytes: int

    def best(self, *, latency_us: int = UNLIMITED, memory_bytes: int = UNLIMITED) -> FrontPoint | None:
        """Return the known layout that scores most within two budgets; of equals the fastest. None if none fits."""
        fits_N = (self._points_N2 <= (latency_us, memory_bytes)).all(axis=1)
        if not fits_N.any():
            return None
        return self.points[int(np.where(fits_N, self._score_N, -np.inf).argmax())]

    def upper_bound(self, *, latency_us: int = UNLIMITED, memory_bytes: int = UNLIMITED) -> float | None:
        """Return what no layout within two budgets scores above; None where nothing is known, or nothing fits."""
        if self.complete:
            best = self.best(latency_us=latency_us, memory_bytes=memory_bytes)
            return None if best is None else best.score
        asked = min(latency_us, self.latency_limit_us), min(memory_bytes, self.memory_limit_bytes)
        covers_K = (self._budgets_K2 >= asked).all(axis=1)
        return float(self._bound_K[covers_K].min()) if covers_K.any() else None

    @cached_property
    def _points_N2(self) -> Int:
        return np.array([(p.latency_us, p.memory_bytes) for p in self.points], np.int64).reshape(-1, 2)

    @cached_property
    def _score_N(self) -> NDArray[np.float64]:
        return np.array([point.score for point in self.points])

    @cached_property
    def _budgets_K2(self) -> Int:
        return np.array([(b.latency_us, b.memory_bytes) for b in self.bounds], np.int64).reshape(-1, 2)

    @cached_property
    def _bound_K(self) -> NDArray[np.float64]:
        return np.array([bound.upper_bound for bound in self.bounds])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Front:
        """Read a front.

        Raises:
            InputError: The file is missing, or is not a front of this schema.
        """
        return read_json(path, cls, what=f"front of schema {SCHEMA}")


def frontier(
    problem: Problem,
    latency_budgets: Sequence[int] | None = None,
    memory_budgets: Sequence[int] | None = None,
    epsilon: float = 0.0,
    *,
    most_labels: int | None = None,
) -> Front:
    """Return the front within the problem's own budgets and constraints.

    Args:
        problem: The search. Its budgets limit the whole front.
        latency_budgets: Microseconds. If both lists are missing, the complete front is walked where it is small, and
            otherwise a grid is laid over it; if only one is, the problem's own budget takes its place.
        memory_budgets: Bytes.
        epsilon: How far the score may be from the proven bound at each pair of budgets, relative to the score; 0 for
            the optimum at each. The front's own `epsilon` says what was reached.
        most_labels: How many partial layouts to keep per layer and pair of budgets while all are searched together.

    Raises:
        InputError: An epsilon or a budget is negative or not a number.
        InfeasibleError: No layout fits the problem's own budgets, or any pair of the given ones.
    """
    if not 0 <= epsilon < 1:
        raise InputError(f"the epsilon is {epsilon}", allowed="0 to 1", remedy="give for example 0.01")
    folded = problem.by_group()
    points = _complete(folded) if latency_budgets is None and memory_budgets is None else None
    bounds: tuple[BudgetBound, ...] = ()
    reached = 0.0
    if points is None:
        if latency_budgets is None and memory_budgets is None:
            latency_budgets, memory_budgets = _grid(problem, folded)
        budgets_K2 = _pairs(problem, latency_budgets, memory_budgets)
        answers = _completed(folded, budgets_K2, _search(folded, budgets_K2, epsilon, most_labels), epsilon)
        points = _undominated(_points(folded, [a.layout for a in answers if a.layout is not None]))
        bounds = tuple(
            BudgetBound(latency_us=int(latency), memory_bytes=int(memory), upper_bound=answer.bound / FIXED_POINT)
            for (latency, memory), answer in zip(budgets_K2, answers, strict=True)
            if answer.layout is not None
        )
        reached = max(_distance(answer) for answer in answers)
        if not points:
            raise explain_infeasible(_loosest(problem, budgets_K2))
    if not points:
        raise explain_infeasible(problem)
    return Front(
        points=_unfold(points, problem),
        bounds=bounds,
        complete=not bounds,
        epsilon=reached,
        latency_limit_us=problem.latency_budget_us,
        memory_limit_bytes=problem.memory_budget_bytes,
    )


@dataclass(frozen=True, kw_only=True)
class Within:
    """The best layout within a pair of limits, None where there is none, and whether that is proven."""

    point: FrontPoint | None
    proven: bool


def best_within(problem: Problem, limits: Sequence[tuple[int, int]]) -> tuple[Within, ...]:
    """Return the best layout within each pair of limits (microseconds, bytes), all of them from one search.

    Of equals it is the fastest, and of these the smallest, where the complete front is small. The limits stand in the
    place of the problem's own.

    >>> import numpy as np
    >>> from s2search.testing.problems import random_problem
    >>> problem = random_problem(np.random.default_rng(0), layers=6, candidates=3)
    >>> loose, tight = best_within(problem, [(10**9, 10**12), (1, 1)])
    >>> loose.proven, loose.point is None, tight.point is None
    (True, False, True)
    """
    if not limits:
        return ()
    latency_us, memory_bytes = (max(limit[r] for limit in limits) for r in (0, 1))
    loosest = dataclasses.replace(problem, latency_budget_us=latency_us, memory_budget_bytes=memory_bytes)
    folded = loosest.by_group()
    points = _complete(folded)
    if points is not None:
        front = Front(
            points=_unfold(points, loosest),
            complete=True,
            epsilon=0.0,
            latency_limit_us=latency_us,
            memory_limit_bytes=memory_bytes,
        )
        return tuple(
            Within(point=front.best(latency_us=latency, memory_bytes=memory), proven=True) for latency, memory in limits
        )
    budgets_K2 = np.array(limits, np.int64)
    answers = _completed(folded, budgets_K2, _search(folded, budgets_K2, 0.0, None), 0.0)
    return tuple(
        Within(
            point=None if answer.layout is None else _unfold(_points(folded, [answer.layout]), loosest)[0],
            proven=answer.settled or answer.bound == answer.score,
        )
        for answer in answers
    )


def latency_front(problem: Problem, solver: Solver, *, points: int = 40) -> list[Solution]:
    """Return layouts of rising latency and score at the problem's memory budget, none dominated by another.

    With `Dynamic` the front is complete where it is small. Otherwise the solver is asked at `points` latency budgets,
    evenly spaced from the fastest layout to the best one.

    Raises:
        InfeasibleError: No layout fits.
    """
    if isinstance(solver, Dynamic) and (found := _complete(problem.by_group())):
        known = [_solution(problem, point) for point in _unfold(found, problem)]
    else:
        best = solver.solve(problem)
        relaxed = smallest_relaxations(dataclasses.replace(problem, latency_budget_us=best.latency_us)).found
        fastest_us = relaxed["latency"].needed if "latency" in relaxed else best.latency_us
        budgets = np.linspace(fastest_us, best.latency_us, points).astype(np.int64)
        known = [_at(solver, problem, int(budget)) for budget in budgets[:-1]] + [best]
    front: list[Solution] = []
    for solution in sorted(known, key=lambda s: (s.latency_us, -s.score)):
        if not front or solution.score > front[-1].score:
            front.append(solution)
    return front


def _at(solver: Solver, problem: Problem, latency_us: int) -> Solution:
    return solver.solve(dataclasses.replace(problem, latency_budget_us=latency_us))


def _solution(problem: Problem, point: FrontPoint) -> Solution:
    price = problem.price(point.choice_L)
    return Solution(
        choice_L=point.choice_L,
        score=point.score,
        latency_us=price.latency_us,
        memory_bytes=price.memory_bytes,
        peak_bytes=price.peak_bytes,
        upper_bound=point.score,
        optimal=True,
        method="dynamic",
    )


def _distance(answer: Answer) -> float:
    """Return how far an answer may be from the optimum, relative to its score; 0 where nothing fits."""
    if answer.layout is None:
        return 0.0
    return (answer.bound - answer.score) / max(abs(answer.score), 1)


def _pairs(problem: Problem, latencies: Sequence[int] | None, memories: Sequence[int] | None) -> Int:
    """Return all pairs of budgets, none above the problem's own."""
    latency_K = np.array([problem.latency_budget_us] if latencies is None else latencies, np.int64)
    memory_K = np.array([problem.memory_budget_bytes] if memories is None else memories, np.int64)
    for name, budget_K in (("latency", latency_K), ("memory", memory_K)):
        if not budget_K.size or (budget_K < 0).any():
            raise InputError(f"the {name} budgets are {budget_K.tolist()}", allowed="one or more, 0 or larger")
    latency_K = np.minimum(np.unique(latency_K), problem.latency_budget_us)
    memory_K = np.minimum(np.unique(memory_K), problem.memory_budget_bytes)
    return np.array([(latency, memory) for latency in latency_K for memory in memory_K], np.int64)


def _search(folded: Problem, budgets_K2: Int, epsilon: float, most_labels: int | None) -> list[Answer]:
    resources = folded.resources
    graph = Graph.of_resources(folded, resources)
    limit_KR = np.tile(np.array([min(r.limit, BOUNDLESS) for r in resources], np.int64), (len(budgets_K2), 1))
    limit_KR[:, :2] = np.where(
        budgets_K2 >= UNLIMITED, BOUNDLESS, budgets_K2 - [resource.fixed for resource in resources[:2]]
    )
    return search(graph, limit_KR, most_labels=most_labels or _MOST_TOGETHER, slack=epsilon)


def _completed(folded: Problem, budgets_K2: Int, answers: list[Answer], epsilon: float) -> list[Answer]:
    """Return the answers, each within epsilon of its bound: where labels ran out, a pair of budgets is solved alone.

    The loosest come first: what these find or rule out serves the rest.
    """
    answers, impossible_K2 = list(answers), list[Int]()
    for k in np.lexsort(budgets_K2.T)[::-1]:
        if answers[k].settled:
            continue
        if any((budgets_K2[k] <= impossible_2).all() for impossible_2 in impossible_K2):
            answers[k] = dataclasses.replace(answers[k], settled=True)
            continue
        latency_us, memory_bytes = budgets_K2[k].tolist()
        alone = dataclasses.replace(folded, latency_budget_us=latency_us, memory_budget_bytes=memory_bytes)
        known = [a for a in answers if a.layout is not None and alone.admits(a.layout)]
        if known:
            best = max(known, key=lambda a: (a.score, -a.latency))
            answers[k] = dataclasses.replace(best, bound=answers[k].bound, settled=False)
            if _distance(answers[k]) <= epsilon:
                continue
        try:
            solution = Dynamic().best(alone)
        except CheckError:
            if not known:
                raise
            continue  # the distance that is left is told
        if solution is None:
            impossible_K2.append(budgets_K2[k])
            answers[k] = dataclasses.replace(answers[k], settled=True)
            continue
        score, bound = (round(value * FIXED_POINT) for value in (solution.score, solution.upper_bound))
        latency = solution.latency_us - folded.fixed_us
        answers[k] = Answer(
            layout=solution.choice_L,
            score=score,
            latency=latency,
            bound=bound,
            settled=solution.optimal,
            tied=False,
        )
    return answers


def _loosest(problem: Problem, budgets_K2: Int) -> Problem:
    latency, memory = (int(budget) for budget in budgets_K2.max(axis=0))
    return dataclasses.replace(problem, latency_budget_us=latency, memory_budget_bytes=memory)


def _grid(problem: Problem, folded: Problem) -> tuple[list[int], list[int]]:
    """Return budgets from the least latency and memory of any layout to those of the best-scoring one."""
    graph = Graph.of_resources(folded, folded.resources)
    limit_R = np.array([min(r.limit, BOUNDLESS) for r in folded.resources], np.int64)
    least = [least_use(graph, limit_R, r) for r in range(2)]
    (best,) = search(graph, limit_R[None], most_labels=_MOST_TOGETHER, slack=0.01)
    layout = best.layout or Dynamic().solve(problem).choice_L[:: problem.group_size]
    price = folded.price(layout)
    fastest, smallest = (one[0] + resource.fixed for one, resource in zip(least, folded.resources, strict=False) if one)
    return (
        [int(b) for b in np.linspace(fastest, max(price.latency_us, fastest), _GRID)],
        [int(b) for b in np.linspace(smallest, max(price.total_bytes, smallest), _GRID)],
    )


def _complete(folded: Problem) -> list[FrontPoint] | None:
    """Return every undominated layout by one walk over the layers; None where too many partial layouts differ."""
    resources = folded.resources
    graph = Graph.of_resources(folded, resources).ordered()
    limit_R = np.array([min(r.limit, BOUNDLESS) for r in resources], np.int64)
    whole = Cases(limit_KR=limit_R[None], mask_K=np.zeros(1, np.int64), allowed_MLC=graph.allowed_LC[None])
    to_go_LRS = least_to_go(graph, graph.allowed_LC)
    layers = [Labels.at_start(graph, 1)]
    peak_RN = np.zeros_like(layers[0].used_RN)
    for layer in range(graph.layers):
        labels = extended(graph, layers[-1], layer, whole)
        peak_RN = np.maximum(peak_RN[:, labels.parent_N], graph.peak_RLC[:, layer, labels.choice_N])
        least_RN = labels.used_RN + peak_RN + to_go_LRS[layer + 1][:, labels.stream_N]
        kept = np.flatnonzero((least_RN <= limit_R[:, None]).all(axis=0))
        if not kept.size:
            return []
        with_peaks = dataclasses.replace(labels, used_RN=np.concatenate([labels.used_RN, peak_RN]))
        kept = kept[undominated(with_peaks.keep(kept))]
        if kept.size > _MOST_COMPLETE:
            return None
        layers.append(labels.keep(kept))
        peak_RN = peak_RN[:, kept]
    layouts = [tuple(reversed(trace(layers, n))) for n in range(len(layers[-1]))]
    return _undominated(_points(folded, [layout for layout in layouts if folded.admits(layout)]))


def _points(folded: Problem, layouts: Sequence[tuple[int, ...]]) -> list[FrontPoint]:
    points = []
    for layout in dict.fromkeys(layouts):
        price = folded.price(layout)
        points.append(
            FrontPoint(latency_us=price.latency_us, memory_bytes=price.total_bytes, score=price.score, choice_L=layout)
        )
    return points


def _undominated(points: list[FrontPoint]) -> list[FrontPoint]:
    """Keep the points that no other is as fast, as small and scores as high as, by rising latency and score."""
    kept: list[FrontPoint] = []
    memory_N, score_N = np.empty(len(points), np.int64), np.empty(len(points))
    for point in sorted(points, key=lambda p: (p.latency_us, -p.score, p.memory_bytes, p.choice_L)):
        count = len(kept)
        if not ((memory_N[:count] <= point.memory_bytes) & (score_N[:count] >= point.score)).any():
            memory_N[count], score_N[count] = point.memory_bytes, point.score
            kept.append(point)
    return kept


def _unfold(points: list[FrontPoint], problem: Problem) -> tuple[FrontPoint, ...]:
    return tuple(
        dataclasses.replace(point, choice_L=tuple(c for c in point.choice_L for _ in range(problem.group_size)))
        for point in points
    )
