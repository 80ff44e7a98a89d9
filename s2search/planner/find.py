"""Planning: from a request to a plan. `find` searches, `price` takes a given layout, `front` plans every latency."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from s2search.errors import CheckError, InfeasibleError, InputError, ProblemError, ScoreError
from s2search.planner.evidence import scored
from s2search.planner.frontier import Frontier
from s2search.planner.plan import NearLayout, NearTies, Plan, TieBreak
from s2search.planner.references import reference_layouts
from s2search.planner.request import Request
from s2search.planner.write import write_plan
from s2search.solver.base import Solution, Solver
from s2search.solver.frontier import latency_front
from s2search.solver.problem import FIXED_POINT
from s2search.solver.problem_checks import LARGEST_SUM
from s2search.solver.questions.binding import scores_without_budgets
from s2search.solver.questions.confidence import solve_with_confidence
from s2search.solver.questions.tie_break import canonical, interleaved, nearest
from s2search.solver.questions.ties import Ties, find_ties

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
    plan = write_plan(
        request,
        solution.choice_L,
        solution,
        solver=solver,
        ties=None if ties is None else ties.count,
        plain=plain,
        scores_without=without,
    )
    if ties is None:
        return plan.answering(request, solver)
    others = [layout for layout in ties.examples if layout != solution.choice_L][:_SHOWN_TIES]
    told = dataclasses.replace(
        plan,
        ties_exact=ties.exact,
        tied_layouts=tuple(map(request.space.write_layout, others)),
        tie_break=tie_break,
        near_ties=None if near is None else _near_ties(request, found, near),
    )
    return told.answering(request, solver)


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
    """Return the best layout; where a confidence is asked for, also the best one without it."""
    if request.confidence is None:
        return solver.solve(request.problem), None
    found = solve_with_confidence(request.problem, request.spread, request.confidence, solver)
    return found.solution, found.plain


def front(request: Request, solver: Solver, *, points: int = 40) -> Frontier:
    """Return the best plan for every latency, by rising latency and score, at the request's memory budget.

    Beside it stand the paper's layouts as far as the request can form them, to compare with.

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
    plans = [write_plan(request, solution.choice_L, solution, solver=solver, ties=None) for solution in even]
    references = {
        name: write_plan(request, choice_L, found[-1], solver=solver, ties=None)
        for name, choice_L in reference_layouts(request.space).items()
        if not _forbidden(request, choice_L)
    }
    return Frontier(
        plans=tuple(plan.answering(request, solver) for plan in plans),
        references={name: plan.answering(request, solver) for name, plan in references.items()},
    )
