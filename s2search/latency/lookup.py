"""lookup: the exact row, or an error."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from s2search import registry
from s2search.cost import Cost
from s2search.errors import MissingRowError
from s2search.latency.base import Estimate, LatencyModel
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, Scope


@dataclass(frozen=True, kw_only=True)
class Lookup(LatencyModel):
    """Answers with the row that was measured at exactly this shape; its uncertainty is the row's own spread.

    >>> from s2search.tables.table import open_table
    >>> table = open_table("iphone-16-pro-max.coreml.w4a8")
    >>> Lookup().predict(table, table.scope("stream"), "lcha").cost.latency_us
    15675
    """

    @override
    def predict(self, table: LatencyTable, scope: Scope, part: str, options: str = "") -> Estimate:
        label = registry.label_of(part, options)
        rows = table.in_scope(scope)
        if found := rows.labelled(label):
            return estimate_of(found[0])
        raise MissingRowError(
            f"the table {table.name!r} has no row for {label!r} at {scope}",
            allowed=f"it has: {', '.join(row.label for row in rows) or 'nothing at this shape'}",
            remedy=_remedy(table, scope, label),
            part=part,
            options=options,
        )


def _remedy(table: LatencyTable, scope: Scope, label: str) -> str:
    elsewhere = len(table.in_scope(scope, any_grid=True).labelled(label))
    if elsewhere > 1:
        return "measure that row, or use --latency-model interpolate between the sizes that were measured"
    return "measure that row, or choose another candidate" + (" or its measured video size" if elsewhere else "")


def estimate_of(row: Row) -> Estimate:
    """Return what one row says."""
    return Estimate(
        cost=Cost(
            latency_us=round(1000 * row.latency_ms),
            memory_bytes=row.held_bytes,
            peak_bytes=row.peak_bytes,
        ),
        latency_std_us=None if row.latency_std_ms is None else 1000 * row.latency_std_ms,
        provenance=row.latency_provenance,
        bytes_provenance=row.bytes_provenance,
    )
