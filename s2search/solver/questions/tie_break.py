"""Which of equally good layouts is shown, whatever the solver came upon first.

Of the best layouts the fastest count, near a given layout those that change the fewest layers. Of these the first by
name (candidates compared layer by layer, in the order of their labels) is `canonical`. Its blocks, put in the most even
order that fits, are shown; where no such order is as good, the canonical layout itself. Neither depends on the order in
which candidates are given or states are looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from s2search.errors import InfeasibleError
from s2search.solver.base import Solution, Solver
from s2search.solver.problem import Problem
from s2search.solver.questions.ties import find_ties
from s2search.space import Space

_MOST_STATES = 2_000


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


def canonical(solution: Solution, problem: Problem, space: Space) -> Solution:
    """Prefer the first by name of all layouts that are as good, no slower, and change no more of the reference.

    The layout stays where there are too many different partial layouts to be sure of the first.
    """
    within = dataclasses.replace(
        problem,
        latency_budget_us=solution.latency_us,
        max_changes=None if problem.max_changes is None else _changes(problem, solution),
    )
    score = problem.price(solution.choice_L).fixed_point_score
    ties = find_ties(within, score, most_states=_MOST_STATES, examples=1, order_C=space.by_label_C)
    return _with_layout(solution, problem, ties.examples[0]) if ties.exact else solution


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
    free_L, by_label_C = solution.choice_L[start:end], space.by_label_C
    counts_C = [free_L.count(c) for c in by_label_C]
    by_label = dataclasses.replace(space, candidates=tuple(space.candidates[c] for c in by_label_C))
    for runs in range(space.groups, 0, -1):
        between_L = tuple(by_label_C[i] for i in by_label.interleave(counts_C, runs=runs))
        even_L = solution.choice_L[:start] + between_L + solution.choice_L[end:]
        even = problem.price(even_L)
        as_good = even.fixed_point_score == found.fixed_point_score and even.latency_us <= latency_us
        if as_good and (admits or problem.admits)(even_L):
            return _with_layout(solution, problem, even_L)
    return solution


def _with_layout(solution: Solution, problem: Problem, choice_L: Sequence[int]) -> Solution:
    """Return the same answer with another layout that is as good."""
    price = problem.price(choice_L)
    return dataclasses.replace(
        solution,
        choice_L=tuple(choice_L),
        latency_us=price.latency_us,
        memory_bytes=price.memory_bytes,
        peak_bytes=price.peak_bytes,
    )


def _free_layers(problem: Problem) -> tuple[int, int]:
    """Return where the groups begin and end that have a choice."""
    size, candidates = problem.group_size, len(problem.stream_C)
    open_G = problem.allowed_LC.reshape(-1, size, candidates).min(axis=1).sum(axis=1) > 1
    free = [int(group) for group in open_G.nonzero()[0]] or [0, -1]
    return size * free[0], size * (free[-1] + 1)


def _changes(problem: Problem, solution: Solution) -> int:
    return sum(old != new for old, new in zip(problem.reference_L or (), solution.choice_L, strict=True))
