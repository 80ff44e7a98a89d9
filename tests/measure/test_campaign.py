import itertools
import random
from collections import Counter

import msgspec
import numpy as np
import pytest

from s2search.errors import InputError, TableError
from s2search.latency.lookup import Lookup
from s2search.measurement.samples import Protocol
from s2search.measurement.schedule import round_slots, sentinel_of
from s2search.tables.table import LatencyTable
from s2search.testing.profilers import check_profiler, miniature_items
from tests.measure.fake_profiler import MACHINE, PROTOCOL, FakeProfiler, base_ms, run


def samples_of(out):
    lines = [msgspec.json.decode(line) for line in (out / "samples.jsonl").read_bytes().splitlines()]
    return [line for line in lines if line["kind"] == "sample"]


def own_samples_of(out):
    """Those that count for rows: no sentinels, no doubles."""
    return [s for s in samples_of(out) if not s["sentinel"] and not s.get("double")]


def test_every_round_times_every_item_once_in_an_order_of_its_own(tmp_path):
    run(tmp_path / "t")
    orders = [
        tuple(s["item"] for s in group)
        for _, group in itertools.groupby(own_samples_of(tmp_path / "t"), key=lambda s: s["round"])
    ]
    assert len(orders) == PROTOCOL.rounds
    assert all(Counter(order) == Counter(item.key for item in miniature_items()) for order in orders)
    assert len(set(orders)) == PROTOCOL.rounds


def test_the_sentinel_is_timed_again_every_few_rows_throughout(tmp_path):
    run(tmp_path / "t")
    samples = [s for s in samples_of(tmp_path / "t") if not s.get("double")]
    places = [i for i, s in enumerate(samples) if s["sentinel"]]
    assert {samples[i]["item"] for i in places} == {sentinel_of(miniature_items()).key}
    assert places[0] == 0
    assert max(b - a for a, b in itertools.pairwise([*places, len(samples)])) <= PROTOCOL.sentinel_every + 1


def test_the_order_depends_on_the_seed_alone():
    keys = [item.key for item in miniature_items()]
    first, again, other = (round_slots(keys, 0, PROTOCOL, random.Random(seed), sentinel=keys[0]) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_statistics_are_those_of_the_rows_own_samples(tmp_path):
    table = run(tmp_path / "t", profiler=FakeProfiler(noise=0.1))
    samples = own_samples_of(tmp_path / "t")
    assert not table.card.protocol["drift_corrected"]
    for item in miniature_items():
        ms = [s["ms"] for s in samples if s["item"] == item.key]
        row = next(r for r in table.rows if (r.label, r.scenario) == (item.label, item.scenario))
        assert row.samples == len(ms) == PROTOCOL.rounds
        assert row.latency_ms == row.latency_raw_ms == pytest.approx(np.median(ms), abs=1e-6)
        assert (row.latency_p10_ms, row.latency_p90_ms) == pytest.approx(tuple(np.percentile(ms, [10, 90])), abs=1e-6)
        assert row.latency_mean_ms == pytest.approx(np.mean(ms), abs=1e-6)
        assert row.latency_std_ms == pytest.approx(np.std(ms, ddof=1), abs=1e-6)
        assert (row.measured_at, row.latency_provenance) == ("2026-01-02T12:00:00+00:00", "measured")
    timed = [row for row in table.rows if row.part != "long_skip"]
    assert sorted(row.order for row in timed) == list(range(len(timed)))
    assert min(timed, key=lambda row: row.order).label == sentinel_of(miniature_items()).part.label


def test_the_card_states_the_drift_of_the_sentinel(tmp_path):
    still = run(tmp_path / "still", profiler=FakeProfiler())
    assert still.card.protocol["sentinel_drift_percent"] == 0
    warming = run(tmp_path / "warming", profiler=FakeProfiler(drift=0.001))
    total = len(samples_of(tmp_path / "warming"))
    assert warming.card.protocol["sentinel_drift_percent"] == pytest.approx(100 * 0.001 * total * 2 / 3, rel=0.15)


def test_a_drift_leaves_the_ratios_of_the_rows(tmp_path):
    table = run(tmp_path / "t", profiler=FakeProfiler(drift=0.002), protocol=Protocol(rounds=30, least_sample_ms=20.0))
    by_key = {(row.label, row.scenario): row.latency_ms for row in table.rows}
    items = miniature_items()
    ratios = [by_key[item.label, item.scenario] / base_ms(item) for item in items]
    assert max(ratios) / min(ratios) < 1.03


def test_a_sample_lasts_about_as_long_as_it_must(tmp_path):
    run(tmp_path / "t", profiler=FakeProfiler())
    lines = [msgspec.json.decode(line) for line in (tmp_path / "t/samples.jsonl").read_bytes().splitlines()]
    repetitions = {line["item"]: line["repetitions"] for line in lines if line["kind"] == "ready"}
    for item in miniature_items():
        assert (
            PROTOCOL.least_sample_ms <= repetitions[item.key] * base_ms(item) < PROTOCOL.least_sample_ms + base_ms(item)
        )


def test_a_table_of_the_campaign_prices_every_part_and_the_long_skip(tmp_path):
    table = run(tmp_path / "fake.fake.float32")
    assert LatencyTable.load(tmp_path / "fake.fake.float32") == table
    for item in miniature_items():
        Lookup().predict(table, table.scope(item.scenario), item.part.name, item.part.options_text)
    skip = Lookup().predict(table, table.scope("clip"), "long_skip")
    assert (skip.cost.latency_us, skip.cost.memory_bytes) == (0, 2 * 3 * 3 * 16 * 4)


def test_progress_counts_every_sample_up_to_the_end(tmp_path):
    seen = []
    run(tmp_path / "t", progress=lambda *told: seen.append(told))
    total = len(samples_of(tmp_path / "t"))
    assert [done for done, _, label in seen if not label.startswith("preparing")] == list(range(total + 1))
    assert {of for _, of, label in seen if not label.startswith("preparing")} == {total}
    assert seen[-1] == (total, total, "done")


def test_a_finished_table_is_never_overwritten(tmp_path):
    run(tmp_path / "t")
    before = (tmp_path / "t/table.csv").read_bytes()
    with pytest.raises(TableError, match="already holds a table"):
        run(tmp_path / "t")
    assert (tmp_path / "t/table.csv").read_bytes() == before


def test_a_profiler_that_cannot_run_is_refused_with_its_reason(tmp_path):
    with pytest.raises(InputError, match=r"^the profiler 'fake' cannot run here: it needs a phone$"):
        run(tmp_path / "t", profiler=FakeProfiler(missing="it needs a phone"))
    assert not (tmp_path / "t").exists()


def test_an_item_named_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="is named twice"):
        run(tmp_path / "t", items=miniature_items() * 2)


def test_the_fake_keeps_the_contract_of_profilers():
    MACHINE.samples = None
    check_profiler(FakeProfiler())
