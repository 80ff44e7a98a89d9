"""PlanCheck: whether what a plan promised holds on a table, as a document (JSON, schema `s2search.plan_check/1`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s2search.document import Document
from s2search.planner.diff import ChangedLayers

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA: Literal["s2search.plan_check/1"] = "s2search.plan_check/1"


@dataclass(frozen=True, kw_only=True)
class CheckedBudget:
    """A budget, and what the layout took of it when it was planned (null where that is not known) and takes now.

    In ms, bytes or fps. `slack` is negative where the budget is not kept. With a confidence, a latency is what is kept
    with it, and a rate or the time to first frames the one at that latency; a 95th percentile is its bound.
    `arithmetic` says what a rate or first frames leave for one forward pass, then and now; null where they leave
    nothing, or neither is asked.
    """

    kind: Literal["latency", "memory", "rate", "first", "p95"]
    limit: float
    then: float | None
    now: float
    slack: float
    kept: bool
    arithmetic_then: str | None = None
    arithmetic: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckedPromise:
    """What one forward pass was to take, in ms, or the layout to hold, in bytes; and does now.

    `moved` is the difference, `moved_relative` as a part of what was promised. `kept` is null without a tolerance.
    """

    kind: Literal["latency", "memory"]
    then: float
    now: float
    moved: float
    moved_relative: float | None
    kept: bool | None


@dataclass(frozen=True, kw_only=True)
class CheckedRow:
    """What a part takes in all its `count` places, then and now: ms of latency, or bytes of memory."""

    name: str
    count: int
    kind: Literal["latency", "memory"]
    then: float
    now: float
    moved: float


@dataclass(frozen=True, kw_only=True)
class CheckedDevice:
    """One device: the table that the plan was made from, the one that it is held against, and what that says.

    The rows of each kind add up to its promise; those that got most expensive come first. `table_marks` are what was
    wrong with the run that the table was measured in.
    """

    table_then: str
    table_digest_then: str
    table: str
    table_digest: str
    table_marks: tuple[str, ...]
    budgets: tuple[CheckedBudget, ...]
    promises: tuple[CheckedPromise, ...]
    rows: tuple[CheckedRow, ...]

    @property
    def same_table(self) -> bool:
        """Whether it is the table that the plan was made from, as it was."""
        return self.table_digest == self.table_digest_then


@dataclass(frozen=True, kw_only=True)
class ReplanCost:
    """What another layout takes on one device: ms of one forward pass (with the confidence asked for), and bytes."""

    table: str
    latency_ms: float
    memory_bytes: int
    frames_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class Replan:
    """The best layout within the budgets that differs from the plan's in at most so many layers.

    `changes` counts the layers that differ. Where that is more than was allowed, no layout with fewer fits. `score_now`
    is that of the plan's own layout by the same score; null where it forbids that. `optimal` is false where the search
    stopped before its proof.
    """

    changes: int
    layers: tuple[ChangedLayers, ...]
    layout: tuple[str, ...]
    written: str
    score: float
    score_now: float | None
    optimal: bool
    devices: tuple[ReplanCost, ...]


@dataclass(frozen=True, kw_only=True)
class PlanCheck(Document):
    """Whether a plan's promise holds on these tables.

    `holds` where every budget is kept, and every promise as far as `tolerance` (a part of it; null for none) goes.
    `plan` is the plan's digest, `planned_with` the version of s2search that made it. `changes` is how many layers a
    re-plan may change, and `not_offered` the plan's candidates without a row now, which it cannot have. `replan` is
    null where the budgets are kept, where none was asked for, or where `no_replan` says why.
    """

    schema: Literal["s2search.plan_check/1"] = SCHEMA
    holds: bool
    plan: str
    written: str
    depth: int
    confidence: float | None
    tolerance: float | None
    changes: int
    devices: tuple[CheckedDevice, ...]
    not_offered: tuple[str, ...]
    score: str
    score_digest: str
    replan: Replan | None
    no_replan: str
    planned_with: str
    s2search: str

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.plan_check_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.text_html(self)
