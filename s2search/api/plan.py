"""The command `plan`: the best layout within budgets, a given one's price, and how plans compare and hold."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from s2search import registry
from s2search.api.joint import PrecisionWish, Sweeps, joint_request, refuse_beside
from s2search.api.question import GivenTables, Where, request_of
from s2search.api.values import (
    Blocks,
    Budgets,
    PathText,
    Texts,
    budgets_of,
    plan_of,
    scores_of,
    solver_of,
    table_of,
    within_time,
)
from s2search.block import Scenario
from s2search.cost import CommitPolicy, ToldPipeline
from s2search.errors import InfeasibleError, InputError, QuantityError, ScoreError
from s2search.latency.base import LatencyModel
from s2search.planner.check import check_plan
from s2search.planner.diff import Difference
from s2search.planner.find import find
from s2search.planner.find import price as price_layout
from s2search.planner.infeasible import infeasible
from s2search.planner.joint_plan import JointRequest, find_joint
from s2search.planner.plan import Plan
from s2search.planner.promise import PlanCheck
from s2search.precision.noise import Elsewhere
from s2search.score.base import Score
from s2search.score.check import ScoreCheck
from s2search.solver.base import Solver
from s2search.solver.questions.tie_break import TieRule, check_tie_rule
from s2search.space import DEFAULT_CANDIDATES
from s2search.tables.table import DEFAULT_TABLE, LatencyTable


def plan(
    table: GivenTables = DEFAULT_TABLE,
    *,
    scenario: Scenario = "stream",
    depth: int | None = None,
    group_size: int = 1,
    candidates: Blocks = DEFAULT_CANDIDATES,
    score: PathText | Score = "published",
    score_check: PathText | ScoreCheck | None = None,
    budget: Budgets = (),
    commit: CommitPolicy = "reuse_last",
    steps: int | None = None,
    text_ms: float | None = None,
    decode_ms: float | None = None,
    count: Texts = (),
    first: str | None = None,
    last: str | None = None,
    max_switches: int | None = None,
    like: PathText | Plan | None = None,
    max_changes: int | None = None,
    confidence: float | None = None,
    near: float | None = None,
    tie: TieRule = "fastest",
    tie_score: PathText | Score | None = None,
    layout: str | None = None,
    explain: bool = False,
    solver: str | Solver = "dynamic",
    time_limit: str | None = None,
    latency_model: str | LatencyModel = "lookup",
    video: str | None = None,
    precision: str | None = None,
    compute_unit: str | None = None,
    precisions: Texts = (),
    sensitivity: Sweeps = (),
    least_db: float | None = None,
    noise_elsewhere: Elsewhere = "refuse",
) -> Plan:
    """Place a block at every layer, exactly, within latency and memory budgets.

    Args:
        table: An installed latency table, by the first words of its name, a table's folder, or the table itself.
            Several, each with budgets of its own (`h100:16ms`, or the pair of both), ask for one layout for all.
        scenario: `stream` (a chunk with its window) or `clip` (bidirectional).
        depth: Layers of the model; by default those of the preset that the table was made for.
        group_size: Neighbouring layers that take the same block.
        candidates: Blocks to choose from.
        score: An installed score, a JSON file of scores, or the score itself.
        score_check: What `score check` wrote of a measured score, `score` or `tie_score`: the plan says how well that
            orders trained layouts, and counts pairs of layers where the check shows that they predict better.
        budget: Limits: `260ms`, `1.1GB`, `10fps`; `first:800ms` to the first frames, `p95:300ms` for the 95th
            percentile of passes; `10fps@sustained` by the table under sustained load.
        commit: Forward passes per chunk: the steps, or one more (`clean_pass`).
        steps: Denoising passes of a chunk, where the table's card does not say, or says otherwise.
        text_ms: Milliseconds of the text encoder per chunk, likewise.
        decode_ms: Milliseconds of the decoder per chunk, likewise.
        count: Layers of a block: `ssa=16` or `ssa=10..14`.
        first: Blocks of the first layers: `lcha*2`.
        last: Blocks of the last layers.
        max_switches: The most changes between the two resolutions.
        like: A plan to stay near, with `max_changes`.
        max_changes: The most layers that may differ from `like`.
        confidence: Keep the latency budget with this probability; not beside a `p95` budget.
        near: Also count layouts that score less by at most this.
        tie: Which of the layouts that tie is shown: the `fastest` (of these one with high ends, most even), or the
            fastest of those with the `fewest-switches`. A search that proves nothing shows what it found.
        tie_score: Another score, which chooses first among the layouts that tie: of types from one source, and of
            places from another. Given as `score` is.
        layout: Price this layout, `L4S8L4S8L4`, instead of searching.
        explain: Also say why: swaps, prices, decisive rows.
        solver: How to search: a name, or the solver itself.
        time_limit: Stop the search after so long, `10s`, with the best layout found and a proven bound on all others.
        latency_model: How a table is read: a name, or the model itself.
        video: Video size, where the table holds several: `512x288`.
        precision: Where the table holds several.
        compute_unit: Where the table holds several.
        precisions: Choose them too, for every part, in the same search: `float16,w8a16,w4a16`. The table, or tables of
            the same device beside it, have rows of each.
        sensitivity: What `sensitivity` wrote or returned of layouts that together have every block at every layer.
        least_db: Signal-to-noise ratio of the velocity that the precisions are to keep.
        noise_elsewhere: The noise of a block at a layer where no sweep has it: `refuse`, or its `mean` over layers.

    Raises:
        InfeasibleError: No layout fits. Its `answer` says which limit would do, and which layout comes nearest.
        InputError: Something asked for cannot be read, or contradicts itself.

    >>> import s2search
    >>> s2search.plan("iphone-16-pro-max", budget=["10fps", "1.5GB"]).counts
    {'lcha': 13, 'ssa': 15}
    """
    if near is not None and layout is not None:
        raise InputError(
            f"--near {near:g} needs a search, and --layout does not search", remedy="leave out one of them"
        )
    if tie != "fastest" and layout is not None:
        raise InputError(f"--tie {tie} chooses among layouts, and --layout gives one", remedy="leave out one of them")
    if tie_score is not None and layout is not None:
        raise InputError("--tie-score chooses among layouts, and --layout gives one", remedy="leave out one of them")
    check_tie_rule(tie)
    by, chooser = scores_of(score, tie_score, score_check)
    where = Where(scenario=scenario, video=video, precision=precision, compute_unit=compute_unit, commit=commit)
    asked: dict[str, Any] = {
        "depth": depth,
        "group_size": group_size,
        "candidates": candidates,
        "score": by,
        "latency_model": latency_model,
        "count": count,
        "first": first,
        "last": last,
        "max_switches": max_switches,
        "like": like,
        "max_changes": max_changes,
        "confidence": confidence,
        "told": ToldPipeline(steps=steps, text_ms=text_ms, decode_ms=decode_ms),
    }
    wanted = PrecisionWish(
        precisions=precisions, sensitivity=sensitivity, least_db=least_db, noise_elsewhere=noise_elsewhere
    )
    joint: JointRequest | None = None
    if wanted.anything:
        refuse_beside(near=near, tie=tie != "fastest", tie_score=tie_score, layout=layout, explain=explain)
        joint = joint_request(table, where, wanted, budget=budgets_of(budget), **asked)
    request = request_of(table, where, budget=budget, **asked) if joint is None else joint.request
    choice_L = None if layout is None else request.space.parse_layout(layout)
    try:
        with solver_of(solver) as whole:
            chosen = within_time(whole, time_limit)
            if joint is not None:
                return find_joint(joint, chosen)
            found = (
                find(request, chosen, near=near, tie=tie, tie_score=chooser)
                if choice_L is None
                else price_layout(request, choice_L, chosen)
            )
            return found.explain() if explain else found
    except InfeasibleError as error:
        error.fields["answer"] = error.__dict__["answer"] = infeasible(request, error)
        raise


def price(
    layout: str,
    table: GivenTables = DEFAULT_TABLE,
    *,
    scenario: Scenario = "stream",
    group_size: int = 1,
    candidates: Blocks = DEFAULT_CANDIDATES,
    depth: int | None = None,
    score: PathText | Score = "published",
    score_check: PathText | ScoreCheck | None = None,
    budget: Budgets = (),
    commit: CommitPolicy = "reuse_last",
    steps: int | None = None,
    text_ms: float | None = None,
    decode_ms: float | None = None,
    solver: str | Solver = "dynamic",
    latency_model: str | LatencyModel = "lookup",
    video: str | None = None,
    precision: str | None = None,
    compute_unit: str | None = None,
) -> Plan:
    """Say what a layout costs, whether it fits, and how far the best one would be ahead: `plan` with a `layout`.

    See `plan` for the arguments.

    >>> import s2search
    >>> s2search.price("L28", budget="260ms").fits
    False
    """
    return plan(
        table,
        scenario=scenario,
        depth=depth,
        group_size=group_size,
        candidates=candidates,
        score=score,
        score_check=score_check,
        budget=budget,
        commit=commit,
        steps=steps,
        text_ms=text_ms,
        decode_ms=decode_ms,
        layout=layout,
        solver=solver,
        latency_model=latency_model,
        video=video,
        precision=precision,
        compute_unit=compute_unit,
    )


def plan_diff(before: PathText | Plan, after: PathText | Plan) -> Difference:
    """Say what changed from one plan to another, layer by layer, and why."""
    old, new = plan_of(before), plan_of(after)
    assert old is not None
    assert new is not None
    return old.diff(new)


def plan_check(
    plan: PathText | Plan,
    table: PathText | LatencyTable | Sequence[PathText | LatencyTable] = (),
    *,
    tolerance: str | None = None,
    changes: int = 3,
    score: PathText | Score | None = None,
    score_check: PathText | ScoreCheck | None = None,
) -> PlanCheck:
    """Say whether a plan's promise holds on another table, which rows moved, and which layout near it would do.

    Args:
        plan: A plan, or its JSON file.
        table: What it is held against: by name, as a folder, or the table itself; for a plan of several devices one
            for each, in its order. By default the tables that it names, as they are now.
        tolerance: Also hold it to the latency and the memory that it promised, and so much more: `5%`.
        changes: How many layers another layout may change that keeps the budgets; 0 to look for none.
        score: To rank other layouts; by default the plan's own, which is to be installed, and as it was.
        score_check: As in `plan`.

    Raises:
        InputError: Something cannot be read or contradicts itself, or nothing of the plan could fail.
        TableError: A table is not there, or lacks rows that the layout needs.

    >>> import s2search
    >>> plan = s2search.plan("iphone-16-pro-max", budget="260ms")
    >>> s2search.plan_check(plan).holds
    True
    """
    made = plan_of(plan)
    assert made is not None
    tables = [table_of(one) for one in ([table] if isinstance(table, str | os.PathLike | LatencyTable) else table)]
    kept = None if tolerance is None else _part_of(tolerance)
    ranked = _score_behind(made, score, score_check) if changes else None
    with solver_of("dynamic") as solver:
        return check_plan(made, tables, solver, score=ranked, changes=changes, tolerance=kept)


def _part_of(text: str) -> Fraction:
    """Read a share such as `5%`.

    >>> _part_of("2.5 %")
    Fraction(1, 40)
    """
    match = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,9})?)\s*%\s*", text)
    if match is None:
        raise QuantityError(
            f"the tolerance {text!r} is not a share", allowed="0% to 9999%", remedy="write for example 5%"
        )
    return Fraction(match[1]) / 100


def _score_behind(plan: Plan, given: PathText | Score | None, check: PathText | ScoreCheck | None) -> Score:
    """Return the score that a plan was made by, or the one that is named for it.

    Raises:
        ScoreError: None is named, and the plan's is not here, or has changed.
    """
    if given is not None or check is not None:
        return scores_of(plan.provenance.score if given is None else given, None, check)[0]
    origin, problem = plan.provenance, "is not installed"
    if origin.score in registry.installed("scores"):
        score: Score = registry.create("scores", origin.score_label)
        if score.digest == origin.score_digest:
            return score
        problem = f"is {score.digest[:19]} here"
    raise ScoreError(
        f"the plan was made by the score {origin.score_label!r} {origin.score_digest[:19]}, which {problem}",
        remedy="name one with --score FILE to rank other layouts, or look for none with --changes 0",
    )
