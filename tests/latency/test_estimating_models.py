"""Latency models that foretell what no row says: linear, roofline, transfer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from s2search.errors import InputError, MissingRowError
from s2search.latency import linear
from s2search.latency.base import LatencyModel
from s2search.latency.linear import Linear
from s2search.latency.lookup import Lookup
from s2search.latency.physical import work
from s2search.latency.roofline import Roofline
from s2search.latency.transfer import Transfer
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, Scope, open_table
from s2search.testing.latency_models import check_latency_model
from tests.table.test_large_tables import many_sizes

IPHONE, H100, EPYC = map(open_table, ("iphone-16-pro-max", "h100", "amd-epyc"))
ROOFLINE = Roofline(tops=35, gbps=60)
PARTS = ("lcha", "ssa", "full", "kv_compressed", "down", "up", "stem", "head")


def scope_of(table: LatencyTable, row: Row) -> Scope:
    return table.scope(row.scenario, video=(row.height, row.width))


def without(table: LatencyTable, gone: Callable[[Row], bool]) -> LatencyTable:
    return dataclasses.replace(table, rows=tuple(row for row in table.rows if not gone(row)))


def retimed(table: LatencyTable, latency_ms: Callable[[Row], float]) -> LatencyTable:
    rows = [
        dataclasses.replace(row, latency_ms=latency_ms(row), latency_p10_ms=None, latency_p90_ms=None)
        for row in table.rows
        if row.part in PARTS
    ]
    return dataclasses.replace(table, rows=tuple(rows))


@pytest.mark.parametrize("model", [Linear(), ROOFLINE, Transfer(known="h100")])
@pytest.mark.parametrize("table", [IPHONE, H100, EPYC], ids=lambda table: table.name)
def test_estimating_latency_models_pass_the_conformance_suite(model: LatencyModel, table: LatencyTable) -> None:
    check_latency_model(model, table)


@pytest.mark.parametrize("model", [Linear(), ROOFLINE, Transfer(known="h100")])
def test_a_measured_row_answers_for_itself(model: LatencyModel) -> None:
    for row in H100.rows:
        scope = scope_of(H100, row)
        assert model.predict(H100, scope, row.part, row.options) == Lookup().predict(H100, scope, row.part, row.options)


def left_out(model: LatencyModel, table: LatencyTable, gone: Callable[[Row, Row], bool]) -> tuple[float, float]:
    """Return the mean relative error over rows that were left out in turn, and the root mean square of error / std."""
    error, score = [], []
    for row in table.rows:
        if row.part in PARTS and row.role != "commit":
            rest = without(table, lambda other, row=row: gone(other, row))  # type: ignore[misc]
            found = model.predict(rest, scope_of(table, row), row.part, row.options)
            assert found.latency_std_us is not None
            assert found.provenance == found.bytes_provenance == "estimated"
            difference_us = found.cost.latency_us - 1000 * row.latency_ms
            error.append(abs(difference_us) / (1000 * row.latency_ms))
            score.append(difference_us / found.latency_std_us)
    return float(np.mean(error)), float(np.sqrt(np.mean(np.square(score))))


@pytest.mark.parametrize(("table", "rows", "sizes"), [(H100, 0.11, 0.14), (EPYC, 0.05, 0.05)], ids=["h100", "amd-epyc"])
def test_linear_foretells_rows_and_whole_video_sizes_that_were_left_out(
    table: LatencyTable, rows: float, sizes: float
) -> None:
    for limit, gone in (
        (rows, lambda other, row: other.key == row.key),
        (sizes, lambda other, row: (other.height, other.width) == (row.height, row.width)),
    ):
        error, score = left_out(Linear(), table, gone)
        assert error < limit
        assert 0.5 < score < 1.5


@hypothesis_settings(max_examples=20)
@given(
    per_flop=st.floats(0, 1e-6),
    per_byte=st.floats(1e-6, 1e-4),
    launch=st.floats(0, 100),
    part=st.sampled_from(PARTS),
)
def test_linear_recovers_a_device_that_is_linear(per_flop: float, per_byte: float, launch: float, part: str) -> None:
    def latency_ms(row: Row) -> float:
        done = work(row.shape, row.precision, row.part, row.options)
        return (per_flop * done.flops + per_byte * done.moved_bytes + launch) / 1000

    table = retimed(EPYC, latency_ms)
    row = next(row for row in table.rows if row.part == part)
    found = Linear().predict(without(table, lambda other: other.key == row.key), scope_of(table, row), part)
    assert found.cost.latency_us == pytest.approx(1000 * row.latency_ms, rel=0.01, abs=1)
    assert found.latency_std_us is not None
    assert found.latency_std_us <= 0.01 * found.cost.latency_us + 1


def test_rows_that_are_left_out_in_shares_err_as_rows_left_out_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, table = np.random.default_rng(0), many_sizes(180)
    noisy = retimed(table, lambda row: row.latency_ms * rng.lognormal(0, 0.2))
    scope, found = noisy.scope("stream", video=(500, 500)), []
    for most in (64, 1000):
        monkeypatch.setattr(linear, "_MOST_FITS", most)
        found.append(Linear().predict(dataclasses.replace(noisy, name=str(most)), scope, "lcha"))
    assert found[0].cost == found[1].cost
    assert found[0].latency_std_us == pytest.approx(found[1].latency_std_us, rel=0.02)
    assert found[0].latency_std_us != found[1].latency_std_us


def test_linear_needs_rows_of_the_same_precision() -> None:
    scope = dataclasses.replace(EPYC.scope("stream", video=(18, 32)), precision="float16")
    with pytest.raises(MissingRowError, match="has 0 timed rows of installed parts in float16 on cpu; 5 rows or more"):
        Linear().predict(EPYC, scope, "lcha")


@pytest.mark.parametrize("model", [Linear(), ROOFLINE])
def test_a_part_that_nothing_installed_specifies_is_refused(model: LatencyModel) -> None:
    with pytest.raises(MissingRowError, match=r"nothing installed says how much work 'lcha\[wheels=4\]' is"):
        model.predict(EPYC, EPYC.scope("stream", video=(18, 32)), "lcha", "wheels=4")


def test_a_part_that_only_tables_know_grows_with_the_video_from_its_largest_row() -> None:
    known = {row.height: row for row in EPYC.rows if (row.part, row.scenario) == ("long_skip", "stream")}
    for height, growth in ((9, 1), (12, 1), (36, 2)):
        scope = EPYC.scope("stream", video=(height, 16 if height == 9 else 32))
        found = Linear().predict(EPYC, scope, "long_skip").cost
        expected = known[9] if height == 9 else known[18]
        assert found.latency_us == round(1000 * growth * expected.latency_ms)
        assert found.peak_bytes == growth * expected.peak_bytes
        assert found.memory_bytes == growth * (expected.weight_bytes + expected.state_bytes)


def test_roofline_is_the_longer_of_computing_and_moving() -> None:
    scope = H100.scope("stream", video=(18, 32))
    bare, done = without(H100, lambda row: row.part == "ssa"), work(scope.shape, "bfloat16", "ssa", "")
    for tops, gbps, expected_us in (
        (989.0, 1e6, done.flops / 989e6),
        (1e6, 3350.0, done.moved_bytes / 3350e3),
    ):
        found = Roofline(tops=tops, gbps=gbps).predict(bare, scope, "ssa")
        assert found.cost.latency_us == pytest.approx(expected_us, abs=0.5)
        assert found.cost.memory_bytes == done.memory_bytes


def test_the_roofline_of_an_h100_is_below_every_row_and_its_uncertainty_reaches_them() -> None:
    model = Roofline(tops=989, gbps=3350)
    error, score = left_out(model, H100, lambda other, row: other.key == row.key)
    assert 0.3 < error < 0.9
    assert score < 1.5
    for row in H100.rows:
        if row.part in PARTS:
            assert model.bound_us(work(row.shape, row.precision, row.part, row.options)) < 1000 * row.latency_ms


@pytest.mark.parametrize(("field", "value"), [("tops", 0.0), ("gbps", -1.0), ("tops", float("nan"))])
def test_a_peak_rate_must_be_positive(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"roofline has {field}"):
        Roofline(**{"tops": 1.0, "gbps": 1.0, field: value})


def only_timed(table: LatencyTable, parts: tuple[str, ...]) -> LatencyTable:
    return without(table, lambda row: row.part not in parts)


def test_transfer_foretells_the_rest_of_a_device_twenty_times_as_slow() -> None:
    phone = retimed(H100, lambda row: 20 * row.latency_ms)
    few = only_timed(phone, ("ssa", "down", "stem", "head"))
    for row in phone.rows:
        found = Transfer(known="h100").predict(few, scope_of(phone, row), row.part)
        assert found.cost.latency_us == pytest.approx(1000 * row.latency_ms, rel=0.02)
        assert found.latency_std_us is not None


def test_transfer_refuses_a_device_that_the_known_ones_say_nothing_about() -> None:
    order = {
        row.part: 1.0 / row.latency_ms
        for row in H100.rows
        if row.scenario == "stream" and row.height == 18 and row.latency_ms
    }
    phone = only_timed(retimed(H100, lambda row: order[row.part]), ("ssa", "down", "stem", "head", "up", "full"))
    with pytest.raises(MissingRowError, match=r"cannot be predicted from h100.*times as badly as one constant"):
        Transfer(known="h100").predict(phone, phone.scope("stream", video=(18, 32)), "lcha")


def test_transfer_names_what_it_lacks() -> None:
    scope = H100.scope("stream", video=(18, 32))
    with pytest.raises(MissingRowError, match=r"shares 3 timed rows with the known tables.*; 4 rows or more"):
        Transfer(known="h100").predict(only_timed(H100, ("ssa", "down", "stem")), scope, "lcha")
    with pytest.raises(MissingRowError, match=r"neither 'h100.*' nor the known table 'h100.*' has a row for 'lcha"):
        Transfer(known="h100").predict(H100, scope, "lcha", "gate=false")
    for known in ("", "h100+", "+"):
        with pytest.raises(InputError, match=r"write transfer\[known=A\+B\]"):
            Transfer(known=known)
