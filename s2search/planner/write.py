"""Writing a plan: what a layout costs on every device, against which budgets, and where every number comes from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from s2search.block import Stream
from s2search.cost import COMMIT_POLICIES
from s2search.errors import CheckError
from s2search.planner.evidence import Evidence
from s2search.planner.plan import (
    TWO_SIDED_95,
    BlockAnswer,
    ConfidenceAnswer,
    DeviceAnswer,
    FirstAnswer,
    LatencyAnswer,
    MemoryAnswer,
    Origin,
    PercentileAnswer,
    Plan,
    RateAnswer,
)
from s2search.planner.request import Request, Target
from s2search.preset import video_size
from s2search.registry import own_version
from s2search.solver.base import Solution, Solver
from s2search.solver.problem import Problem
from s2search.space import Space

_ROUND_US = [digit * 10**power for power in range(2, 16) for digit in (1, 2, 5)]  # from 0.1 ms


def write_plan(
    request: Request,
    choice_L: Sequence[int],
    best: Solution | None,
    *,
    solver: Solver,
    ties: int | None,
    scores_without: Sequence[float] = (),
    plain: Solution | None = None,
) -> Plan:
    """Write out a layout.

    `best` is what the solver found in the same problem, or None where it found nothing; `plain` what it found there
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
        first=first.first,
        p95=_percentile(request, choice_L, plain),
        score=price.score,
        score_error=_score_error(request, choice_L),
        upper_bound=None if best is None else best.upper_bound,
        optimal=best is not None and fits and price.score == best.upper_bound,
        ties=ties,
        provenance=_origin(request, solver, best),
        constraints=request.constraints,
        devices=tuple(devices) if request.further else (),
    )


def _score_error(request: Request, choice_L: Sequence[int]) -> float | None:
    errors = request.score.errors(request.space)
    return None if errors is None else errors.of(choice_L)


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
            rate=rate_answer(target, problem.price(choice_L).latency_us),
            binds=None if relaxed is None else relaxed > score,
            score_without=relaxed,
            table_marks=_marks(target, request),
            table_picked=_picked(target),
            first=first_answer(target, problem.price(choice_L).latency_us),
        )
        for target, evidence, problem, relaxed in zip(
            request.targets, request.evidences, problems, without, strict=True
        )
    ]


def _marks(target: Target, request: Request) -> tuple[str, ...]:
    known = [table for table in request.latency_model.known_tables if table != target.table]
    return (*target.table.card.marks, *(f"{table.name}: {mark}" for table in known for mark in table.card.marks))


def _picked(target: Target) -> str:
    return " ".join(budget.text for budget in target.asked_hot)


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
    switches_us = predicted_us - blocks_us - problem.fixed_us
    return LatencyAnswer(
        predicted=predicted_us / 1000,
        low=None if std_us is None else round(max(predicted_us - TWO_SIDED_95 * std_us, 0) / 1000, 3),
        high=None if std_us is None else round((predicted_us + TWO_SIDED_95 * std_us) / 1000, 3),
        budget=None if budget_us is None else budget_us / 1000,
        slack=None if budget_us is None else (budget_us - predicted_us) / 1000,
        switches=switches_us / 1000,
        fixed=problem.fixed_us / 1000,
        commit=None if commit_us is None else commit_us / 1000,
        free_switches=None
        if switches_us
        else free_switches(problem, choice_L, None if budget_us is None else budget_us - predicted_us),
        provenance=evidence.latency_provenance(problem, choice_L),
    )


def free_switches(problem: Problem, choice_L: Sequence[int], slack_us: int | None) -> str | None:
    """Say that switches are priced at 0, and the least round price of one that would break the budget."""
    streams = [problem.first_stream, *(int(problem.stream_C[c]) for c in choice_L), problem.last_stream]
    if not (switches := sum(before != after for before, after in pairwise(streams))):
        return None
    said = f"{switches} switches, which this table prices at 0"
    if slack_us is None:
        return f"{said}; at 0.1 ms each they would take {switches * 100 / 1000:g} ms"
    price_us = next(us for us in _ROUND_US if switches * us > slack_us)
    over_ms = (switches * price_us - slack_us) / 1000
    return f"{said}; at {price_us / 1000:g} ms each this layout would be {over_ms:.3g} ms over"


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


def _percentile(request: Request, choice_L: Sequence[int], plain: Solution | None) -> PercentileAnswer | None:
    asked = request.percentile
    if asked is None:
        return None
    price, score = asked.price_us(request.problem, choice_L), request.problem.price(choice_L).score
    return PercentileAnswer(
        predicted=round(price.p95_us / 1000, 6),
        bound=round(price.bound_us / 1000, 6),
        budget=asked.budget_us / 1000,
        slack=round((asked.budget_us - price.bound_us) / 1000, 6),
        mean=price.mean_us / 1000,
        own_std=round(price.own_std_us / 1000, 6),
        common_std=round(price.common_std_us / 1000, 6),
        samples=asked.times().digest,
        score_without=None if plain is None else plain.score,
        price=None if plain is None else round(plain.score - score, 9),
    )


def first_answer(target: Target, forward_us: int) -> FirstAnswer | None:
    """Return when the first frames come if a forward pass takes so many microseconds; None where nobody asks."""
    pipeline, first = target.pipeline, target.first
    if pipeline is None or first is None:
        return None
    predicted_us = pipeline.first_frames_us(forward_us, target.commit)
    return FirstAnswer(
        predicted=predicted_us / 1000,
        budget=float(first.amount) / 1000,
        slack=(int(first.amount) - predicted_us) / 1000,
        arithmetic=pipeline.first_arithmetic(first.amount, target.commit) if target.first_us else None,
    )


def _memory(target: Target, problem: Problem, choice_L: Sequence[int]) -> MemoryAnswer:
    price, budget = problem.price(choice_L), target.memory_budget_bytes
    decoders = target.table.in_scope(target.scope, any_grid=True).having(part="codec")
    return MemoryAnswer(
        predicted=price.total_bytes,
        blocks=price.memory_bytes - problem.fixed_bytes,
        fixed=problem.fixed_bytes,
        peak=price.peak_bytes,
        decoder_counted=any(row.weight_bytes + row.state_bytes + row.peak_bytes for row in decoders),
        budget=budget,
        slack=None if budget is None else budget - price.total_bytes,
    )


def rate_answer(target: Target, forward_us: int) -> RateAnswer | None:
    """Return what a chunk takes if a forward pass takes so many microseconds; None where nothing says so."""
    pipeline, rate = target.pipeline, target.rate
    if pipeline is None or target.scope.scenario != "stream":
        return None
    return RateAnswer(
        chunk_ms={commit: pipeline.chunk_us(forward_us, commit) / 1000 for commit in COMMIT_POLICIES},
        frames_per_second={c: round(pipeline.frames_per_second(forward_us, c), 3) for c in COMMIT_POLICIES},
        budget=float(rate.amount) if rate else None,
        arithmetic=pipeline.arithmetic(rate.amount, target.commit) if rate else None,
        told=target.told if target.told.statement else None,
    )


def _origin(request: Request, solver: Solver, best: Solution | None) -> Origin:
    card = request.table.card
    return Origin(
        table=request.table.name,
        table_digest=request.table.digest,
        table_kind=card.provenance.kind,
        table_statement=card.provenance.statement,
        table_source=card.provenance.source,
        table_marks=_marks(request.targets[0], request),
        table_picked=_picked(request.targets[0]),
        latency_model=request.latency_model.name,
        latency_model_options=request.latency_model.options_text,
        score=request.score.name,
        score_options=request.score.options_text,
        score_digest=request.score.digest,
        score_statement=request.score.statement,
        solver="none" if best is None else best.method,
        solver_options=solver.options_text,
        s2search=own_version(),
    )
