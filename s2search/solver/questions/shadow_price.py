"""Shadow prices: what a little more, or less, of one budget does to the best score. Exact, by solving again.

A front of whole layouts has steps, so three things are told of every budget: its next step (the least that must be
added for any better score, and that score), what a round unit more buys, and what a round unit less costs. The
multiplier of the Lagrangian relaxation is the slope of the front's upper hull: about right over many steps, and wrong
about the next one.

Axes:  L layers  C candidates  R resources  K cases  P price sets  M masks of allowed candidates

Why by bisection: docs/decisions/solver.md, "Shadow prices come from bisection".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from s2search.solver.base import Solution, Solver
from s2search.solver.exact.dual import lagrangian_dual
from s2search.solver.exact.graph import BOUNDLESS, Cases, Graph, limited_resources
from s2search.solver.problem import FIXED_POINT, UNLIMITED, Problem, Resource
from s2search.solver.questions.threshold import first_better, proven, proven_if_any

#: What is added to a budget and taken off it, by the resource's unit: one millisecond, one megabyte.
ROUND_UNIT = {"us": 1000, "bytes": 1_000_000}
_FURTHER = 16


@dataclass(frozen=True, kw_only=True)
class NextPoint:
    """The front's next point along one budget: the least to add for a better score, and the best layout then.

    `extra` is in the resource's whole numbers, microseconds or bytes; `gain` in the score's unit.
    """

    extra: int
    gain: float
    choice_L: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ShadowPrice:
    """What one budget is worth, all others as they are.

    `next` is None where no amount of it buys anything. `gain` is what `ROUND_UNIT` more buys, and `loss` what as much
    less costs (None: no layout fits any more), in the score's unit. `multiplier` is the score per `ROUND_UNIT` in the
    Lagrangian relaxation whose peaks are at most the layout's.
    """

    name: str
    unit: str
    next: NextPoint | None
    gain: float
    loss: float | None
    multiplier: float


def shadow_prices(problem: Problem, best: Solution, solver: Solver) -> tuple[ShadowPrice, ...]:
    """Return what every latency and memory budget of a problem is worth, those of further devices included.

    Args:
        problem: The search.
        best: Its optimum.
        solver: An exact solver.

    Raises:
        ProblemError: The solver does not prove its answers.
    """
    multipliers = _multipliers(problem, best)
    return tuple(
        ShadowPrice(
            name=resource.name,
            unit=resource.unit,
            next=next_point(problem, best, resource, solver),
            gain=_gain(proven(solver, with_more(problem, resource.name, ROUND_UNIT[resource.unit])), best),
            loss=_loss(problem, best, resource, solver),
            multiplier=multipliers[resource.name] * ROUND_UNIT[resource.unit],
        )
        for resource in budgets(problem)
    )


def budgets(problem: Problem) -> tuple[Resource, ...]:
    """Return the resources of a problem that are budgets and limited."""
    return tuple(r for r in problem.resources if r.unit in ROUND_UNIT and r.limit < UNLIMITED // 2)


def next_point(problem: Problem, best: Solution, resource: Resource, solver: Solver) -> NextPoint | None:
    """Return the least addition to one budget that lets a better score in; None where none does.

    Raises:
        ProblemError: The solver does not prove its answers.
    """
    most = max(resource.most - resource.limit, 1)
    begin = ROUND_UNIT.get(resource.unit, max(resource.limit // 100, 1))
    same, reach = 0, min(begin, most)
    while True:
        found = first_better(
            lambda extra: with_more(problem, resource.name, extra), best, solver, same=same, reach=reach
        )
        if found is not None:
            return NextPoint(extra=found.change, gain=_gain(found.solution, best), choice_L=found.solution.choice_L)
        if reach == most:
            return None
        same, reach = reach, min(_FURTHER * reach, most)


def with_more(problem: Problem, name: str, extra: int) -> Problem:
    """Return the same search with more of one budget (less, if negative), named as in `Problem.resources`."""
    if any(limit.name == name for limit in problem.limits):
        limits = (
            dataclasses.replace(limit, limit=limit.limit + extra) if limit.name == name else limit
            for limit in problem.limits
        )
        return dataclasses.replace(problem, limits=tuple(limits))
    kind, _, device_name = name.partition(" of ")
    field = {"latency": "latency_budget_us", "memory": "memory_budget_bytes"}[kind]
    if not device_name:
        return dataclasses.replace(problem, **{field: getattr(problem, field) + extra})
    devices = tuple(
        dataclasses.replace(device, **{field: getattr(device, field) + extra}) if device.name == device_name else device
        for device in problem.devices
    )
    return dataclasses.replace(problem, devices=devices)


def _loss(problem: Problem, best: Solution, resource: Resource, solver: Solver) -> float | None:
    unit = ROUND_UNIT[resource.unit]
    if resource.limit + resource.fixed < unit:
        return None
    with_less = proven_if_any(solver, with_more(problem, resource.name, -unit))
    return None if with_less is None else _gain(best, with_less)


def _multipliers(problem: Problem, best: Solution) -> dict[str, float]:
    """Return the prices of the least Lagrangian bound, in score per microsecond or byte."""
    folded = problem.by_group()
    graph, limit_R = Graph.of(folded)
    layout = best.choice_L[:: problem.group_size]
    peak_R = graph.peak_RLC[:, np.arange(graph.layers), list(layout)].max(axis=1)
    allowed_LC = graph.allowed_LC & (graph.peak_RLC <= peak_R[:, None, None]).all(axis=0)
    left_R = np.where(limit_R < BOUNDLESS, limit_R - peak_R, BOUNDLESS)
    cases = Cases(limit_KR=left_R[None], mask_K=np.zeros(1, np.int64), allowed_MLC=allowed_LC[None])
    price_R = lagrangian_dual(graph, cases).price_KPR[0, 0]
    names = [resource.name for resource in limited_resources(folded)]
    return {name: float(price) / FIXED_POINT for name, price in zip(names, price_R, strict=True)}


def _gain(found: Solution, over: Solution) -> float:
    return round(found.score - over.score, 9)
