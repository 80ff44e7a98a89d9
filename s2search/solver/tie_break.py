"""Which of equally good layouts is shown: the most even sandwich, or the one nearest to a given layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from s2search.errors import InfeasibleError
from s2search.problem import Problem
from s2search.solver.base import Solution, Solver
from s2search.space import Space


def nearest(solution: Solution, problem: Problem, solver: Solver) -> Solution:
    """Prefer a layout that is as good and changes the fewest layers of the reference, by bisection."""
    too_few, enough = -1, _changes(problem, solution)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        try:
            nearer = solver.solve(dataclasses.replace(problem, max_changes=middle))
        except InfeasibleError:
            nearer = None
        if nearer is None or nearer.score < solution.score:
            too_few = middle
        else:
            enough = _changes(problem, nearer)
            solution = dataclasses.replace(nearer, upper_bound=solution.upper_bound, optimal=solution.optimal)
    return solution


def interleaved(
    solution: Solution,
    problem: Problem,
    space: Space,
    *,
    latency_us: int,
    admits: Callable[[tuple[int, ...]], bool] | None = None,
) -> Solution:
    """Prefer the most evenly interleaved layout of the same counts that is as good and takes at most this latency.

    Fixed first and last layers stay; what is between them is interleaved. `admits` is what a layout must meet: by
    default, the problem's own limits.
    """
    found = problem.price(solution.choice_L)
    start, end = _free_layers(problem)
    free_L = solution.choice_L[start:end]
    counts_C = [free_L.count(c) for c in range(len(space.candidates))]
    for runs in range(space.groups, 0, -1):
        even_L = solution.choice_L[:start] + space.interleave(counts_C, runs=runs) + solution.choice_L[end:]
        even = problem.price(even_L)
        as_good = even.fixed_point_score == found.fixed_point_score and even.latency_us <= latency_us
        if as_good and (admits or problem.admits)(even_L):
            return dataclasses.replace(
                solution,
                choice_L=even_L,
                latency_us=even.latency_us,
                memory_bytes=even.memory_bytes,
                peak_bytes=even.peak_bytes,
            )
    return solution


def _free_layers(problem: Problem) -> tuple[int, int]:
    """Return where the groups begin and end that have a choice."""
    size, candidates = problem.group_size, len(problem.stream_C)
    open_G = problem.allowed_LC.reshape(-1, size, candidates).min(axis=1).sum(axis=1) > 1
    free = [int(group) for group in open_G.nonzero()[0]] or [0, -1]
    return size * free[0], size * (free[-1] + 1)


def _changes(problem: Problem, solution: Solution) -> int:
    return sum(old != new for old, new in zip(problem.reference_L or (), solution.choice_L, strict=True))
