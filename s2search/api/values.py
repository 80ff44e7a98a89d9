"""What the face accepts: the text of a command line, or the value that it stands for."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from s2search import registry
from s2search.block import Block
from s2search.cost import Budget, Pipeline
from s2search.dates import duration_s
from s2search.document import read_json
from s2search.errors import InputError, ScoreError, require
from s2search.planner.plan import Plan
from s2search.preset import Preset
from s2search.score.base import Score
from s2search.score.check import ScoreCheck
from s2search.score.checked import CheckedScore
from s2search.score.file import open_score
from s2search.score.measured import MeasuredScore
from s2search.solver.base import Solver
from s2search.space import parse_blocks
from s2search.tables.table import LatencyTable, open_table

if TYPE_CHECKING:
    from s2search.network.network import S2DiT
    from s2search.network.source import ModelSource

PathText = str | os.PathLike[str]
#: One text, or several.
Texts = str | Sequence[str]
#: One limit, or several: `260ms`, `1.1GB`, `10fps`, `first:800ms`, `p95:300ms`, `10fps@sustained`.
Budgets = str | Budget | Sequence[str | Budget]
#: Blocks to choose from: `lcha,lcha[gate=false],ssa`, or the blocks.
Blocks = str | Sequence[str | Block]


def texts_of(given: Texts | None) -> tuple[str, ...]:
    """Return one text, several or none as a tuple.

    >>> texts_of("512x288"), texts_of(["a", "b"]), texts_of(None)
    (('512x288',), ('a', 'b'), ())
    """
    return (given,) if isinstance(given, str) else tuple(given or ())


def budgets_of(given: Budgets) -> tuple[Budget, ...]:
    """Return limits, read where they are text."""
    several = (given,) if isinstance(given, str | Budget) else given
    return tuple(one if isinstance(one, Budget) else Budget.parse(one) for one in several)


def blocks_of(given: Blocks | None) -> tuple[Block, ...]:
    """Return blocks, read where they are text; none for None."""
    if given is None or isinstance(given, str):
        return parse_blocks(given or "")
    return tuple(block for one in given for block in (parse_blocks(one) if isinstance(one, str) else (one,)))


def table_of(given: PathText | LatencyTable) -> LatencyTable:
    """Return a table: itself, an installed one, or that of a folder."""
    return given if isinstance(given, LatencyTable) else open_table(given)


def plan_of(given: PathText | Plan | None) -> Plan | None:
    """Return a plan: itself, or that of a JSON file."""
    return given if given is None or isinstance(given, Plan) else Plan.load(given)


def preset_of(given: str | Preset) -> Preset:
    """Return the sizes of a model: themselves, installed ones, or those of a TOML file."""
    return given if isinstance(given, Preset) else Preset.named(given)


def pipeline_of(given: PathText | Pipeline | None) -> Pipeline | None:
    """Return a pipeline, read from a JSON file with its fields."""
    return given if given is None or isinstance(given, Pipeline) else read_json(given, Pipeline, what="pipeline")


def score_of(given: PathText | Score) -> Score:
    """Return a score: itself, an installed one, or that of a JSON file."""
    return given if isinstance(given, Score) else open_score(given)


def scores_of(
    score: PathText | Score, tie_score: PathText | Score | None = None, check: PathText | ScoreCheck | None = None
) -> tuple[Score, Score | None]:
    """Return the score to search by and the one that chooses among ties; a check belongs to the one that it is of.

    Raises:
        ScoreError: It is of neither.
    """
    by, chooser = score_of(score), None if tie_score is None else score_of(tie_score)
    if check is None:
        return by, chooser
    from s2search.score.judge import judged  # takes scipy's statistics

    found = check_of(check)
    of = found.question.score

    def checked(one: Score) -> Score:
        if not isinstance(one, MeasuredScore) or one.digest != of:
            return one
        return CheckedScore(measured=one, check=judged(one, found))  # what it says of predictions is made again

    given = dict.fromkeys(f"{one.where} is {one.digest[:19]}" for one in (by, chooser) if one is not None)
    by, chooser = checked(by), None if chooser is None else checked(chooser)
    if not isinstance(by, CheckedScore) and not isinstance(chooser, CheckedScore):
        raise ScoreError(
            f"the check is of the score {of[:19] or 'without a digest'}, and {' and '.join(given)}",
            remedy="name the check.json that `score check` wrote beside the score, or what `score judge --out` did",
        )
    return by, chooser


def check_of(given: PathText | ScoreCheck) -> ScoreCheck:
    """Return the check of a score: itself, or that of a JSON file.

    Raises:
        InputError: It is neither, or cannot be read.
    """
    if not isinstance(given, str | os.PathLike | ScoreCheck):
        raise InputError(f"a check of a score is given as {type(given).__name__}", allowed="a file, or a ScoreCheck")
    return given if isinstance(given, ScoreCheck) else ScoreCheck.load(given)


def plugin_of(family: str, given: Any) -> Any:
    """Return a plugin: itself, or the one that a text such as `name[option=value]` names."""
    return registry.create(family, given) if isinstance(given, str) else given


def rows_of(given: Texts | PathText) -> tuple[str, ...]:
    """Return the keys of rows: as they are written, or those that a design's JSON file says would settle it.

    Raises:
        InputError: The file is no design, or one that no row would settle.
    """
    from s2search.designer.document import Design

    found: list[str] = []
    for text in (given,) if isinstance(given, str | os.PathLike) else given:
        if not str(text).endswith(".json"):
            found.append(str(text))
            continue
        rows = () if (firmness := Design.load(text).firmness) is None else firmness.rows
        if not rows:
            raise InputError(f"the design {str(text)!r} names no row to measure", remedy="leave out --only")
        found += [row.key for row in rows]
    return tuple(found)


@contextmanager
def solver_of(given: str | Solver) -> Iterator[Solver]:
    """Yield a solver; one that reports its progress moves a bar."""
    chosen = plugin_of("solvers", given)
    if not hasattr(chosen, "progress"):
        yield chosen
        return
    from s2search.reporting.progress import progress_bar

    with progress_bar("searching") as progress:
        yield dataclasses.replace(chosen, progress=progress)


def within_time(solver: Solver, time_limit: str | None) -> Solver:
    """Return a solver that stops after a time such as `10s`, with the best layout found and the bound proven so far.

    Raises:
        InputError: This solver cannot stop early, or the text is not a duration.
    """
    if time_limit is None:
        return solver
    limit_s = duration_s(time_limit)
    if not hasattr(solver, "time_limit_s"):
        raise InputError(
            f"the solver {solver.name!r} takes no time limit", allowed="dynamic, milp", remedy="choose one of these"
        )
    stopped: Solver = dataclasses.replace(cast(Any, solver), time_limit_s=limit_s)
    return stopped


def model_of(
    weights: PathText | S2DiT | None,
    *,
    preset: str | Preset | None,
    random_weights: bool,
    plan: PathText | Plan | None,
    layout: str | None,
    seed: int,
) -> ModelSource | S2DiT:
    """Return the model itself, or where it comes from: what is wrong with that is said before torch is loaded.

    Raises:
        InputError: The options contradict each other, or do not name a model.
    """
    if weights is not None and not isinstance(weights, str | os.PathLike):
        beside = {"preset": preset, "random_weights": random_weights, "plan": plan, "layout": layout}
        for name, value in beside.items():
            if value:
                raise InputError(f"{name} is given beside a model", remedy="leave out one of them")
        return weights
    require("torch")
    from s2search.network.source import ModelSource

    return ModelSource(
        weights=None if weights is None else Path(weights),
        preset=preset,
        plan=Path(plan) if isinstance(plan, str | os.PathLike) else plan,
        layout=layout,
        random_weights=random_weights,
        seed=seed,
    )


def loaded(model: ModelSource | S2DiT, *, mapped: bool = False) -> S2DiT:
    """Return the model, read or drawn where it is not one yet; `mapped` leaves its weights on disk."""
    from s2search.network.source import ModelSource, load_model, open_model

    if not isinstance(model, ModelSource):
        return model
    return open_model(model) if mapped else load_model(model)
