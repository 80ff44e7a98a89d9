import dataclasses

import pytest

from s2search.errors import InputError
from s2search.lint.linter import lint
from s2search.measurement.campaign import measure
from s2search.measurement.items import campaign_items
from s2search.measurement.replay import Replay
from s2search.measurement.samples import Protocol
from s2search.preset import Preset
from s2search.registry import create
from s2search.tables.table import open_table
from s2search.testing.profilers import check_profiler

CPU = "amd-epyc.torch-cpu.float32"
ITEMS = campaign_items(Preset.named("s2dit-small"), "256x144", scenarios=["stream"], roles=Replay().roles())


def rows(table):
    return {row.label: row for row in table.rows if (row.scenario, row.height) == ("stream", 9)}


def play(out, profiler, **protocol):
    return measure(profiler, ITEMS, out, preset="s2dit-small", protocol=Protocol(**protocol))


def test_it_keeps_the_contract_of_profilers():
    check_profiler(Replay(), ITEMS)


def test_a_table_played_without_noise_is_the_recorded_one(tmp_path):
    recorded, played = rows(open_table(CPU)), rows(play(tmp_path / "t", Replay(noise=0.0), rounds=2))
    assert recorded.keys() == played.keys()
    for label, row in played.items():
        assert row.latency_ms == pytest.approx(recorded[label].latency_ms, abs=2e-6)
        assert (row.weight_bytes, row.state_bytes, row.peak_bytes) == (
            recorded[label].weight_bytes,
            recorded[label].state_bytes,
            recorded[label].peak_bytes,
        )


def test_samples_scatter_as_they_were_recorded(tmp_path):
    recorded, played = rows(open_table(CPU)), rows(play(tmp_path / "t", Replay(), rounds=40))
    for label in ("lcha", "ssa", "full"):
        expected = recorded[label].latency_std_ms / recorded[label].latency_ms
        assert played[label].latency_std_ms / played[label].latency_ms == pytest.approx(expected, rel=0.5)
        assert played[label].latency_ms == pytest.approx(recorded[label].latency_ms, rel=0.02)


def test_a_drift_that_is_played_is_found_and_taken_out(tmp_path):
    recorded = rows(open_table(CPU))
    table = play(tmp_path / "t", Replay(drift=0.2, drift_samples=250, noise=0.3), rounds=20)
    assert table.card.protocol["sentinel_drift_percent"] > 8
    assert abs(table.card.protocol["sentinel_drift_corrected_percent"]) < 1
    ratio = [row.latency_ms / recorded[label].latency_ms for label, row in rows(table).items() if row.role == "block"]
    assert max(ratio) / min(ratio) < 1.01
    assert all(row.latency_std_ms / row.latency_ms < 0.04 for row in rows(table).values() if row.role == "block")


def test_a_replay_is_never_called_a_measurement(tmp_path):
    table = play(tmp_path / "t", Replay(), rounds=3)
    assert table.card.provenance.kind == "derived"
    assert table.card.runtime == "replay of torch CPU"
    assert {row.latency_provenance for row in table.rows} == {"derived"}
    assert {row.samples for row in table.rows} == {0}
    assert lint(tmp_path / "t") == []


def test_an_item_that_the_table_lacks_is_refused_with_the_remedy(tmp_path):
    items = campaign_items(Preset.named("s2dit-tiny"), "256x144", scenarios=["stream"], roles=Replay().roles())
    with pytest.raises(InputError, match=r"has no row of stream \w+ 3x9x16 with 64 channels; measure what the table"):
        measure(Replay(), items, tmp_path / "t", preset="s2dit-tiny", protocol=Protocol(rounds=2))


def test_a_table_that_is_not_there_is_the_reason_why_not():
    assert "no table is called 'nothing'" in Replay(table="nothing").why_not()
    assert "\n" not in Replay(table="nothing").why_not()


def test_it_comes_by_name_and_options():
    assert create("profilers", f"replay[table={CPU},drift=0.1]") == Replay(table=CPU, drift=0.1)
    assert dataclasses.asdict(Replay()).keys() == {"table", "drift", "drift_samples", "noise", "seed"}


@pytest.mark.parametrize("options", [{"noise": -1.0}, {"drift": -1.0}, {"drift_samples": 0}])
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(InputError, match="noise from 0, drift above -1, drift_samples from 1"):
        Replay(**options)
