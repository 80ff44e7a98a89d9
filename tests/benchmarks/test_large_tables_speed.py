"""What a command does with a table takes time in proportion to its rows, told in readings of the same file by `csv`."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.latency.linear import Linear
from s2search.lint.linter import lint_table
from s2search.reporting.shown import plain
from s2search.tables.compare import compare
from s2search.tables.merge import merge
from s2search.tables.reading import parse_rows
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable
from tests.table.test_large_tables import many_sizes

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

#: Work by name, and the most readings by `csv` that it may take.
WORK: dict[str, tuple[Callable[[LatencyTable], object], float]] = {
    "read": (lambda table: parse_rows(table.to_csv(), where="here"), 6),
    "digest": (lambda table: fresh(table).digest, 4),
    "lint": (lambda table: lint_table(fresh(table)), 6),
    "lint of latencies at random": (lambda table: lint_table(fresh(at_random(table))), 6),
    "show": (lambda table: plain(fresh(table)), 6),
    "compare": (lambda table: compare(table, fresh(table)), 20),
    "merge": (lambda table: merge([table, higher(table)], name="both"), 12),
}


def fresh(table: LatencyTable) -> LatencyTable:
    """Return the same table, of which nothing has been asked."""
    return dataclasses.replace(table, rows=Rows(table.rows.columns))


def higher(table: LatencyTable) -> LatencyTable:
    """Return a table of other video sizes."""
    height = table.rows.columns["height"]
    taller = dataclasses.replace(height, value_V=[value + 10_000 for value in height.value_V])
    return dataclasses.replace(table, name="higher", rows=table.rows.changed(height=taller))


def at_random(table: LatencyTable) -> LatencyTable:
    """Return a table whose latencies vary by a third, so that nearly every row contradicts others."""
    latency, rng = table.rows.columns["latency_ms"], random.Random(0)
    varied = dataclasses.replace(latency, value_V=[value * rng.lognormvariate(0, 0.3) for value in latency.value_V])
    return dataclasses.replace(table, rows=table.rows.changed(latency_ms=varied))


def command_seconds(*words: str) -> float:
    """Return the processor time of a command, the least of three."""
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "s2search", *words], stdout=subprocess.DEVNULL, check=False)
        after = os.times()
        times.append(sum(after[2:4]) - sum(before[2:4]))  # of children
    return min(times)


def linear(table: LatencyTable) -> object:
    fresh_table = fresh(table)
    return Linear().predict(fresh_table, fresh_table.scope("stream", video=(3000, 3000)), "lcha")


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def test_a_hundred_thousand_rows_take_a_few_readings_of_their_file() -> None:
    table = many_sizes(100_000)
    text = table.to_csv()
    reading_s = seconds(lambda: list(csv.reader(io.StringIO(text))))
    found = {name: seconds(lambda work=work: work(table)) for name, (work, _) in WORK.items()}  # type: ignore[misc]
    print(f"csv.reader: {reading_s:.2f} s")
    print("\n".join(f"{name}: {taken_s:.2f} s, {taken_s / reading_s:.1f} readings" for name, taken_s in found.items()))
    assert all(taken_s < WORK[name][1] * reading_s for name, taken_s in found.items()), found


def test_lint_of_a_hundred_thousand_rows_that_contradict_each_other_takes_two_seconds_beyond_its_start(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "contradictory"
    at_random(many_sizes(100_000)).save(folder)
    start_s = command_seconds("table", "lint", "iphone-16-pro-max")
    taken_s = {words: command_seconds("table", "lint", str(folder), *words) - start_s for words in ((), ("--json",))}
    print(f"start: {start_s:.2f} s; beyond it {taken_s}")
    assert max(taken_s.values()) < 2, taken_s


def test_four_times_the_rows_take_hardly_more_than_four_times_as_long() -> None:
    few, many = many_sizes(10_000), many_sizes(40_000)
    works = {name: work for name, (work, _) in WORK.items()} | {"linear": linear}
    found = {name: (seconds(lambda w=w: w(few)), seconds(lambda w=w: w(many))) for name, w in works.items()}  # type: ignore[misc]
    print("\n".join(f"{name}: {one:.3f} s, then {four:.3f} s" for name, (one, four) in found.items()))
    assert all(four < 6 * max(one, 0.02) for one, four in found.values()), found
