"""The packed form at a small size, in float16 and with 8-bit inputs; at full width in tests/benchmarks."""

from __future__ import annotations

import pytest

from s2search.block import Shape
from tests.benchmarks import test_half_form
from tests.benchmarks.test_half_form import SCENARIOS, made, ratios

SMALL = Shape(frames=3, height=8, width=16, channels=64, heads=2, feed_forward=64, text_tokens=4, text_channels=32)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(test_half_form, "SHAPE", SMALL)


@pytest.mark.parametrize("label", ["lcha", "ssa"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_8_bit_inputs_cost_what_their_rounding_costs_by_itself_and_the_form_adds_nothing(label, scenario, tmp_path):
    setup = made(label, tmp_path, scenario)
    assert len(setup.ranges) >= 3  # all projections; what reads the same shares a pair of operations
    found = ratios(setup, scenario, "float16", (1, 16))
    for one in found.values():
        assert one["block"] == pytest.approx(one["alone"], abs=0.5)
        assert one["block"] < 48


@pytest.mark.parametrize("label", ["lcha", "ssa"])
def test_float16_keeps_50_db_per_block(label, tmp_path):
    found = ratios(made(label, tmp_path), "one large token", "pessimistic", (1, 16))
    assert all(value >= 50 for one in found.values() for value in one.values())
