"""Tables joined: only what belongs together, and every row with where it comes from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search import registry
from s2search.cost import Pipeline
from s2search.errors import TableError
from s2search.lint.linter import lint
from s2search.tables.application import Application
from s2search.tables.card import Card
from s2search.tables.foreign import ImportedTable
from s2search.tables.merge import Overlap, merge
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, open_table
from tests.readers.samples import COMPUTATION, sample

SHIPPED = open_table("amd-epyc")
BUFFER = "a buffer; not a computation"
TABLE = dataclasses.replace(
    SHIPPED,
    rows=tuple(dataclasses.replace(row, note=BUFFER if row.part == "long_skip" else "") for row in SHIPPED.rows),
)
STREAM, CLIP = (
    dataclasses.replace(TABLE, name=scenario, rows=tuple(row for row in TABLE.rows if row.scenario == scenario))
    for scenario in ("stream", "clip")
)


def later(table: LatencyTable, **row: Any) -> LatencyTable:
    """The same campaign a day later, its rows changed."""
    at = "2026-11-23T08:00:00+00:00"
    rows = (dataclasses.replace(one, measured_at=at if one.measured_at else None, **row) for one in table.rows)
    return with_card(dataclasses.replace(table, name="later", rows=tuple(rows)), date="2026-11-23")


def with_card(table: LatencyTable, **card: Any) -> LatencyTable:
    return dataclasses.replace(table, card=dataclasses.replace(table.card, **card))


def bare(rows: Iterable[Row]) -> list[Row]:
    return [dataclasses.replace(row, note="") for row in rows]


def refusal(*tables: LatencyTable | ImportedTable, **options: Any) -> str:
    with pytest.raises(TableError) as caught:
        merge(tables, name="merged", **options)
    return str(caught.value)


def galvatron(content: bytes, **told: str) -> ImportedTable:
    return dataclasses.replace(registry.create("readers", "galvatron"), **told).table(content, file="profile.json")


def test_the_halves_of_a_table_make_the_whole_and_keep_where_each_row_is_from() -> None:
    merged = merge([STREAM, CLIP], name="both")
    assert isinstance(merged, LatencyTable)
    assert bare(merged.rows) == bare((*STREAM.rows, *CLIP.rows))
    origin = f"from clip ({CLIP.digest[7:19]})"
    assert {row.note for row in merged.rows if row.scenario == "clip"} == {
        origin,
        f"a buffer; not a computation; {origin}",
    }
    assert [one["table"] for one in merged.card.protocol["merged"]] == ["stream", "clip"]
    assert merged.card.protocol["merged"][0]["protocol"] == TABLE.card.protocol


def test_a_merged_table_is_clean_and_reads_back(tmp_path: Path) -> None:
    merged = merge([STREAM, CLIP], name="both")
    merged.save(tmp_path / "both")
    assert LatencyTable.load(tmp_path / "both") == merged
    assert lint(tmp_path / "both") == []


OTHER: list[tuple[str, Any]] = [
    ("device", "another"),
    ("chip", "another"),
    ("os", "another"),
    ("runtime", "another"),
    ("runtime_version", "another"),
    ("threads", 2),
    ("power_mode", "low"),
    ("preset", "another"),
    ("pipeline", Pipeline(chunk_frames=12, steps=4, text_ms=4.0, decoder_ms=80.0)),
]


@pytest.mark.parametrize(("field", "value"), OTHER)
def test_tables_that_differ_in_a_field_are_refused_by_its_name(field: str, value: Any) -> None:
    other = dataclasses.replace(CLIP, card=dataclasses.replace(CLIP.card, **{field: value}))
    assert f"the tables 'stream' and 'clip' differ in {field}: " in refusal(STREAM, other)


def test_every_field_that_says_where_a_table_was_measured_must_agree() -> None:
    free = {"schema", "date", "code_version", "provenance", "protocol", "units", "assumptions", "common_std_relative"}
    free |= {"application"}  # which a campaign of blocks need not state
    assert {field.name for field in dataclasses.fields(Card)} - free == {field for field, _ in OTHER}


def test_an_application_that_one_table_states_is_that_of_both() -> None:
    application = Application(steps=(1, 4))
    stated = with_card(STREAM, application=application)
    for tables in ([stated, CLIP], [CLIP, stated]):
        assert merge(tables, name="both").card.application == application
    assert "differ in application" in refusal(stated, with_card(CLIP, application=Application(steps=(2,))))


def test_other_precisions_and_kinds_are_refused() -> None:
    halved = dataclasses.replace(CLIP, rows=tuple(dataclasses.replace(row, precision="float16") for row in CLIP.rows))
    assert "differ in precision: 'float32' and 'float16'" in refusal(STREAM, halved)
    derived = dataclasses.replace(
        CLIP, card=dataclasses.replace(CLIP.card, provenance=dataclasses.replace(CLIP.card.provenance, kind="derived"))
    )
    assert "differ in provenance: 'measured' and 'derived'" in refusal(STREAM, derived)


def test_programs_of_two_forms_are_refused_wherever_a_card_says_the_form() -> None:
    options = {"name": "coreml", "layout": "bc1s", "state": "core_ml"}
    profiled = with_card(CLIP, protocol={**CLIP.card.protocol, "profiler": options})
    assert "differ in the form of what was timed: 'not stated' and 'bc1s, core_ml'" in refusal(STREAM, profiled)
    plain = with_card(STREAM, protocol={**STREAM.card.protocol, "layout": "bc1s", "state": "plain"})
    assert "differ in the form of what was timed: 'bc1s, plain' and 'bc1s, core_ml'" in refusal(plain, profiled)
    assert (
        merge([profiled, with_card(STREAM, protocol=profiled.card.protocol)], name="both").card.protocol["layout"]
        == "bc1s"
    )


def test_a_row_of_two_tables_is_refused_by_its_name() -> None:
    message = refusal(STREAM, later(STREAM))
    assert message == (
        "two of the tables give lcha (stream, 3x18x32, float32, cpu); choose with --overlap newer or --overlap pool, "
        "or remove the rows from one of them"
    )


def test_the_newer_row_wins_whichever_comes_first() -> None:
    measured = dataclasses.replace(STREAM, rows=tuple(row for row in STREAM.rows if row.samples))
    slower = later(measured, latency_ms=700.0, latency_p90_ms=900.0)
    for tables in ((measured, slower), (slower, measured)):
        merged = merge(tables, name="merged", overlap="newer")
        assert {row.latency_ms for row in merged.rows} == {700.0}
        assert {row.note for row in merged.rows} == {f"from later ({slower.digest[7:19]})"}
    heavier = dataclasses.replace(measured, rows=tuple(dataclasses.replace(row, peak_bytes=1) for row in measured.rows))
    assert "neither of two rows of lcha" in refusal(measured, heavier, overlap="newer")


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_pooled_rows_have_mean_and_deviation_of_all_timings_together(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = [rng.normal(50, 5, n), rng.normal(55, 2, m)]
    base = dataclasses.replace(STREAM.rows[0], latency_p10_ms=None, latency_p90_ms=None)
    tables = [
        dataclasses.replace(
            STREAM,
            name=f"t{len(timings)}",
            rows=(
                dataclasses.replace(
                    base, latency_ms=float(timings.mean()), latency_std_ms=float(timings.std()), samples=len(timings)
                ),
            ),
        )
        for timings in samples
    ]
    (row,) = merge(tables, name="merged", overlap="pool").rows
    together = np.concatenate(samples)
    assert row.latency_ms == pytest.approx(together.mean())
    assert row.latency_std_ms == pytest.approx(together.std())
    assert row.samples == n + m
    assert isinstance(row, Row)
    assert row.note.count("from t") == 2


@pytest.mark.parametrize("overlap", ["newer", "pool"])
def test_the_same_measurement_twice_counts_once(overlap: Overlap) -> None:
    merged = merge([TABLE, dataclasses.replace(TABLE, name="copy")], name="merged", overlap=overlap)
    assert bare(merged.rows) == bare(TABLE.rows)


def test_two_campaigns_with_buffers_that_nobody_times_are_pooled() -> None:
    slower = later(STREAM)
    rows = [
        dataclasses.replace(row, latency_ms=1.01 * row.latency_ms, latency_p90_ms=None, latency_p10_ms=None)
        for row in slower.rows
    ]
    merged = merge([STREAM, dataclasses.replace(slower, rows=tuple(rows))], name="merged", overlap="pool")
    for row, first in zip(merged.rows, STREAM.rows, strict=True):
        assert row.latency_ms == pytest.approx(1.005 * first.latency_ms)
        assert row.samples == 2 * first.samples


def test_what_says_nothing_of_its_timings_is_not_pooled() -> None:
    unknown = later(STREAM, latency_std_ms=None)
    heavier = later(STREAM, weight_bytes=1)
    assert "lcha (stream, 3x18x32, float32, cpu) cannot be pooled" in refusal(STREAM, unknown, overlap="pool")
    assert "other weights" in refusal(STREAM, heavier, overlap="pool")


def test_galvatrons_times_and_memory_become_one_table_once_the_device_is_told() -> None:
    times, memory = COMPUTATION.read_bytes(), sample("galvatron")
    unknown = [galvatron(content) for content in (times, memory)]
    assert "the device of these tables is not stated" in refusal(*unknown)
    told = [galvatron(content, device="A100") for content in (times, memory)]
    merged = merge(told, name="llama")
    assert isinstance(merged, ImportedTable)
    assert len(merged.rows) == sum(len(table.rows) for table in told)
    assert set(merged.card.columns) == {column for table in told for column in table.card.columns}
    assert [source.digest for source in merged.card.sources] == [table.card.sources[0].digest for table in told]
    timed = [row for row in merged.rows if row.latency_ms is not None]
    assert {row.source for row in timed} == {0}
    assert {row.source for row in merged.rows if row.latency_ms is None} == {1}
    assert [merged.about(row)["batch"] for row in timed] == [told[0].about(row)["batch"] for row in told[0].rows]
    assert "runtime, precision, compute_unit: not stated, and taken for the same" in merged.card.assumptions[-1]


def test_imported_tables_of_two_devices_are_refused_and_so_is_a_mixture() -> None:
    one, other = (galvatron(COMPUTATION.read_bytes(), device=device) for device in ("A100", "H100"))
    assert "differ in device: 'A100' and 'H100'" in refusal(one, other)
    assert "some of the tables are imported and some are not" in refusal(one, STREAM)
    assert "1 tables are too few" in refusal(one)
    renamed = dataclasses.replace(
        one, card=dataclasses.replace(one.card, columns={**one.card.columns, "batch": "other"})
    )
    assert "the column 'batch' means another thing" in refusal(one, renamed)


def test_imported_rows_that_overlap_are_refused_or_settled() -> None:
    text = sample("ofa").decode()
    old, new = (
        dataclasses.replace(registry.create("readers", "ofa"), device="phone", date=date).table(
            content.encode(), file=f"{date}.yaml"
        )
        for date, content in (("2026-01", text), ("2026-02", text.replace("mean: 2.5", "mean: 3.5")))
    )
    assert "two of the tables give Conv, input 224x224x3, output 112x112x24" in refusal(old, new)
    newer = merge([new, old], name="merged", overlap="newer")
    assert isinstance(newer, ImportedTable)
    assert [row.latency_ms for row in newer.rows] == [row.latency_ms for row in new.rows]
    assert {newer.card.sources[row.source].file for row in newer.rows} == {"2026-02.yaml"}
    spread = [dataclasses.replace(table, rows=table.rows[:2]) for table in (old, new)]
    pooled = merge(spread, name="merged", overlap="pool")
    assert isinstance(pooled, ImportedTable)
    assert (pooled.rows[1].latency_ms, pooled.rows[1].samples) == (3.0, 100)
    assert pooled.rows[1].latency_std_ms == pytest.approx(math.sqrt(0.05**2 + 0.5**2))
    bare_new = dataclasses.replace(new, rows=tuple(dataclasses.replace(row, samples=None) for row in new.rows))
    assert "cannot be pooled" in refusal(old, bare_new, overlap="pool")
    undated = dataclasses.replace(new, card=dataclasses.replace(new.card, date="not stated"))
    assert "is known to be newer" in refusal(old, undated, overlap="newer")


def test_a_merged_card_says_its_worst_drift_and_its_largest_common_deviation() -> None:
    drifted = dataclasses.replace(
        CLIP,
        card=dataclasses.replace(
            CLIP.card, common_std_relative=0.02, protocol={**CLIP.card.protocol, "sentinel_drift_percent": -3.0}
        ),
    )
    card = merge([STREAM, drifted], name="both").card
    assert isinstance(card, Card)
    assert (card.protocol["sentinel_drift_percent"], card.common_std_relative) == (-3.0, 0.02)
    assert json.dumps(card.protocol)


def test_what_is_newer_is_told_by_time_and_not_by_text():
    from s2search.dates import is_later, latest, oldest, release, span

    assert is_later("2026-11-21T23:30:00+00:00", "2026-11-22T00:30:00+02:00")
    assert not is_later("2026-11-22T00:30:00+02:00", "2026-11-21T23:30:00+00:00")
    assert not is_later("2026-11-22T00:30:00+02:00", "2026-11-21")
    assert not is_later("2026-11-21", "2026-11")
    assert latest(["2026-11-22T00:30:00+02:00", "2026-11-21T23:30:00Z", "not stated"]) == "2026-11-21T23:30:00Z"
    assert oldest(["s2search 0.10.0", "s2search 0.9.0"]) == "s2search 0.9.0"
    assert release("s2search") is None
    assert [span(text) for text in ("2026-13", "2026-02-30", "yesterday", "")] == [None] * 4
