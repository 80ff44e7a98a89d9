"""The answer to a family and its budgets, as a document: what stands where, what it uses, and whence it comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from s2search.document import Document, read_json

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class SlotAnswer:
    """What stands in one slot; `kind` is the slot's name without its number, `stream` empty where there are none."""

    slot: str
    kind: str
    alternative: str
    stream: str


@dataclass(frozen=True, kw_only=True)
class UseAnswer:
    """What the whole uses of one resource, in its unit, of which `fixed`, `switches` and the largest `peak` are parts.

    `resolution` is what a whole number of the search stands for; unless `exact`, uses were rounded up to it, and a
    budget nearer than that may have been kept without being used. `binds` says that a better score fits without this
    budget; null without one, and where the search proved nothing.
    """

    name: str
    unit: str
    total: float
    fixed: float
    switches: float
    peak: float
    budget: float | None
    slack: float | None
    binds: bool | None
    resolution: float
    exact: bool


@dataclass(frozen=True, kw_only=True)
class FamilyScore:
    """The score, what is aimed at, and who says so. `bound`: no model of the family is better, as far as is proven.

    `stand_in` says that it stands for a score that was not measured. `resolution` is how far two may be apart and count
    as equal.
    """

    value: float
    bound: float
    unit: str
    goal: Literal["maximize", "minimize"]
    statement: str
    stand_in: bool
    resolution: float


@dataclass(frozen=True, kw_only=True)
class FamilyTies:
    """How many models score the same within the budgets; a lower bound unless `exact`, and beyond 64 bits."""

    count: int
    exact: bool


@dataclass(frozen=True, kw_only=True)
class FamilyProvenance:
    """From what a plan was made: digests of both files (SHA-256), and how many of the table's rows.

    `rows_left_out` were, as the family asks, since a number in them is negative.
    """

    family: str
    family_digest: str
    table: str
    table_digest: str
    statement: str
    rows: int
    rows_used: int
    rows_left_out: int
    solver: str
    method: str
    version: str


@dataclass(frozen=True, kw_only=True)
class FamilySwap:
    """The other alternative that speaks most clearly in the slots `first` to `last`: what changes, and what breaks.

    `gain` is positive where the score gets better; `uses` is by resource, in its unit, and so is `over`: by how much
    each broken limit would be exceeded.
    """

    first: str
    last: str
    alternative: str
    instead: str
    gain: float
    uses: dict[str, float]
    over: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class FamilyPrice:
    """The next step of one budget: the least `extra` with which a better score fits, and the gain; null if none."""

    budget: str
    unit: str
    extra: float | None
    gain: float | None


@dataclass(frozen=True, kw_only=True)
class FamilyExplanation:
    """Why a plan is as it is."""

    swaps: tuple[FamilySwap, ...]
    prices: tuple[FamilyPrice, ...]


@dataclass(frozen=True, kw_only=True)
class FamilyPlan(Document):
    """The best model of a family within budgets.

    `layouts_log10` is how many models the slots and groups allow, whatever they use, as a logarithm: there may be more
    than a number in a file can say. `constraints` says counts, ends, groups and stream changes in a few words each.
    `ties` is null where counting them would have taken long, and where nothing is proven.
    """

    schema: Literal["s2search.family_plan/1"] = "s2search.family_plan/1"
    name: str
    slots: tuple[SlotAnswer, ...]
    score: FamilyScore
    uses: tuple[UseAnswer, ...]
    optimal: bool
    ties: FamilyTies | None
    layouts_log10: float
    switches: int
    constraints: tuple[str, ...]
    provenance: FamilyProvenance
    explanation: FamilyExplanation | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FamilyPlan:
        """Read a plan that was saved.

        Raises:
            InputError: It cannot be read, or is none.
        """
        return read_json(path, cls, what="plan of a family")

    @property
    def counts(self) -> dict[str, int]:
        """How many slots every alternative takes that stands somewhere."""
        found: dict[str, int] = {}
        for slot in self.slots:
            found[slot.alternative] = found.get(slot.alternative, 0) + 1
        return found

    def runs(self) -> Iterator[tuple[SlotAnswer, SlotAnswer]]:
        """Yield the first and the last of neighbouring slots of one kind that have the same alternative, by kind."""
        for kind in dict.fromkeys(slot.kind for slot in self.slots):
            alike = (slot for slot in self.slots if slot.kind == kind)
            for _, group in groupby(alike, key=lambda slot: (slot.alternative, slot.stream)):
                run = list(group)
                yield run[0], run[-1]

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.family_text(self)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.text_html(self)


@dataclass(frozen=True, kw_only=True)
class FamilyLimit:
    """One limit: what was asked, and the least that would do if all others stayed (null: nothing would)."""

    name: str
    unit: str
    asked: float
    would_do: float | None


@dataclass(frozen=True, kw_only=True)
class FamilyInfeasible(Document):
    """Why no model of a family fits: the line for people, the limits, and the model that the least relaxation lets in.

    `not_computed` names the limits of which it would have taken too long to say what would do.
    """

    schema: Literal["s2search.family_infeasible/1"] = "s2search.family_infeasible/1"
    name: str
    message: str
    limits: tuple[FamilyLimit, ...]
    nearest: tuple[str, ...] | None
    not_computed: tuple[str, ...]
