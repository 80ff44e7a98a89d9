"""The project file `s2search.toml` of the folder where a command runs: its options, and that the answer names it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer

from s2search.api.question import opened
from s2search.api.values import budgets_of, plugin_of
from s2search.cli.options import say_misleading
from s2search.cost import Budget
from s2search.errors import S2SearchError
from s2search.latency.base import LatencyModel
from s2search.planner.frontier import Frontier
from s2search.planner.plan import Plan
from s2search.planner.project import PROJECT_FILE, Project
from s2search.tables.table import LatencyTable

_P = ParamSpec("_P")
_Answer = TypeVar("_Answer", Plan, Frontier)


def asked(context: typer.Context, run: Callable[_P, _Answer]) -> Callable[_P, _Answer]:
    """Return the same function, but what the command line leaves to the project file is taken from there.

    The answer names the file, and so does an error; what the linter finds of the tables is said beside it. A front goes
    over all latencies: it takes memory budgets only.
    """

    @wraps(run)
    def run_as_asked(*args: _P.args, **kwargs: _P.kwargs) -> _Answer:
        words = inspect.signature(run).bind(*args, **kwargs)
        taken = _taken(context, words.arguments) if Path(PROJECT_FILE).exists() else {}
        words.arguments |= taken
        by = f"{PROJECT_FILE} ({', '.join(taken)})" if taken else ""
        tables: list[tuple[LatencyTable, tuple[Budget, ...]]]
        try:
            tables = opened(words.arguments["table"], budgets_of(words.arguments["budget"]))
            words.arguments["table"] = tables  # opened once, for the linter as well
            answer = run(*words.args, **words.kwargs)
        except S2SearchError as error:
            if by:
                error.args = (f"{error}; asked by {by}",)
            raise
        model: LatencyModel = plugin_of("latency_models", words.arguments["latency_model"])
        say_misleading([*(table for table, _ in tables), *model.known_tables])
        return _named(answer, by) if by else answer

    return run_as_asked


def _taken(context: typer.Context, words: dict[str, Any]) -> dict[str, Any]:
    """Return what the file states of a function's words and the command line does not."""
    stated = Project.load(PROJECT_FILE).stated()
    if context.info_name == "frontier" and "budget" in stated:
        several = [stated["budget"]] if isinstance(stated["budget"], str) else stated["budget"]
        stated["budget"] = [budget for budget in several if Budget.parse(budget).kind == "memory"]
    scores = [key for key in ("score", "tie_score") if key in stated]
    if scores and not any(key in words and not _given(context, key) for key in scores):
        stated.pop("score_check", None)  # of a score that is not asked
    return {key: value for key, value in stated.items() if key in words and value != [] and not _given(context, key)}


def _given(context: typer.Context, key: str) -> bool:
    source = context.get_parameter_source(key)
    return source is not None and source.name == "COMMANDLINE"


def _named(answer: _Answer, by: str) -> _Answer:
    if isinstance(answer, Plan):
        provenance = dataclasses.replace(answer.provenance, project=by)
        return dataclasses.replace(answer, provenance=provenance)
    return dataclasses.replace(
        answer,
        plans=tuple(_named(plan, by) for plan in answer.plans),
        references={name: _named(plan, by) for name, plan in answer.references.items()},
    )
