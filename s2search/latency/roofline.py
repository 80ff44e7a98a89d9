"""roofline: no faster than the chip computes, and no faster than its memory delivers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from s2search.errors import InputError
from s2search.latency.base import Estimate, LatencyModel
from s2search.latency.physical import Work, measured, timed_work, work
from s2search.tables.table import LatencyTable, Scope

_UNKNOWN = 1.0  # of the bound: without a single timing, twice the bound is one deviation away


@dataclass(frozen=True, kw_only=True)
class Roofline(LatencyModel):
    """Takes the longer of computing and moving, at the chip's peak rates, for parts that were not measured.

    The answer is a lower bound, and its provenance `estimated`. Its uncertainty is how far the table's own rows lie
    from their bounds; in a table without any such row it is as large as the bound. A measured row answers for itself.
    On the command line: `--latency-model roofline[tops=35,gbps=60]`, from the chip's data sheet.

    Attributes:
        tops: Peak rate of computing, 10^12 operations per second at the table's precision.
        gbps: Peak rate of memory, 10^9 bytes per second.

    Source: Williams, Waterman and Patterson (2009), "Roofline", section 3.
    """

    tops: float
    gbps: float

    def __post_init__(self) -> None:
        for name, value in (("tops", self.tops), ("gbps", self.gbps)):
            if not 0 < value < 1e9:
                raise InputError(
                    f"roofline has {name} {value}", allowed="a positive number", remedy="take it from the data sheet"
                )

    @override
    def predict(self, table: LatencyTable, scope: Scope, part: str, options: str = "") -> Estimate:
        if (answer := measured(table, scope, part, options)) is not None:
            return answer
        bound_us = self.bound_us(asked := work(scope.shape, scope.precision, part, options))
        ratios = np.array([1000 * row.latency_ms / self.bound_us(done) for row, done in timed_work(table, scope)])
        spread = float(np.sqrt(((ratios - 1) ** 2).mean())) if len(ratios) else _UNKNOWN
        return asked.estimate(bound_us, spread * bound_us)

    def bound_us(self, asked: Work) -> float:
        """Return the least time in microseconds in which a chip with these peak rates could do some work."""
        return max(asked.flops / (1e6 * self.tops), asked.moved_bytes / (1e3 * self.gbps))
