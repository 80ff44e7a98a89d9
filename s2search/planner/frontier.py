"""Frontier: the best plan for every latency, by rising latency and score."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, overload

from s2search.cost import Budget, format_us
from s2search.document import write_text
from s2search.errors import InfeasibleError, InputError, extras_named
from s2search.planner.plan import Plan

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True, repr=False)
class Frontier(Sequence[Plan]):
    """A sequence of plans, none of which another one dominates.

    Attributes:
        plans: By rising latency and score; at least one.
        references: Further plans by name, to compare with.
    """

    plans: tuple[Plan, ...]
    references: Mapping[str, Plan] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.plans)

    def __iter__(self) -> Iterator[Plan]:
        return iter(self.plans)

    @overload
    def __getitem__(self, index: int) -> Plan: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Plan, ...]: ...

    def __getitem__(self, index: int | slice) -> Plan | tuple[Plan, ...]:
        return self.plans[index]

    def at(self, latency: str | Budget) -> Plan:
        """Return the best plan of this front within a latency such as `260ms`.

        A front that is not complete has gaps between its points: `plan` with the same budget may find a better layout.

        Raises:
            InputError: It is no latency.
            InfeasibleError: Every plan of the front is slower.
        """
        budget = latency if isinstance(latency, Budget) else Budget.parse(latency)
        if budget.kind != "latency":
            raise InputError(f"{budget.text} is no latency", remedy="give one such as 260ms")
        within = [plan for plan in self.plans if round(1000 * plan.latency_ms.predicted) <= budget.amount]
        if not within:
            least = format_us(1000 * self.plans[0].latency_ms.predicted)
            raise InfeasibleError(
                f"no plan of the front fits {budget.text}: the fastest of {len(self)} takes {least}",
                remedy="raise the latency, or trace a front with faster candidates",
            )
        return within[-1]

    @extras_named()
    def to_pandas(self) -> pd.DataFrame:
        """Return one line per plan, with the columns of `save`."""
        import pandas as pd

        return pd.DataFrame(self._lines(), columns=self._columns())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write CSV: one plan per line, with its latency (ms), memory (bytes), score, counts and layout."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self._columns(), *self._lines()])
        write_text(Path(path), text.getvalue())

    def _columns(self) -> list[str]:
        return ["latency_ms", "memory_bytes", "score", *self.plans[0].counts, "layout"]

    def _lines(self) -> list[list[float | str]]:
        return [
            [plan.latency_ms.predicted, plan.memory_bytes.predicted, plan.score, *plan.counts.values(), plan.written]
            for plan in self.plans
        ]

    def plot(self, ax: Axes | None = None, *, label: str = "") -> Axes:
        """Draw score over latency, on axes that may hold other fronts already; the label names it in the legend."""
        from s2search.report import shown

        return shown.plot_front(self, ax, label=label)

    def _repr_html_(self) -> str:
        from s2search.report import shown

        return shown.front_html(self)

    def __rich__(self) -> RenderableType:
        from s2search.report import shown

        return shown.front_text(self)

    def __str__(self) -> str:
        from s2search.report import shown

        return shown.plain(self)

    def __repr__(self) -> str:
        first, last = (format_us(1000 * plan.latency_ms.predicted) for plan in (self.plans[0], self.plans[-1]))
        return f"<Frontier of {len(self)} plans, {first} to {last}, on {self.plans[0].provenance.table}>"
