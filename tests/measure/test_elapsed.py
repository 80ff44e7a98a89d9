"""Durations are not of the time of day: it is set by people and servers while a device is measured."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from s2search.errors import InputError
from s2search.measurement.campaign import measure
from s2search.measurement.elapsed import clock_s, elapsed_s
from s2search.measurement.items import campaign_items
from s2search.measurement.replay import Replay
from s2search.measurement.samples import Protocol, read_samples
from s2search.preset import PRESETS

START = datetime(2026, 11, 22, 10, tzinfo=UTC)


@dataclass(frozen=True)
class At:
    at: str
    clock_s: float | None = None
    ms: float = 1.0
    round: int = 0


def a_second_each(count, jumps, clock=False):
    """Samples of a second each, with a time of day that jumps by so many seconds before some of them."""
    wall = 0.0
    found = []
    for n in range(count):
        wall += 1.0 + jumps.get(n, 0.0)
        found.append(At((START + timedelta(seconds=wall)).isoformat(), 1000.0 + n if clock else None))
    return found


@pytest.mark.parametrize("jumps", [{}, {5: -3600}, {5: 3600}, {3: 86400, 6: -86400}, {3: -10, 4: 10}])
def test_a_clock_that_nobody_sets_tells_the_time(jumps):
    assert elapsed_s(a_second_each(10, jumps, clock=True)) == [float(n) for n in range(10)]


@pytest.mark.parametrize(("jumps", "total"), [({}, 9), ({5: -3600}, 8), ({3: 86400, 6: -86400}, 7), ({5: 3600}, 3609)])
def test_without_one_a_jump_back_counts_for_nothing_and_undoes_the_jump_before_it(jumps, total):
    found = elapsed_s(a_second_each(10, jumps))
    assert found == sorted(found)
    assert found[-1] == total


def test_a_machine_that_was_started_again_had_a_break():
    before, after = At(START.isoformat(), 5000.0), At((START - timedelta(hours=1)).isoformat(), 12.0)
    assert elapsed_s([before, after])[1] > 30


def test_a_time_that_is_none_is_named():
    with pytest.raises(InputError, match="'yesterday' is no time"):
        elapsed_s([At("yesterday")])


@pytest.mark.parametrize("jumps", [{}, {150: -3600}, {100: 86400, 150: -86400}])
def test_a_clock_that_is_set_neither_lengthens_a_sustained_run_nor_makes_it_endless(tmp_path, jumps):
    count, moment = 0, START

    def clock():
        nonlocal count, moment
        count, moment = count + 1, moment + timedelta(seconds=1 + jumps.get(count + 1, 0))
        assert count < 400
        return moment

    items = campaign_items(PRESETS["s2dit-small"], "512x288", scenarios=["stream"], roles=("block", "switch", "fixed"))
    table = measure(
        Replay(drift=0.1, drift_samples=200), items, tmp_path / "t", preset="s2dit-small",
        protocol=Protocol(sustained_s=300.0), clock=clock,
    )  # fmt: skip
    assert 300 <= count < 330
    assert table.card.date == max(table.card.date, "2026-11-22")


def test_samples_carry_the_machines_own_clock(tmp_path):
    items = campaign_items(PRESETS["s2dit-small"], "512x288", scenarios=["stream"], roles=("block",))
    begin = clock_s()
    measure(Replay(), items, tmp_path / "t", preset="s2dit-small", protocol=Protocol(rounds=3))
    _, journal = read_samples(tmp_path / "t" / "samples.jsonl")
    told = [sample.clock_s for sample in journal.samples]
    assert begin - 0.001 <= told[0] <= told[-1] <= clock_s() + 0.001
