"""Two tables side by side: ratios, what differs beyond noise, ranks, cards."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search import registry
from s2search.errors import TableError
from s2search.tables.compare import compare
from s2search.tables.foreign import ImportedTable
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, open_table
from tests.readers.samples import DATA, sample

TABLE = open_table("amd-epyc")


def changed(rows: Iterable[Row], table: LatencyTable = TABLE) -> LatencyTable:
    return dataclasses.replace(table, name="changed", rows=tuple(rows))


def scaled(row: Row, factor: float) -> Row:
    return dataclasses.replace(row, latency_ms=row.latency_ms * factor, latency_p10_ms=None, latency_p90_ms=None)


def phone(device: str) -> ImportedTable:
    reader = registry.create("readers", f"aihub[device={device}]")
    return reader.read(DATA / "aihub/efficientformer.perf.yaml")


def test_a_table_is_the_same_as_itself() -> None:
    found = compare(TABLE, TABLE)
    assert (found.ratio, found.spearman, found.card) == (1.0, pytest.approx(1.0), {})
    assert found.only_before == found.only_after == []
    assert [row.differs for row in found.rows if row.ratio] == [False] * sum(row.latency_ms > 0 for row in TABLE.rows)
    assert all(row.ratio == 1.0 for row in found.rows if row.before_ms)


def test_ratios_are_after_over_before_and_their_mean_is_geometric() -> None:
    factors = [2.0 if n % 2 else 0.5 for n in range(len(TABLE.rows))]
    found = compare(TABLE, changed(scaled(row, factor) for row, factor in zip(TABLE.rows, factors, strict=True)))
    wanted = [factor for factor, row in zip(factors, TABLE.rows, strict=True) if row.latency_ms]
    assert [row.ratio for row in found.rows if row.ratio] == pytest.approx(wanted)
    assert found.ratio == pytest.approx(1.0)
    assert compare(changed(scaled(row, 3) for row in TABLE.rows), TABLE).ratio == pytest.approx(1 / 3)


@given(st.integers(0, 35), st.sampled_from([0.5, 1.5]))
@settings(max_examples=20)
def test_one_row_that_was_slowed_is_the_one_that_differs(position: int, factor: float) -> None:
    rows = list(TABLE.rows)
    rows[position] = scaled(rows[position], factor)
    found = compare(TABLE, changed(rows))
    slowed = [n for n, row in enumerate(found.rows) if row.differs]
    assert slowed == ([position] if rows[position].latency_ms else [])


def test_a_ratio_is_as_uncertain_as_the_medians_that_it_is_made_of() -> None:
    row = next(row for row in TABLE.rows if row.label == "lcha")
    plain = dataclasses.replace(row, latency_p10_ms=None, latency_p90_ms=None, latency_std_ms=5.0, samples=25)
    (found,) = compare(changed([plain]), changed([plain])).rows
    one = math.sqrt(math.pi / 2) * 5.0 / math.sqrt(25) / row.latency_ms
    assert found.ratio_std == pytest.approx(math.sqrt(2) * one)
    deciles = dataclasses.replace(plain, latency_p10_ms=row.latency_ms - 1.2816, latency_p90_ms=row.latency_ms + 1.2816)
    (robust,) = compare(changed([deciles]), changed([deciles])).rows
    assert robust.ratio_std == pytest.approx(found.ratio_std / 5, rel=1e-4)
    common = dataclasses.replace(TABLE, card=dataclasses.replace(TABLE.card, common_std_relative=0.03))
    (shared,) = compare(changed([plain], common), changed([plain], common)).rows
    assert shared.ratio_std == pytest.approx(math.sqrt(2) * math.hypot(one, 0.03))


def test_noise_alone_makes_a_difference_in_one_table_of_twenty() -> None:
    """Medians of 30 normal timings, 100 times over: differences are found in 5 % of tables."""
    rng = np.random.default_rng(0)
    blocks = [row for row in TABLE.rows if row.latency_ms > 1]

    def measured() -> LatencyTable:
        rows = []
        for row in blocks:
            timings = row.latency_ms * rng.normal(1, 0.05, 30)
            rows.append(
                dataclasses.replace(
                    row,
                    latency_ms=float(np.median(timings)),
                    latency_p10_ms=float(np.quantile(timings, 0.1)),
                    latency_p90_ms=float(np.quantile(timings, 0.9)),
                )
            )
        return changed(rows)

    false = sum(any(row.differs for row in compare(measured(), measured()).rows) for _ in range(100))
    assert 1 <= false <= 11


def test_what_is_derived_or_has_no_spread_is_not_judged() -> None:
    iphone = open_table("iphone-16-pro-max")
    assert {row.differs for row in compare(iphone, iphone).rows} == {None}
    found = compare(phone("Samsung Galaxy S24"), phone("Samsung Galaxy S25"))
    assert {row.differs for row in found.rows} == {None}
    assert {row.ratio_std for row in found.rows} == {None}


def test_two_phones_are_compared_by_part_and_runtime_and_the_card_says_that_they_differ() -> None:
    found = compare(phone("Samsung Galaxy S24"), phone("Samsung Galaxy S25"))
    assert [row.part for row in found.rows[:2]] == ["EfficientFormer, tflite, float", "EfficientFormer, qnn_dlc, float"]
    assert found.only_before == found.only_after == []
    assert found.card == {"device": ("Samsung Galaxy S24", "Samsung Galaxy S25")}
    assert found.ratio is not None
    assert found.ratio < 1


def test_precisions_that_go_with_the_scenario_do_not_keep_rows_apart() -> None:
    found = compare(open_table("iphone-16-pro-max"), open_table("h100"))
    assert [row.part.split(",")[0] for row in found.rows if row.ratio] == ["lcha", "ssa", "kv_compressed"]
    assert found.card["precision of rows"] == ("float16, w4a8", "bfloat16")
    assert "threads" not in found.card
    assert any("lcha[gate=false]" in part for part in found.only_before)


def test_tables_of_other_models_share_no_row_and_say_so() -> None:
    found = compare(TABLE, open_table("h100"))
    assert (found.rows, found.ratio, found.spearman) == ([], None, None)
    assert len(found.only_before) == len(TABLE.rows)
    assert found.card["preset"] == ("s2dit-small", "s2dit-1.8b")


def test_ranks_do_not_care_for_scale_and_find_what_is_reversed() -> None:
    reversed_ = [
        dataclasses.replace(scaled(row, 1), latency_ms=1000 / row.latency_ms) for row in TABLE.rows if row.latency_ms
    ]
    found = compare(changed(row for row in TABLE.rows if row.latency_ms), changed(reversed_))
    assert found.spearman == pytest.approx(-1)


def test_negative_latencies_have_no_ratio() -> None:
    tfnas = registry.create("readers", "tfnas")
    cpu, gpu = (tfnas.read(DATA / f"tfnas/latency_{name}.csv") for name in ("cpu", "gpu"))
    found = compare(cpu, gpu)
    assert {row.ratio is None for row in found.rows if row.before_ms <= 0 or row.after_ms <= 0} == {True}
    assert {row.ratio is None for row in found.rows if row.before_ms > 0 < row.after_ms} == {False}


def test_tables_of_two_kinds_are_not_compared() -> None:
    hat = registry.create("readers", "hat").table(sample("hat"), file="hat.csv")
    with pytest.raises(TableError, match="'hat' is imported and the other table is not"):
        compare(TABLE, hat)
