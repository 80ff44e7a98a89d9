"""Which latency model errs least on rows that it was not given, on the tables that were measured here.

The rivals answer or refuse: lookup has no row, and interpolate needs a measured size to either side of the asked one.
Roofline knows the H100 by its data sheet (989 TFLOPS in bfloat16 without sparsity, 3,350 GB/s).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from s2search.errors import MissingRowError
from s2search.latency.base import LatencyModel
from s2search.latency.interpolate import Interpolate
from s2search.latency.linear import Linear
from s2search.latency.lookup import Lookup
from s2search.latency.roofline import Roofline
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, open_table

pytestmark = pytest.mark.benchmark

MODELS = {
    "lookup": Lookup(),
    "interpolate": Interpolate(),
    "linear": Linear(),
    "roofline": Roofline(tops=989, gbps=3350),
}
LEFT_OUT: dict[str, Callable[[Row, Row], bool]] = {
    "one row": lambda other, row: other.key == row.key,
    "one video size": lambda other, row: (other.height, other.width) == (row.height, row.width),
    "one part": lambda other, row: other.part == row.part,
}


def errors(model: LatencyModel, table: LatencyTable, gone: Callable[[Row, Row], bool]) -> list[float]:
    """Return the relative errors of the rows that a model answers when they, and those like them, are left out."""
    found = []
    for row in table.rows:
        if row.latency_ms <= 0 or row.role == "commit":
            continue
        rest = dataclasses.replace(table, rows=tuple(other for other in table.rows if not gone(other, row)))
        scope = table.scope(row.scenario, video=(row.height, row.width))
        try:
            predicted_us = model.predict(rest, scope, row.part, row.options).cost.latency_us
        except MissingRowError:
            continue
        found.append(abs(predicted_us / (1000 * row.latency_ms) - 1))
    return found


@pytest.mark.parametrize("name", ["h100", "amd-epyc"])
def test_linear_answers_more_than_lookup_and_interpolate_and_errs_less_than_roofline(name: str) -> None:
    table = open_table(name)
    rows = sum(row.latency_ms > 0 and row.role != "commit" for row in table.rows)
    for what, gone in LEFT_OUT.items():
        found = {
            model: errors(one, table, gone)
            for model, one in MODELS.items()
            if (model, name) != ("roofline", "amd-epyc")
        }
        for model, error in found.items():
            text = f"mean error {100 * np.mean(error):.1f} %, median {100 * np.median(error):.1f} %" if error else ""
            print(f"{name}, {what} left out: {model} answers {len(error)} of {rows} rows {text}")
        assert len(found["linear"]) == rows > len(found["interpolate"]) >= len(found["lookup"])
        if "roofline" in found:
            assert np.mean(found["linear"]) < np.mean(found["roofline"])
