"""transfer: the rows of a new device that were not timed, from known devices' tables."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from s2search import registry
from s2search.errors import InputError, MissingRowError
from s2search.latency.base import Estimate, LatencyModel
from s2search.latency.physical import measured, work
from s2search.tables.table import LatencyTable, Scope, open_table
from s2search.transfer.blend import LEAST_SHOTS, MOST_UNEXPLAINED, Belief, fit_blend
from s2search.transfer.known_rows import known_ms, row_items
from s2search.transfer.trust import expected_misfit

_LEAST_NOISE = 0.005


@dataclass(frozen=True, kw_only=True)
class Transfer(LatencyModel):
    """Foretells what a table lacks as a blend of known devices' rows at the same shape; see `s2search.transfer.blend`.

    The rows that the table has, four or more, are the timings. Where the known devices explain them hardly better than
    one constant would, it answers nothing. On the command line: `--latency-model transfer[known=A+B]`.

    Attributes:
        known: The known devices' tables, by name or folder, with + between.
    """

    known: str

    def __post_init__(self) -> None:
        if not all(name.strip() for name in self.known.split("+")):
            raise InputError(
                f"transfer has the known tables {self.known!r}",
                allowed="names or folders of tables with + between",
                remedy="write transfer[known=A+B]",
            )

    @override
    def predict(self, table: LatencyTable, scope: Scope, part: str, options: str = "") -> Estimate:
        if (answer := measured(table, scope, part, options)) is not None:
            return answer
        label = registry.label_of(part, options)
        known = [known_ms(other, scope.scenario, scope.shape) for other in self.known_tables]
        own = {row.label: row for row in table.in_scope(scope) if row.latency_ms > 0}
        if lacking := [other.name for other, rows in zip(self.known_tables, known, strict=True) if label not in rows]:
            raise MissingRowError(
                f"neither {table.name!r} nor the known table {lacking[0]!r} has a row for {label!r} at {scope}",
                remedy="measure that row, or leave out that known table",
                part=part,
                options=options,
            )
        timed = [name for name in own if all(name in rows for rows in known)]
        if len(timed) < LEAST_SHOTS:
            raise MissingRowError(
                f"the table {table.name!r} shares {len(timed)} timed rows with the known tables at {scope}",
                allowed=f"{LEAST_SHOTS} rows or more",
                remedy="measure more rows",
            )
        items = row_items(known, [*timed, label])
        noise = max(_LEAST_NOISE, *((own[name].latency_std_ms or 0) / own[name].latency_ms for name in timed))
        belief = Belief(misfit=expected_misfit(items), noise=noise)
        probes = items.take(np.arange(len(timed)))
        blend = fit_blend(probes, np.array([own[name].latency_ms for name in timed]), belief)
        if blend.unexplained > MOST_UNEXPLAINED:
            raise MissingRowError(
                f"{label!r} of {table.name!r} cannot be predicted from {self.known}: they explain its {len(timed)} "
                f"timed rows {blend.unexplained:.2f} times as badly as one constant",
                allowed=f"{MOST_UNEXPLAINED:.2f} or less",
                remedy="measure that row, or name other known tables",
            )
        found = blend.predict(items.take(np.array([len(timed)])))
        asked = work(scope.shape, scope.precision, part, options)
        return asked.estimate(1000 * float(found.latency_ms_N[0]), 1000 * float(found.std_ms_N[0]))

    @functools.cached_property
    @override
    def known_tables(self) -> list[LatencyTable]:
        return [open_table(name.strip()) for name in self.known.split("+")]
