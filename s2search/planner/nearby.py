"""The best layout near a plan's own: within so many changed layers, or else with the fewest that do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from s2search.errors import InfeasibleError
from s2search.planner.diff import changed_layers
from s2search.planner.evidence import scored
from s2search.planner.find import find
from s2search.planner.plan import Plan
from s2search.planner.promise import Replan, ReplanCost
from s2search.planner.request import Request
from s2search.solver.base import Solver


def replan_near(request: Request, choice_L: Sequence[int], solver: Solver) -> tuple[Replan | None, str]:
    """Return the best layout near one that breaks a budget, or the nearest that breaks none, or why there is none.

    Args:
        request: Its constraints say near which layout, and how many layers may change.
        choice_L: That layout.
        solver: To search with.
    """

    def within(changes: int) -> Plan:
        constraints = dataclasses.replace(request.constraints, max_changes=changes)
        return find(dataclasses.replace(request, constraints=constraints), solver)

    asked = request.constraints.max_changes or 0
    try:
        return _written(request, choice_L, within(asked)), ""
    except InfeasibleError as error:
        fewest: int | None = error.fields.get("relaxations", {}).get("changes")
    try:
        found = within(len(choice_L) if fewest is None else fewest)
    except InfeasibleError as error:
        return None, error.problem
    if fewest is None:  # with a confidence no sum says it, and else it would have taken too long to say
        found = _fewest(within, found, asked + 1)
    return _written(request, choice_L, found), ""


def _fewest(within: Callable[[int], Plan], found: Plan, low: int) -> Plan:
    """Return the best of the plans that change the fewest layers, `low` or more of them, given one that fits."""
    while low < (high := _changes(found)):
        middle = (low + high) // 2
        try:
            found = within(middle)
        except InfeasibleError:
            low = middle + 1
    return found


def _changes(found: Plan) -> int:
    return len(found.constraints.changes(found.layout))


def _written(request: Request, choice_L: Sequence[int], found: Plan) -> Replan:
    allowed_LC = scored(request.space, request.score)[1]
    allowed = all(allowed_LC[layer, c] for layer, c in enumerate(choice_L))
    latencies_ms = [found.kept_ms, *(device.latency_ms.predicted for device in found.devices[1:])]
    return Replan(
        changes=_changes(found),
        layers=changed_layers([request.space.candidates[c].label for c in choice_L], found.layout),
        layout=found.layout,
        written=found.written,
        score=found.score,
        score_now=request.problem.price(choice_L).score if allowed else None,
        optimal=found.optimal,
        devices=tuple(
            ReplanCost(
                table=device.table,
                latency_ms=latency_ms,
                memory_bytes=device.memory_bytes.predicted,
                frames_per_second=device.rate.frames_per_second[found.commit] if device.rate else None,
            )
            for device, latency_ms in zip(found.every_device, latencies_ms, strict=True)
        ),
    )
