"""Asking again what a plan answers: by another score, or on tables as they are now."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from s2search import registry
from s2search.block import Block
from s2search.cost import NOTHING_TOLD, Budget, BudgetKind
from s2search.errors import InputError, TableError
from s2search.latency.base import LatencyModel
from s2search.planner.constraints import Constraints
from s2search.planner.plan import DeviceAnswer, Plan
from s2search.planner.request import Request, Target
from s2search.preset import token_grid
from s2search.score.base import Score
from s2search.space import Space
from s2search.tables.table import LatencyTable, open_table, table_folder


def tables_behind(plan: Plan, given: Sequence[LatencyTable] = ()) -> tuple[LatencyTable, ...]:
    """Return the tables that a plan was made from, the first device's first: those given, else installed ones.

    Raises:
        TableError: One is not there, or is another one than it was; or one is given that the plan does not know.
    """
    devices = plan.every_device
    for table in given:
        if table.digest not in [device.table_digest for device in devices]:
            raise TableError(
                f"the table {table.name!r} is {table.digest[:19]}, and the plan was made from "
                + " and ".join(f"{device.table} {device.table_digest[:19]}" for device in devices),
                remedy="name the table that it was made from, or plan again",
            )
    return tuple(_table_of(device, given) for device in devices)


def asked_again(plan: Plan, tables: Sequence[LatencyTable], score: Score) -> Request:
    """Return the question that a plan answers, by another score, with as many layers of each block as the plan has.

    Args:
        plan: Its layout is within its budgets.
        tables: Those of `tables_behind`.
        score: To search by.

    Raises:
        InputError: The plan's own layout does not fit, or costs something else now.
    """
    constraints = dataclasses.replace(plan.constraints, counts={label: (n, n) for label, n in plan.counts.items()})
    request = asked_on(
        plan, targets_on(plan, tables), candidates_of(plan), constraints, model=model_of_plan(plan), score=score
    )
    _check_costs(plan, request)
    return request


def candidates_of(plan: Plan) -> tuple[Block, ...]:
    """Return the blocks that a plan chose from."""
    return tuple(registry.create("blocks", label) for label in plan.blocks)


def model_of_plan(plan: Plan) -> LatencyModel:
    """Return the latency model that a plan read its tables by."""
    model: LatencyModel = registry.create("latency_models", plan.provenance.latency_model_label)
    return model


def targets_on(plan: Plan, tables: Sequence[LatencyTable]) -> tuple[Target, ...]:
    """Return a plan's devices, with their budgets, on these tables."""
    return tuple(map(_target, [plan] * len(tables), plan.every_device, tables))


def asked_on(
    plan: Plan,
    targets: Sequence[Target],
    candidates: Sequence[Block],
    constraints: Constraints,
    *,
    model: LatencyModel,
    score: Score,
) -> Request:
    """Return a plan's question on devices, with other candidates and constraints."""
    first, *further = targets
    return Request(
        table=first.table,
        scope=first.scope,
        space=Space(candidates=tuple(candidates), depth=plan.depth, group_size=plan.group_size),
        latency_model=model,
        score=score,
        budgets=first.budgets,
        commit=first.commit,
        told=first.told,
        constraints=constraints,
        further=tuple(further),
        confidence=None if plan.confidence is None else plan.confidence.asked,
    )


def _table_of(device: DeviceAnswer, given: Sequence[LatencyTable]) -> LatencyTable:
    for table in given:
        if table.digest == device.table_digest:
            return table
    if table_folder(device.table) is None:
        raise TableError(
            f"the plan was made from the table {device.table!r}, which is not installed", remedy="name its folder"
        )
    table = open_table(device.table)
    if table.digest != device.table_digest:
        raise TableError(
            f"the plan was made from the table {device.table!r} {device.table_digest[:19]}, and the one here is "
            f"{table.digest[:19]}",
            remedy="name the folder of that table, or plan again",
        )
    return table


def _target(plan: Plan, device: DeviceAnswer, table: LatencyTable) -> Target:
    latency, memory, rate = _asked_ms(device), device.memory_bytes.budget, device.rate and device.rate.budget
    hot, p95 = bool(device.table_picked), plan.p95 if device == plan.every_device[0] else None
    times: list[tuple[BudgetKind, float | None]] = [
        ("first", None if device.first is None else device.first.budget),
        ("p95", None if p95 is None else p95.budget),
    ]
    return Target(
        table=table,
        scope=table.scope(
            "stream" if plan.scenario == "stream" else "clip",
            video=token_grid(plan.video),
            precision=device.precision,
            compute_unit=device.compute_unit,
        ),
        budgets=(
            *([] if latency is None else [_budget("latency", latency, hot=hot)]),
            *([] if memory is None else [Budget("memory", Fraction(memory), f"{memory}B")]),
            *([] if not rate else [Budget("rate", Fraction(repr(rate)), _at(f"{rate:g}fps", hot=hot), hot)]),
            *(_budget(kind, ms, hot=hot) for kind, ms in times if ms is not None),
        ),
        commit=plan.commit,
        told=(device.rate and device.rate.told) or NOTHING_TOLD,
    )


def _budget(kind: BudgetKind, ms: float, *, hot: bool) -> Budget:
    text = f"{ms:g}ms" if kind == "latency" else f"{kind}:{ms:g}ms"
    return Budget(kind, Fraction(round(1000 * ms)), _at(text, hot=hot), hot)


def _at(text: str, *, hot: bool) -> str:
    return f"{text}@sustained" if hot else text


def _asked_ms(device: DeviceAnswer) -> float | None:
    """Return the latency budget that was asked for; rate and first frames leave their own, as the pipeline has it."""
    budget = device.latency_ms.budget
    left = [one.arithmetic for one in (device.rate, device.first) if one is not None and one.arithmetic is not None]
    return None if any(line.endswith(f" = {budget:g} ms") for line in left) else budget


def _check_costs(plan: Plan, request: Request) -> None:
    """Raise unless the plan's own layout fits, and costs what the plan says."""
    labels = [block.label for block in request.space.candidates]
    choice_L = [labels.index(label) for label in plan.layout]
    problems = [request.problem, *map(request.problem.on_device, request.problem.devices)]
    for device, problem in zip(plan.every_device, problems, strict=True):
        price = problem.price(choice_L)
        now, then = (
            (price.latency_us, price.total_bytes),
            (
                round(1000 * device.latency_ms.predicted),
                device.memory_bytes.predicted,
            ),
        )
        if now != then:
            raise InputError(
                f"the plan's layout {plan.written} takes {now[0]} us and {now[1]} bytes on {device.table!r}, and the "
                f"plan says {then[0]} us and {then[1]} bytes",
                remedy="plan again: what predicts latencies, or a block, has changed",
            )
    if not request.admits(choice_L):
        raise InputError(
            f"the plan's layout {plan.written} does not keep its own budgets and constraints",
            remedy="plan without --layout, or with larger budgets",
        )
