"""Infeasibility: that no layout fits, as a document for programs (JSON, schema `s2search.infeasible/1`)."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Literal

from s2search.cost import Pipeline
from s2search.document import Document
from s2search.errors import InfeasibleError
from s2search.planner.request import Request, Target
from s2search.solver.problem import UNLIMITED
from s2search.solver.questions.infeasible import exact_ms

_Unit = Literal["us", "bytes", ""]

_NO_TIME = "the parts beside the passes alone (the decoder; for first frames the text encoder) take longer"


@dataclass(frozen=True, kw_only=True)
class LimitAnswer:
    """One limit: what was asked, and the least that would do if all others stayed (null: nothing would).

    Both are in `unit`: microseconds, bytes, or empty for plain numbers.
    """

    name: str
    unit: _Unit
    asked: int
    would_do: int | None


@dataclass(frozen=True, kw_only=True)
class NearestAnswer:
    """The layout that the least relaxation in proportion would let in."""

    layout: tuple[str, ...]
    written: str
    latency_us: int
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Infeasible(Document):
    """Why no layout fits: the line for people, the limits, the least of any layout, and the nearest one.

    `least_latency_us` and `least_memory_bytes` are those of any layout at all, whatever else it uses. `most_fps` is the
    highest rate that would do if all other limits stayed, `least_first_ms` the shortest time to first frames; null
    where none was asked for, or none would do. `confidence` is null where none was asked for.
    `not_computed` names the limits of which it would have taken too long to say what would do.
    `table_marks` are what was wrong with the runs that the tables were measured in, by table.
    """

    schema: Literal["s2search.infeasible/1"] = "s2search.infeasible/1"
    message: str
    confidence: float | None
    limits: tuple[LimitAnswer, ...]
    least_latency_us: int | None
    least_memory_bytes: int | None
    nearest: NearestAnswer | None
    most_fps: float | None = None
    least_first_ms: float | None = None
    not_computed: tuple[str, ...] = ()
    table_marks: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def in_frames(request: Request, error: InfeasibleError) -> InfeasibleError:
    """Return the same error, speaking of the rate or first frames where the latency budget comes from these.

    Its field `most_fps` is the highest rate, rounded down to a tenth, and `least_first_us` the shortest time to first
    frames, that some layout reaches if all else stays.
    """
    would_do = _would_do(error)
    for number, target in enumerate(request.targets):
        name = f"latency of {target.table.name}" if number else "latency"
        if target.pipeline is None or name not in would_do or target.latency_budget_us is None:
            continue
        if target.latency_budget_us not in (target.rate_us, target.first_us):
            continue
        least_us, on = math.ceil(would_do[name]), f" on {target.table.name}" if request.further else ""
        missed = _missed(target, target.pipeline, least_us)
        said = " and ".join(f"{one.text}{on} with {target.commit}: {one.reached}" for one in missed)
        return InfeasibleError(
            f"no layout reaches {said}; {error.problem if target.latency_budget_us else _NO_TIME}",
            allowed=error.allowed,
            remedy=f"ask for {' and '.join(one.ask for one in missed)}" + _other_ways(error.remedy, name),
            **error.fields | {one.field: one.value for one in missed},
        )
    return error


@dataclass(frozen=True, kw_only=True)
class _Missed:
    """A budget on whole chunks that no layout keeps: what some layout does, and how to ask for that."""

    text: str
    reached: str
    ask: str
    field: Literal["most_fps", "least_first_us"]
    value: float


def _missed(target: Target, pipeline: Pipeline, least_us: int) -> list[_Missed]:
    """Return the budgets on chunks that a pass of so many microseconds does not keep."""
    found = []
    if target.rate is not None and (target.rate_us or 0) < least_us:
        most = pipeline.most_fps(least_us, target.commit)
        ask, reached = f"{most:g}fps", f"at most {most:g} fps"
        found.append(_Missed(text=target.rate.text, reached=reached, ask=ask, field="most_fps", value=most))
    if target.first is not None and (target.first_us or 0) < least_us:
        first_us = pipeline.first_frames_us(least_us, target.commit)
        ask, reached = f"first:{exact_ms(first_us).replace(' ', '')}", f"first frames after {exact_ms(first_us)}"
        found.append(_Missed(text=target.first.text, reached=reached, ask=ask, field="least_first_us", value=first_us))
    return found


def _other_ways(remedy: str, name: str) -> str:
    """Return what else may be raised, but for the latency budget, which is the rate's."""
    ways, _, left_out = remedy.partition("; not computed: ")
    others = re.sub(rf"the {re.escape(name)} budget to [^,]*(, or )?", "", ways)
    rest = "" if others.strip() in ("", "raise") else f", or {others.removesuffix(', or ')}"
    return f"{rest}; not computed: {left_out}" if left_out else rest


def _would_do(error: InfeasibleError) -> dict[str, int]:
    if "least_quantile_us" in error.fields:
        return {"latency": error.fields["least_quantile_us"]}
    found: dict[str, int] = error.fields.get("relaxations", {})
    return found


def infeasible(request: Request, error: InfeasibleError) -> Infeasible:
    """Return what a solver's error says of a request."""
    would_do, first_us = _would_do(error), error.fields.get("least_first_us")
    units: dict[str, _Unit] = {"us": "us", "bytes": "bytes"}
    return Infeasible(
        message=str(error),
        confidence=request.confidence,
        limits=tuple(
            LimitAnswer(
                name=resource.name,
                unit=units.get(resource.unit, ""),
                asked=resource.limit + resource.fixed,
                would_do=would_do.get(resource.name),
            )
            for resource in request.problem.resources
            if resource.limit < UNLIMITED // 2
        )
        + _percentile(request, error),
        least_latency_us=error.fields.get("least_latency_us"),
        least_memory_bytes=error.fields.get("least_memory_bytes"),
        nearest=_nearest(request, error.fields.get("nearest_L")),
        most_fps=error.fields.get("most_fps"),
        least_first_ms=None if first_us is None else first_us / 1000,
        not_computed=error.fields.get("not_computed", ()),
        table_marks={name: marks for name, marks in request.marks.items() if marks},
    )


def _percentile(request: Request, error: InfeasibleError) -> tuple[LimitAnswer, ...]:
    if request.percentile is None:
        return ()
    would_do = error.fields.get("least_p95_us")
    return (LimitAnswer(name="p95", unit="us", asked=request.percentile.budget_us, would_do=would_do),)


def _nearest(request: Request, choice_L: tuple[int, ...] | None) -> NearestAnswer | None:
    if choice_L is None:
        return None
    price = request.problem.price(choice_L)
    return NearestAnswer(
        layout=tuple(request.space.candidates[c].label for c in choice_L),
        written=request.space.write_layout(choice_L),
        latency_us=price.latency_us,
        memory_bytes=price.total_bytes,
    )
