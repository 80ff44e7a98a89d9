"""What commands say of numbers that may make their answer wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s2search.lint.misleading import misleading
from s2search.tables.table import LatencyTable, installed_tables
from tests.conftest import Outcome


@pytest.fixture
def wrong_unit(tmp_path: Path) -> Path:
    """A copy of an installed table with one row in microseconds, its statistics too."""
    folder = tmp_path / "phone"
    shutil.copytree(next(path for name, path in installed_tables().items() if name.startswith("h100")), folder)
    header, *rows = csv.reader((folder / "table.csv").read_text().splitlines())
    line = next(n for n, row in enumerate(rows) if row[header.index("part")] == "ssa")
    for column in (f"latency{what}_ms" for what in ("", "_p10", "_p90", "_mean", "_std", "_raw", "_error")):
        if column in header and rows[line][header.index(column)]:
            rows[line][header.index(column)] = str(1000 * float(rows[line][header.index(column)]))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return folder


def test_what_misleads_is_one_sentence_per_rule_and_age_does_not(wrong_unit: Path) -> None:
    card = json.loads((wrong_unit / "card.json").read_text())
    (wrong_unit / "card.json").write_text(json.dumps(card | {"code_version": "s2search 0.0.1"}))
    said = misleading(LatencyTable.load(wrong_unit))
    assert said
    assert all(sentence.startswith("phone: ") for sentence in said)
    assert len({sentence.split(": ")[1] for sentence in said}) == len(said)
    assert any("unit_mismatch" in sentence for sentence in said)
    assert not any("stale_version" in sentence for sentence in said)


def test_every_command_that_uses_a_table_says_what_misleads(
    s2search: Callable[..., Outcome], wrong_unit: Path, tmp_path: Path
) -> None:
    size = ["--video", "512x288"]
    for words in (
        ["plan", "--table", str(wrong_unit), "--layout", "L28", *size],
        ["plan", "--table", f"{wrong_unit}:9s", "--table", "h100:9s", *size],
        ["plan", "--table", "h100", "--layout", "L28", "--latency-model", f"transfer[known={wrong_unit}]", *size],
        ["frontier", "--table", str(wrong_unit), "--points", "2", "--out", str(tmp_path / "front.csv"), *size],
        ["table", "compare", "h100", str(wrong_unit)],
    ):
        done = s2search(*words)
        assert done.code in (0, 1), done.err
        assert "lint: phone: unit_mismatch: line " in done.err, words
    assert not s2search("plan", "--table", "h100", "--layout", "L28", *size).err


def write_layouts(path: Path, *, noise: float = 0.02, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    layout_TL, effect_ms_LC = rng.integers(0, 3, (200, 4)), np.random.default_rng(9).uniform(2, 8, (4, 3))
    latency_ms_T = effect_ms_LC[np.arange(4), layout_TL].sum(axis=1) * np.exp(noise * rng.standard_normal(200))
    lines = [",".join(map(str, [*row, latency])) for row, latency in zip(layout_TL, latency_ms_T, strict=True)]
    path.write_text("\n".join([",".join([*(f"layer_{layer:02d}" for layer in range(4)), "latency_ms"]), *lines]))
    return path


def test_an_evaluation_says_that_layouts_are_computed_and_their_error_is_nothing(
    s2search: Callable[..., Outcome], tmp_path: Path
) -> None:
    computed = write_layouts(tmp_path / "computed.csv", noise=0)
    text = " ".join(s2search("table", "evaluate", str(computed)).out.split())
    assert "computed.csv: synthetic_as_measured: all 200 latencies are exact sums" in text
    assert "additive 0.00 %, drift-aware 0.00 %" in text
    measured = json.loads(s2search("table", "evaluate", str(write_layouts(tmp_path / "m.csv")), "--json").out)
    assert measured["findings"] == []


def test_a_transfer_says_which_files_are_computed_or_hold_another_unit(
    s2search: Callable[..., Outcome], tmp_path: Path
) -> None:
    computed, odd = write_layouts(tmp_path / "computed.csv", noise=0), write_layouts(tmp_path / "odd.csv", seed=1)
    target = write_layouts(tmp_path / "target.csv", seed=2)
    lines = odd.read_text().split("\n")
    lines[30] = lines[30].rpartition(",")[0] + ",9000"
    odd.write_text("\n".join(lines))
    words = ["--known", str(computed), "--known", str(odd), "--target", str(target), "--draws", "2", "--json"]
    said = json.loads(s2search("table", "transfer", *words).out)["findings"]
    assert [sentence.split(": ")[:2] for sentence in said] == [
        ["computed.csv", "synthetic_as_measured"],
        ["odd.csv", "unit_outlier"],
    ]


def test_the_published_run_that_is_computed_is_called_so() -> None:
    path = Path(__file__).parents[1] / "data/fbnet_layouts/pixel3_300.csv"
    (said,) = misleading(path)
    assert said.startswith("pixel3_300.csv: synthetic_as_measured: all 300 latencies are exact sums")
