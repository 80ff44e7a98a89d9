"""What a plan is asked for, from the words of `plan` and `frontier`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2search.api.values import (
    Blocks,
    Budgets,
    PathText,
    Texts,
    blocks_of,
    budgets_of,
    plan_of,
    plugin_of,
    score_of,
    table_of,
    texts_of,
)
from s2search.block import Scenario
from s2search.cost import LOOKS_LIKE_BUDGET, NOTHING_TOLD, Budget, CommitPolicy, ToldPipeline
from s2search.errors import InputError
from s2search.latency.base import LatencyModel
from s2search.planner.constraints import Constraints
from s2search.planner.plan import Plan
from s2search.planner.request import Request, Target
from s2search.preset import PRESETS, token_grid
from s2search.score.base import Score
from s2search.space import Space
from s2search.tables.table import LatencyTable, sustained_beside

DEFAULT_DEPTH = 28

#: A table, or a table with budgets of its own.
GivenTable = PathText | LatencyTable | tuple[PathText | LatencyTable, Budgets]
#: One device, or several: one layout for all of them.
GivenTables = GivenTable | Sequence[GivenTable]


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which rows of the tables count."""

    scenario: Scenario
    video: str | None
    precision: str | None
    compute_unit: str | None
    commit: CommitPolicy


def request_of(
    table: GivenTables,
    where: Where,
    *,
    depth: int | None,
    group_size: int,
    candidates: Blocks,
    score: PathText | Score,
    latency_model: str | LatencyModel,
    budget: Budgets,
    count: Texts,
    first: str | None,
    last: str | None,
    max_switches: int | None,
    like: PathText | Plan | None = None,
    max_changes: int | None = None,
    confidence: float | None = None,
    told: ToldPipeline = NOTHING_TOLD,
) -> Request:
    """Read everything before anything is computed."""
    blocks, near = blocks_of(candidates), plan_of(like)
    device, *further = _targets(table, budgets_of(budget), where, told)
    layers = depth_of(device.table) if depth is None else depth
    space = Space(candidates=blocks, depth=layers, group_size=group_size)
    return Request(
        table=device.table,
        scope=device.scope,
        space=space,
        latency_model=plugin_of("latency_models", latency_model),
        score=score_of(score),
        budgets=device.budgets,
        commit=device.commit,
        told=told,
        constraints=Constraints.parse(
            space,
            counts=texts_of(count),
            first=first,
            last=last,
            max_switches=max_switches,
            like=None if near is None else near.layout,
            max_changes=max_changes,
        ),
        further=tuple(further),
        confidence=confidence,
    )


def depth_of(table: LatencyTable) -> int:
    """Return the depth of the preset that a table's card names; of one that is not installed nothing is known."""
    preset = PRESETS.get(table.card.preset)
    return DEFAULT_DEPTH if preset is None else preset.depth


def _targets(table: GivenTables, common: tuple[Budget, ...], where: Where, told: ToldPipeline) -> list[Target]:
    """Return the tables with their budgets; those that are common belong to the only table."""
    named = [one for given, budgets in _named(table, common) for one in _loaded(table_of(given), common + budgets)]
    video = token_grid(where.video) if where.video else None
    targets: list[Target] = []
    for found, budgets in named:
        scope = found.scope(
            where.scenario,
            video=video,
            precision=_offered(where.precision, set(found.rows.different("precision")), first=not targets),
            compute_unit=_offered(where.compute_unit, set(found.rows.different("compute_unit")), first=not targets),
        )
        video = video or (scope.shape.height, scope.shape.width)
        targets.append(Target(table=found, scope=scope, budgets=budgets, commit=where.commit, told=told))
    return targets


def _loaded(table: LatencyTable, budgets: tuple[Budget, ...]) -> list[tuple[LatencyTable, tuple[Budget, ...]]]:
    """Return the tables that budgets of one device are held on: as named, under sustained load, or each by its own.

    The one with a 95th percentile comes first, else the one that was named. Memory does not depend on the load.
    """
    hot = tuple(budget for budget in budgets if budget.sustained)
    if not hot or table.card.sustained:
        return [(table, budgets)]
    sustained = sustained_beside(table)
    cold = tuple(budget for budget in budgets if not budget.sustained)
    if all(budget.kind == "memory" for budget in cold):
        return [(sustained, budgets)]
    both = [(table, cold), (sustained, hot)]
    return both[::-1] if any(budget.kind == "p95" for budget in hot) else both


def opened(table: GivenTables, common: tuple[Budget, ...]) -> list[tuple[LatencyTable, tuple[Budget, ...]]]:
    """Return the tables that are asked about, each with the budgets of its own."""
    return [(table_of(given), budgets) for given, budgets in _named(table, common)]


def _named(table: GivenTables, common: tuple[Budget, ...]) -> list[tuple[PathText | LatencyTable, tuple[Budget, ...]]]:
    """Return the tables as they were named; of several, each has its own budgets."""
    named = [_table_and_budgets(device) for device in _several(table)]
    if common and len(named) > 1:
        raise InputError(
            f"--budget {common[0].text} does not say which of {len(named)} tables it is for",
            remedy=f"write it after the table, such as --table {_name(named[0][0])}:{common[0].text}",
        )
    return named


def _several(table: GivenTables) -> Sequence[GivenTable]:
    one = isinstance(table, str | os.PathLike | LatencyTable | tuple)
    return [table] if one else list(table)  # type: ignore[list-item, arg-type]  # what is left is a sequence


def _offered(wanted: str | None, offered: set[str], *, first: bool) -> str | None:
    """Return a choice for one table: a further table that does not know the first one's has its own."""
    return wanted if first or wanted in offered else None


def _table_and_budgets(device: GivenTable) -> tuple[PathText | LatencyTable, tuple[Budget, ...]]:
    """Split `NAME:260ms,first:1s` at the first colon that a budget follows; other colons belong to the name."""
    if isinstance(device, tuple):
        return device[0], budgets_of(device[1])
    if not isinstance(device, str):
        return device, ()
    colons = [place for place, letter in enumerate(device) if letter == ":"]
    for place in [] if Path(device).is_dir() else colons:
        asked = device[place + 1 :].split(",")
        if LOOKS_LIKE_BUDGET.fullmatch(asked[0]):
            return device[:place], budgets_of(asked)
    return device, ()


def _name(table: PathText | LatencyTable) -> str:
    return table.name if isinstance(table, LatencyTable) else os.fspath(table)
