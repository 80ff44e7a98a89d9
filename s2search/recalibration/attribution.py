"""What a layout was said to take, what it takes, and where the difference comes from.

A prediction is the sum of the table's rows, as plans sum them. Its miss is taken apart by timing the parts alone again,
among the whole packages:

    measured - predicted = drift + blocks + switches + fixed + hand-over

drift is what all parts have become slower since the table was measured (the median ratio, on the whole prediction);
blocks, switches and fixed are what remains of each kind beyond that; hand-over is what the whole takes beyond the sum
of its parts as they are now: tensors handed from layer to layer, calls saved, fusion across parts. The five add up.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s2search.block import Block
from s2search.latency.lookup import estimate_of
from s2search.measurement.layouts import blocks_and_switches
from s2search.tables.row import Role, Row
from s2search.tables.table import LatencyTable, Scope

KINDS: tuple[Role, ...] = ("block", "switch", "fixed")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The rows of one scope that a forward pass is made of, by label: role and milliseconds as plans count them."""

    role: Mapping[str, Role]
    latency_ms: Mapping[str, float]

    @classmethod
    def of(cls, table: LatencyTable, scope: Scope) -> Parts:
        """Take them from a table."""
        rows: Sequence[Row] = table.in_scope(scope)
        return cls(
            role={row.label: row.role for row in rows},
            latency_ms={row.label: estimate_of(row).cost.latency_us / 1000 for row in rows},
        )

    def counts(self, layout: Sequence[Block]) -> Counter[str]:
        """Return how often a layout pays every row: its blocks, its switches, and all fixed parts once."""
        found = blocks_and_switches(layout)
        found.update(label for label, role in self.role.items() if role == "fixed")
        return +found

    def sum_ms(self, counts: Mapping[str, int], kind: Role | None = None) -> float:
        """Return what a layout takes by the table, or its share of one kind, milliseconds."""
        return sum(
            count * self.latency_ms[label] for label, count in counts.items() if kind in (None, self.role[label])
        )


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """One layout's miss taken apart, milliseconds; see the module."""

    drift_ms: float
    blocks_ms: float
    switches_ms: float
    fixed_ms: float
    hand_over_ms: float

    @property
    def miss_ms(self) -> float:
        """Measured minus predicted."""
        return self.drift_ms + self.blocks_ms + self.switches_ms + self.fixed_ms + self.hand_over_ms


def attribute(counts: Mapping[str, int], before: Parts, now: Parts, measured_ms: float) -> Attribution:
    """Take the miss of one layout apart.

    Args:
        counts: How often it pays every row.
        before: The table's parts.
        now: The same parts timed again beside the layout.
        measured_ms: The layout itself.
    """
    drift = drift_of(before, now)
    beyond = {kind: now.sum_ms(counts, kind) - drift * before.sum_ms(counts, kind) for kind in KINDS}
    return Attribution(
        drift_ms=(drift - 1) * before.sum_ms(counts),
        blocks_ms=beyond["block"],
        switches_ms=beyond["switch"],
        fixed_ms=beyond["fixed"],
        hand_over_ms=measured_ms - now.sum_ms(counts),
    )


def drift_of(before: Parts, now: Parts) -> float:
    """Return the median ratio of parts now to the table's; parts that take no time do not count."""
    return statistics.median(now.latency_ms[label] / ms for label, ms in before.latency_ms.items() if ms > 0)
