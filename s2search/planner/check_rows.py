"""The rows behind a promise: what each part took when it was planned and takes now, to the microsecond and the byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

from s2search.cost import Cost
from s2search.errors import InputError
from s2search.planner.plan import DeviceAnswer, Plan
from s2search.planner.promise import CheckedPromise, CheckedRow
from s2search.solver.problem import Problem
from s2search.space import Space

_Kind = Literal["latency", "memory"]


def latency_rows(
    plan: Plan, then: DeviceAnswer, costs: Mapping[str, Cost], problem: Problem, choice_L: Sequence[int]
) -> list[CheckedRow]:
    """Return what the parts of a plan's layout took of a forward pass, as the plan says, and take of it now."""
    blocks_us = sum(costs[label].latency_us for label in plan.layout)
    switches_us = problem.price(choice_L).latency_us - blocks_us - problem.fixed_us
    parts = [
        (label, count, count * _us(then.blocks[label].latency_ms), count * costs[label].latency_us)
        for label, count in plan.counts.items()
        if count
    ]
    if plan.switches:
        parts.append(("switches", plan.switches, _us(then.latency_ms.switches), switches_us))
    parts.append(("stem and head", 1, _us(then.latency_ms.fixed), problem.fixed_us))
    return [
        CheckedRow(name=name, count=count, kind="latency", then=was / 1000, now=now / 1000, moved=(now - was) / 1000)
        for name, count, was, now in parts
    ]


def memory_rows(
    plan: Plan, then: DeviceAnswer, costs: Mapping[str, Cost], problem: Problem, choice_L: Sequence[int]
) -> list[CheckedRow]:
    """Return the bytes that the parts of a plan's layout held, as the plan says, and hold now."""
    parts = [
        (label, count, count * then.blocks[label].memory_bytes, count * costs[label].memory_bytes)
        for label, count in plan.counts.items()
        if count
    ]
    parts.append(("stem, head, switches", 1, then.memory_bytes.fixed, problem.fixed_bytes))
    parts.append(("activation peak", 1, then.memory_bytes.peak, problem.price(choice_L).peak_bytes))
    return [
        CheckedRow(name=name, count=count, kind="memory", then=was, now=now, moved=now - was)
        for name, count, was, now in parts
    ]


def check_sums(then: DeviceAnswer, rows: Sequence[CheckedRow]) -> None:
    """Raise unless what a plan says of its parts is what it says of the whole.

    Raises:
        InputError: Somebody changed the file.
    """
    latency, memory = then.latency_ms, then.memory_bytes
    stated = [
        ("latency", "us", _us(latency.predicted), sum(_us(row.then) for row in rows if row.kind == "latency")),
        ("memory", "bytes", memory.predicted, sum(int(row.then) for row in rows if row.kind == "memory")),
    ]
    if latency.budget is not None and latency.slack is not None:
        stated.append(("latency budget", "us", _us(latency.budget), _us(latency.predicted) + _us(latency.slack)))
    if memory.budget is not None and memory.slack is not None:
        stated.append(("memory budget", "bytes", memory.budget, memory.predicted + memory.slack))
    for name, unit, whole, parts in stated:
        if parts != whole:
            raise InputError(
                f"the plan states a {name} of {whole:,} {unit} on {then.table!r}, and its parts come to {parts:,}: "
                "it was changed by hand",
                remedy="plan again",
            )


def check_written(plan: Plan, space: Space) -> None:
    """Raise unless a plan's layout is written as its blocks are, in the space of its own candidates.

    Raises:
        InputError: Somebody changed the file.
    """
    labels = [block.label for block in space.candidates]
    written = space.write_layout([labels.index(label) for label in plan.layout])
    if plan.written != written:
        raise InputError(
            f"the plan's layout is written {plan.written!r}, and its blocks are {written}: it was changed by hand",
            remedy="plan again",
        )


def promise_of(kind: _Kind, scale: int, rows: Sequence[CheckedRow], tolerance: Fraction | None) -> CheckedPromise:
    """Return what rows add up to, `scale` of whose whole numbers make a unit."""
    then = sum(round(scale * row.then) for row in rows if row.kind == kind)
    now = sum(round(scale * row.now) for row in rows if row.kind == kind)
    return CheckedPromise(
        kind=kind,
        then=then / scale,
        now=now / scale,
        moved=(now - then) / scale,
        moved_relative=now / then - 1 if then else None,
        kept=None if tolerance is None else now <= then * (1 + tolerance),
    )


def _us(milliseconds: float) -> int:
    return round(1000 * milliseconds)
