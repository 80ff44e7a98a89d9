"""Frontier: the best plan for every latency, by rising latency and score."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from s2search.cost import Budget, format_us
from s2search.document import as_json, read_json, write_text
from s2search.errors import InfeasibleError, InputError, extras_named
from s2search.planner.plan import Plan

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True, repr=False)
class Frontier(Sequence[Plan]):
    """A sequence of plans, none of which another one dominates. As JSON: schema `s2search.frontier/1`.

    Attributes:
        plans: By rising latency (`Plan.kept_ms`) and score; at least one.
        references: Further plans by name, to compare with.
        beside: The fronts of other tables by their names, each traced with the same question.
    """

    schema: Literal["s2search.frontier/1"] = "s2search.frontier/1"
    plans: tuple[Plan, ...]
    references: Mapping[str, Plan] = field(default_factory=dict)
    beside: Mapping[str, Frontier] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.plans:
            raise InputError("the front has no plan", remedy="trace it again")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Frontier:
        """Read a front from JSON.

        Raises:
            InputError: The file is missing, or is not a front of this schema.
        """
        return read_json(path, cls, what="front of schema s2search.frontier/1")

    def to_json(self) -> str:
        """Return every plan of the front as indented JSON."""
        return as_json(self, indent=1)

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
        if budget.kind != "latency" or budget.sustained:
            raise InputError(f"{budget.text} is no latency of this front", remedy="give one such as 260ms")
        within = [plan for plan in self.plans if math.ceil(1000 * plan.kept_ms - 1e-6) <= budget.amount]
        if not within:
            least = format_us(1000 * self.plans[0].kept_ms)
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
        """Write CSV: one plan per line, with its latency (ms), memory (bytes), score, counts, layout and provenance.

        Fronts of other tables follow, and the tables' names tell them apart. With a score that states errors: its
        standard error. With a confidence: what is kept with it; with further
        devices: what the layout takes there. The kinds of evidence are joined by +, and marks of the tables' runs by a
        semicolon.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self._columns(), *self._lines()])
        write_text(Path(path), text.getvalue())

    def _columns(self) -> list[str]:
        first = self.plans[0]
        further = [
            f"{cost} on {device.table}" for device in first.devices[1:] for cost in ("latency_ms", "memory_bytes")
        ]
        kept = ["confidence", "confident_latency_ms"] if first.confidence else []
        errors = ["score_error"] if first.score_error is not None else []
        return ["latency_ms", "memory_bytes", "score", *errors, *first.counts, "layout", *kept, *further, *_PROVENANCE]

    def _lines(self) -> list[list[float | str]]:
        own: list[list[float | str]] = [
            [
                *(plan.latency_ms.predicted, plan.memory_bytes.predicted, plan.score),
                *([plan.score_error] if plan.score_error is not None else []),
                *plan.counts.values(),
                plan.written,
                *([plan.confidence.asked, plan.confidence.latency_ms] if plan.confidence else []),
                *(
                    cost
                    for device in plan.devices[1:]
                    for cost in (device.latency_ms.predicted, device.memory_bytes.predicted)
                ),
                *_provenance(plan),
            ]
            for plan in self.plans
        ]
        return own + [line for front in self.beside.values() for line in front._lines()]

    def plot(self, ax: Axes | None = None, *, label: str = "") -> Axes:
        """Draw score over latency, on axes that may hold other fronts already; the label names it in the legend."""
        from s2search.reporting import shown

        return shown.plot_front(self, ax, label=label)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.front_html(self)

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.front_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def __repr__(self) -> str:
        first, last = (format_us(1000 * plan.kept_ms) for plan in (self.plans[0], self.plans[-1]))
        return f"<Frontier of {len(self)} plans, {first} to {last}, on {self.plans[0].provenance.table}>"


_PROVENANCE = (
    *("tables", "table_digests", "latency_provenance", "bytes_provenance", "table_marks"),
    *("score_name", "score_digest", "latency_model", "solver"),
)


def _provenance(plan: Plan) -> list[str]:
    devices, origin = plan.every_device, plan.provenance
    latency = {kind for device in devices for kind in device.latency_kinds(plan.counts)}
    bytes_ = {kind for device in devices for kind in device.bytes_kinds(plan.counts)}
    return [
        "; ".join(device.table for device in devices),
        "; ".join(device.table_digest for device in devices),
        "+".join(sorted(latency)),
        "+".join(sorted(bytes_)),
        "; ".join(mark for device in devices for mark in device.table_marks),
        *(origin.score_label, origin.score_digest, origin.latency_model_label, origin.solver_label),
    ]
