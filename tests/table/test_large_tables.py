"""Tables are read and hashed column by column; what comes out is what each row by itself says."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import TableError
from s2search.latency.lookup import Lookup
from s2search.lint.linter import lint, lint_table
from s2search.tables import records
from s2search.tables.reading import parse_rows
from s2search.tables.row import COLUMNS, Row, parse_row
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable, open_table
from s2search.tables.writing import rows_as_csv, rows_as_json
from tests.command import run_here

TABLES = ("iphone-16-pro-max", "h100", "amd-epyc")
LATER = ("latency_raw_ms", "latency_error_ms", "launch_us", "unit_asked", "unit_ran", "resident_bytes")
LATER += ("memory_load_bytes", "memory_first_bytes", "memory_steady_bytes", "memory_peak_bytes", "memory_counter")


def many_sizes(rows: int) -> LatencyTable:
    """As many rows as asked for: one block at as many video sizes, beside the other rows of a table."""
    table = open_table("iphone-16-pro-max")
    block = next(row for row in table.rows if row.role == "block")
    side = int(rows**0.5) + 1
    grids = [(height, width) for height in range(1, side + 1) for width in range(101, side + 101)]
    more = [
        dataclasses.replace(
            block, height=height, width=width, latency_ms=block.latency_ms * height * width / 576, latency_std_ms=None
        )
        for height, width in grids[: rows - len(table.rows)]
    ]
    return dataclasses.replace(table, name="many", rows=(*table.rows, *more))


def as_json(row: Row) -> bytes:
    cells = {name: cell for name, cell in dataclasses.asdict(row).items() if cell is not None or name not in LATER}
    return msgspec.json.encode(cells, order="sorted")


def odd_rows() -> list[Row]:
    row = open_table("h100").rows[0]
    changes: list[dict[str, Any]] = [
        {},
        {"part": '"%s" é, {}', "note": "100 %\n;", "measured_at": None},
        {
            "part": "other",
            "latency_ms": 1e-7 + 1,
            "latency_p10_ms": None,
            "latency_raw_ms": 1.0,
            "launch_us": 0.0,
            "unit_ran": "gpu:1",
        },
        {"part": "whole", "latency_ms": 2, "latency_p10_ms": None, "samples": 0, "latency_provenance": "derived"},
    ]
    return [dataclasses.replace(row, **{"latency_p90_ms": None, **change}) for change in changes]


def test_each_row_is_encoded_as_it_is_alone() -> None:
    groups = [list(open_table(name).rows) for name in TABLES]
    for rows in [odd_rows(), *groups, *([row] for row in odd_rows())]:
        assert [text.encode() for text in rows_as_json(Rows.of(rows))] == [as_json(row) for row in rows]


@pytest.mark.parametrize("name", TABLES)
def test_the_digest_is_that_of_the_rows_one_by_one(name: str) -> None:
    table = open_table(name)
    card = dataclasses.asdict(table.card)
    for name in ("common_std_relative", "application"):
        if card[name] is None:
            del card[name]
    content = b"\n".join([msgspec.json.encode(card, order="sorted"), *sorted(map(as_json, table.rows))])
    assert table.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_rows_are_read_as_each_is_read_alone() -> None:
    for rows in [odd_rows(), *(list(open_table(name).rows) for name in TABLES)]:
        assert list(parse_rows(rows_as_csv(Rows.of(rows)), where="here")) == rows
        cells = {column: "" if (value := getattr(rows[0], column)) is None else str(value) for column in COLUMNS}
        assert parse_row(cells, where="here") == rows[0]


def said(read: Callable[[], Row]) -> Row | str:
    try:
        return read()
    except TableError as error:
        return str(error)


CELLS = ("", "0", "-1", "1.0", "1.5", "nan", "1e12", "null", "x", "true", " 3", "1_000", "measured", "stream", '"3"')


@pytest.mark.parametrize("seed", range(4))
def test_a_wrong_cell_is_refused_with_its_line_as_if_it_were_read_alone(seed: int) -> None:
    rng = random.Random(seed)
    header, *lines = open_table("amd-epyc").to_csv().splitlines()
    columns = header.split(",")
    for _ in range(40):
        n, column, cell = rng.randrange(len(lines)), rng.randrange(len(columns)), rng.choice(CELLS)
        cells = lines[n].split(",")
        cells[column] = cell
        text = "\n".join([header, *lines[:n], ",".join(cells), *lines[n + 1 :]])
        where = f"line {n + 2} of here"
        alone = dict(zip(columns, [cell.strip('"') for cell in cells], strict=True))
        assert said(lambda alone=alone, where=where: parse_row(alone, where=where)) == said(
            lambda text=text, n=n: parse_rows(text, where="here")[n]
        )


def test_lines_are_numbered_as_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_LINES", 2)
    plain = "a,b\n1,2\n3\n5,6\n7,8,9\n"
    quoted = 'a,b\n"1\n",2\n\n3\n"5",6\n'
    for text, expected in (
        (plain, ([2, 4], ["1", "5"], {3: ["3"], 5: ["7", "8", "9"]})),
        (quoted, ([3, 6], ["1\n", "5"], {5: ["3"]})),
    ):
        header, blocks = records.read_records(text)
        found = list(blocks)
        assert header == ["a", "b"]
        assert [number for block in found for number in block.number_N] == expected[0]
        assert [cell for block in found for cell in block.cells["a"].cells] == expected[1]
        assert {number: cells for block in found for number, cells in block.ragged.items()} == expected[2]


def test_four_times_the_rows_take_hardly_more_than_four_times_as_long() -> None:
    card, least = open_table("iphone-16-pro-max").card, []
    for rows in (3_000, 12_000):
        text = many_sizes(rows).to_csv()
        seconds = []
        for _ in range(3):
            start = time.process_time()
            table = LatencyTable(name="many", card=card, rows=parse_rows(text, where="here"))
            table.scope("stream", video="512x288")
            assert table.digest
            assert lint_table(table)
            seconds.append(time.process_time() - start)
        least.append(min(seconds))
    assert least[1] < 7 * least[0]  # what compares all pairs takes 16 times as long


def test_a_few_rows_of_many_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    table = many_sizes(3000)
    monkeypatch.setattr(Rows, "__iter__", None)
    scope = table.scope("stream", video="512x288")
    assert len(table.in_scope(scope, any_grid=True)) > 2900
    assert not table.commits_in_scope(scope)
    assert Lookup().predict(table, scope, "lcha").cost.latency_us == 15675
    assert table.rows[-1].width == table.rows[2999].width
    assert len(table.rows.having(role="fixed").different("part")) == 4


COLUMN = st.lists(st.sampled_from([0.0, -0.0, 1.0, 2, None]), min_size=1, max_size=8)


@given(COLUMN, COLUMN)
def test_columns_keep_every_value(first: list[float | None], second: list[float | None]) -> None:
    base = open_table("iphone-16-pro-max").rows[0]
    rows = [
        [dataclasses.replace(base, height=n + 1, latency_std_ms=std) for n, std in enumerate(stds)]
        for stds in (first, second)
    ]
    joined = Rows.joined([Rows.of(part) for part in rows])
    assert joined == [*rows[0], *rows[1]]
    assert [repr(row.latency_std_ms) for row in joined] == [repr(std) for std in (*first, *second)]
    assert [joined[n] for n in range(len(joined))] == list(joined) == [*joined[:2], *joined[2:]]


@pytest.mark.parametrize("cell", ["", "a", "12345678", "123456789", "é", "x" * 255, "x" * 256, "x" * 300, "lcha" * 9])
def test_cells_of_any_length_are_told_apart(cell: str) -> None:
    cells = [cell, cell + "a", cell, cell[:-1] + "b", "z" + cell, "", cell]
    header, blocks = records.read_records("a,b\n" + "".join(f"{text},1\n" for text in cells))
    (block,) = blocks
    assert (header, block.cells["a"].cells) == (["a", "b"], cells)
    assert len(block.cells["a"].value_V) == len(set(cells))


def test_cells_that_share_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_ODD", records._ODD * 0)
    (block,) = records.read_records("a,b\n1,x\n2,x\n1,y\n")[1]
    assert [column.cells for column in block.cells.values()] == [["1", "2", "1"], ["x", "x", "y"]]


def test_lint_names_each_bad_line_of_a_large_table(tmp_path: Path) -> None:
    table = many_sizes(6000)
    table.save(tmp_path / "table")
    path = tmp_path / "table" / "table.csv"
    lines = path.read_text().splitlines()
    lines[99] = lines[98]
    lines[4999] = lines[4999].replace("derived", "guessed")
    lines[5000] += ",one more"
    path.write_text("\n".join(lines) + "\n")
    found = {(finding.row, finding.rule) for finding in lint(tmp_path / "table")}
    assert {(100, "duplicated_row"), (5000, "unreadable_row"), (5001, "unreadable_row")} <= found


def test_only_the_first_rows_of_a_large_table_are_shown(tmp_path: Path) -> None:
    many_sizes(300).save(tmp_path / "table")
    shown = run_here(["table", "show", "table"], tmp_path)
    assert "100 more in table.csv" in shown.out
    assert len(shown.out.splitlines()) < 250
    assert "100 more in table.csv" in many_sizes(300)._repr_html_()
