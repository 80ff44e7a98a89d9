"""What a part does, whatever it runs on: operations, bytes moved, and bytes held, from its own specification."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s2search import registry
from s2search.block import Block, Part, Precision, Shape
from s2search.cost import Cost
from s2search.errors import MissingRowError, UnknownNameError
from s2search.latency.base import Estimate
from s2search.latency.lookup import Lookup, estimate_of
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, Scope

_FAMILIES = ("blocks", "parts")


@dataclass(frozen=True, kw_only=True)
class Work:
    """One call of a part.

    Attributes:
        flops: Floating-point operations, two per multiply-add.
        moved_bytes: Weights and state read once, activations as many as are alive at the worst moment: a lower bound.
        memory_bytes: Weights and streaming state.
        peak_bytes: Activations alive at the worst moment.
    """

    flops: int
    moved_bytes: int
    memory_bytes: int
    peak_bytes: int

    def estimate(self, latency_us: float, latency_std_us: float) -> Estimate:
        """Return an estimate with this latency (microseconds) and these bytes; no part is free."""
        return Estimate(
            cost=Cost(latency_us=max(round(latency_us), 1), memory_bytes=self.memory_bytes, peak_bytes=self.peak_bytes),
            latency_std_us=latency_std_us,
            provenance="estimated",
            bytes_provenance="estimated",
        )


def measured(table: LatencyTable, scope: Scope, part: str, options: str) -> Estimate | None:
    """Return what the table itself says of a part, or None where its work must be asked for.

    A part that only tables know, such as a buffer between layers, answers from another shape: the largest row, grown
    in proportion to the numbers of an activation.
    """
    label = registry.label_of(part, options)
    if any(row.shape == scope.shape for row in table.in_scope(scope, any_grid=True).labelled(label)):
        return Lookup().predict(table, scope, part, options)
    if any(part in registry.installed(family) for family in _FAMILIES):
        return None
    rows = table.like_scope(scope).labelled(label)
    if not rows:
        return None
    largest_row = max(rows, key=lambda row: row.shape.tokens * row.shape.channels)
    largest = estimate_of(largest_row)
    there = largest_row.shape.tokens * largest_row.shape.channels
    growth = max(scope.shape.tokens * scope.shape.channels / there, 1.0)
    cost = Cost(
        latency_us=math.ceil(growth * largest.cost.latency_us),
        memory_bytes=math.ceil(growth * largest.cost.memory_bytes),
        peak_bytes=math.ceil(growth * largest.cost.peak_bytes),
    )
    return Estimate(
        cost=cost, latency_std_us=float(cost.latency_us), provenance="estimated", bytes_provenance="estimated"
    )


def work(shape: Shape, precision: str, part: str, options: str) -> Work:
    """Return what one call of an installed part does at a shape.

    Raises:
        MissingRowError: No installed distribution specifies the part.
    """
    return _work(_specified(part, options), shape, precision)


def timed_work(table: LatencyTable, scope: Scope) -> list[tuple[Row, Work]]:
    """Return every timed forward pass with the scope's precision and compute unit, at any shape, and its work."""

    def find() -> list[tuple[Row, Work]]:
        rows = table.rows.having(precision=scope.precision, compute_unit=scope.compute_unit)
        rows = rows.take((rows.numbers("latency_ms") > 0) & ~rows.have(role="commit"))
        parts = {names: _specified_or_none(*names) for names in rows.different("part", "options")}
        # A part that only its row knows, such as a codec, is none.
        found = ((row, parts[row.part, row.options]) for row in rows)
        return [(row, _work(part, row.shape, row.precision)) for row, part in found if part is not None]

    return table.remember(("timed work", scope.precision, scope.compute_unit), find)


def _work(specified: Part, shape: Shape, precision: str) -> Work:
    stored = Precision.named(precision)
    weight_bytes = stored.weight_bytes(specified.parameters(shape))
    state_bytes = specified.state_bytes(shape, stored) if isinstance(specified, Block) else 0
    peak_bytes = specified.peak_bytes(shape, stored)
    return Work(
        flops=specified.flops(shape),
        moved_bytes=weight_bytes + state_bytes + peak_bytes,
        memory_bytes=weight_bytes + state_bytes,
        peak_bytes=peak_bytes,
    )


def _specified_or_none(part: str, options: str) -> Part | None:
    try:
        return _specified(part, options)
    except MissingRowError:
        return None


def _specified(part: str, options: str) -> Part:
    for family in _FAMILIES:
        if part in registry.installed(family):
            try:
                specified: Part = registry.create(family, registry.label_of(part, options))
            except UnknownNameError:
                break
            return specified
    label = registry.label_of(part, options)
    raise MissingRowError(
        f"nothing installed says how much work {label!r} is",
        remedy="measure that row, or install the distribution that offers the part",
        part=part,
        options=options,
    )
