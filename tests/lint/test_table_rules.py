"""Each rule on tables: one that trips exactly it, and a near miss that does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s2search.lint.base import one_line
from s2search.lint.linter import lint_table
from s2search.tables.table import LatencyTable, open_table

CPU, IPHONE = "amd-epyc", "iphone-16-pro-max"


def changed(name: str, line: int, **fields: Any) -> LatencyTable:
    table = open_table(name)
    rows = list(table.rows)
    rows[line - 2] = dataclasses.replace(rows[line - 2], **fields)
    return dataclasses.replace(table, rows=tuple(rows))


def without(name: str, *parts: str) -> LatencyTable:
    table = open_table(name)
    return dataclasses.replace(table, rows=tuple(row for row in table.rows if row.part not in parts))


def with_card(name: str, **fields: Any) -> LatencyTable:
    table = open_table(name)
    return dataclasses.replace(table, card=dataclasses.replace(table.card, **fields))


def with_protocol(name: str, **words: Any) -> LatencyTable:
    return with_card(name, protocol={**open_table(name).card.protocol, **words})


def without_commits(table: LatencyTable) -> LatencyTable:
    """A commit spreads more than a read."""
    return dataclasses.replace(table, rows=tuple(row for row in table.rows if row.role != "commit"))


def with_row(name: str, like: int, **fields: Any) -> LatencyTable:
    table = open_table(name)
    return dataclasses.replace(table, rows=(*table.rows, dataclasses.replace(table.rows[like - 2], **fields)))


def scaled(name: str, line: int, factor: float, *columns: str) -> LatencyTable:
    row = open_table(name).rows[line - 2]
    return changed(name, line, **{column: getattr(row, column) * factor for column in columns})


def clips_with_a_past() -> LatencyTable:
    table = open_table(CPU)
    rows = [
        dataclasses.replace(row, context_frames=6) if (row.scenario, row.height) == ("clip", 18) else row
        for row in table.rows
    ]
    return dataclasses.replace(table, rows=tuple(rows))


def timed(name: str, line: int, latency_ms: float, **fields: Any) -> LatencyTable:
    times = {"latency_ms": latency_ms, "latency_mean_ms": latency_ms, "latency_p10_ms": 0.9 * latency_ms}
    return changed(name, line, **{**times, "latency_p90_ms": 1.1 * latency_ms, **fields})


def coarse_clock() -> LatencyTable:
    table, small = timed(CPU, 2, 180.0), timed(CPU, 18, 45.0)
    return dataclasses.replace(table, rows=(*table.rows[:16], small.rows[16], *table.rows[17:]))


def slightly_faster_where_larger() -> LatencyTable:
    large, small = timed(CPU, 2, 44.5, latency_std_ms=None), timed(CPU, 18, 46.1, latency_std_ms=None)
    return dataclasses.replace(large, rows=(*large.rows[:16], small.rows[16], *large.rows[17:]))


def drift_without_spread() -> LatencyTable:
    table = with_protocol(CPU, sentinel_drift_percent=7.5)
    return dataclasses.replace(table, rows=tuple(dataclasses.replace(row, latency_std_ms=None) for row in table.rows))


ALL_LATENCIES = ("latency_ms", "latency_p10_ms", "latency_p90_ms", "latency_mean_ms", "latency_std_ms")

# Lines of the CPU's table: 2 lcha, 3 ssa of a stream at 18x32; 10 lcha of a clip at 18x32; 18 lcha of a stream at 9x16.
LINES = dict(enumerate(open_table(CPU).rows, start=2))
TIMED = {line for line, row in LINES.items() if row.samples}
TRIPS = [
    pytest.param(
        changed(CPU, 6, latency_ms=0, latency_p10_ms=0, latency_mean_ms=None),
        "negative_latency",
        {6},
        id="zero-measured",
    ),
    pytest.param(scaled(CPU, 2, 0.2, *ALL_LATENCIES), "non_monotone", {2}, id="faster-where-larger"),
    pytest.param(scaled(CPU, 2, 1000, "latency_mean_ms"), "unit_mismatch", {2}, id="mean-in-us"),
    pytest.param(scaled(CPU, 2, 10_000, "latency_std_ms"), "unit_mismatch", {2}, id="std-in-ns"),
    pytest.param(scaled(CPU, 10, 1000, *ALL_LATENCIES), "unit_mismatch", {10}, id="one-row-in-us"),
    pytest.param(changed(CPU, 3, weight_bytes=17), "unit_mismatch", {3}, id="weights-in-megabytes"),
    pytest.param(changed(CPU, 3, weight_bytes=17865728 * 1024), "unit_mismatch", {3}, id="weights-times-1024"),
    pytest.param(without(IPHONE, "up"), "missing_switch_rows", {2, 15}, id="no-up"),
    pytest.param(without(IPHONE, "stem", "head"), "missing_fixed_rows", {2, 14}, id="no-ends"),
    pytest.param(
        with_row(CPU, 2, role="fixed", options="gate=false"), "wrong_role", {len(LINES) + 2}, id="block-as-fixed"
    ),
    pytest.param(with_row(IPHONE, 2, part="full", role="fixed"), "wrong_role", {30}, id="installed-block-as-fixed"),
    pytest.param(drift_without_spread(), "spread_hides_drift", {None}, id="much-drift-and-no-spread-stated"),
    pytest.param(changed(CPU, 6, role="fixed"), "wrong_role", {6}, id="switch-as-fixed"),
    pytest.param(changed(CPU, 2, state_bytes=0), "mixed_scenarios", {2}, id="stream-with-memory-of-a-clip"),
    pytest.param(changed(CPU, 10, state_bytes=2492416), "mixed_scenarios", {10}, id="clip-with-memory-of-a-stream"),
    pytest.param(clips_with_a_past(), "mixed_scenarios", {10, 11, 12, 13}, id="clip-with-a-past"),
    pytest.param(with_protocol(CPU, sentinel_drift_percent=7.5), "spread_hides_drift", {None}, id="much-drift"),
    pytest.param(
        without_commits(with_protocol(CPU, sentinel_drift_percent=-4.5)),
        "spread_hides_drift",
        {None},
        id="over-the-spread",
    ),
    pytest.param(
        with_protocol(CPU, sentinel_drift_percent=1.0, sentinel_drift_corrected_percent=7.5),
        "spread_hides_drift",
        {None},
        id="much-drift-after-correction",
    ),
    pytest.param(changed(IPHONE, 3, unit_ran="cpu:0.6,neural_engine:0.4"), "misplaced_row", {3}, id="ran-elsewhere"),
    pytest.param(changed(CPU, 4, unit_ran="gpu:1"), "misplaced_row", {4}, id="cpu-that-was-a-gpu"),
    pytest.param(with_protocol(CPU, marked=["it throttled"]), "marked_run", {None}, id="marked"),
    pytest.param(changed(CPU, 2, latency_mean_ms=190.0), "spread_hides_drift", {2}, id="mean-beyond-p90"),
    pytest.param(changed(CPU, 3, latency_std_ms=0.0), "synthetic_as_measured", {3}, id="no-spread"),
    pytest.param(
        changed(CPU, 2, latency_ms=4 * 46.126463, latency_p90_ms=190.0), "synthetic_as_measured", {2}, id="as-tokens"
    ),
    pytest.param(with_card(CPU, code_version="s2search 0.0.9"), "stale_version", {None}, id="older"),
    pytest.param(with_card(CPU, code_version="s2search 9.0.0"), "stale_version", {None}, id="newer"),
    pytest.param(
        changed(CPU, 3, latency_provenance="estimated", samples=0, measured_at=None),
        "provenance_contradiction",
        {3},
        id="estimate-inside",
    ),
    pytest.param(changed(IPHONE, 3, latency_provenance="published"), "provenance_contradiction", {3}, id="stronger"),
    pytest.param(changed(IPHONE, 3, samples=5), "provenance_contradiction", {3}, id="samples-of-a-derivation"),
    pytest.param(with_card(CPU, date="2026-11-21"), "provenance_contradiction", TIMED, id="card-too-old"),
    pytest.param(with_card(CPU, preset="s2dit-1.8b"), "provenance_contradiction", set(LINES), id="another-preset"),
]

NEAR_MISSES = [
    pytest.param(scaled(IPHONE, 2, 1000, "latency_std_ms"), id="a-deviation-of-4-medians"),
    pytest.param(scaled(CPU, 2, 0.27, *ALL_LATENCIES), id="larger-and-a-little-slower"),
    pytest.param(slightly_faster_where_larger(), id="faster-by-less-than-5-percent"),
    pytest.param(timed(CPU, 2, 40.0), id="faster-within-three-deviations"),
    pytest.param(
        with_row(
            CPU, 6, height=6, width=64, latency_ms=1.0, latency_p10_ms=0.9, latency_p90_ms=1.1, latency_mean_ms=1.0
        ),
        id="wider-but-lower",
    ),
    pytest.param(scaled(CPU, 2, 500, "latency_std_ms"), id="a-deviation-of-15-medians"),
    pytest.param(coarse_clock(), id="few-digits-as-tokens-by-chance"),
    pytest.param(scaled(CPU, 2, 1.02, "latency_mean_ms"), id="mean-beside-median"),
    pytest.param(scaled(CPU, 10, 10, *ALL_LATENCIES), id="one-slow-row"),
    pytest.param(changed(CPU, 3, weight_bytes=17865728 // 8), id="weights-of-4-bits"),
    pytest.param(without(CPU, "down", "up", "ssa"), id="one-resolution-needs-no-switch"),
    pytest.param(with_row(CPU, 2, part="my_buffer", role="fixed"), id="a-third-party-s-fixed-part"),
    pytest.param(changed(CPU, 2, state_bytes=1), id="some-state"),
    pytest.param(with_row(CPU, 2, part="my_mixer", state_bytes=0), id="a-third-party-s-stateless-block"),
    pytest.param(with_protocol(CPU, sentinel_drift_percent=2.0), id="drift-within-the-spread"),
    pytest.param(with_protocol(CPU, sentinel_drift_percent="none"), id="drift-in-words"),
    pytest.param(
        with_protocol(CPU, sentinel_drift_percent=20.0, sentinel_drift_corrected_percent=0.4, marked=[]),
        id="drift-that-was-corrected",
    ),
    pytest.param(with_protocol(CPU, marked="maybe"), id="marks-in-words"),
    pytest.param(changed(CPU, 2, latency_mean_ms=183.0), id="mean-within-p90"),
    pytest.param(changed(CPU, 3, latency_std_ms=0.001), id="a-little-spread"),
    pytest.param(changed(CPU, 2, latency_ms=4 * 46.13, latency_p90_ms=190.0), id="nearly-as-tokens"),
    pytest.param(with_card(CPU, code_version="s2search 0.1.7"), id="another-patch-release"),
    pytest.param(with_card(CPU, code_version="profiler 9.1"), id="made-by-another-tool"),
    pytest.param(changed(IPHONE, 3, latency_provenance="estimated"), id="weaker-than-the-card"),
    pytest.param(with_card(CPU, date="2026-11"), id="the-month-of-the-rows"),
    pytest.param(with_card(CPU, preset="mine"), id="a-preset-of-ones-own"),
    pytest.param(changed(IPHONE, 3, unit_ran="neural_engine:0.51,cpu:0.49"), id="ran-elsewhere-in-part"),
    pytest.param(changed(IPHONE, 3, unit_asked="neural_engine", unit_ran=None), id="where-it-ran-is-not-known"),
    pytest.param(changed(CPU, 4, unit_asked="gpu", unit_ran="cpu:1"), id="filed-under-the-unit-that-it-ran-on"),
]


@pytest.mark.parametrize(("table", "rule", "rows"), TRIPS)
def test_a_fault_trips_exactly_its_rule_at_its_rows(table: LatencyTable, rule: str, rows: set[int | None]) -> None:
    found = lint_table(table)
    assert {finding.rule for finding in found} == {rule}
    assert {finding.row for finding in found} == rows
    assert len(found) == len(rows)
    assert all(finding.message and finding.remedy for finding in found)


@pytest.mark.parametrize("table", NEAR_MISSES)
def test_a_near_miss_is_no_finding(table: LatencyTable) -> None:
    assert lint_table(table) == []


def test_a_row_that_contradicts_another_is_told_as_both_rows_say() -> None:
    unsure = dict.fromkeys(("latency_mean_ms", "latency_p10_ms", "latency_p90_ms", "latency_std_ms"))
    rows = [
        dataclasses.replace(row, latency_ms=1 / (1 + row.latency_ms), **unsure)  # the slow ones are fast
        for row in open_table(CPU).rows
    ]
    found = lint_table(dataclasses.replace(open_table(CPU), rows=tuple(rows)))
    found = [finding for finding in found if finding.rule == "non_monotone"]
    assert len({finding.message for finding in found}) > 5
    for finding in found:
        assert finding.row is not None
        row, line = rows[finding.row - 2], int(finding.message.split(" and line ")[1].split()[0])
        other = rows[line - 2]
        assert finding.message == (
            f"{row.label} at {row.grid} takes {row.latency_ms:g} ms, and line {line} at {other.grid}, which is less "
            f"work, takes {other.latency_ms:g} ms"
        )


@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        (("down",), "no down"),
        (("up",), "no up"),
        (("down", "up"), "no down and no up"),
        (("stem",), "no stem"),
        (("stem", "head"), "no stem and no head"),
    ],
)
def test_missing_rows_are_told_as_the_first_block_says(parts: tuple[str, ...], missing: str) -> None:
    table = without(IPHONE, *parts)
    found = lint_table(table)
    assert found
    for finding in found:
        assert finding.row is not None
        row = table.rows[finding.row - 2]
        assert finding.message == (
            f"the {row.scenario} rows at {row.grid}, {row.precision}, {row.compute_unit}, of which this is the first "
            f"block, have {missing}"
        )


@example("a  b")
@given(st.text(st.sampled_from(" \n\t\x1c\u00a0\u2028ab")))
def test_a_message_is_one_line_of_words(text: str) -> None:
    assert one_line(text) == " ".join(text.split())


def test_a_card_that_contradicts_its_kind_is_found() -> None:
    derived = open_table(IPHONE)
    provenance = dataclasses.replace(derived.card.provenance, kind="measured")
    found = lint_table(with_card(IPHONE, provenance=provenance))
    assert [(finding.row, finding.rule) for finding in found] == [(None, "provenance_contradiction")] * 2
    assert "not a measurement" in found[0].message


def copy_of(table: LatencyTable, *, factor: float = 1.0, noise: float = 0.0, **card: Any) -> LatencyTable:
    rows = []
    for i, row in enumerate(table.rows):
        times = factor * (1 + noise * (i % 3 - 1))
        there = {field: getattr(row, field) for field in ALL_LATENCIES if getattr(row, field) is not None}
        rows.append(dataclasses.replace(row, **{field: value * times for field, value in there.items()}))
    return dataclasses.replace(table, name="copy", rows=tuple(rows), card=dataclasses.replace(table.card, **card))


@pytest.mark.parametrize("factor", [1.0, 1.25])
def test_another_device_s_latencies_are_found_even_times_a_factor(factor: float) -> None:
    original = open_table(CPU)
    (found,) = lint_table(copy_of(original, factor=factor, device="my phone"), others=(original,))
    assert (found.rule, found.row) == ("duplicated_device", 2)
    assert original.card.device in found.message
    assert ("1.25" in found.message) == (factor != 1)


@pytest.mark.parametrize(
    "other",
    [
        copy_of(open_table(CPU), noise=0.01, device="my phone"),
        copy_of(open_table(CPU), date="2026-11-23"),
    ],
    ids=["its-own-noise", "the-same-device-again"],
)
def test_a_device_with_timings_of_its_own_is_no_copy(other: LatencyTable) -> None:
    assert lint_table(other, others=(open_table(CPU),)) == []


def test_an_estimate_scaled_from_another_device_is_honest() -> None:
    original = open_table(IPHONE)
    assert lint_table(copy_of(original, factor=1.25, device="next phone"), others=(original,)) == []
    assert lint_table(copy_of(original, device="next phone"), others=(original,)) != []
