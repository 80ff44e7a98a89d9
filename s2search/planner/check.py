"""Holding a plan against tables: its budgets, what it promised, and which rows moved.

A plan holds what its parts cost when it was made, so the file and a table are enough: the old table is not needed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from s2search.block import Block, Stream
from s2search.errors import InputError, MissingRowError, TableError
from s2search.latency.base import LatencyModel
from s2search.planner.check_rows import check_sums, check_written, latency_rows, memory_rows, promise_of
from s2search.planner.nearby import replan_near
from s2search.planner.plan import DeviceAnswer, Plan
from s2search.planner.promise import CheckedBudget, CheckedDevice, PlanCheck
from s2search.planner.replan import asked_on, candidates_of, model_of_plan, targets_on
from s2search.planner.request import Request, Target
from s2search.registry import own_version
from s2search.score.base import Score
from s2search.score.file import ScoreFile
from s2search.solver.base import Solver
from s2search.solver.problem import Problem
from s2search.tables.table import LatencyTable, open_table, sustained_beside, table_folder


def check_plan(
    plan: Plan,
    given: Sequence[LatencyTable],
    solver: Solver,
    *,
    score: Score | None,
    changes: int,
    tolerance: Fraction | None = None,
) -> PlanCheck:
    """Hold a plan against tables.

    Args:
        plan: Its own numbers add up.
        given: As many tables as the plan has devices, in their order; none for those that it names, as they are now.
        solver: To look for another layout where a budget is not kept.
        score: To rank other layouts; None where `changes` is 0.
        changes: The most layers that another layout may change; 0 to look for none.
        tolerance: How much more than promised is kept, as a part of it.

    Raises:
        InputError: The plan contradicts itself, has nothing that could fail, or the tables are of other models.
        TableError: A table is not there, or lacks rows that the layout needs.
    """
    _check_question(plan, changes, tolerance)
    named = given or [_as_it_is(device) for device in plan.every_device]
    _check_count(plan, named)
    tables = [
        sustained_beside(table) if device.table_picked else table
        for device, table in zip(plan.every_device, named, strict=True)
    ]
    targets, model, blocks = _targets(plan, tables), model_of_plan(plan), candidates_of(plan)
    _check_models(plan, targets)
    offered = _offered(plan, targets, model, blocks)
    labels = [block.label for block in offered]
    constraints = dataclasses.replace(  # near this layout, not near the one that it was to be near
        plan.constraints,
        counts={label: asked for label, asked in plan.constraints.counts.items() if label in labels},
        like=plan.layout,
        max_changes=changes,
    )
    unscored = ScoreFile(schema="s2search.score/1", name="none", statement="", scores=dict.fromkeys(plan.blocks, 0.0))
    request = asked_on(plan, targets, offered, constraints, model=model, score=score or unscored)
    choice_L = tuple(labels.index(label) for label in plan.layout)
    check_written(plan, dataclasses.replace(request.space, candidates=tuple(blocks)))
    devices = _devices(plan, request, choice_L, tolerance)
    kept = all(budget.kept for device in devices for budget in device.budgets)
    replan, no_replan = (None, "") if kept or not changes else replan_near(request, choice_L, solver)
    return PlanCheck(
        holds=kept and not any(promise.kept is False for device in devices for promise in device.promises),
        plan=plan.digest,
        written=plan.written,
        depth=plan.depth,
        confidence=request.confidence,
        tolerance=None if tolerance is None else float(tolerance),
        changes=changes,
        devices=devices,
        not_offered=tuple(block.label for block in blocks if block.label not in labels),
        score="" if score is None else score.label,
        score_digest="" if score is None else score.digest,
        replan=replan,
        no_replan=no_replan,
        planned_with=plan.provenance.s2search,
        s2search=own_version(),
    )


def _check_question(plan: Plan, changes: int, tolerance: Fraction | None) -> None:
    if plan.precisions is not None:
        raise InputError(
            f"the plan {plan.written!r} mixes precisions, and a check knows one for all parts",
            remedy="plan again on the new table with the same --precisions",
        )
    if changes < 0:
        raise InputError(f"the re-plan may change {changes} layers", allowed="0 or more", remedy="give --changes 3")
    budgets = [b for d in plan.every_device for b in (d.latency_ms.budget, d.memory_bytes.budget)]
    if tolerance is None and plan.p95 is None and all(budget is None for budget in budgets):
        raise InputError(
            f"the plan {plan.written!r} was made within no budget, so nothing of it could fail",
            remedy="give --tolerance 5% to hold it to what it promised, or plan with a budget",
        )


def _as_it_is(device: DeviceAnswer) -> LatencyTable:
    if table_folder(device.table) is None:
        raise TableError(
            f"the plan was made from the table {device.table!r}, which is not installed",
            remedy="name the folder of a table with --table",
        )
    return open_table(device.table)


def _check_count(plan: Plan, tables: Sequence[LatencyTable]) -> None:
    devices = plan.every_device
    if len(tables) != len(devices):
        of = ", ".join(repr(device.table) for device in devices)
        raise InputError(
            f"the tables that the plan was made from are {len(devices)} ({of}), and those given are {len(tables)}",
            remedy="give --table for each of them, in this order",
        )


def _targets(plan: Plan, tables: Sequence[LatencyTable]) -> tuple[Target, ...]:
    try:
        return targets_on(plan, tables)
    except InputError as error:  # what it would have one do is for who asks anew
        asked = f"{plan.scenario}, {plan.precision} on {plan.compute_unit}"
        chunked = any(device.first or (device.rate and device.rate.budget) for device in plan.every_device)
        rate = ", with a pipeline" if chunked else ""
        raise TableError(
            error.problem, allowed=error.allowed, remedy=f"name a table of what the plan is for: {asked}{rate}"
        ) from error


def _check_models(plan: Plan, targets: Sequence[Target]) -> None:
    """Raise where a table is of another model than the plan's, as far as that can be known."""
    for device, target in zip(plan.every_device, targets, strict=True):
        before, frames = _unchanged(device), target.scope.shape.frames
        stated: list[tuple[str, int | str, int | str]] = [("latent frames", plan.frames, frames)]
        if before is not None and before.card.preset != target.table.card.preset:
            stated.append(("preset", before.card.preset, target.table.card.preset))
        for name, asked, found in stated:
            if asked != found:
                raise InputError(
                    f"the plan is for {name} {asked!r}, and the table {target.table.name!r} for {found!r}",
                    remedy="name a table of the plan's model",
                )


def _unchanged(device: DeviceAnswer) -> LatencyTable | None:
    """Return the table that a plan was made from, where it is still here."""
    try:
        table = _as_it_is(device)
    except InputError:
        return None
    return table if table.digest == device.table_digest else None


def _offered(plan: Plan, targets: Sequence[Target], model: LatencyModel, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the candidates that every table has a row for.

    Raises:
        MissingRowError: A table has none for a part of the plan's layout; it names all of those.
    """
    lacking: set[str] = set()
    others = ("stem", "head", *(("down", "up") if any(block.stream is Stream.LOW for block in blocks) else ()))
    for target in targets:
        lacks = [block.label for block in blocks if not _has(target, model, block.name, block.options_text)]
        needed = [f"{label} ({plan.counts[label]} layers)" for label in lacks if plan.counts[label]]
        needed += [part for part in others if not _has(target, model, part)]
        if needed:
            raise MissingRowError(
                f"the table {target.table.name!r} has no row for {', '.join(needed)} at {target.scope}, which the "
                f"plan's layout {plan.written} needs",
                remedy="measure what is missing, or name another table",
            )
        lacking |= set(lacks)
    return tuple(block for block in blocks if block.label not in lacking)


def _has(target: Target, model: LatencyModel, part: str, options: str = "") -> bool:
    try:
        model.predict(target.table, target.scope, part, options)
    except MissingRowError:
        return False
    return True


def _devices(
    plan: Plan, request: Request, choice_L: Sequence[int], tolerance: Fraction | None
) -> tuple[CheckedDevice, ...]:
    problems = [request.problem, *map(request.problem.on_device, request.problem.devices)]
    labels = [block.label for block in request.space.candidates]
    found = []
    for then, target, evidence, problem in zip(
        plan.every_device, request.targets, request.evidences, problems, strict=True
    ):
        costs = {label: estimate.cost for label, estimate in zip(labels, evidence.block_C, strict=True)}
        rows = [
            *latency_rows(plan, then, costs, problem, choice_L),
            *memory_rows(plan, then, costs, problem, choice_L),
        ]
        check_sums(then, rows)
        used = _used(request, target, problem, choice_L)
        p95_then = None if plan.p95 is None else plan.p95.bound
        sure = plan.confidence if used.sure else None
        then_ms = then.latency_ms.predicted if sure is None else sure.latency_ms
        found.append(
            CheckedDevice(
                table_then=then.table,
                table_digest_then=then.table_digest,
                table=target.table.name,
                table_digest=target.table.digest,
                table_marks=target.table.card.marks,
                budgets=tuple(_budgets(then, then_ms, target, used, p95_then)),
                promises=(promise_of("latency", 1000, rows, tolerance), promise_of("memory", 1, rows, tolerance)),
                rows=tuple(sorted(rows, key=lambda row: (row.kind, -row.moved))),
            )
        )
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Used:
    """What the layout uses of a device's budgets: latency as it is to be kept, and whether with a confidence.

    `p95_us` is the bound on the 95th percentile of a pass; 0 where no budget asks.
    """

    latency_us: float
    p95_us: float
    memory_bytes: int
    sure: bool


def _used(request: Request, target: Target, problem: Problem, choice_L: Sequence[int]) -> _Used:
    price, sure = problem.price(choice_L), request.confidence is not None and target is request.targets[0]
    latency_us = float(price.latency_us)
    if sure and request.confidence is not None:
        latency_us = request.spread.quantile_us(request.problem, choice_L, request.confidence)
    asked = request.percentile if target is request.targets[0] else None
    p95_us = 0.0 if asked is None else asked.price_us(request.problem, choice_L).bound_us
    return _Used(latency_us=latency_us, p95_us=p95_us, memory_bytes=price.total_bytes, sure=sure)


def _budgets(
    then: DeviceAnswer, then_ms: float, target: Target, used: _Used, p95_then: float | None
) -> list[CheckedBudget]:
    found = []
    for budget in target.budgets:
        limit = float(budget.amount)
        if budget.kind in ("latency", "p95"):
            now_us = used.latency_us if budget.kind == "latency" else used.p95_us
            found.append(
                CheckedBudget(
                    kind=budget.kind,
                    limit=limit / 1000,
                    then=then_ms if budget.kind == "latency" else p95_then,
                    now=round(now_us / 1000, 6),
                    slack=round((limit - now_us) / 1000, 6),
                    kept=now_us <= budget.amount,
                )
            )
        elif budget.kind == "memory":
            found.append(
                CheckedBudget(
                    kind="memory",
                    limit=limit,
                    then=then.memory_bytes.predicted,
                    now=used.memory_bytes,
                    slack=limit - used.memory_bytes,
                    kept=used.memory_bytes <= budget.amount,
                )
            )
        else:
            found.append(_rate(then, target, used) if budget.kind == "rate" else _first(then, target, used))
    return found


def _first(then: DeviceAnswer, target: Target, used: _Used) -> CheckedBudget:
    first, pipeline, leaves_us = target.first, target.pipeline, target.first_us
    assert first is not None
    assert pipeline is not None
    assert leaves_us is not None
    limit_us, now_us = int(first.amount), pipeline.first_frames_us(math.ceil(used.latency_us), target.commit)
    return CheckedBudget(
        kind="first",
        limit=limit_us / 1000,
        then=then.first.predicted if then.first and not used.sure else None,
        now=now_us / 1000,
        slack=(limit_us - now_us) / 1000,
        kept=used.latency_us <= leaves_us,
        arithmetic_then=None if then.first is None else then.first.arithmetic,
        arithmetic=pipeline.first_arithmetic(first.amount, target.commit) if leaves_us else None,
    )


def _rate(then: DeviceAnswer, target: Target, used: _Used) -> CheckedBudget:
    rate, pipeline, leaves_us = target.rate, target.pipeline, target.rate_us
    assert rate is not None
    assert pipeline is not None
    assert leaves_us is not None
    limit, now = float(rate.amount), pipeline.frames_per_second(math.ceil(used.latency_us), target.commit)
    return CheckedBudget(
        kind="rate",
        limit=limit,
        then=then.rate.frames_per_second[target.commit] if then.rate and not used.sure else None,
        now=now,
        slack=now - limit,
        kept=used.latency_us <= leaves_us,
        arithmetic_then=None if then.rate is None else then.rate.arithmetic,
        arithmetic=pipeline.arithmetic(rate.amount, target.commit) if leaves_us else None,
    )
