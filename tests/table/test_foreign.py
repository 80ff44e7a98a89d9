"""What others measured, as a value and as a folder."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.document import read_json
from s2search.errors import S2SearchError, TableError
from s2search.lint.linter import lint
from s2search.tables.card import Provenance
from s2search.tables.foreign import (
    BY_ROW,
    ImportedCard,
    ImportedRow,
    ImportedTable,
    Source,
    is_imported,
    open_measurements,
)
from s2search.tables.table import LatencyTable, installed_tables

ROW = ImportedRow(part="conv", about=("8", "x"), latency_ms=1.5)


def card(**fields: Any) -> ImportedCard:
    given: dict[str, Any] = {
        "code_version": "s2search 0.1.0",
        "provenance": Provenance(kind="published", source="nowhere", statement="invented"),
        "sources": [
            Source(file="a.csv", format="hat", digest="sha256:0"),
            Source(file="b.csv", format="hat", digest="sha256:1"),
        ],
        "columns": {"batch": "samples", "version": "of the tool"},
        "facts": ["version"],
    }
    return ImportedCard(**(given | fields))


def table(*rows: ImportedRow, **fields: Any) -> ImportedTable:
    return ImportedTable(name="made", card=card(**fields), rows=rows or (ROW,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table(ROW, dataclasses.replace(ROW, about=("16", "x"), latency_ms=2.5)).save(tmp_path / "made")
    return tmp_path / "made"


printable = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=8)
floats = st.floats(-1e9, 1e9)
rows = st.builds(
    ImportedRow,
    part=printable.filter(bool),
    about=st.tuples(printable, printable),
    latency_ms=floats,
    latency_std_ms=st.none() | st.floats(0, 1e9),
    samples=st.none() | st.integers(0, 2**50),
    memory_bytes=st.none() | st.integers(0, 2**50),
    source=st.integers(0, 1),
    note=printable,
)


@given(st.lists(rows, min_size=1, max_size=5, unique_by=lambda row: (row.part, row.about[0])))
def test_a_saved_table_loads_as_the_same_value(some: list[ImportedRow]) -> None:
    made = table(*some)
    with tempfile.TemporaryDirectory() as place:
        made.save(Path(place, "made"))
        again = ImportedTable.load(Path(place, "made"))
    assert again == made
    assert again.digest == made.digest


def test_the_digest_sees_every_number_but_neither_order_nor_name() -> None:
    other = dataclasses.replace(ROW, about=("16", "x"))
    made = table(ROW, other)
    assert dataclasses.replace(made, rows=(other, ROW), name="x").digest == made.digest
    assert table(ROW, dataclasses.replace(other, latency_ms=1.50001)).digest != made.digest
    assert table(ROW, other, date="2026").digest != made.digest


def test_a_fact_does_not_tell_rows_apart() -> None:
    with pytest.raises(TableError, match="two rows give conv, batch 8"):
        table(ROW, dataclasses.replace(ROW, about=("8", "y")))
    assert len(table(ROW, dataclasses.replace(ROW, about=("9", "x"))).rows) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"part": ""}, "has neither latency nor memory"),
        ({"latency_ms": None}, "a row of conv has neither latency nor memory"),
        ({"latency_ms": float("nan")}, "latency_ms of conv is nan"),
        ({"latency_ms": -2e9}, "milliseconds from -1e+09 to 1e+09"),
        ({"latency_std_ms": -0.1}, "latency_std_ms of conv is -0.1; milliseconds from 0 to 1e+09"),
        ({"samples": -1}, "samples of conv is -1"),
        ({"memory_bytes": 2**51}, "memory_bytes of conv is"),
        ({"memory_least_bytes": 5}, "goes from 5 to None bytes"),
        ({"memory_least_bytes": 5, "memory_bytes": 4}, "goes from 5 to 4 bytes"),
        ({"part": "a\x1b[31m"}, "cannot be printed"),
        ({"note": "a\nb"}, "cannot be printed"),
        ({"about": ("8", "\ud800")}, "cannot be printed"),
        ({"note": "a" * 2001}, "is too long"),
    ],
)
def test_a_row_that_says_nothing_or_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError) as caught:
        dataclasses.replace(ROW, **fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": {"latency_ms": "x"}}, "'latency_ms' cannot be a column"),
        ({"columns": {"Batch": "x"}}, "'Batch' cannot be a column"),
        ({"device": BY_ROW}, "the card gives the device as 'by row'"),
        ({"columns": {"device": "x"}, "facts": []}, "the card gives the device as 'not stated'"),
        ({"facts": ["none"]}, "the card calls 'none' a fact"),
        ({"sources": []}, "the card names no source"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError) as caught:
        card(**fields)
    assert message in str(caught.value)


def test_rows_must_fit_their_card() -> None:
    for row, message in (
        (dataclasses.replace(ROW, about=("8",)), "has 1 cells for 2 columns"),
        (dataclasses.replace(ROW, source=2), "comes from source 2, which the card does not name"),
    ):
        with pytest.raises(TableError, match=message):
            table(row)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("part,batch", "part,batsch", "has the column 'batsch' out of place; part,batch,version,latency_ms,"),
        (",note", "", "table.csv has the column 'end of line' out of place"),
        ("conv,8,x,1.5", "conv,8,x,fast", "line 2 of "),
        ("conv,8,x,1.5", "conv,8,x,fast", "has 'fast' where a number must be"),
        ("conv,8,x,1.5", "conv,8,x,1_5", "has '1_5' where a number must be"),
        ("conv,8,x,1.5", "conv,8,x", "has 9 cells, the first line 10"),
        ("conv,8,x,1.5,,,,,0,", "conv,8,x,1.5,,,,,,", "has '' where a number must be"),
        ("conv,16,x", "conv,8,x", "two rows give conv, batch 8"),
        ("conv,8,x,1.5", '"conv,8,x,1.5', "is not a CSV file"),
    ],
)
def test_a_table_that_was_spoilt_is_refused_with_its_line(folder: Path, old: str, new: str, message: str) -> None:
    text = (folder / "table.csv").read_text()
    assert old in text
    (folder / "table.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(TableError) as caught:
        ImportedTable.load(folder)
    assert message in str(caught.value)


def test_the_linter_names_rows_that_are_there_twice_or_cannot_be(folder: Path) -> None:
    lines = (folder / "table.csv").read_text().splitlines()
    lines += ["conv,8,y,1.5,,,,,0,", "conv,32,x,3.5,,,9,3,0,", "conv,64,x,,,,,,0,", "conv,64,x,,,,,3,0,"]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    found = [(finding.row, finding.rule) for finding in lint(folder)]
    assert found == [(4, "duplicated_row"), (5, "unreadable_row"), (6, "unreadable_row")]


def test_memory_alone_is_no_finding_and_a_latency_of_zero_is(folder: Path) -> None:
    made = table(
        ImportedRow(part="cache", about=("1", ""), memory_bytes=5),
        ImportedRow(part="skip", about=("1", ""), latency_ms=0.0, note="no operation"),
        ImportedRow(part="conv", about=("1", ""), latency_ms=0.0),
    )
    made.save(folder.parent / "zero")
    assert [(finding.row, finding.rule) for finding in lint(folder.parent / "zero")] == [(4, "negative_latency")]


def test_a_folder_says_which_kind_of_table_it_holds(folder: Path) -> None:
    assert is_imported(folder)
    assert isinstance(open_measurements(str(folder)), ImportedTable)
    ours = installed_tables()["amd-epyc.torch-cpu.float32"]
    assert not is_imported(ours)
    assert isinstance(open_measurements(str(ours)), LatencyTable)
    assert not is_imported(folder.parent)
    with pytest.raises(TableError, match=r"its schema is 's2search\.imported_table/1'"):
        LatencyTable.load(folder)
    with pytest.raises(TableError, match=r"its schema is 's2search\.table/1'"):
        ImportedTable.load(ours)


def test_saving_never_overwrites(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TableError, match="already holds a table"):
        table().save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_data_frame_has_a_row_each_and_the_columns_of_the_source(folder: Path) -> None:
    frame = ImportedTable.load(folder).to_pandas()
    assert list(frame.columns[:4]) == ["part", "batch", "version", "latency_ms"]
    assert frame["latency_ms"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize("content", [b'{"schema":' * 100_000, b'{"schema": "\xff"}', b"\x00", b"[]", b'{"schema": 5}'])
def test_a_card_that_is_no_card_gets_one_line(folder: Path, content: bytes) -> None:
    (folder / "card.json").write_bytes(content)
    assert not is_imported(folder)
    with pytest.raises(S2SearchError) as caught:
        read_json(folder / "card.json", ImportedCard, what="card", error=TableError)
    assert str(caught.value).splitlines() == [str(caught.value)]


def test_one_enormous_cell_does_not_make_the_linter_slow(tmp_path: Path) -> None:
    """An array of text is as wide everywhere as its longest cell; this one would be 0.5 GB."""
    header = ",".join([*(f"layer_{n:02d}" for n in range(20)), "latency_ms"])
    lines = [",".join([*(str((n * 7 + layer) % 3) for layer in range(20)), str(10 + n % 5)]) for n in range(300)]
    lines[5] = "x" * 20_000 + lines[5][1:]
    (tmp_path / "wide.csv").write_text("\n".join([header, *lines]))
    start = time.process_time()
    lint(tmp_path / "wide.csv")
    assert time.process_time() - start < 2.0
