"""Folders, installed tables and the command: what is read, what is found, and how it is said."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.errors import InputError, TableError
from s2search.lint.layout_file import Layouts
from s2search.lint.linter import lint
from s2search.tables.table import installed_tables, open_table
from tests.conftest import Outcome

IPHONE = "iphone-16-pro-max.coreml.w4a8"
CPU = "amd-epyc.torch-cpu.float32"
H100 = "h100.torch-cuda-graphs-compiled.bfloat16"
TFNAS = Path(__file__).parents[1] / "data/tfnas"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(installed_tables()[CPU], tmp_path / CPU))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def rules(path: Path) -> list[tuple[int | None, str]]:
    return [(finding.row, finding.rule) for finding in lint(path)]


def test_every_shipped_table_is_clean() -> None:
    assert {name: lint(folder) for name, folder in installed_tables().items()} == {
        name: [] for name in installed_tables()
    }
    assert lint("amd-epyc") == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("176.251292", "-176.251292", (2, "negative_latency")),
        ("176.251292", "0", (2, "negative_latency")),
        ("176.251292", "0.0000001", (2, "unreadable_row")),
        ("176.251292", "fast", (2, "unreadable_row")),
        ("9.740521", "-9.740521", (6, "negative_latency")),
        ("block,ssa,,stream,3,18,32", "block,lcha,,stream,3,18,32", (3, "duplicated_row")),
        ("176.251292,", "176.251292,,", (2, "unreadable_row")),
    ],
)
def test_a_row_that_no_table_may_hold_is_a_finding(folder: Path, old: str, new: str, expected: tuple[int, str]) -> None:
    edit(folder / "table.csv", old, new)
    assert expected in rules(folder)
    assert expected in rules(folder / "table.csv")


@pytest.mark.parametrize(("name", "old", "new"), [("card.json", '"latency": "ms"', '"latency": "s"')])
def test_a_card_with_other_units_is_a_finding(folder: Path, name: str, old: str, new: str) -> None:
    edit(folder / name, old, new)
    assert rules(folder) == [(None, "unit_mismatch")]


def test_samples_that_are_not_the_card_s_are_a_finding(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(installed_tables()[H100], tmp_path / H100))
    with (folder / "samples.jsonl").open("a") as samples:
        samples.write("\n")
    assert rules(folder) == [(None, "provenance_contradiction")]


def test_a_copy_under_another_device_s_name_is_found_beside_the_original(folder: Path) -> None:
    table = open_table(CPU)
    card = dataclasses.replace(table.card, device="my phone")
    dataclasses.replace(table, card=card).save(folder.parent / "phone")
    assert (2, "duplicated_device") in rules(folder.parent / "phone")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("card.json", '"schema": "s2search.table/1"', '"schema": "s2search.table/9"'),
        ("card.json", '"device"', '"devise"'),
        ("card.json", "{", ""),
        ("card.json", '"latency": "ms"', '"latency": ["s"'),
        ("table.csv", "latency_ms,", "latency,"),
        ("table.csv", "note", "notes"),
    ],
)
def test_a_folder_that_is_no_table_is_one_clear_error(folder: Path, name: str, old: str, new: str) -> None:
    edit(folder / name, old, new)
    with pytest.raises(InputError):
        lint(folder)


@settings(max_examples=60)
@given(
    line=st.integers(1, 36),
    column=st.integers(0, 40),
    cell=st.one_of(st.sampled_from(["", "0", "-1", "1e308", "nan", "9" * 25, "stream", "lcha", "]]", "7"]), st.text()),
)
def test_any_cell_gives_findings_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, line: int, column: int, cell: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    shutil.copy(installed_tables()[CPU] / "card.json", folder)
    lines = [words.split(",") for words in (installed_tables()[CPU] / "table.csv").read_text().splitlines()]
    lines[line][column % len(lines[line])] = cell
    text = "\n".join(",".join(words) for words in lines)
    (folder / "table.csv").write_text(text, encoding="utf-8", errors="replace", newline="")
    try:
        assert all(finding.message for finding in lint(folder))
    except TableError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_the_command_prints_findings_as_json_and_exits_with_1(s2search: Callable[..., Outcome]) -> None:
    done = s2search("table", "lint", str(TFNAS / "latency_cpu.csv"), "--json")
    findings = json.loads(done.out)["findings"]
    assert (done.code, len(findings), done.err) == (1, 84, "")
    assert {frozenset(finding) for finding in findings} == {frozenset(("row", "rule", "message", "remedy"))}


def test_the_command_fits_80_columns_and_says_how_many_it_leaves_out(s2search: Callable[..., Outcome]) -> None:
    done = s2search("table", "lint", str(TFNAS / "latency_gpu.csv"))
    assert done.code == 1
    assert "negative_latency: 88" in done.out
    assert "80 more" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_clean_table_exits_with_0(s2search: Callable[..., Outcome]) -> None:
    assert s2search("table", "lint", "iphone-16-pro-max") == Outcome(0, "nothing found\n", "")
    done = s2search("table", "lint", IPHONE, "--json")
    assert (done.code, json.loads(done.out)) == (0, {"schema": "s2search.table_findings/1", "findings": []})


@pytest.mark.parametrize("path", ["nowhere", ".", "", "x" * 5000, "/dev/null", "no/such.csv"])
def test_a_bad_path_is_one_line_and_exits_with_2(s2search: Callable[..., Outcome], path: str) -> None:
    done = s2search("table", "lint", path)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_a_line_of_which_the_others_say_nothing_is_no_multiple_of_it():
    found = Layouts(
        line_N=[2, 3, 4],
        latency_ms_N=np.array([1.0, 2000.0, 3.0]),
        foretold_ms_N=np.array([0.0, 2.0, 3.0]),
        near_N=np.array([False, False, True]),
        telling=True,
    )
    assert found.outliers() == [(3, 2000.0, 1000.0)]
