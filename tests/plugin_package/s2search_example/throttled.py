"""throttled: a latency model in one file. What a table says of a device that has since become slower."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from s2search.errors import InputError
from s2search.latency.base import Estimate, LatencyModel
from s2search.latency.lookup import Lookup
from s2search.tables.table import LatencyTable, Scope


@dataclass(frozen=True, kw_only=True)
class Throttled(LatencyModel):
    """Every row takes `factor` times as long as it was timed.

    >>> Throttled(factor=2.0).label
    'throttled[factor=2.0]'
    """

    factor: float = 1.25

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise InputError(f"the factor of throttled is {self.factor}", allowed="above 0", remedy="correct it")

    def predict(self, table: LatencyTable, scope: Scope, part: str, options: str = "") -> Estimate:
        """Return the row's own answer, slower. See the base class."""
        timed = Lookup().predict(table, scope, part, options)
        cost = dataclasses.replace(timed.cost, latency_us=round(self.factor * timed.cost.latency_us))
        std_us = None if timed.latency_std_us is None else self.factor * timed.latency_std_us
        return dataclasses.replace(timed, cost=cost, latency_std_us=std_us, provenance="estimated")
