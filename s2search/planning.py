"""Planning: from a request to a plan. `find` searches, `price` takes a given layout, `front` plans every latency."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from s2search.block import Stream
from s2search.contradiction import LARGEST_SUM
from s2search.cost import COMMIT_POLICIES
from s2search.document import write_text
from s2search.errors import CheckError, InfeasibleError, InputError, ProblemError
from s2search.evidence import Evidence
from s2search.plan import (
    BlockAnswer,
    ConfidenceAnswer,
    DeviceAnswer,
    LatencyAnswer,
    MemoryAnswer,
    NearLayout,
    NearTies,
    Origin,
    Plan,
    RateAnswer,
    TieBreak,
)
from s2search.preset import video_size
from s2search.problem import FIXED_POINT, Problem
from s2search.request import Request, Target
from s2search.solver.base import Solution, Solver
from s2search.solver.binding import scores_without_budgets
from s2search.solver.confidence import solve_with_confidence
from s2search.solver.frontier import latency_front
from s2search.solver.tie_break import canonical, interleaved, nearest
from s2search.solver.ties import Ties, find_ties
from s2search.space import Space

_TWO_SIDED_95 = 1.96
_SHOWN_TIES = 3


def find(request: Request, solver: Solver, *, near: float | None = None) -> Plan:
    """Return the best layout within the budgets.

    Of equally good ones it is the most evenly interleaved sandwich that fits; near a given layout, one that changes the
    fewest layers; see `tie_break`. With `near`, layouts that score at most so much less are counted as well.

    Raises:
        InputError: `near` is negative or not finite, or the request asks for a confidence as well.
        InfeasibleError: No layout fits.
    """
    _check_near(near, request.confidence)
    problem = request.problem
    found, plain = _search(request, solver)
    countable = found.optimal and request.confidence is None  # a confident plan's condition is no sum
    ties = _ties(request, found) if countable else None
    solution, tie_break = _shown(request, found, solver, tied=ties is not None and ties.count > 1)
    without = scores_without_budgets(problem, solver) if problem.devices and countable else ()
    plan = _plan(
        request,
        solution.choice_L,
        solution,
        ties=None if ties is None else ties.count,
        plain=plain,
        scores_without=without,
    )
    if ties is None:
        return plan
    others = [layout for layout in ties.examples if layout != solution.choice_L][:_SHOWN_TIES]
    return dataclasses.replace(
        plan,
        ties_exact=ties.exact,
        tied_layouts=tuple(map(request.space.write_layout, others)),
        tie_break=tie_break,
        near_ties=None if near is None else _near_ties(request, found, near),
    )


def _check_near(near: float | None, confidence: float | None) -> None:
    if near is not None and not 0 <= near < math.inf:
        raise InputError(
            f"the score gap of near-ties is {near}", allowed="0 or a positive number", remedy="give one such as 0.001"
        )
    if near is not None and confidence is not None:
        raise InputError(
            f"near-ties within {near} cannot be counted with confidence {confidence}", remedy="leave out one of the two"
        )


def _ties(request: Request, found: Solution) -> Ties:
    """Count the layouts as good as one that was found; that one counts even where counting lost it."""
    problem = request.problem
    score = problem.price(found.choice_L).fixed_point_score
    ties = find_ties(problem, score, examples=_SHOWN_TIES + 1, order_C=request.space.by_label_C)
    return dataclasses.replace(ties, count=max(ties.count, 1))


def _near_ties(request: Request, found: Solution, near: float) -> NearTies:
    problem, space = request.problem, request.space
    ties = find_ties(
        problem,
        problem.price(found.choice_L).fixed_point_score,
        gap=min(round(near * FIXED_POINT), 2 * LARGEST_SUM),
        least_gap=1,
        examples=_SHOWN_TIES,
        order_C=space.by_label_C,
    )
    layouts = tuple(NearLayout(written=space.write_layout(x), score=problem.price(x).score) for x in ties.examples)
    return NearTies(gap=near, count=ties.count, exact=ties.exact, layouts=layouts)


def _shown(request: Request, found: Solution, solver: Solver, *, tied: bool) -> tuple[Solution, TieBreak | None]:
    """Return which of the layouts that tie is shown, and by what rule; None for the one that was found."""
    problem, space = request.problem, request.space
    if problem.max_changes is not None:
        if request.confidence is not None:
            return found, None
        near = nearest(found, problem, solver)
        return canonical(near, problem, space) if tied else near, "fewest changes"
    first = canonical(found, problem, space) if tied else found
    even = interleaved(first, problem, space, latency_us=problem.latency_budget_us, admits=request.admits)
    if even is not first:
        return even, "most even"
    return first, "first by name" if first is not found else None


def price(request: Request, choice_L: Sequence[int], solver: Solver) -> Plan:
    """Return what a hand-written layout costs, whether it fits, and how far the best one would be ahead of it.

    Where the solver has no answer (no layout fits, or the problem is not one for it) the bound is unknown: None.
    """
    try:
        best, _ = _search(request, solver)
    except (InfeasibleError, ProblemError, CheckError):
        best = None
    return _plan(request, choice_L, best, ties=None)


def _search(request: Request, solver: Solver) -> tuple[Solution, Solution | None]:
    """Return the best layout; where a confidence is asked for, also the best one without it."""
    if request.confidence is None:
        return solver.solve(request.problem), None
    found = solve_with_confidence(request.problem, request.spread, request.confidence, solver)
    return found.solution, found.plain


def front(request: Request, solver: Solver, *, points: int = 40) -> list[Plan]:
    """Return the best plan for every latency, by rising latency and score, at the request's memory budget.

    Raises:
        InputError: The request limits latency, which the front itself varies.
        InfeasibleError: No layout fits the memory budget.
    """
    for budget in request.budgets:
        if budget.kind != "memory":
            raise InputError(
                f"the front goes over all latencies, so {budget.text} cannot limit it",
                remedy="give a memory budget such as 1.1GB, or use plan",
            )
    found = latency_front(request.problem, solver, points=points)
    even = [interleaved(solution, request.problem, request.space, latency_us=solution.latency_us) for solution in found]
    return [_plan(request, solution.choice_L, solution, ties=None) for solution in even]


def save_front(plans: Sequence[Plan], path: str | os.PathLike[str]) -> None:
    """Write a front as CSV: one plan per line, with its latency (ms), memory (bytes), score, counts and layout."""
    labels = list(plans[0].counts)
    lines = [["latency_ms", "memory_bytes", "score", *labels, "layout"]]
    for plan in plans:
        counts = [str(plan.counts[label]) for label in labels]
        lines.append(
            [str(plan.latency_ms.predicted), str(plan.memory_bytes.predicted), str(plan.score), *counts, plan.written]
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_text(Path(path), text.getvalue())


def _plan(
    request: Request,
    choice_L: Sequence[int],
    best: Solution | None,
    *,
    ties: int | None,
    scores_without: Sequence[float] = (),
    plain: Solution | None = None,
) -> Plan:
    """Write out a layout.

    `best` is what a solver found in the same problem, or None where it found nothing; `plain` what it found there
    without the confidence that was asked for.
    """
    candidates, shape = request.space.candidates, request.scope.shape
    layout = tuple(candidates[c].label for c in choice_L)
    price, fits = request.problem.price(choice_L), request.admits(choice_L)
    if len(layout) != request.space.depth:
        raise CheckError(f"the layout has {len(layout)} layers, not {request.space.depth}", remedy="report this bug")
    devices = _devices(request, choice_L, price.score, scores_without)
    first = devices[0]
    return Plan(
        layout=layout,
        written=request.space.write_layout(choice_L),
        counts={block.label: layout.count(block.label) for block in candidates},
        blocks=first.blocks,
        group_size=request.space.group_size,
        scenario=request.scope.scenario,
        video=video_size(shape.height, shape.width),
        frames=shape.frames,
        precision=request.scope.precision,
        compute_unit=request.scope.compute_unit,
        commit=request.commit,
        fits=fits,
        latency_ms=first.latency_ms,
        confidence=_confidence(request, choice_L, plain),
        memory_bytes=first.memory_bytes,
        rate=first.rate,
        score=price.score,
        upper_bound=None if best is None else best.upper_bound,
        optimal=best is not None and fits and price.score == best.upper_bound,
        ties=ties,
        provenance=_origin(request, "none" if best is None else best.method),
        constraints=request.constraints,
        devices=tuple(devices) if request.further else (),
    )


def _devices(
    request: Request, choice_L: Sequence[int], score: float, scores_without: Sequence[float]
) -> list[DeviceAnswer]:
    problems = [request.problem, *map(request.problem.on_device, request.problem.devices)]
    without: Sequence[float | None] = scores_without or [None] * len(problems)
    return [
        DeviceAnswer(
            table=target.table.name,
            table_digest=target.table.digest,
            table_kind=target.table.card.provenance.kind,
            precision=target.scope.precision,
            compute_unit=target.scope.compute_unit,
            blocks=_blocks(request.space, evidence),
            latency_ms=_latency(target, evidence, problem, choice_L, commit_us=_commit_us(target, request, choice_L)),
            memory_bytes=_memory(target, problem, choice_L),
            rate=_rate(target, problem.price(choice_L).latency_us),
            binds=None if relaxed is None else relaxed > score,
            score_without=relaxed,
        )
        for target, evidence, problem, relaxed in zip(
            request.targets, request.evidences, problems, without, strict=True
        )
    ]


def _blocks(space: Space, evidence: Evidence) -> dict[str, BlockAnswer]:
    return {
        block.label: BlockAnswer(
            stream="high" if block.stream is Stream.HIGH else "low",
            latency_ms=estimate.cost.latency_us / 1000,
            memory_bytes=estimate.cost.memory_bytes,
            peak_bytes=estimate.cost.peak_bytes,
            provenance=estimate.provenance,
            bytes_provenance=estimate.bytes_provenance,
        )
        for block, estimate in zip(space.candidates, evidence.block_C, strict=True)
    }


def _commit_us(target: Target, request: Request, choice_L: Sequence[int]) -> int | None:
    """Return what the layers take to commit one chunk; None where the table does not say so of each of them."""
    row_us = {row.part_label: round(1000 * row.latency_ms) for row in target.table.commits_in_scope(target.scope)}
    found = [row_us.get(request.space.candidates[c].label) for c in choice_L]
    return None if None in found else sum(us for us in found if us is not None)


def _latency(
    target: Target, evidence: Evidence, problem: Problem, choice_L: Sequence[int], *, commit_us: int | None
) -> LatencyAnswer:
    budget_us, predicted_us = target.latency_budget_us, problem.price(choice_L).latency_us
    blocks_us = int(sum(problem.latency_us_LC[layer, c] for layer, c in enumerate(choice_L)))
    std_us = evidence.latency_std_us(problem, choice_L)
    return LatencyAnswer(
        predicted=predicted_us / 1000,
        low=None if std_us is None else round(max(predicted_us - _TWO_SIDED_95 * std_us, 0) / 1000, 3),
        high=None if std_us is None else round((predicted_us + _TWO_SIDED_95 * std_us) / 1000, 3),
        budget=None if budget_us is None else budget_us / 1000,
        slack=None if budget_us is None else (budget_us - predicted_us) / 1000,
        switches=(predicted_us - blocks_us - problem.fixed_us) / 1000,
        fixed=problem.fixed_us / 1000,
        commit=None if commit_us is None else commit_us / 1000,
    )


def _confidence(request: Request, choice_L: Sequence[int], plain: Solution | None) -> ConfidenceAnswer | None:
    if request.confidence is None:
        return None
    problem, spread = request.problem, request.spread
    deviation, score = spread.deviation(problem, choice_L), problem.price(choice_L).score
    stated = request.table.card.common_std_relative is not None
    return ConfidenceAnswer(
        asked=request.confidence,
        latency_ms=round(spread.quantile_us(problem, choice_L, request.confidence) / 1000, 6),
        independent_std_ms=round(deviation.independent_us / 1000, 6),
        common_std_ms=round(deviation.common_us / 1000, 6) if stated else None,
        score_without=None if plain is None else plain.score,
        price=None if plain is None else round(plain.score - score, 9),
    )


def _memory(target: Target, problem: Problem, choice_L: Sequence[int]) -> MemoryAnswer:
    price, budget = problem.price(choice_L), target.memory_budget_bytes
    decoders = [row for row in target.table.in_scope(target.scope, any_grid=True) if row.part == "codec"]
    return MemoryAnswer(
        predicted=price.total_bytes,
        blocks=price.memory_bytes - problem.fixed_bytes,
        fixed=problem.fixed_bytes,
        peak=price.peak_bytes,
        decoder_counted=any(row.weight_bytes + row.state_bytes + row.peak_bytes for row in decoders),
        budget=budget,
        slack=None if budget is None else budget - price.total_bytes,
    )


def _rate(target: Target, forward_us: int) -> RateAnswer | None:
    pipeline, rate = target.table.card.pipeline, target.rate
    if pipeline is None or target.scope.scenario != "stream":
        return None
    return RateAnswer(
        chunk_ms={commit: pipeline.chunk_us(forward_us, commit) / 1000 for commit in COMMIT_POLICIES},
        frames_per_second={c: round(pipeline.frames_per_second(forward_us, c), 3) for c in COMMIT_POLICIES},
        budget=float(rate.amount) if rate else None,
        arithmetic=pipeline.arithmetic(rate.amount, target.commit) if rate else None,
    )


def _origin(request: Request, method: str) -> Origin:
    card = request.table.card
    return Origin(
        table=request.table.name,
        table_digest=request.table.digest,
        table_kind=card.provenance.kind,
        table_statement=card.provenance.statement,
        table_source=card.provenance.source,
        latency_model=type(request.latency_model).__name__.lower(),
        score=request.score.name,
        score_digest=request.score.digest,
        score_statement=request.score.statement,
        solver=method,
        s2search=version("s2search"),
    )
