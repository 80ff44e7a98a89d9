"""Difference: what changed between two plans, layer by layer, and why. The inputs that moved stand beside the layouts.

A plan holds the costs of its blocks, so two plan files are enough: no table is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Literal

from s2search.document import Document
from s2search.planner.constraints import Constraints, write_runs

if TYPE_CHECKING:
    from rich.console import RenderableType

    from s2search.planner.plan import BlockAnswer, DeviceAnswer, Plan

SCHEMA: Literal["s2search.plan_difference/1"] = "s2search.plan_difference/1"

Unit = Literal["ms", "bytes", "fps", "score"]


@dataclass(frozen=True, kw_only=True)
class ChangedLayers:
    """Neighbouring layers, `first` to `last` counted from 0, that took one block and now take another.

    `before` or `after` is null where only one of the two plans is so deep.
    """

    first: int
    last: int
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A number that moved, in its unit; null where one of the plans has none."""

    name: str
    unit: Unit
    before: float | None
    after: float | None


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """An input that is another one now, by what it is called (with the first digits of its digest)."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class DeviceDifference:
    """What moved on one device. `rows` are costs of blocks, switches and fixed parts; `budgets` what may be spent.

    `old_layout_ms` is what the old layout takes with the new rows, and `over_ms` by how much that exceeds the new
    latency budget (negative where it fits); null where the plans do not say.
    """

    table: str
    rows: tuple[Moved, ...]
    costs: tuple[Moved, ...]
    budgets: tuple[Moved, ...]
    old_layout_ms: float | None
    over_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Difference(Document):
    """All that two plans do not share. `before` and `after` are their digests."""

    schema: Literal["s2search.plan_difference/1"] = SCHEMA
    before: str
    after: str
    layers: tuple[ChangedLayers, ...]
    inputs: tuple[Replaced, ...]
    devices: tuple[DeviceDifference, ...]
    score: Moved | None
    bound: Moved | None

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        moved = any(d.rows or d.costs or d.budgets for d in self.devices)
        return not (self.layers or self.inputs or moved or self.score or self.bound)

    @property
    def changed_layers(self) -> int:
        """How many layers take another block."""
        return sum(run.last - run.first + 1 for run in self.layers)

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.difference_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.text_html(self)


def difference(before: Plan, after: Plan) -> Difference:
    """Compare two plans; a plan and itself have an empty difference."""
    old, new = before.every_device, after.every_device
    pairs = [(old[0], new[0])] + [(a, b) for a in old[1:] for b in new[1:] if a.table == b.table]
    return Difference(
        before=before.digest,
        after=after.digest,
        layers=changed_layers(before.layout, after.layout),
        inputs=_inputs(before, after),
        devices=tuple(_device(before, after, a, b) for a, b in pairs),
        score=_moved("of the layout", "score", before.score, after.score),
        bound=_moved("proven bound", "score", before.upper_bound, after.upper_bound),
    )


def changed_layers(before: Sequence[str], after: Sequence[str]) -> tuple[ChangedLayers, ...]:
    """Return the layers in which two layouts differ, neighbours together."""
    pairs = enumerate(zip_longest(before, after))
    runs = [(blocks, [layer for layer, _ in run]) for blocks, run in groupby(pairs, key=lambda pair: pair[1])]
    return tuple(
        ChangedLayers(first=layers[0], last=layers[-1], before=old, after=new)
        for (old, new), layers in runs
        if old != new
    )


def _inputs(before: Plan, after: Plan) -> tuple[Replaced, ...]:
    return tuple(
        Replaced(name=name, before=old, after=new)
        for (name, old), (_, new) in zip(_facts(before), _facts(after), strict=True)
        if old != new
    )


def _facts(plan: Plan) -> list[tuple[str, str]]:
    origin, tie = plan.provenance, plan.tie_score
    return [
        ("table", f"{origin.table} ({_short(origin.table_digest)})"),
        ("further tables", ", ".join(f"{d.table} ({_short(d.table_digest)})" for d in plan.devices[1:]) or "none"),
        ("score", f"{origin.score_label} ({_short(origin.score_digest)})"),
        ("tie score", "none" if tie is None else f"{tie.name} ({_short(tie.digest)})"),
        ("latency model", origin.latency_model_label),
        ("solver", origin.solver_label),
        ("version", origin.s2search),
        ("candidates", ", ".join(plan.blocks)),
        ("depth", f"{plan.depth}"),
        ("group size", f"{plan.group_size}"),
        ("scenario", f"{plan.scenario}, {plan.video}, {plan.frames} latent frames"),
        ("precision", f"{plan.precision}, {plan.compute_unit}"),
        ("precisions", _precisions(plan)),
        ("commit", plan.commit),
        ("samples", "none" if plan.p95 is None else _short(plan.p95.samples)),
        ("under sustained load", ", ".join(d.table_picked for d in plan.every_device if d.table_picked) or "nothing"),
        ("constraints", _asked(plan.constraints)),
    ]


def _precisions(plan: Plan) -> str:
    chosen = plan.precisions
    if chosen is None:
        return "one for all parts"
    offered = ", ".join(chosen.offered)
    return f"{offered} at {chosen.least_db:g} dB by {_short(chosen.sensitivity_digest)}"


def _asked(constraints: Constraints) -> str:
    near = "" if constraints.like is None else f" from {write_runs(constraints.like)}"
    return (", ".join(constraints.statements) or "none") + near


def _short(digest: str) -> str:
    return digest[7:19]


def _device(before: Plan, after: Plan, old: DeviceAnswer, new: DeviceAnswer) -> DeviceDifference:
    relaid_ms = _relaid_ms(before, after, new)
    budget_ms, first = new.latency_ms.budget, new == after.every_device[0]
    return DeviceDifference(
        table=new.table,
        rows=(*_rows(old.blocks, new.blocks), *_other_rows(before, after, old, new)),
        costs=_all(
            _moved("latency", "ms", old.latency_ms.predicted, new.latency_ms.predicted),
            _moved("upper end of latency", "ms", old.latency_ms.high, new.latency_ms.high),
            *(_first_moved(old, new, "predicted"), _percentile_moved(before, after, "predicted") if first else None),
            _moved("memory", "bytes", old.memory_bytes.predicted, new.memory_bytes.predicted),
        ),
        budgets=_all(
            _moved("rate", "fps", _asked_fps(old), _asked_fps(new)),
            *(_first_moved(old, new, "budget"), _percentile_moved(before, after, "budget") if first else None),
            _moved("latency", "ms", old.latency_ms.budget, new.latency_ms.budget),
            _moved("memory", "bytes", old.memory_bytes.budget, new.memory_bytes.budget),
        ),
        old_layout_ms=relaid_ms,
        over_ms=None if relaid_ms is None or budget_ms is None else round(relaid_ms - budget_ms, 3),
    )


def _first_moved(old: DeviceAnswer, new: DeviceAnswer, field: Literal["budget", "predicted"]) -> Moved | None:
    was, now = (None if one.first is None else getattr(one.first, field) for one in (old, new))
    return _moved("first frames", "ms", was, now)


def _percentile_moved(before: Plan, after: Plan, field: Literal["budget", "predicted"]) -> Moved | None:
    was, now = (None if one.p95 is None else getattr(one.p95, field) for one in (before, after))
    return _moved("95th percentile", "ms", was, now)


def _asked_fps(device: DeviceAnswer) -> float | None:
    return None if device.rate is None else device.rate.budget


def _rows(before: Mapping[str, BlockAnswer], after: Mapping[str, BlockAnswer]) -> list[Moved]:
    units: tuple[tuple[str, str, Unit], ...] = (
        ("latency", "latency_ms", "ms"),
        ("memory", "memory_bytes", "bytes"),
        ("peak", "peak_bytes", "bytes"),
    )
    return [
        moved
        for label in before
        if label in after
        for name, field, unit in units
        if (moved := _moved(f"{label} {name}", unit, getattr(before[label], field), getattr(after[label], field)))
    ]


def _other_rows(before: Plan, after: Plan, old: DeviceAnswer, new: DeviceAnswer) -> tuple[Moved, ...]:
    return _all(
        _moved("stem and head latency", "ms", old.latency_ms.fixed, new.latency_ms.fixed),
        _moved("fixed memory", "bytes", old.memory_bytes.fixed, new.memory_bytes.fixed),
        _moved("down and up latency", "ms", _switch_pair_ms(before, old), _switch_pair_ms(after, new))
        if before.switches and after.switches
        else None,
    )


def _switch_pair_ms(plan: Plan, device: DeviceAnswer) -> float | None:
    """Return what one way down and up again takes: stem and head are both in the high-resolution stream."""
    return round(2 * device.latency_ms.switches / plan.switches, 3) if plan.switches else None


def _relaid_ms(before: Plan, after: Plan, new: DeviceAnswer) -> float | None:
    """Return what the old layout takes on the new rows; None where they lack a part, or precisions are mixed."""
    if before.precisions is not None or after.precisions is not None:
        return None
    pair_ms = _switch_pair_ms(after, new) if before.switches else 0.0
    if pair_ms is None or not set(before.layout) <= set(new.blocks):
        return None
    blocks_ms = sum(new.blocks[label].latency_ms for label in before.layout)
    return round(blocks_ms + before.switches / 2 * pair_ms + new.latency_ms.fixed, 3)


def _moved(name: str, unit: Unit, before: float | None, after: float | None) -> Moved | None:
    return None if before == after else Moved(name=name, unit=unit, before=before, after=after)


def _all(*moved: Moved | None) -> tuple[Moved, ...]:
    return tuple(one for one in moved if one is not None)
