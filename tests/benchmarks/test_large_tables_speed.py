"""Reading, judging, hashing and showing a table take time in proportion to its rows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest

from s2search.lint.linter import lint_table
from s2search.report.shown import plain
from s2search.tables.compare import compare
from s2search.tables.row import parse_rows
from s2search.tables.table import LatencyTable
from tests.table.test_large_tables import many_sizes

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

WORK: dict[str, Callable[[LatencyTable], object]] = {
    "read": lambda table: parse_rows(table.to_csv(), where="here"),
    "digest": lambda table: dataclasses.replace(table, name="again").digest,
    "lint": lint_table,
    "show": plain,
    "compare": lambda table: compare(table, table),
}


def seconds(work: Callable[[LatencyTable], object], table: LatencyTable) -> float:
    times = []
    for _ in range(2):
        start = time.process_time()
        work(table)
        times.append(time.process_time() - start)
    return min(times)


def test_ten_times_the_rows_take_hardly_more_than_ten_times_as_long() -> None:
    few, many = many_sizes(10_000), many_sizes(100_000)
    found = {name: (seconds(work, few), seconds(work, many)) for name, work in WORK.items()}
    print(
        "\n".join(f"{name}: {one:.2f} s at 10,000 rows, {ten:.2f} s at 100,000" for name, (one, ten) in found.items())
    )
    assert all(ten < 20 * max(one, 0.02) for one, ten in found.values()), found
