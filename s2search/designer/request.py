"""What a design is asked: the table, what may be chosen beside the layout, the budgets, and what is best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from s2search.cost import NOTHING_TOLD, Budget, BudgetKind, Pipeline, ToldPipeline
from s2search.designer.axes import AxisName, Offer, Value
from s2search.designer.preference import DEFAULT
from s2search.designer.program import LayoutWish
from s2search.errors import InputError, TableError
from s2search.preset import PIXEL_FRAMES
from s2search.quality.base import Quality
from s2search.tables.application import Application, Component
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable

#: Rates of the matrix, frames per second: from what moves at all to film (24) and television (30).
RATES_FPS: tuple[float, ...] = (5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 24.0, 30.0)
_KINDS: tuple[BudgetKind, ...] = ("rate", "latency", "first", "memory")
_MOST_FPS = 1000


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
    wish: LayoutWish
    quality: Quality
    compute_unit: str | None = None
    told: ToldPipeline = NOTHING_TOLD
    budgets: tuple[Budget, ...] = ()
    choose: Mapping[AxisName, tuple[Value, ...]] = dataclasses.field(default_factory=dict)
    fix: Mapping[AxisName, tuple[Value, ...]] = dataclasses.field(default_factory=dict)
    prefer: tuple[str, ...] = DEFAULT
    rates_fps: tuple[float, ...] = RATES_FPS
    solve_all: bool = False

    def __post_init__(self) -> None:
        kinds = [budget.kind for budget in self.budgets]
        for budget in self.budgets:
            if budget.kind not in _KINDS:
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
            if not 0 < rate <= _MOST_FPS:
                raise InputError(f"a rate of the matrix is {rate:g}", allowed=f"more than 0, up to {_MOST_FPS} fps")

    @cached_property
    def offer(self) -> Offer:
        """What the table offers on every axis.

        Raises:
            InputError: One time is told, and the card lists several networks that it could be of.
            TableError: It has no such rows, or does not say what runs beside the transformer.
        """
        forms = self._forms()
        offer = Offer(
            table=self.table,
            forms=forms,
            depth=self.depth,
            pipeline=self._pipeline(forms[0].shape.frames),
            application=self._application(),
        )
        if offer.pipeline is None and not (offer.application.decoders and offer.application.text_encoders):
            raise TableError(
                f"the table {self.table.name!r} does not say what its text encoder and decoder take, so that no design "
                "has a rate",
                remedy="tell it with --text-ms and --decode-ms, or write a pipeline into its card",
            )
        return offer

    def _pipeline(self, frames: int) -> Pipeline | None:
        """Return the card's pipeline, with what was told in its place; None where neither says anything.

        Steps are an axis here: a table without a pipeline needs to be told the two networks beside the transformer,
        where its card does not list them.
        """
        pixel_frames, told, card = PIXEL_FRAMES * frames, self.told, self.table.card
        if card.pipeline is not None:
            pixel_frames = card.pipeline.chunk_frames
        elif told.statement:
            if None in (told.text_ms, told.decode_ms):
                if card.application and card.application.decoders and card.application.text_encoders:
                    return None
                raise TableError(
                    f"the table {self.table.name!r} has no pipeline, and {told.statement} is told alone",
                    remedy="tell both --text-ms and --decode-ms",
                )
            told = dataclasses.replace(told, steps=1)
        return told.over(card.pipeline, chunk_frames=pixel_frames, table=self.table.name)

    def _application(self) -> Application:
        """Return what the card lists, with what was told in its place."""
        listed = self.table.card.application or Application()
        return dataclasses.replace(
            listed,
            decoders=_told(listed.decoders, self.told.decode_ms, "decoder", "--decode-ms"),
            text_encoders=_told(listed.text_encoders, self.told.text_ms, "text encoder", "--text-ms"),
        )

    def _forms(self) -> Rows:
        forms = self.table.rows.having(scenario="stream", role="block")
        if not forms:
            raise TableError(
                f"the table {self.table.name!r} has no rows of blocks in a stream", remedy="measure the scenario stream"
            )
        units = forms.different("compute_unit")
        if self.compute_unit is None and len(units) > 1:
            raise TableError(
                f"the table {self.table.name!r} holds {len(units)} compute units: {', '.join(units)}",
                remedy="choose one with --compute-unit",
            )
        if self.compute_unit not in (None, *units):
            raise TableError(
                f"the table {self.table.name!r} has no stream rows on {self.compute_unit!r}",
                allowed=f"it has: {', '.join(units)}",
                remedy="choose one of these with --compute-unit",
            )
        return forms.having(compute_unit=self.compute_unit or units[0])

    @property
    def asks_time(self) -> bool:
        """Whether a rate, a latency or a time to the first frames is asked for."""
        return any(budget.kind != "memory" for budget in self.budgets)

    @property
    def rows_fps(self) -> tuple[float, ...]:
        """The rates of the matrix, that which is asked for among them."""
        asked = [float(budget.amount) for budget in self.budgets if budget.kind == "rate"]
        return tuple(sorted({*map(float, self.rates_fps), *asked}))


def _told(listed: tuple[Component, ...], ms: float | None, what: str, option: str) -> tuple[Component, ...]:
    """Return the networks that a card lists, the only one with the time that was told."""
    if ms is None or not listed:
        return listed
    if len(listed) > 1:
        names = ", ".join(component.name for component in listed)
        raise InputError(
            f"{option} tells one time, and the card lists {len(listed)} networks, each with its own: {names}",
            remedy=f"leave it out, or correct the {what} in the application of the card",
        )
    return (dataclasses.replace(listed[0], ms=ms, video="", source="told"),)
