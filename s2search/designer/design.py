"""Design: from a question to its answer. Combinations are searched, compared cell by cell, and the best explained."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from s2search.cost import Budget, format_fps
from s2search.designer.answer import axis_answer, budget_answer, doubts, evidence, lacking, most_fps, unranked
from s2search.designer.axes import DesignAxis, amount, settle
from s2search.designer.combination import combinations
from s2search.designer.document import Cell, Design, Possible
from s2search.designer.found import FoundDesign
from s2search.designer.neighbours import neighbours_of
from s2search.designer.origin import assumptions, origin
from s2search.designer.planned import Shown, as_planned, plan_of
from s2search.designer.preference import best_of, equal_to, undominated
from s2search.designer.request import DesignRequest
from s2search.designer.search import ASKED, DesignQuestion, Progress, Search, rate_row, without
from s2search.solver.base import Solver


def design(request: DesignRequest, solver: Solver, progress: Progress | None = None) -> Design:
    """Return what is possible: the matrix, the answer with its neighbours, the front, and what it rests on.

    Raises:
        InputError: An axis cannot be read, or contradicts another.
        MissingRowError: Nothing that may be chosen has a price.
    """
    axes = settle(request.offer, request.choose, request.fix)
    several, search, book = combinations(axes), Search(_question(request)), _Book()
    found = search.run(several, progress)
    answer = best_of(found.within(ASKED), request.prefer) if request.asks_time else None
    plan = None
    if answer is not None:
        plan = plan_of(search, answer, solver)
        book.place(answer, as_shown=as_planned(answer, plan))
    cells = _cells(search, request, axes, book)
    at_rows = [one for rate in request.rows_fps for one in found.within(rate_row(rate))]
    at_rows = list({one.key: one for one in [*at_rows, *([answer] if answer else [])]}.values())
    front = sorted(
        (at_rows[n] for n in undominated(at_rows)),
        key=lambda one: (-one.rate_fps, -amount("video", one.combination.video), -one.point.score, one.memory_bytes),
    )
    return Design(
        budgets=tuple(budget_answer(search, request, answer, n, book.place) for n in range(len(request.budgets))),
        axes=tuple(axis_answer(axis, answer, search) for axis in axes),
        prefer=request.prefer,
        rates_fps=request.rows_fps,
        steps=_steps(axes),
        cells=cells,
        front=tuple(book.place(one) for one in front),
        answer=None if answer is None else book.place(answer),
        missing=lacking(search, several) if request.asks_time and answer is None else "",
        equals=() if answer is None else tuple(book.place(one) for one in equal_to(answer, found.within(ASKED))),
        plan=plan,
        neighbours=() if answer is None else neighbours_of(search, answer, axes, request.prefer),
        evidence=() if answer is None else evidence(search, answer, axes),
        firmness=None if answer is None else doubts(search, request, answer, several),
        combinations=len(several),
        solved=found.solved,
        ruled_out=found.ruled_out,
        impossible=found.impossible,
        unpriced=dict(found.unpriced),
        unranked=unranked(axes, answer, search),
        assumptions=assumptions(search, at_rows),
        provenance=origin(request),
        designs=book.described(),
    )


class _Book:
    """The designs that an answer names, each once, in the order in which they are first named."""

    def __init__(self) -> None:
        self._places: dict[object, int] = {}
        self._designs: list[FoundDesign] = []
        self._shown = Shown()

    def place(self, found: FoundDesign, as_shown: FoundDesign | None = None, *, in_cell: bool = False) -> int:
        """Return the place of a design, and note with which of the layouts that tie it is shown."""
        if found.key not in self._places:
            self._places[found.key] = len(self._designs)
            self._designs.append(as_shown or self._shown.of(found, in_cell=in_cell))
        return self._places[found.key]

    def described(self) -> tuple[Possible, ...]:
        """Return them all as the document has them."""
        return tuple(one.described() for one in self._designs)


def _question(request: DesignRequest) -> DesignQuestion:
    """Return what every combination is asked: what was asked, every rate in its place, and each budget left out."""
    others = tuple(budget for budget in request.budgets if budget.kind != "rate")
    at_rates = {rate_row(rate): (*others, _rate(rate)) for rate in request.rows_fps}
    less = {without(n): (*request.budgets[:n], *request.budgets[n + 1 :]) for n in range(len(request.budgets))}
    return DesignQuestion(
        offer=request.offer,
        wish=request.wish,
        quality=request.quality,
        budgets={ASKED: request.budgets, **at_rates, **less},
        solve_all=request.solve_all,
    )


def _rate(fps: float) -> Budget:
    """Return a row of the matrix as a budget, exactly the decimal number that it is called."""
    return Budget("rate", Fraction(repr(fps)), rate_row(fps))


def _steps(axes: Sequence[DesignAxis]) -> tuple[int, ...]:
    return next(tuple(int(value) for value in axis.values) for axis in axes if axis.name == "steps")


def _cells(search: Search, request: DesignRequest, axes: Sequence[DesignAxis], book: _Book) -> tuple[Cell, ...]:
    cells = []
    for steps in _steps(axes):
        reached: float | None = None
        for rate in request.rows_fps:
            within = search.searched.within(rate_row(rate))
            best = best_of([one for one in within if one.combination.steps == steps], request.prefer)
            if best is None and reached is None:
                reached = most_fps(search, [one for one in search.combinations if one.steps == steps]) or 0.0
            cells.append(
                Cell(
                    rate_fps=rate,
                    steps=steps,
                    design=None if best is None else book.place(best, in_cell=True),
                    missing="" if best is not None else _missing(request, rate, reached or 0.0),
                )
            )
    return tuple(sorted(cells, key=lambda cell: (cell.rate_fps, cell.steps)))


def _missing(request: DesignRequest, rate_fps: float, reached_fps: float) -> str:
    """Say why nothing is possible in a cell: no layout is so fast, or another budget is in the way."""
    others = [budget.text for budget in request.budgets if budget.kind != "rate"]
    if 0 < reached_fps < rate_fps:
        return f"at most {format_fps(reached_fps)}"
    return f"not within {' and '.join(others)}"
