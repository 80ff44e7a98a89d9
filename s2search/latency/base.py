"""The contract of a latency model.

A latency model is a frozen keyword-only dataclass; its fields are its configuration, checked when it is built. It holds
no table: `predict` is given one and returns the same answer for the same table, whatever was asked before. Latency is
in integer microseconds, memory in integer bytes. A model that has no grounds for an answer raises `MissingRowError`
(or its subclass `ExtrapolationError`); it never returns zero for a part that it does not know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from s2search.cost import Cost
from s2search.registry import Plugin
from s2search.tables.card import ProvenanceKind
from s2search.tables.table import LatencyTable, Scope


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A predicted cost, the standard deviation of its latency (microseconds), and the kinds of evidence behind both.

    `latency_std_us` is None where the table states no spread: unknown is not zero.
    """

    cost: Cost
    latency_std_us: float | None
    provenance: ProvenanceKind
    bytes_provenance: ProvenanceKind


class LatencyModel(Plugin, ABC):
    """Predicts what a part costs in one scope of a table."""

    @property
    def known_tables(self) -> Sequence[LatencyTable]:
        """Return the tables that it reads beside the one it is given."""
        return ()

    @abstractmethod
    def predict(self, table: LatencyTable, scope: Scope, part: str, options: str = "") -> Estimate:
        """Return the estimate for one part.

        Args:
            table: Where the evidence is.
            scope: The scenario, shape, precision and compute unit of the call.
            part: Name of a block, a switch or a fixed part.
            options: Its options as they stand in the table, such as `gate=false`.

        Raises:
            MissingRowError: The table has no grounds for an answer.
        """
