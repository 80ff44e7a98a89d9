"""Design: what a device can have, as a document. A matrix of rate and steps, an answer, a front, and their grounds."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from s2search.cost import BudgetKind, format_fps
from s2search.designer.axes import AXES, AxisName, Value, check_settings
from s2search.document import Document, read_json, write_text
from s2search.errors import InputError, UnknownNameError
from s2search.planner.plan import Plan
from s2search.quality.base import PublishedPair
from s2search.tables.card import ProvenanceKind

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA: Literal["s2search.design/1"] = "s2search.design/1"

#: A time or a rate, and a score, of a size that can be written down.
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Score = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]


@dataclass(frozen=True, kw_only=True)
class JudgedQuality:
    """What a quality says of a design: larger is better, within one scale. `error` is null where none is stated."""

    value: float
    error: float | None
    scale: str
    source: str
    provenance: str


@dataclass(frozen=True, kw_only=True)
class Possible:
    """One design that is possible: a value of every axis, with its best layout.

    Attributes:
        settings: A value of every axis.
        written: The layout, as people write it.
        counts: Layers of every block.
        latency_ms: One forward pass.
        latency_std_ms: How far that may be off, as one standard deviation; null where a row states nothing.
        latency_provenance: The kinds of evidence behind it.
        frames_per_second: Pixel frames, decoder and text encoder included.
        first_ms: From the prompt to the first frames.
        memory_bytes: The whole application, as far as its parts are known.
        transformer_bytes: The transformer with its largest activations.
        score: Of the layout.
        proven: Whether no layout within the same limits scores more.
        quality: What the quality says of it; null where it knows nothing.
        uncounted: What of its memory nobody says, so that it is not in `memory_bytes`.
    """

    settings: dict[AxisName, Value]
    written: str
    counts: dict[str, int]
    latency_ms: Amount
    latency_std_ms: Amount | None
    latency_provenance: tuple[ProvenanceKind, ...]
    frames_per_second: Amount
    first_ms: Amount
    memory_bytes: int
    transformer_bytes: int
    score: Score
    proven: bool
    quality: JudgedQuality | None = None
    uncounted: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The best design of so many steps that reaches a rate and keeps every other budget.

    `design` is its place among `Design.designs`, null where nothing is possible; `missing` then says what lacks.
    """

    rate_fps: float
    steps: int
    design: int | None
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class AxisAnswer:
    """One axis: its values, the answer's, and what keeps the answer from more of it.

    `held_by` is `offer` (the answer has the most that is on offer), `budgets` (more does not fit), `wishes` (more fits,
    with less of what counts more), `unpriced` (nothing foretells what more takes), `fixed` (there was no
    choice), `quality` (the quality ranks its values) or `cost` (nobody does, so the answer has the one that leaves most
    for the rest).
    """

    name: AxisName
    values: tuple[Value, ...]
    chosen: Value | None
    held_by: Literal["offer", "budgets", "wishes", "unpriced", "fixed", "cost", "quality"] | None


@dataclass(frozen=True, kw_only=True)
class BudgetAnswer:
    """One budget: what of it the answer uses, in its own unit, and what would be had without it.

    `binds` says that without it the answer would be another, `without` which one, in `Design.designs`.
    """

    text: str
    kind: BudgetKind
    limit: float
    used: float | None
    unit: str
    binds: bool
    without: int | None


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """The answer with the next value of one axis: what is had there, or what lacks.

    `offered` is false for a value beyond those that were on offer. `design` is null where nothing fits: then
    `missing_ms` is how much faster a forward pass would have to be, and `missing_bytes` how much smaller the
    application; each null where that alone is not what lacks.
    """

    axis: AxisName
    value: Value
    offered: bool
    design: Possible | None
    missing_ms: float | None = None
    missing_bytes: int | None = None
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class RowToMeasure:
    """A row that is foretold: measuring it takes away its part of the doubt. `key` is what `measure --only` takes."""

    key: str
    part: str
    video: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Firmness:
    """Whether the answer would be the same if every row that is foretold were measured.

    Attributes:
        firm: Whether its settings hold with a probability of 95 %, and nothing better fits with more than 5 %.
        probability: That some layout of its settings keeps the budgets, by the deviations of the rows that are
            foretold; null where a row states none.
        layout_probability: That its own layout does; where that does not, another one of the same settings may.
        doubts: What may turn out otherwise, one sentence each.
        rows: What to measure, the most telling first: what is expected to settle the settings, or where these are
            firm, the layout.
        unmeasured: The kinds of evidence behind the answer that are no measurement: it is as firm as the deviations
            that these state are true.
        settles: The probability that these rows settle it; null where nothing is open.
    """

    firm: bool
    probability: float | None
    layout_probability: float | None = None
    unmeasured: tuple[ProvenanceKind, ...] = ()
    doubts: tuple[str, ...] = ()
    rows: tuple[RowToMeasure, ...] = ()
    settles: float | None = None


@dataclass(frozen=True, kw_only=True)
class DesignOrigin:
    """What a design rests on: table, latency model, score and quality, with digests."""

    table: str
    table_digest: str
    table_kind: ProvenanceKind
    table_statement: str
    table_source: str
    table_marks: tuple[str, ...] = ()
    device: str
    preset: str
    compute_unit: str
    latency_model: str
    score: str
    score_digest: str
    score_statement: str
    quality: str
    quality_digest: str
    quality_statement: str
    s2search: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Design(Document):
    """What is possible on one device.

    Attributes:
        schema: Of the file.
        budgets: What was asked, each with what of it is used.
        axes: What there was to choose.
        prefer: By what the best of a cell, and the answer, was chosen, the most important first.
        rates_fps: The rows of the matrix.
        steps: Its columns.
        cells: Its cells, by rate and steps.
        designs: Every design that is named below, each once.
        front: Those that no other dominates in rate, video, score, memory, first frame and what else is unranked.
        answer: The best design within all budgets; null where no time was asked for, or nothing keeps them.
        missing: What lacks where nothing keeps the budgets.
        equals: Designs within the same budgets that the quality cannot tell from the answer.
        plan: The answer as a plan; null without an answer.
        neighbours: The answer with the next value of each axis.
        evidence: What others found of other models where such an axis changed: beside the answer, and no number in it.
        firmness: Whether foretold rows could change the answer; null without one.
        combinations: How many there are.
        solved: How many were searched.
        ruled_out: How many can win nothing, by bounds.
        impossible: How many keep no budget, by bounds or by search.
        unpriced: Why combinations have no price, and how many.
        unranked: Axes with a choice whose values the quality does not rank.
        assumptions: What it rests on that nobody measured, one sentence each.
        provenance: The files behind it.

    Raises:
        InputError: It names a design that it does not have, or one with settings that no design has.
    """

    json_indent: ClassVar[int] = 1

    schema: Literal["s2search.design/1"] = SCHEMA
    budgets: tuple[BudgetAnswer, ...]
    axes: tuple[AxisAnswer, ...]
    prefer: tuple[str, ...]
    rates_fps: tuple[float, ...]
    steps: tuple[int, ...]
    cells: tuple[Cell, ...]
    designs: tuple[Possible, ...]
    front: tuple[int, ...]
    answer: int | None
    missing: str = ""
    equals: tuple[int, ...] = ()
    plan: Plan | None = None
    neighbours: tuple[Neighbour, ...] = ()
    evidence: tuple[PublishedPair, ...] = ()
    firmness: Firmness | None = None
    combinations: int
    solved: int
    ruled_out: int
    impossible: int
    unpriced: dict[str, int] = field(default_factory=dict)
    unranked: tuple[AxisName, ...] = ()
    assumptions: tuple[str, ...] = ()
    provenance: DesignOrigin

    def __post_init__(self) -> None:
        for place in self._places():
            if not 0 <= place < len(self.designs):
                raise InputError(
                    f"the design names its design number {place}, and has {len(self.designs)}, counted from 0",
                    remedy="make the file again",
                )
        for wish in self.prefer:
            if wish not in ("quality", "score", *AXES):
                raise UnknownNameError("wish of the design", wish, ("quality", "score", *AXES), listed_as="wishes")
        near = (neighbour.design for neighbour in self.neighbours)
        for settings in {
            tuple(one.settings.items()): one.settings for one in (*self.designs, *filter(None, near))
        }.values():
            check_settings(settings)

    def _places(self) -> Iterator[int]:
        """Yield every place among its designs that it names."""
        yield from (*self.front, *self.equals)
        named = (self.answer, *(cell.design for cell in self.cells), *(budget.without for budget in self.budgets))
        yield from (place for place in named if place is not None)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Design:
        """Read a design.

        Raises:
            InputError: The file is missing, or is not a design of this schema.
        """
        return read_json(path, cls, what=f"design of schema {SCHEMA}")

    @property
    def best(self) -> Possible | None:
        """The answer itself."""
        return None if self.answer is None else self.designs[self.answer]

    def cell(self, rate_fps: float, steps: int) -> Possible | None:
        """Return the design of a cell of the matrix; None where nothing is possible, or there is no such cell."""
        for cell in self.cells:
            if (cell.rate_fps, cell.steps) == (rate_fps, steps) and cell.design is not None:
                return self.designs[cell.design]
        return None

    def save_csv(self, path: str | os.PathLike[str]) -> None:
        """Write every design as one line of CSV: its settings, layout, figures, and the cells that it wins.

        Latency and first frame are in milliseconds, memory in bytes.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self._lines())
        write_text(Path(path), text.getvalue())

    def _lines(self) -> Iterator[list[Value | float | None]]:
        names = [axis.name for axis in self.axes]
        figures = ("frames_per_second", "first_ms", "memory_bytes", "latency_ms", "latency_std_ms", "score", "proven")
        quality = ("quality", "quality_error", "quality_scale")
        yield [*names, "layout", *figures, *quality, "cells", "on_front", "is_answer", "table", "table_digest"]
        for place, design in enumerate(self.designs):
            won = [f"{cell.rate_fps:g}fps x {cell.steps}" for cell in self.cells if cell.design == place]
            judged = design.quality
            yield [
                *(design.settings[name] for name in names),
                design.written,
                *(getattr(design, figure) for figure in figures),
                *((judged.value, judged.error, judged.scale) if judged else (None, None, None)),
                "; ".join(won),
                place in self.front,
                place == self.answer,
                self.provenance.table,
                self.provenance.table_digest,
            ]

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.design_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def __repr__(self) -> str:
        best = self.best
        found = "no answer" if best is None else f"{best.settings['video']}, {format_fps(best.frames_per_second)}"
        return f"<Design on {self.provenance.table}: {found}, {self.combinations} combinations>"
