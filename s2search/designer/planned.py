"""A design as a plan, and which of the layouts that tie is shown."""

from __future__ import annotations

import dataclasses

from s2search.cost import Budget, ToldPipeline
from s2search.designer.found import FoundDesign
from s2search.designer.search import ASKED, Search
from s2search.errors import CheckError
from s2search.planner.find import find, price
from s2search.planner.plan import Plan
from s2search.planner.request import Request
from s2search.solver.base import Solution, Solver
from s2search.solver.frontier import FrontPoint
from s2search.solver.questions.tie_break import even_order, preferred


def plan_of(search: Search, answer: FoundDesign, solver: Solver) -> Plan:
    """Return a design as a plan: the same network, with what its application leaves of every budget.

    Raises:
        CheckError: The plan scores otherwise (a bug in either search).
    """
    program, around, wish = answer.program, answer.around, search.question.wish
    request = Request(
        table=program.table,
        scope=program.scope,
        space=program.space,
        latency_model=wish.latency_model,
        score=wish.score,
        budgets=tuple(_left(budget, answer) for budget in search.question.budgets[ASKED]),
        commit=answer.combination.commit,
        told=ToldPipeline(
            steps=around.pipeline.steps, text_ms=around.pipeline.text_ms, decode_ms=around.pipeline.decoder_ms
        ),
        constraints=program.constraints,
    )
    floored = program.above(around.peak_bytes) is not program.problem
    # A plan knows no activations of other networks, chooses among what ties, and proves what it chooses.
    if floored or not answer.proven or answer.layout_is_judged:
        return price(request, Shown().of(answer, in_cell=True).point.choice_L, solver)
    plan = find(request, solver)
    if plan.score != answer.point.score:
        raise CheckError(
            f"the design's best layout scores {answer.point.score}, and the plan's {plan.score}",
            remedy="report this as a bug of the search",
        )
    return plan


def _left(budget: Budget, answer: FoundDesign) -> Budget:
    """Return what a budget leaves for the transformer: of memory and of first frames, less what else is in them."""
    around = answer.around
    taken = {"memory": around.held_bytes, "first": around.text_load_us}.get(budget.kind, 0)
    if not taken:
        return budget
    return dataclasses.replace(budget, amount=budget.amount - taken)


class Shown:
    """Which of the layouts that tie are shown; combinations of one program share them.

    In a cell it is that which a plan would show. Elsewhere, where there are many, it is the most even order of the same
    blocks, if that is as good: to look among all that tie takes searches of their own.
    """

    def __init__(self) -> None:
        self._known: dict[object, tuple[int, ...]] = {}

    def of(self, found: FoundDesign, *, in_cell: bool) -> FoundDesign:
        """Return a design with the layout that is shown."""
        if not found.proven or found.layout_is_judged or not (in_cell or found.program.layers_alike):
            return found
        key = (in_cell, found.combination.network, found.around.peak_bytes, found.point.choice_L)
        if key not in self._known:
            self._known[key] = _shown(found, in_cell)
        return _with_layout(found, self._known[key])


def as_planned(found: FoundDesign, plan: Plan) -> FoundDesign:
    """Return a design with a plan's layout."""
    return _with_layout(found, tuple(map(found.program.labels.index, plan.layout)))


def _shown(found: FoundDesign, in_cell: bool) -> tuple[int, ...]:
    problem = dataclasses.replace(
        found.program.above(found.around.peak_bytes),
        latency_budget_us=found.point.latency_us,
        memory_budget_bytes=found.point.memory_bytes,
    )
    price = problem.price(found.point.choice_L)
    solution = Solution(
        choice_L=found.point.choice_L,
        score=price.score,
        latency_us=price.latency_us,
        memory_bytes=price.memory_bytes,
        peak_bytes=price.peak_bytes,
        upper_bound=price.score,
        optimal=True,
        method="design",
    )
    if in_cell:
        return preferred(solution, problem, found.program.space).choice_L
    return even_order(solution, problem, found.program.space, problem.admits).choice_L


def _with_layout(found: FoundDesign, choice_L: tuple[int, ...]) -> FoundDesign:
    """Return a design with another layout of the same program."""
    price = found.program.above(found.around.peak_bytes).price(choice_L)
    point = FrontPoint(
        latency_us=price.latency_us, memory_bytes=price.total_bytes, score=price.score, choice_L=choice_L
    )
    return dataclasses.replace(found, point=point)
