"""Design: from a question to its answer. All combinations are searched, compared cell by cell, and the best explained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from s2search import block as blocks
from s2search.cost import Budget, BudgetKind, ToldPipeline, format_bytes, format_us
from s2search.designer.axes import OF_NETWORK, AXES, Axis, AxisName, Offer, Value, amount, settle
from s2search.designer.combination import Combination, combinations
from s2search.designer.document import AxisAnswer, BudgetAnswer, Cell, Design, DesignOrigin, Firmness
from s2search.designer.firmness import Decision, decision_of, firmness
from s2search.designer.found import Found
from s2search.designer.neighbours import fastest_of, neighbours_of
from s2search.designer.preference import best_of, equal_to, parse_preference, undominated
from s2search.designer.program import Wish
from s2search.designer.search import Progress, Question, Search
from s2search.errors import CheckError, InputError, S2SearchError, TableError
from s2search.planner.find import find
from s2search.planner.plan import Plan
from s2search.planner.request import Request
from s2search.quality.base import Quality
from s2search.registry import own_version
from s2search.solver.base import Solver
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable

#: Rates of the matrix: slow motion pictures, film, television, and twice that.
RATES_FPS: tuple[float, ...] = (5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 24.0, 30.0)
_ASKED = "asked"
_UNITS: Mapping[BudgetKind, tuple[str, float]] = {
    "latency": ("ms", 1000.0),
    "first": ("ms", 1000.0),
    "memory": ("bytes", 1.0),
    "rate": ("fps", 1.0),
}


@dataclass(frozen=True, kw_only=True)
class DesignRequest:
    """What is asked: the table, what may be chosen, the budgets, and by what the best is chosen.

    Attributes:
        table: Where the rows are.
        depth: Of the preset that they were measured for.
        compute_unit: Needed only where the table holds several.
        told: Of the pipeline, in place of what the card says.
        budgets: A latency, a rate, a time to the first frames, a memory; each at most once.
        choose: Values of axes to choose among.
        fix: One value of axes that are no choice.
        wish: What layouts are chosen from, and by.
        quality: What is known of quality across axes.
        prefer: The order of wishes.
        rates_fps: Rows of the matrix.
        solve_all: Search even what bounds rule out.

    Raises:
        InputError: A budget of a kind that no design has, or two of one kind.
        TableError: A rate is asked for, and nobody says what decoding takes.
    """

    table: LatencyTable
    depth: int
    wish: Wish
    quality: Quality
    compute_unit: str | None = None
    told: ToldPipeline = dataclasses.field(default_factory=ToldPipeline)
    budgets: tuple[Budget, ...] = ()
    choose: Mapping[AxisName, tuple[Value, ...]] = dataclasses.field(default_factory=dict)
    fix: Mapping[AxisName, tuple[Value, ...]] = dataclasses.field(default_factory=dict)
    prefer: tuple[str, ...] = dataclasses.field(default_factory=lambda: parse_preference(None))
    rates_fps: tuple[float, ...] = RATES_FPS
    solve_all: bool = False

    def __post_init__(self) -> None:
        kinds = [budget.kind for budget in self.budgets]
        for budget in self.budgets:
            if budget.kind not in _UNITS:
                raise InputError(
                    f"{budget.text} is for one layout, and a design has many",
                    allowed="a rate, a latency, a memory, or first:TIME",
                    remedy="ask plan for it, once the design is chosen",
                )
            if kinds.count(budget.kind) > 1:
                texts = " and ".join(other.text for other in self.budgets if other.kind == budget.kind)
                raise InputError(f"there are two {budget.kind} budgets: {texts}", remedy="keep one of them")
            if budget.sustained and not self.table.card.sustained:
                raise TableError(
                    f"{budget.text} is for sustained load, and the table {self.table.name!r} is not",
                    remedy="name a table that was measured under sustained load, or leave out @sustained",
                )
        for rate in self.rates_fps:
            if not 0 < rate <= 1000:  # noqa: PLR2004  - frames per second of anything
                raise InputError(f"a rate of the matrix is {rate:g}", allowed="more than 0, up to 1000 frames per second")

    @property
    def offer(self) -> Offer:
        """What the table offers on every axis."""
        forms = self.table.rows.having(scenario="stream", role="block")
        units = forms.different("compute_unit") if forms else []
        if not forms:
            raise TableError(
                f"the table {self.table.name!r} has no stream rows of blocks", remedy="measure the scenario stream"
            )
        if self.compute_unit is None and len(units) > 1:
            raise TableError(
                f"the table {self.table.name!r} holds {len(units)} compute units: {', '.join(units)}",
                remedy="choose one with --compute-unit",
            )
        if self.compute_unit is not None:
            if self.compute_unit not in units:
                raise TableError(
                    f"the table {self.table.name!r} has no stream rows on {self.compute_unit!r}",
                    allowed=f"it has: {', '.join(units)}",
                    remedy="choose one of these with --compute-unit",
                )
            forms = forms.having(compute_unit=self.compute_unit)
        frames = 4 * forms[0].shape.frames
        pipeline = self.told.over(self.table.card.pipeline, chunk_frames=frames, table=self.table.name)
        return Offer(table=self.table, forms=forms, depth=self.depth, pipeline=pipeline)

    @property
    def asks_time(self) -> bool:
        """Whether a rate, a latency or a time to the first frames is asked for."""
        return any(budget.kind != "memory" for budget in self.budgets)


def design(request: DesignRequest, solver: Solver, progress: Progress | None = None) -> Design:
    """Return what is possible: the matrix, the answer with its neighbours, the front, and what it rests on.

    Raises:
        InputError: An axis cannot be read, or contradicts another.
        MissingRowError: Nothing that may be chosen has a price.
    """
    offer = request.offer
    axes = settle(offer, request.choose, request.fix)
    _check_pipeline(request, offer)
    rates = _rates(request)
    search = Search(_question(request, offer, rates))
    several = combinations(axes)
    found = search.run(several, progress)
    answer = best_of(found.within(_ASKED), request.prefer) if request.asks_time else None
    book = _Book()
    cells = _cells(search, request, rates, axes, book)
    front_designs = [one for rate in rates for one in found.within(_row(rate))]
    front_designs = list({one.key: one for one in [*front_designs, *found.within(_ASKED)]}.values())
    front = [front_designs[n] for n in undominated(front_designs)]
    front.sort(key=lambda one: (-one.rate_fps, -amount("video", one.combination.video), -one.point.score))
    plan = None if answer is None else _plan(request, search, answer, solver)
    design = Design(
        budgets=tuple(_budget(request, search, answer, n, book) for n in range(len(request.budgets))),
        axes=tuple(_axis(axis, answer, search, request) for axis in axes),
        prefer=request.prefer,
        rates_fps=rates,
        steps=tuple(int(value) for value in _values(axes, "steps")),
        cells=cells,
        designs=(),
        front=tuple(book.place(one) for one in front),
        answer=None if answer is None else book.place(answer),
        equals=() if answer is None else tuple(book.place(one) for one in equal_to(answer, front_designs)),
        plan=plan,
        neighbours=() if answer is None else neighbours_of(search, answer, axes, request.prefer),
        firmness=None if answer is None else _firmness(search, request, answer, several),
        combinations=len(several),
        solved=found.solved,
        ruled_out=found.ruled_out,
        impossible=found.impossible,
        unpriced=dict(found.unpriced),
        unranked=_unranked(axes, front_designs),
        assumptions=_assumptions(request, search, answer, front_designs),
        missing=_missing(request, search, several) if request.budgets and answer is None and request.asks_time else "",
        provenance=_origin(request, offer),
    )
    return dataclasses.replace(design, designs=tuple(one.described() for one in book.designs))


class _Book:
    """The designs that an answer names, each once, in the order in which they are first named."""

    def __init__(self) -> None:
        self._places: dict[object, int] = {}
        self.designs: list[Found] = []

    def place(self, found: Found) -> int:
        """Return the place of a design."""
        if found.key not in self._places:
            self._places[found.key] = len(self.designs)
            self.designs.append(found)
        return self._places[found.key]


def _rates(request: DesignRequest) -> tuple[float, ...]:
    asked = [float(budget.amount) for budget in request.budgets if budget.kind == "rate"]
    return tuple(sorted({*request.rates_fps, *asked}))


def _row(rate_fps: float) -> str:
    return f"{rate_fps:g}fps"


def _question(request: DesignRequest, offer: Offer, rates: Sequence[float]) -> Question:
    """Return what every combination is asked: what was asked, every rate with the other budgets, and each one less."""
    others = tuple(budget for budget in request.budgets if budget.kind not in ("rate", "latency"))
    at_rates = {
        _row(rate): (*others, Budget("rate", Fraction(rate).limit_denominator(1000), f"{rate:g}fps")) for rate in rates
    }
    without = {
        _without(n): (*request.budgets[:n], *request.budgets[n + 1 :]) for n in range(len(request.budgets))
    }
    return Question(
        offer=offer,
        wish=request.wish,
        quality=request.quality,
        budgets={_ASKED: request.budgets, **at_rates, **without},
        solve_all=request.solve_all,
    )


def _without(n: int) -> str:
    return f"without {n}"


def _check_pipeline(request: DesignRequest, offer: Offer) -> None:
    if offer.pipeline is None and not (offer.application.decoders and offer.application.text_encoders):
        raise TableError(
            f"the table {request.table.name!r} does not say what the text encoder and the decoder take, so that no "
            "design has a rate",
            remedy="tell it with --text-ms and --decode-ms, or write a pipeline into its card",
        )


def _values(axes: Sequence[Axis], name: AxisName) -> tuple[Value, ...]:
    return next(axis.values for axis in axes if axis.name == name)


def _cells(
    search: Search, request: DesignRequest, rates: Sequence[float], axes: Sequence[Axis], book: _Book
) -> tuple[Cell, ...]:
    cells = []
    for rate in rates:
        within = search.searched.within(_row(rate))
        for steps in map(int, _values(axes, "steps")):
            best = best_of([one for one in within if one.combination.steps == steps], request.prefer)
            cells.append(Cell(rate_fps=rate, steps=steps, design=None if best is None else book.place(best)))
    return tuple(cells)
