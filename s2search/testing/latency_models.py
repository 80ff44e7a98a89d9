"""Conformance suite of latency models: `check_latency_model(MyModel(), table)`."""

from __future__ import annotations

import math

from s2search.errors import MissingRowError
from s2search.latency.base import LatencyModel
from s2search.tables.table import LatencyTable


def check_latency_model(model: LatencyModel, table: LatencyTable) -> None:
    """Hold a latency model against its contract on one table; AssertionError at the first broken promise.

    Every row's own shape is asked for, commits apart: the answer must be there, be whole (integer microseconds and
    bytes, an uncertainty that is a number or None), be the same when asked again, and cost no block 0. A part that no
    row mentions must raise `MissingRowError`.
    """
    for row in table.rows:
        if row.role == "commit":
            continue
        scope = table.scope(
            row.scenario, video=(row.height, row.width), precision=row.precision, compute_unit=row.compute_unit
        )
        estimate = model.predict(table, scope, row.part, row.options)
        cost, std_us = estimate.cost, estimate.latency_std_us
        assert all(isinstance(number, int) and number >= 0 for number in vars(cost).values()), f"{row.label}: {cost}"
        assert row.role != "block" or cost.latency_us > 0, f"{row.label} costs no time"
        assert std_us is None or (math.isfinite(std_us) and std_us >= 0), f"{row.label}: uncertainty {std_us}"
        assert model.predict(table, scope, row.part, row.options) == estimate, f"{row.label}: another answer"
        _check_unknown(model, table, row.scenario)


def _check_unknown(model: LatencyModel, table: LatencyTable, scenario: object) -> None:
    row = next(row for row in table.rows if row.scenario == scenario)
    scope = table.scope(
        row.scenario, video=(row.height, row.width), precision=row.precision, compute_unit=row.compute_unit
    )
    try:
        estimate = model.predict(table, scope, "no-such-part")
    except MissingRowError:
        return
    raise AssertionError(f"an unknown part was given {estimate}")
