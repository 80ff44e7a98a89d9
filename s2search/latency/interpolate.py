"""interpolate: between measured video sizes, never beyond them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from s2search import registry
from s2search.cost import Cost
from s2search.errors import ExtrapolationError
from s2search.latency.base import Estimate, LatencyModel
from s2search.latency.lookup import Lookup, estimate_of
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, Scope


@dataclass(frozen=True, kw_only=True)
class Interpolate(LatencyModel):
    """Interpolates between the two measured video sizes that surround the asked one in tokens.

    Latency is interpolated linearly in tokens and, as a second opinion, as a power law through the same two rows
    (softmax attention grows quadratically, feed-forwards linearly); the larger of the two curves' distance and the
    rows' own spread is the uncertainty. Bytes are interpolated linearly and rounded up. A measured size answers with
    its own row.
    """

    def predict(self, table: LatencyTable, scope: Scope, part: str, options: str = "") -> Estimate:
        """Return the interpolated estimate. See the base class.

        Raises:
            ExtrapolationError: The shape lies outside the measured range.
        """
        label = registry.label_of(part, options)
        rows = sorted(table.in_scope(scope, any_grid=True).labelled(label), key=lambda row: row.shape.tokens)
        if not rows or any(row.shape == scope.shape for row in rows):
            return Lookup().predict(table, scope, part, options)
        tokens = scope.shape.tokens
        for below, above in pairwise(rows):
            if below.shape.tokens < above.shape.tokens and below.shape.tokens <= tokens <= above.shape.tokens:
                return _between(below, above, tokens)
        grids = ", ".join(row.shape.grid for row in rows)
        raise ExtrapolationError(
            f"{label!r} at {scope.shape.grid} tokens lies outside what the table {table.name!r} measured",
            allowed=f"measured: {grids}",
            remedy="measure a shape beyond it; nothing is extrapolated",
        )


def _between(below: Row, above: Row, tokens: int) -> Estimate:
    low, high = estimate_of(below), estimate_of(above)
    t = (tokens - below.shape.tokens) / (above.shape.tokens - below.shape.tokens)
    linear_us = _linear(low.cost.latency_us, high.cost.latency_us, t)
    spreads = [e.latency_std_us for e in (low, high) if e.latency_std_us is not None]
    return Estimate(
        cost=Cost(
            latency_us=round(linear_us),
            memory_bytes=math.ceil(_linear(low.cost.memory_bytes, high.cost.memory_bytes, t)),
            peak_bytes=math.ceil(_linear(low.cost.peak_bytes, high.cost.peak_bytes, t)),
        ),
        latency_std_us=max([abs(linear_us - _power_law_us(below, above, tokens)), *spreads]),
        provenance="estimated",
        bytes_provenance="estimated",
    )


def _linear(a: float, b: float, t: float) -> float:
    return a + t * (b - a)


def _power_law_us(below: Row, above: Row, tokens: int) -> float:
    """Return the latency on the straight line through both rows in log-log space; 0 where a row costs nothing."""
    if not below.latency_ms or not above.latency_ms:
        return 0.0
    exponent = math.log(above.latency_ms / below.latency_ms) / math.log(above.shape.tokens / below.shape.tokens)
    return 1000 * below.latency_ms * math.pow(tokens / below.shape.tokens, exponent)
