"""Planning: from a request to a plan. `find` searches, `price` takes a given layout, `front` plans every latency."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from s2search.cost import Budget
from s2search.errors import CheckError, InfeasibleError, InputError, ProblemError, ScoreError
from s2search.planner.condition import Percentile
from s2search.planner.evidence import scored
from s2search.planner.frontier import Frontier
from s2search.planner.infeasible import in_frames
from s2search.planner.plan import FewestSwitches, NearLayout, NearTies, Plan, TieBreak, TieScore
from s2search.planner.references import reference_layouts
from s2search.planner.request import Request
from s2search.planner.write import write_plan
from s2search.score.base import Score
from s2search.solver.base import Solution, Solver, unconstrained_bound
from s2search.solver.frontier import latency_front
from s2search.solver.problem import FIXED_POINT, Problem
from s2search.solver.problem_checks import LARGEST_SUM
from s2search.solver.questions.binding import scores_without_budgets
from s2search.solver.questions.confidence import least_quantile_us
from s2search.solver.questions.score_errors import stability
from s2search.solver.questions.tie_break import TieRule, even_order, preferred
from s2search.solver.questions.ties import Ties, find_ties
from s2search.solver.spread import check_confidence
from s2search.space import Space

_SHOWN_TIES = 3


def find(
    request: Request,
    solver: Solver,
    *,
    near: float | None = None,
    tie: TieRule = "fastest",
    tie_score: Score | None = None,
) -> Plan:
    """Return the best layout within the budgets.

    Of equally good ones it is the one that scores most by `tie_score` and that `tie_break` prefers; where that has more
    changes of stream than need be, the plan names the one that has the fewest. With `near`, layouts that score at most
    so much less are counted as well.

    Raises:
        InputError: `near` is negative or not finite, or the request asks for a confidence as well.
        InfeasibleError: No layout fits.
    """
    _check_near(near, request)
    problem, by = request.problem, None if tie_score is None else _under(tie_score, request)
    found, plain = _search(request, solver)
    countable = found.optimal and request.condition is None  # a condition is no sum
    ties = _ties(request, found) if countable else None
    alone = ties is not None and ties.exact and ties.count == 1
    solution, tie_break = (found, None) if alone else _shown(request, found, solver, tie, by)
    without = scores_without_budgets(problem, solver) if problem.devices and countable else ()
    plan = write_plan(
        request,
        solution.choice_L,
        solution,
        solver=solver,
        ties=None if ties is None else ties.count,
        plain=plain,
        scores_without=without,
    )
    plan = dataclasses.replace(plan, tie_break=tie_break)
    if tie_score is not None and by is not None and tie_break is not None:
        plan = dataclasses.replace(plan, tie_score=_tie_score(tie_score, by, request.space, solution.choice_L))
    if tie_break is not None and tie == "fastest":
        plan = dataclasses.replace(plan, fewest_switches=_fewest_switches(request, solution, solver, plan.switches))
    errors = request.score.errors(request.space)
    if errors is not None and countable:
        plan = dataclasses.replace(plan, score_stability=stability(problem, solution.choice_L, errors.drawn, solver))
    if ties is None:
        return plan.answering(request, solver)
    others = [layout for layout in ties.examples if layout != solution.choice_L][:_SHOWN_TIES]
    told = dataclasses.replace(
        plan,
        ties_exact=ties.exact,
        tied_layouts=tuple(map(request.space.write_layout, others)),
        near_ties=None if near is None else _near_ties(request, found, near),
    )
    return told.answering(request, solver)


def _check_near(near: float | None, request: Request) -> None:
    if near is not None and not 0 <= near < math.inf:
        raise InputError(
            f"the score gap of near-ties is {near}", allowed="0 or a positive number", remedy="give one such as 0.001"
        )
    if near is not None and request.condition_text:
        raise InputError(
            f"near-ties within {near} cannot be counted with {request.condition_text}",
            remedy="leave out one of the two",
        )


def _ties(request: Request, found: Solution) -> Ties:
    """Count the layouts as good as one that was found; that one counts even where counting lost it."""
    problem = request.problem
    score = problem.price(found.choice_L).fixed_point_score
    ties = find_ties(problem, score, examples=_SHOWN_TIES + 1, order_C=request.space.by_label_C)
    return dataclasses.replace(ties, count=max(ties.count, 1)).in_a_file


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
    counted = ties.in_a_file
    return NearTies(gap=near, count=counted.count, exact=counted.exact, layouts=layouts)


def _under(score: Score, request: Request) -> Problem:
    """Return the request's problem under a score that chooses among ties.

    Raises:
        ScoreError: It forbids a block at a layer, which is for the search to know.
    """
    space = request.space
    score_LC = score.score_LC(space)
    if np.isnan(score_LC).any():
        layer, c = (int(place) for place in np.argwhere(np.isnan(score_LC))[0])
        raise ScoreError(
            f"{score.where} forbids {space.candidates[c].label!r} at layer {layer}, and it only chooses among ties",
            remedy="forbid blocks in the score that is searched by",
        )
    return dataclasses.replace(request.problem, score_LC=score_LC, pair_score_LCC=score.pair_score_LCC(space))


def _tie_score(score: Score, by: Problem, space: Space, choice_L: Sequence[int]) -> TieScore:
    errors = score.errors(space)
    return TieScore(
        name=score.label,
        digest=score.digest,
        statement=score.statement,
        score=by.price(choice_L).score,
        error=None if errors is None else errors.of(choice_L),
    )


def _shown(
    request: Request, found: Solution, solver: Solver, tie: TieRule, by: Problem | None = None
) -> tuple[Solution, TieBreak | None]:
    """Return which of the layouts that tie is shown, and by what rule; None for one of which nothing is proven."""
    problem, space = request.problem, request.space
    if not found.optimal:
        return even_order(found, problem, space, request.admits), None
    condition = request.condition
    if condition is None:
        shown = preferred(found, problem, space, rule=tie, by=by)
    else:
        shown = preferred(
            found,
            problem,
            space,
            rule=tie,
            by=by,
            keeps=request.admits,
            search=lambda narrower: condition.solve(narrower, solver).solution,
        )
    if problem.max_changes is not None:
        return shown, "fewest changes"
    if by is not None:
        return shown, "scored"
    return shown, "fewest switches" if tie == "fewest-switches" else "fastest"


def _fewest_switches(request: Request, shown: Solution, solver: Solver, switches: int) -> FewestSwitches | None:
    """Return the layout that ties and changes the stream least often, None where the one that is shown does."""
    if not switches or (switches == 2 and not _without_switches(request, shown)):
        return None
    calm, _ = _shown(request, shown, solver, "fewest-switches")
    plan = write_plan(request, calm.choice_L, calm, solver=solver, ties=None)
    if plan.switches == switches:
        return None
    return FewestSwitches(written=plan.written, switches=plan.switches, latency_ms=plan.latency_ms.predicted)


def _without_switches(request: Request, shown: Solution) -> bool:
    """Tell whether layers that all run in the stem's stream, and so never change it, might score as much."""
    problem = request.problem
    may_LC = problem.allowed_LC & (problem.stream_C == problem.first_stream)
    if not may_LC.any(axis=1).all():
        return False
    within = dataclasses.replace(problem, allowed_LC=may_LC)
    return unconstrained_bound(within) >= problem.price(shown.choice_L).fixed_point_score


def price(request: Request, choice_L: Sequence[int], solver: Solver) -> Plan:
    """Return what a hand-written layout costs, whether it fits, and how far the best one would be ahead of it.

    Where the solver has no answer (no layout fits, or the problem is not one for it) the bound is unknown: None.

    Raises:
        ScoreError: The score forbids a block where the layout has it.
    """
    if forbidden := _forbidden(request, choice_L):
        layer, label = forbidden[0]
        raise ScoreError(
            f"{request.score.where} forbids {label!r} at layer {layer}, where the layout has it",
            remedy="change the layout, or give the block a number there",
        )
    try:
        best, _ = _search(request, solver)
    except (InfeasibleError, ProblemError, CheckError):
        best = None
    return write_plan(request, choice_L, best, solver=solver, ties=None).answering(request, solver)


def _forbidden(request: Request, choice_L: Sequence[int]) -> list[tuple[int, str]]:
    """Return the layers at which the score forbids a layout's block, with that block."""
    allowed_LC = scored(request.space, request.score)[1]
    return [(layer, request.space.candidates[c].label) for layer, c in enumerate(choice_L) if not allowed_LC[layer, c]]


def _search(request: Request, solver: Solver) -> tuple[Solution, Solution | None]:
    """Return the best layout; where a condition is to be kept, also the best one without it."""
    try:
        if request.condition is None:
            return solver.solve(request.problem), None
        if isinstance(request.condition, Percentile):
            plain = solver.solve(request.problem)  # its own sums are of medians, those of the percentile of means
            return request.condition.solve(request.problem, solver).solution, plain
        found = request.condition.solve(request.problem, solver)
        return found.solution, found.plain
    except InfeasibleError as error:
        raise in_frames(request, error) from error


def front(request: Request, solver: Solver, *, points: int = 40, confidence: float | None = None) -> Frontier:
    """Return the best plan for every latency of the first device, by rising latency and score.

    Its memory budget and all budgets of further devices hold. With a confidence every plan keeps its latency with at
    least that probability: each is proven at one of `points` latency budgets, and carries that budget. Beside it stand
    the paper's layouts as far as the request can form them, to compare with.

    Raises:
        InputError: The request limits latency, which the front itself varies.
        InfeasibleError: No layout fits the memory budget.
        TableError: A confidence is asked for, and the table states no spread of timings.
    """
    for budget in request.budgets:
        if budget.kind != "memory":
            raise InputError(
                f"the front goes over all latencies, so {budget.text} cannot limit it",
                remedy="give a memory budget such as 1.1GB, or use plan",
            )
    if confidence is not None:
        return _confident_front(request, solver, points, confidence)
    problem = request.problem
    found = latency_front(problem, solver, points=points)
    shown = [
        preferred(solution, _within(problem, solution), request.space) if solution.optimal else solution
        for solution in found
    ]
    plans = [write_plan(request, solution.choice_L, solution, solver=solver, ties=None) for solution in shown]
    references = {
        name: write_plan(request, choice_L, found[-1], solver=solver, ties=None)
        for name, choice_L in reference_layouts(request.space).items()
        if not _forbidden(request, choice_L)
    }
    return Frontier(
        plans=tuple(plan.answering(request, solver) for plan in plans),
        references={name: plan.answering(request, solver) for name, plan in references.items()},
    )


def _within(problem: Problem, solution: Solution) -> Problem:
    """Return the search for what takes no longer than a point of the front."""
    return dataclasses.replace(problem, latency_budget_us=solution.latency_us)


def _confident_front(request: Request, solver: Solver, points: int, confidence: float) -> Frontier:
    check_confidence(confidence)
    problem, spread = request.problem, request.spread

    def within(latency_us: int) -> Request:
        limit = Budget.parse(f"{latency_us}us")
        return dataclasses.replace(request, budgets=(*request.budgets, limit), confidence=confidence)

    def kept_us(choice_L: Sequence[int]) -> int:
        return math.ceil(spread.quantile_us(problem, choice_L, confidence))

    best = solver.solve(problem)
    least_us, most_us = least_quantile_us(problem, spread, confidence), kept_us(best.choice_L)
    budgets_us = sorted({least_us + (most_us - least_us) * k // (points - 1) for k in range(points)})
    plans: list[Plan] = []
    for plan in sorted((find(within(us), solver) for us in budgets_us), key=lambda plan: (plan.kept_ms, -plan.score)):
        if not plans or plan.score > plans[-1].score:
            plans.append(plan)
    references = {
        name: write_plan(within(kept_us(choice_L)), choice_L, best, solver=solver, ties=None)
        for name, choice_L in reference_layouts(request.space).items()
    }
    return Frontier(plans=tuple(plans), references=references)
