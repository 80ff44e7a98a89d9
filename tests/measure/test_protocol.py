"""Warm-up, launch cost, pairs, sustained runs, marks: on devices whose truth is known."""

import io
import itertools
import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from s2search.dates import duration_s
from s2search.errors import InputError
from s2search.lint.linter import lint
from s2search.measurement.base import Device, Measure, Memory, Prepared, Profiler
from s2search.measurement.campaign import measure
from s2search.measurement.samples import Protocol
from s2search.measurement.warm_up import warm_up
from s2search.reporting.terminal import table_text
from s2search.tables.samples import pass_times
from s2search.tables.table import LatencyTable
from s2search.testing.profilers import miniature_items
from tests.measure.fake_profiler import base_ms

START = datetime(2026, 1, 2, 12, tzinfo=UTC)
ITEMS = tuple(item for item in miniature_items() if item.role != "commit")
BLOCKS = tuple(item for item in ITEMS if item.role == "block" and item.scenario == "stream")


@dataclass(kw_only=True)
class World:
    """A device in simulated time: every call takes its time, and the device heats up while it works."""

    now_s: float = 0.0
    heat_s: float = 0.0
    calls: int = 0

    def clock(self):
        return START + timedelta(seconds=self.now_s)

    def rest(self, seconds):
        self.now_s += seconds
        self.heat_s = 0.0


@dataclass(frozen=True, kw_only=True)
class Simulated(Profiler):
    """Launches cost `launch_ms` a sample; heat slows it by up to `throttle`; the first calls of an item take
    longer, each a little less."""

    name: ClassVar[str] = "simulated"
    method: ClassVar[str] = "arithmetic"
    measures: ClassVar[tuple[Measure, ...]] = ("latency", "placement")

    launch_ms: float = 0.0
    throttle: float = 0.0
    throttle_s: float = 60.0
    noise: float = 0.01
    pair_factor: float = 1.0
    cold_calls: int = 0
    seconds_per_sample: float = 0.01

    def why_not(self):
        return None

    def device(self):
        facts = dict.fromkeys(("device", "chip", "os", "runtime", "runtime_version", "power_mode"), "simulated")
        return Device(**facts, threads=1, precision="float32", compute_unit="cpu")

    @contextmanager
    def session(self):
        yield

    def prepare(self, item):
        return SimulatedCall(self, item)

    def time_pair_ms(self, first, second, repetitions):
        return self.pair_factor * sum(one.time_ms(repetitions) for one in (first, second))

    def conditions(self):
        return {"celsius": 30 + WORLD.heat_s}


class SimulatedCall(Prepared):
    def __init__(self, profiler, item):
        self.profiler, self.item, self.cold = profiler, item, profiler.cold_calls

    def time_ms(self, repetitions):
        WORLD.calls += 1
        scatter = np.random.default_rng(WORLD.calls).normal(0, self.profiler.noise)
        heat = 1 + self.profiler.throttle * min(1.0, WORLD.heat_s / self.profiler.throttle_s)
        work = base_ms(self.item) * heat * float(np.exp(scatter)) * (1 + self.cold)
        self.cold = max(0, self.cold - repetitions)
        WORLD.now_s += self.profiler.seconds_per_sample
        WORLD.heat_s += self.profiler.seconds_per_sample
        return work + self.profiler.launch_ms / repetitions

    def memory(self):
        streams = self.item.role == "block" and self.item.scenario == "stream"
        return Memory(weight_bytes=100, state_bytes=10 if streams else 0, peak_bytes=1000)

    def placement(self):
        return {"cpu": 7}

    def unit_work(self):
        return {"cpu": 6.0, "gpu": 1.0}


WORLD = World()


@pytest.fixture(autouse=True)
def fresh_world():
    WORLD.__dict__.update(World().__dict__)


def run(out, profiler=Simulated(), items=ITEMS, **protocol):
    return measure(profiler, items, out, preset="fake", protocol=Protocol(**protocol), clock=WORLD.clock)


def printed(table):
    console = Console(width=200, file=io.StringIO())
    console.print(table_text(table))
    return console.file.getvalue()


def latencies(table, column="latency_ms"):
    return {row.part: getattr(row, column) for row in table.rows if row.role == "block" and row.scenario == "stream"}


def truth():
    return {item.part.name: base_ms(item) for item in BLOCKS}


@given(slow=st.integers(0, 30), most=st.integers(1, 60))
def test_warm_up_ends_soon_after_the_last_slow_call_or_at_the_cap(slow, most):
    times = itertools.chain([50.0 - n for n in range(slow)], itertools.repeat(10.0))
    found = warm_up(lambda: next(times), most)
    assert found.calls <= most
    if most >= slow + 5:
        assert (found.calls, found.least_ms, found.settled) == (slow + 5, 10.0, True)


def test_a_time_that_falls_for_ever_is_cut_at_the_cap_and_marked(tmp_path):
    times = itertools.count(1)
    assert not warm_up(lambda: 1000 * 0.9 ** next(times), 20).settled
    table = run(tmp_path / "t", Simulated(cold_calls=40), rounds=3, most_warm_ups=3)
    assert any("was still getting faster" in mark for mark in table.card.protocol["marked"])
    ready = [json.loads(line) for line in (tmp_path / "t/samples.jsonl").read_text().splitlines()]
    assert {one["warm_ups"] for one in ready if one["kind"] == "ready"} == {3}


def test_slow_first_calls_do_not_reach_the_table(tmp_path):
    table = run(tmp_path / "t", Simulated(cold_calls=8, noise=0.0), rounds=5)
    assert latencies(table) == pytest.approx(truth())
    assert table.card.protocol["warm_ups_found"]["least"] >= 9


@pytest.mark.parametrize("launch_ms", [0.3, 2.0])
def test_twice_the_repetitions_tell_what_a_launch_costs(tmp_path, launch_ms):
    table = run(tmp_path / "t", Simulated(launch_ms=launch_ms, noise=0.005), rounds=20, least_sample_ms=8.0)
    for row in table.rows:
        if row.part != "long_skip":
            assert row.launch_us == pytest.approx(1000 * launch_ms, rel=0.35)


def test_where_a_launch_costs_nothing_hardly_a_row_claims_one(tmp_path):
    table = run(tmp_path / "t", rounds=20, least_sample_ms=8.0)
    assert sum(row.launch_us is not None for row in table.rows) <= 3


def test_long_calls_are_not_doubled(tmp_path):
    run(tmp_path / "t", rounds=3, least_sample_ms=0.1)
    assert b'"double":true' not in (tmp_path / "t/samples.jsonl").read_bytes()


def test_a_drifting_device_gives_rows_nearer_to_the_truth_than_raw_ones(tmp_path):
    device = Simulated(throttle=0.5, throttle_s=0.5, noise=0.003)
    runs = []
    for number in range(4):
        WORLD.rest(100)
        runs.append(run(tmp_path / f"{number}", device, items=BLOCKS, rounds=5, sentinel_every=1, least_sample_ms=0.1))

    def error(table, column):
        ratio = {part: ms / truth()[part] for part, ms in latencies(table, column).items()}
        return max(ratio.values()) / min(ratio.values()) - 1

    assert all(table.card.protocol["drift_corrected"] for table in runs)
    corrected, raw = (np.mean([error(table, f"latency_{which}ms") for table in runs]) for which in ("", "raw_"))
    assert corrected < 0.02
    assert corrected < raw / 2


def test_raw_and_corrected_stand_side_by_side_and_read_back(tmp_path):
    table = run(tmp_path / "t", Simulated(throttle=0.3, throttle_s=4.0), rounds=8)
    assert table.card.protocol["drift_corrected"]
    assert latencies(table) != latencies(table, "latency_raw_ms")
    assert LatencyTable.load(tmp_path / "t").digest == table.digest
    for row in table.rows:
        if row.part != "long_skip":
            assert 0 < row.latency_error_ms < 0.05 * row.latency_ms


def test_a_run_beyond_the_bounds_is_marked_and_the_linter_finds_it(tmp_path):
    bad = run(tmp_path / "bad", Simulated(throttle=0.6, throttle_s=4.0), rounds=8)
    assert any("slowest state" in mark for mark in bad.card.protocol["marked"])
    assert "marked_run" in {finding.rule for finding in lint(tmp_path / "bad")}
    assert "MARKED: the device's slowest state" in printed(bad)
    good = run(tmp_path / "good", rounds=8)
    assert "marked" not in printed(good)
    assert good.card.protocol["marked"] == []
    assert "marked_run" not in {finding.rule for finding in lint(tmp_path / "good")}


def test_pairs_are_timed_in_both_orders_and_told_in_the_card(tmp_path):
    table = run(tmp_path / "t", Simulated(pair_factor=0.9), items=BLOCKS, rounds=20, pairs=True)
    pairs = table.card.protocol["pair_ratios"]
    names = [item.key for item in BLOCKS]
    assert {(pair["first"], pair["then"]) for pair in pairs} == set(itertools.permutations(names, 2))
    for pair in pairs:
        assert pair["ratio"] == pytest.approx(0.9, abs=0.02)
        assert 0 < pair["error"] < 0.02
        assert pair["samples"] == 10
    assert latencies(table) == pytest.approx(truth(), rel=0.02)  # pairs do not touch the rows


def test_without_the_option_there_are_no_pairs(tmp_path):
    assert "pair_ratios" not in run(tmp_path / "t", rounds=2).card.protocol


def test_the_default_pair_calls_both_in_turn():
    """Without a method of its own, a profiler's pair is the sum of single calls."""
    first, second = (SimulatedCall(Simulated(noise=0.0), item) for item in BLOCKS[:2])
    pair_ms = Profiler.time_pair_ms(Simulated(), first, second, 3)
    assert pair_ms == pytest.approx(base_ms(BLOCKS[0]) + base_ms(BLOCKS[1]))
    assert WORLD.calls == 6


def test_a_sustained_run_lasts_as_long_as_asked_and_keeps_the_hot_third(tmp_path):
    device = Simulated(throttle=0.3, throttle_s=30.0, seconds_per_sample=0.2)
    hot = run(tmp_path / "hot", device, items=BLOCKS, sustained_s=100.0)
    assert 100 <= WORLD.now_s < 115
    assert latencies(hot) == pytest.approx({part: 1.3 * ms for part, ms in truth().items()}, rel=0.01)
    assert hot.card.protocol["mode"].startswith("sustained for 100 s")
    assert "the sentinel takes +" in hot.card.protocol["mode"]
    assert hot.card.protocol["conditions"]["celsius"]["least"] > 30 + 60


def test_a_cold_run_says_so(tmp_path):
    assert run(tmp_path / "t", rounds=2).card.protocol["mode"].startswith("cold")


def test_after_a_break_a_sustained_run_heats_the_device_again(tmp_path):
    device = Simulated(throttle=0.3, throttle_s=30.0, seconds_per_sample=0.2)
    give_up = Simulated.time_pair_ms  # any attribute of the class; restored below

    def interrupted(self, repetitions, plain=SimulatedCall.time_ms):
        if WORLD.now_s > 80:
            raise KeyboardInterrupt
        return plain(self, repetitions)

    plain, SimulatedCall.time_ms = SimulatedCall.time_ms, interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "t", device, items=BLOCKS, sustained_s=100.0)
    finally:
        SimulatedCall.time_ms = plain
    assert Simulated.time_pair_ms is give_up
    WORLD.rest(3600)
    begun = WORLD.now_s
    table = run(tmp_path / "t", device, items=BLOCKS, sustained_s=100.0)
    assert WORLD.now_s - begun >= 100
    assert latencies(table) == pytest.approx({part: 1.3 * ms for part, ms in truth().items()}, rel=0.01)


def test_a_sustained_run_keeps_at_least_three_rounds(tmp_path):
    table = run(tmp_path / "t", Simulated(seconds_per_sample=1.0), items=BLOCKS, sustained_s=5.0)
    assert min(row.samples for row in table.rows if row.part != "long_skip") >= 3


@pytest.mark.parametrize(
    "protocol", [{"rounds": 20, "pairs": True, "least_sample_ms": 8.0}, {"sustained_s": 20.0}], ids=str
)
def test_a_95th_percentile_counts_of_a_row_the_samples_that_its_table_counts(tmp_path, protocol):
    device = Simulated(throttle=0.3, throttle_s=5.0, seconds_per_sample=0.02, pair_factor=2.0)
    run(tmp_path / "t", device, items=BLOCKS, **protocol)
    table = LatencyTable.load(tmp_path / "t")
    times = pass_times(table, table.scope("stream"), within_ms=50)
    rows = {row.part_label: row for row in table.rows if row.role == "block"}
    assert {label: call.samples for label, call in times.calls.items()} == {
        label: row.samples for label, row in rows.items()
    }
    for label, call in times.calls.items():
        assert call.mean_ms == pytest.approx(rows[label].latency_mean_ms, rel=0.1)  # drift stays in


def test_a_finished_sustained_run_is_tabulated_without_timing_anything(tmp_path):
    whole = run(tmp_path / "t", items=BLOCKS, sustained_s=2.0)
    for name in ("table.csv", "card.json"):
        (tmp_path / "t" / name).unlink()
    calls = WORLD.calls
    assert run(tmp_path / "t", items=BLOCKS, sustained_s=2.0).digest == whole.digest
    assert WORLD.calls == calls


def test_placement_and_conditions_stand_in_the_card(tmp_path):
    protocol = run(tmp_path / "t", rounds=3).card.protocol
    assert protocol["placement"][BLOCKS[0].key] == {"cpu": 7}
    celsius = protocol["conditions"]["celsius"]
    assert celsius["first"] == celsius["least"] < celsius["last"] == celsius["most"]


def test_where_rows_ran_stands_beside_where_they_were_asked_to(tmp_path):
    rows = [row for row in run(tmp_path / "t", rounds=2).rows if row.part != "long_skip"]
    assert {(row.unit_asked, row.unit_ran) for row in rows} == {("cpu", "cpu:0.8571,gpu:0.1429")}


def test_bytes_that_are_not_measured_are_called_derived(tmp_path):
    table = run(tmp_path / "t", rounds=2)
    assert {row.bytes_provenance for row in table.rows} == {"derived"}
    assert {row.latency_provenance for row in table.rows if row.part != "long_skip"} == {"measured"}


def test_samples_without_extras_read_as_they_were_written_before(tmp_path):
    """Fields that a plain sample does not need are not written, so old and new files are of one form."""
    run(tmp_path / "t", rounds=2, least_sample_ms=0.1)
    lines = [msgspec.json.decode(line) for line in (tmp_path / "t/samples.jsonl").read_bytes().splitlines()]
    plain = [line for line in lines if line["kind"] == "sample" and not line["sentinel"]]
    assert {frozenset(line) for line in plain} == {frozenset({"kind", "round", "item", "sentinel", "ms", "at"})}


@pytest.mark.parametrize("text", ["5", "5h", "-3s", "0m", "", "m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InputError, match="is not a duration; such as 90s or 5m"):
        duration_s(text)


def test_a_sustained_run_of_no_time_is_refused():
    with pytest.raises(InputError, match=r"a sustained run of -1\.0 s; seconds above 0"):
        Protocol(sustained_s=-1.0)
