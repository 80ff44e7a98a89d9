"""The command `frontier`: the best score for every latency."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from s2search.api.question import GivenTables, Where, request_of
from s2search.api.values import Blocks, Budgets, PathText, Texts, scores_of, solver_of, table_of
from s2search.block import Scenario
from s2search.errors import InputError
from s2search.latency.base import LatencyModel
from s2search.planner.find import front
from s2search.planner.frontier import Frontier
from s2search.score.base import Score
from s2search.score.check import ScoreCheck
from s2search.solver.base import Solver
from s2search.space import DEFAULT_CANDIDATES
from s2search.tables.table import DEFAULT_TABLE, LatencyTable


def frontier(
    table: GivenTables = DEFAULT_TABLE,
    *,
    scenario: Scenario = "stream",
    depth: int | None = None,
    group_size: int = 1,
    candidates: Blocks = DEFAULT_CANDIDATES,
    score: PathText | Score = "published",
    score_check: PathText | ScoreCheck | None = None,
    budget: Budgets = (),
    count: Texts = (),
    first: str | None = None,
    last: str | None = None,
    max_switches: int | None = None,
    confidence: float | None = None,
    points: int = 40,
    solver: str | Solver = "dynamic",
    latency_model: str | LatencyModel = "lookup",
    video: str | None = None,
    precision: str | None = None,
    compute_unit: str | None = None,
    compare: PathText | LatencyTable | Sequence[PathText | LatencyTable] = (),
) -> Frontier:
    """Trace the best score for every latency, at one memory budget.

    Args:
        table: An installed latency table, a table's folder, or the table itself. Several, each with budgets of its
            own (`h100:16ms`): every plan keeps those of the further ones; the front is over the first one's latency.
        scenario: `stream` (a chunk with its window) or `clip` (bidirectional).
        depth: Layers of the model; by default those of the preset that the table was made for.
        group_size: Neighbouring layers that take the same block.
        candidates: Blocks to choose from.
        score: An installed score, a JSON file of scores, or the score itself.
        score_check: What `score check` wrote of a measured one: pairs of layers count where it shows that they predict
            better.
        budget: The memory budget of the whole front: `1.5GB`.
        count: Layers of a block: `ssa=16` or `ssa=10..14`.
        first: Blocks of the first layers: `lcha*2`.
        last: Blocks of the last layers.
        max_switches: The most changes between the two resolutions.
        confidence: Keep every plan's latency with this probability; the front is over what is kept.
        points: Latency budgets to try, with a confidence and where the front is too large to be traced whole.
        solver: How to search: a name, or the solver itself.
        latency_model: How a table is read: a name, or the model itself.
        video: Video size, where the table holds several: `512x288`.
        precision: Where the table holds several.
        compute_unit: Where the table holds several.
        compare: Further tables, installed or folders: each is asked the same (layers, blocks, score, memory budget,
            video size), and has a front of its own beside this one.

    Raises:
        InputError: The budget limits latency, which the front itself varies.
        InfeasibleError: No layout fits the memory budget.

    >>> import s2search
    >>> front = s2search.frontier("iphone-16-pro-max", budget="1.5GB")
    >>> len(front), front.at(latency="260ms").written
    (29, 'LSLSLS2LSLS2LSLS2LSLS2LSLS2L')
    """
    given = Where(scenario=scenario, video=video, precision=precision, compute_unit=compute_unit, commit="reuse_last")
    scored = scores_of(score, check=score_check)[0]

    def traced(tables: GivenTables, where: Where, layers: int | None) -> Frontier:
        request = request_of(
            tables,
            where,
            depth=layers,
            group_size=group_size,
            candidates=candidates,
            score=scored,
            latency_model=latency_model,
            budget=budget,
            count=count,
            first=first,
            last=last,
            max_switches=max_switches,
        )
        with solver_of(solver) as chosen:
            return front(request, chosen, points=points, confidence=confidence)

    others = _others(compare)
    found = traced(table, given, depth)
    asked = found.plans[0]
    beside = {other.name: traced(other, _there(given, other, asked.video), asked.depth) for other in others}
    if asked.provenance.table in beside:
        raise InputError(f"the table {asked.provenance.table!r} is compared with itself", remedy="name another one")
    return dataclasses.replace(found, beside=beside)


def _others(compare: PathText | LatencyTable | Sequence[PathText | LatencyTable]) -> list[LatencyTable]:
    """Return the tables to compare with, which must have names of their own."""
    given = [compare] if isinstance(compare, str | os.PathLike | LatencyTable) else [*compare]
    found = [table_of(one) for one in given]
    names = [table.name for table in found]
    for twice in {name for name in names if names.count(name) > 1}:
        raise InputError(f"two tables to compare with are called {twice!r}", remedy="rename the folder of one of them")
    return found


def _there(given: Where, table: LatencyTable, video: str) -> Where:
    """Return which rows of another table count: those of the same video, and of what was asked where it has that."""
    precisions, units = table.rows.different("precision"), table.rows.different("compute_unit")
    return dataclasses.replace(
        given,
        video=video,
        precision=given.precision if given.precision in precisions else None,
        compute_unit=given.compute_unit if given.compute_unit in units else None,
    )
