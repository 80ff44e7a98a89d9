import shutil
from pathlib import Path

import pytest

from s2search.errors import InputError, TableError
from s2search.lint.linter import lint
from s2search.measurement.campaign import measure
from s2search.measurement.retabulate import retabulate
from s2search.measurement.samples import Protocol
from s2search.measurement.torch_cpu import TorchCpu
from s2search.tables.merge import merge
from s2search.tables.table import LatencyTable, installed_tables
from s2search.testing.profilers import miniature_items

MEASURED = [name for name, folder in installed_tables().items() if (folder / "samples.jsonl").exists()]


@pytest.fixture(params=MEASURED)
def shipped(request, tmp_path):
    return Path(shutil.copytree(installed_tables()[request.param], tmp_path / request.param))


def test_a_shipped_table_is_made_again_from_its_samples(shipped):
    old = LatencyTable.load(shipped)
    new = retabulate(shipped)
    assert LatencyTable.load(shipped) == new
    assert [row.key for row in new.rows] == [row.key for row in old.rows]
    for before, after in zip(old.rows, new.rows, strict=True):
        if before.part == "long_skip":
            continue
        assert after.latency_raw_ms == pytest.approx(before.latency_raw_ms or before.latency_ms, abs=1e-6)
        assert after.latency_ms == pytest.approx(before.latency_ms, rel=0.02)
        assert after.latency_error_ms > 0
        assert (after.samples, after.weight_bytes) == (before.samples, before.weight_bytes)
    for field in ("device", "date", "code_version", "pipeline", "assumptions"):
        assert getattr(new.card, field) == getattr(old.card, field)
    assert "warm_ups" in new.card.protocol  # as the old campaign had it
    assert lint(shipped) == []


def test_making_it_twice_changes_nothing(shipped):
    retabulate(shipped)
    once = {name: (shipped / name).read_bytes() for name in ("table.csv", "card.json", "samples.jsonl")}
    retabulate(shipped)
    assert {name: (shipped / name).read_bytes() for name in once} == once


def test_what_was_added_to_the_card_by_hand_stays(shipped):
    card = (shipped / "card.json").read_text().replace('"assumptions": []', '"assumptions": ["mine"]')
    (shipped / "card.json").write_text(card)
    assert list(retabulate(shipped).card.assumptions) == ["mine"]


def test_a_table_that_torch_measured_just_now_comes_out_the_same(tmp_path):
    table = measure(TorchCpu(), miniature_items(), tmp_path / "t", preset="mini", protocol=Protocol(rounds=3))
    assert retabulate(tmp_path / "t").digest == table.digest


def test_an_unfinished_campaign_is_refused(shipped):
    lines = (shipped / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (shipped / "samples.jsonl").write_bytes(b"".join(lines[:-5]))
    before = (shipped / "table.csv").read_bytes()
    with pytest.raises(InputError, match="is of a campaign that is not finished; repeat the command"):
        retabulate(shipped)
    assert (shipped / "table.csv").read_bytes() == before


def test_a_table_of_several_campaigns_is_refused_and_stays(tmp_path):
    parts = [tmp_path / name for name in ("one", "two")]
    for part, scenario in zip(parts, ("stream", "clip"), strict=True):
        items = [item for item in miniature_items() if item.scenario == scenario]
        measure(TorchCpu(), items, part, preset="mini", protocol=Protocol(rounds=3))
    merge([LatencyTable.load(part) for part in parts], name="both").save(tmp_path / "both")
    shutil.copy(parts[0] / "samples.jsonl", tmp_path / "both")
    before = (tmp_path / "both/table.csv").read_bytes()
    with pytest.raises(InputError, match="'both' was merged from 2 campaigns; make each of them again from its own"):
        retabulate(tmp_path / "both")
    assert (tmp_path / "both/table.csv").read_bytes() == before


def test_a_folder_without_samples_is_refused_in_one_line(tmp_path):
    shutil.copytree(installed_tables()["iphone-16-pro-max.coreml.w4a8"], tmp_path / "t")
    with pytest.raises(InputError, match="cannot be read: No such file or directory; name the folder of a table"):
        retabulate(tmp_path / "t")
    with pytest.raises(TableError):
        retabulate(tmp_path / "nothing")
