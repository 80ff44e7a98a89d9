"""Neighbours: an answer with the next value of one axis, and what lacks where nothing fits there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from s2search.cost import MOST_STEPS, format_bytes, format_us
from s2search.designer.axes import AXES, AxisName, DesignAxis, Value
from s2search.designer.combination import Combination, Surroundings
from s2search.designer.document import Neighbour
from s2search.designer.found import FoundDesign
from s2search.designer.preference import best_of
from s2search.designer.search import Search
from s2search.errors import MissingRowError
from s2search.preset import token_grid
from s2search.solver.frontier import FrontPoint
from s2search.solver.problem import UNLIMITED

#: Video sizes of 16:9 whose sides are multiples of 16: what may be wished for next.
_SIZES = tuple(f"{256 * n}x{144 * n}" for n in range(1, 8))


def neighbours_of(
    search: Search, answer: FoundDesign, axes: Sequence[DesignAxis], prefer: Sequence[str]
) -> tuple[Neighbour, ...]:
    """Return the answer with the next value of every axis, one step each way, under the same budgets."""
    found = []
    for axis, value, offered in _steps(answer.combination, axes):
        try:
            found.append(_neighbour(search, answer.combination.with_value(axis, value), axis, value, offered, prefer))
        except MissingRowError as error:
            if offered:  # beyond that, nobody asked
                said = f"it has no price: {error.problem}"
                found.append(Neighbour(axis=axis, value=value, offered=True, design=None, missing=said))
    return tuple(found)


def _steps(combination: Combination, axes: Sequence[DesignAxis]) -> Iterator[tuple[AxisName, Value, bool]]:
    by_name = {axis.name: axis for axis in axes}
    for name in AXES:
        values, now = by_name[name].values, combination.of(name)
        place = values.index(now)
        if not by_name[name].ordered:
            yield from ((name, value, True) for value in values if value != now)
            continue
        yield from ((name, values[p], True) for p in (place - 1, place + 1) if 0 <= p < len(values))
        if place == len(values) - 1 and (beyond := _beyond(name, now)) is not None:
            yield name, beyond, False


def _beyond(axis: AxisName, value: Value) -> Value | None:
    """Return the next value after the last one on offer, where there is a usual one."""
    if axis == "steps":
        return min(2 * int(value), MOST_STEPS) if int(value) < MOST_STEPS else None
    if axis == "video":
        height, width = token_grid(str(value))
        larger = [size for size in _SIZES if math.prod(token_grid(size)) > height * width]
        return larger[0] if larger and width >= height else None
    return None


def _neighbour(
    search: Search,
    combination: Combination,
    axis: AxisName,
    value: Value,
    offered: bool,
    prefer: Sequence[str],
) -> Neighbour:
    """Search one combination under the budgets that were asked."""
    program, around = search.program(combination), search.setting.around(combination)
    limits = search.limits(around, program, "asked")
    several = [] if limits is None else search.designs(around, program, limits)
    best = best_of(several, prefer)
    if best is not None:
        return Neighbour(axis=axis, value=value, offered=offered, design=best.described())
    return _missing(search, Neighbour(axis=axis, value=value, offered=offered, design=None), around)


def _missing(search: Search, neighbour: Neighbour, around: Surroundings) -> Neighbour:
    """Say how much faster, or smaller, it would have to be."""
    program, budgets = search.program(around.combination), search.question.budgets["asked"]
    left_us, left_bytes = around.forward_us(budgets), around.transformer_bytes(budgets)
    if left_us is None:
        said = "the decoder and the text encoder alone take longer than a chunk may"
        return dataclasses.replace(neighbour, missing=said)
    waiting = around.waiting_too_many(program.state_bytes, budgets)
    fastest = program.fastest(left_bytes, around.peak_bytes) if left_bytes > 0 and not waiting else None
    smallest = program.smallest(left_us, around.peak_bytes)
    if fastest is None and smallest is None:
        most = program.fastest(UNLIMITED, around.peak_bytes)
        return _both_missing(neighbour, most, left_us, left_bytes, waiting)
    missing_us = None if fastest is None else max(fastest.latency_us - left_us, 0)
    missing_bytes = None if smallest is None else max(smallest.memory_bytes - left_bytes, waiting)
    ways = [
        *([f"{format_us(missing_us)} less a pass"] if missing_us else []),
        *([f"{format_bytes(missing_bytes)} more memory"] if missing_bytes else []),
    ]
    return dataclasses.replace(
        neighbour,
        missing_ms=missing_us / 1000 if missing_us else None,
        missing_bytes=missing_bytes or None,
        missing=f"{' or '.join(ways)} would allow it",
    )


def _both_missing(
    neighbour: Neighbour, fastest: FrontPoint | None, left_us: int, left_bytes: int, waiting: int
) -> Neighbour:
    """Say how much its fastest layout lacks of both, where no layout lacks one alone."""
    if fastest is None:
        return dataclasses.replace(neighbour, missing="no layout keeps what is asked of layouts")
    missing_us, missing_bytes = fastest.latency_us - left_us, max(fastest.memory_bytes - left_bytes, waiting)
    said = f"its fastest layout takes {format_us(missing_us)} a pass and {format_bytes(missing_bytes)} too much"
    return dataclasses.replace(neighbour, missing=said)
