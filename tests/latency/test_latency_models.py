from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import ExtrapolationError, MissingRowError
from s2search.latency.base import LatencyModel
from s2search.latency.interpolate import Interpolate
from s2search.latency.lookup import Lookup
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, open_table
from s2search.testing.latency_models import check_latency_model

IPHONE = open_table("iphone-16-pro-max.coreml.w4a8")


def at(row: Row, height: int, width: int, factor: float) -> Row:
    return dataclasses.replace(
        row, height=height, width=width, latency_ms=row.latency_ms * factor, peak_bytes=int(row.peak_bytes * factor)
    )


def two_sizes(exponent: float) -> LatencyTable:
    """The phone's stream rows at 512x288 and at 1024x576, which is four times the tokens."""
    rows = [row for row in IPHONE.rows if row.scenario == "stream"]
    return dataclasses.replace(IPHONE, rows=(*rows, *(at(row, 36, 64, 4**exponent) for row in rows)))


@pytest.mark.parametrize("model", [Lookup(), Interpolate()])
def test_built_in_latency_models_pass_the_conformance_suite(model: LatencyModel) -> None:
    check_latency_model(model, IPHONE)
    check_latency_model(model, two_sizes(1.5))


def test_lookup_refuses_a_shape_that_was_not_measured() -> None:
    scope = IPHONE.scope("stream", video=(20, 20))
    with pytest.raises(MissingRowError, match=r"no row for 'lcha' at stream, 320x320.*its measured video size"):
        Lookup().predict(IPHONE, scope, "lcha")
    with pytest.raises(MissingRowError, match="use --latency-model interpolate between the sizes"):
        Lookup().predict(two_sizes(1.0), scope, "lcha")


@given(st.integers(18, 36))
def test_what_grows_linearly_is_interpolated_exactly(height: int) -> None:
    table = two_sizes(1.0)
    estimate = Interpolate().predict(table, table.scope("stream", video=(height, 64)), "lcha")
    assert estimate.cost.latency_us == pytest.approx(15_675 * height * 64 / (18 * 32), abs=1)
    assert estimate.provenance == ("derived" if height == 36 else "estimated")


def test_uncertainty_covers_a_power_law_between_the_sizes() -> None:
    table = two_sizes(1.7)
    estimate = Interpolate().predict(table, table.scope("stream", video=(27, 48)), "ssa")
    truth_us = 4_493 * (27 * 48 / (18 * 32)) ** 1.7
    assert estimate.latency_std_us is not None
    assert abs(estimate.cost.latency_us - truth_us) <= estimate.latency_std_us + 1


@given(st.integers(18, 36), st.integers(32, 64))
def test_interpolation_stays_between_its_two_rows_and_grows_with_size(height: int, width: int) -> None:
    table = two_sizes(1.5)
    model, part = Interpolate(), "kv_compressed"
    low, here, high = (
        model.predict(table, table.scope("stream", video=video), part).cost
        for video in ((18, 32), (height, width), (36, 64))
    )
    assert low.latency_us <= here.latency_us <= high.latency_us
    assert low.peak_bytes <= here.peak_bytes <= high.peak_bytes


def test_bytes_are_interpolated_upwards() -> None:
    table = two_sizes(1.0)
    estimate = Interpolate().predict(table, table.scope("stream", video=(19, 33)), "lcha")
    low, high = (next(r for r in table.rows if r.label == "lcha" and r.height == h).peak_bytes for h in (18, 36))
    exact = low + (high - low) * (19 * 33 - 18 * 32) / (36 * 64 - 18 * 32)
    assert exact <= estimate.cost.peak_bytes < exact + 1


@pytest.mark.parametrize("video", [(17, 32), (36, 65)])
def test_nothing_is_extrapolated(video: tuple[int, int]) -> None:
    table = two_sizes(1.0)
    with pytest.raises(ExtrapolationError, match="nothing is extrapolated"):
        Interpolate().predict(table, table.scope("stream", video=video), "lcha")
