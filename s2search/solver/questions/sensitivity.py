"""Sensitivity: how far one latency may move before the best layout is another one. Exact to the microsecond.

A latency that grows only shuts layouts out: the best one stays the best until it no longer fits itself. One that falls
only lets layouts in, until a better one fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s2search.solver.base import Solution, Solver
from s2search.solver.problem import Problem
from s2search.solver.questions.threshold import first, first_better

#: The furthest that a latency is moved, as a fraction of itself.
FURTHEST = 0.5


@dataclass(frozen=True, kw_only=True)
class LatencyReach:
    """The least changes of one latency that end a layout's reign, microseconds; None where none within `FURTHEST` does.

    `faster_us`: so much faster, and a better layout fits. `slower_us`: so much slower, and the layout does not fit.
    """

    faster_us: int | None
    slower_us: int | None


def sensitivity(pose: Callable[[int], Problem], latency_us: int, best: Solution, solver: Solver) -> LatencyReach:
    """Return how far one latency may move either way.

    Args:
        pose: The search if that latency were so many microseconds.
        latency_us: What it is.
        best: The optimum then.
        solver: An exact solver.
    """
    reach_us = int(latency_us * FURTHEST)
    faster = None
    if reach_us:
        faster = first_better(lambda change: pose(latency_us - change), best, solver, same=0, reach=reach_us)
    return LatencyReach(
        faster_us=None if faster is None else faster.change,
        slower_us=_first_misfit(lambda change: pose(latency_us + change), reach_us, best),
    )


def _first_misfit(pose: Callable[[int], Problem], reach_us: int, best: Solution) -> int | None:
    if pose(reach_us).admits(best.choice_L):
        return None
    return first(lambda change: not pose(change).admits(best.choice_L), 0, reach_us)
