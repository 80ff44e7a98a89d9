import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import InputError, S2SearchError, TableError
from s2search.exporters.coreml.form import Form
from s2search.kit.ingest import ingest
from s2search.lint.linter import lint
from s2search.tables.merge import merge
from s2search.tables.table import LatencyTable
from tests.kit.conftest import write_kit
from tests.kit.fake_mac.latencies import base_ms, sample_ms

AT = "2026-01-02T12:00:00.000Z"


def write_results(kit, manifest, *, drift=0.0, change=lambda line: line, extra=()):
    """Write what an undisturbed campaign brings back; `change` may alter a line or drop it by returning None."""
    digest = f"sha256:{hashlib.sha256((kit / 'manifest.json').read_bytes()).hexdigest()}"
    lines = [
        {
            **{"kind": "campaign", "at": AT, "schema": "s2search.kit_results/1", "kit": digest, "device": "iPhone 9"},
            **{"device_type": "iPhone9,1", "device_digest": "0", "chip": "A10", "os": "iOS 26", "tools": {}},
        }
    ]
    lines += [
        {"kind": "placement", "at": AT, "row": row.id, "operations": {"neural_engine": 2}, "elsewhere": {}}
        for row in manifest.rows
    ]
    session = {"kit": digest, "machine": "iPhone9,1", "os": "iOS 26", "thermal": "nominal", "low_power_mode": False}
    phones = [{"kind": "session", **session, "battery": 1.0, "charging": True, "crashed": False}]
    for row in manifest.rows:
        phones.append({"kind": "loading", "row": row.id})
        ready = {"load_ms": 9.0, "warm_ups": 6, "settled": True, "repetitions": 2}
        phones.append({"kind": "ready", "row": row.id, **ready})
    for slot in manifest.order:
        fields = {"slot": slot.slot, "round": slot.round, "row": slot.row, "sentinel": slot.sentinel}
        ms = sample_ms(fields, drift)
        at = f"2026-01-02T12:{slot.slot // 60:02}:{slot.slot % 60:02}.000Z"
        phones.append({"kind": "sample", "at": at, **fields, "ms": ms, "thermal": "nominal", "thermal_after": "fair"})
    phones += [*extra, {"kind": "done"}]
    lines += [{"at": AT, **line, "n": n} for n, line in enumerate(phones, start=1)]
    kept = [line for line in map(change, lines) if line is not None]
    path = kit / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return path


@pytest.fixture
def kit(tmp_path):
    return tmp_path / "kit"


@pytest.fixture
def manifest(kit):
    return write_kit(kit)


def test_a_table_holds_every_row_with_where_it_ran(kit, manifest, tmp_path):
    (folder,) = ingest(write_results(kit, manifest), tmp_path / "tables").folders
    assert folder == tmp_path / "tables" / "iphone-9.coreml.float16"
    table = LatencyTable.load(folder)
    rows = {row.part: row for row in table.rows}
    assert set(rows) == {"lcha", "ssa", "down", "stem", "long_skip"}
    assert rows["ssa"].latency_ms == pytest.approx(base_ms(1), rel=0.01)
    assert rows["ssa"].samples == manifest.protocol.rounds
    assert rows["ssa"].latency_provenance == "measured"
    assert rows["ssa"].note == "operations: neural_engine 2"
    assert (rows["ssa"].unit_asked, rows["ssa"].unit_ran) == ("neural_engine", "neural_engine:1")
    assert (rows["ssa"].weight_bytes, rows["ssa"].state_bytes, rows["ssa"].peak_bytes) == (1001, 10, 20)
    assert table.card.device == "iPhone 9"
    assert table.card.power_mode == "low power mode off, charging"
    assert not [finding for finding in lint(str(folder)) if finding.rule == "negative_latency"]


def test_drift_is_taken_out_and_the_raw_median_is_kept(tmp_path):
    kit = tmp_path / "kit"
    manifest = write_kit(kit, rounds=30)
    table = ingest(write_results(kit, manifest, drift=0.002), tmp_path / "tables").tables[0]
    ratio = {row.part: row.latency_ms / base_ms(number) for number, row in enumerate(table.rows[:4])}
    # Without correction the second group would seem slower than the first by a fifth.
    assert max(ratio.values()) / min(ratio.values()) < 1.03
    raw_ms = {row.part: row.latency_raw_ms for row in table.rows}
    assert raw_ms["down"] / raw_ms["lcha"] > 1.1 * base_ms(2) / base_ms(0)
    assert table.card.protocol["drift"]["corrected"]
    assert table.card.protocol["drift"]["drift_percent"] > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "sample", "ms": -1.0}, r"line \d+ of .* is not a result: .* > 0"),
        ({"kind": "sample", "ms": "1"}, "is not a result: Expected `float`"),
        ({"kind": "sample", "unit": "ms"}, "is not a result: Object contains unknown field `unit`"),
        ({"kind": "sample", "thermal": "warm"}, "is not a result: Invalid enum value 'warm'"),
        ({"kind": "sample", "row": 99}, "is of row 99; below 4"),
        ({"kind": "sample", "round": 99}, "is another one in the manifest"),
        ({"kind": "sample", "slot": 4}, "slot 4 is another one in the manifest"),
        ({"kind": "sample", "at": "noon"}, "is not a result"),
        ({"kind": "sample", "at": "2026-99-02T12:00:00.000Z"}, "is no time"),
        ({"kind": "campaign", "kit": "sha256:0"}, "was measured with the kit sha256:0, and beside it lies sha256:"),
        ({"kind": "session", "n": 7}, "is the phone's line 7 and follows its line 0"),
        ({"kind": "loading", "kind_": "x"}, "unknown field"),
    ],
)
def test_a_line_that_is_wrong_is_refused_by_its_number(kit, manifest, tmp_path, change, message):
    done = []

    def alter(line):
        if line["kind"] == change["kind"] and not done:
            done.append(line)
            return {**line, **change}
        return line

    path = write_results(kit, manifest, change=alter)
    with pytest.raises(InputError, match=message) as refusal:
        ingest(path, tmp_path / "tables")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "tables").exists()


def test_a_sample_that_is_there_twice_is_refused(kit, manifest, tmp_path):
    slot = manifest.order[5]
    fields = {"slot": 5, "round": slot.round, "row": slot.row, "sentinel": slot.sentinel, "ms": 1.0}
    again = {"kind": "sample", **fields, "thermal": "nominal", "thermal_after": "nominal"}
    with pytest.raises(InputError, match=r"line \d+ of .* and line \d+ are the same sample"):
        ingest(write_results(kit, manifest, extra=[again]), tmp_path)


def test_an_unfinished_campaign_is_refused_with_what_is_missing(kit, manifest, tmp_path):
    dropped = {slot.slot for slot in manifest.order[-3:]}
    path = write_results(kit, manifest, change=lambda line: None if line.get("slot") in dropped else line)
    lines = [json.loads(line) for line in path.read_text().splitlines()][:-1]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match="holds 47 of 50 samples; repeat `python3 -m runner run` on the Mac"):
        ingest(path, tmp_path)


def test_a_torn_last_line_is_no_line(kit, manifest, tmp_path):
    path = write_results(kit, manifest)
    whole = ingest(path, tmp_path / "whole").tables[0]
    path.write_bytes(path.read_bytes()[:-5])  # of `done`
    assert ingest(path, tmp_path / "torn").tables[0].rows == whole.rows


def test_results_without_their_kit_are_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(InputError, match=r"there is no kit in .* name the results inside the kit's folder"):
        ingest(tmp_path / "results.jsonl", tmp_path)


def test_a_hot_sentinel_leaves_no_table(kit, manifest, tmp_path):
    def heat(line):
        return {**line, "thermal": "critical"} if line.get("row") == 0 and line["kind"] == "sample" else line

    with pytest.raises(InputError, match=r"gives no table: .*lcha.*: throttled: 0 of 8 samples were cool"):
        ingest(write_results(kit, manifest, change=heat), tmp_path)


def test_low_power_mode_is_a_mark(kit, manifest, tmp_path):
    def lower(line):
        return {**line, "low_power_mode": True} if line["kind"] == "session" else line

    assert "the phone was in Low Power Mode" in ingest(write_results(kit, manifest, change=lower), tmp_path).marks


def test_a_clock_that_is_set_back_does_no_harm(kit, manifest, tmp_path):
    def back(line):
        return {**line, "at": "2025-01-02T12:00:00.000Z"} if line.get("slot", 0) > 30 else line

    assert len(ingest(write_results(kit, manifest, change=back), tmp_path).tables[0].rows) == 5


@given(st.data())
def test_damaged_results_give_an_error_in_one_line_or_a_table(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(write_results(folder / "kit", write_kit(folder / "kit")).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=12))
    (folder / "kit" / "results.jsonl").write_bytes(content)
    try:
        found = ingest(folder / "kit" / "results.jsonl", folder / "tables")
    except S2SearchError as error:
        assert "\n" not in str(error)  # noqa: PT017  either is right
    else:
        assert LatencyTable.load(found.folders[0]).rows


def test_reading_twice_gives_the_same_table(kit, manifest, tmp_path):
    path = write_results(kit, manifest)
    (folder,) = ingest(path, tmp_path).folders
    before = contents(folder)
    assert ingest(path, tmp_path).folders == (folder,)
    assert contents(folder) == before


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_table_is_not_overwritten(kit, manifest, tmp_path):
    ingest(write_results(kit, manifest), tmp_path)
    path = write_results(kit, manifest, drift=0.01)
    with pytest.raises(TableError, match="already holds a table"):
        ingest(path, tmp_path)


def test_a_death_between_the_two_files_of_a_table_is_mended(kit, manifest, tmp_path):
    path = write_results(kit, manifest)
    (folder,) = ingest(path, tmp_path).folders
    before = contents(folder)
    (folder / "card.json").unlink()
    ingest(path, tmp_path)
    assert contents(folder) == before


@pytest.mark.parametrize("limit_bytes", [100, 900])
def test_a_full_disk_is_said_in_one_line_and_the_same_command_finishes(kit, manifest, tmp_path, limit_bytes):
    path = write_results(kit, manifest)
    whole = contents(ingest(path, tmp_path / "whole").folders[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large; make room"):
            ingest(path, tmp_path / "tables")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (folder,) = ingest(path, tmp_path / "tables").folders
    assert contents(folder) == whole


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ending_ingest_at_random_moments_changes_nothing(kit, manifest, tmp_path, how):
    path = write_results(kit, manifest)
    whole = contents(ingest(path, tmp_path / "whole").folders[0])
    rng, ends, tables = random.Random(how), 0, tmp_path / "tables"
    command = [sys.executable, "-m", "s2search", "kit", "ingest", str(path), "--out", str(tables)]
    while ends < 3:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
        moment = rng.uniform(0.5, 1.0)
        while process.poll() is None and moment > 0:
            time.sleep(0.002)
            moment -= 0.002
            moment = 0 if tables.exists() and rng.random() < 0.5 else moment
        process.send_signal(how)
        process.communicate(timeout=20)
        ends += 1
    (folder,) = ingest(path, tables).folders
    assert contents(folder) == whole


FORMS = {
    "iphone-9.coreml.float16": Form(),
    "iphone-9.coreml.float16.core_ml": Form(state="core_ml"),
    "iphone-9.coreml.float16.blocks.plain": Form(layout="blocks", state="plain"),
    "iphone-9.coreml.float16.plain": Form(state="plain"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_table_says_in_which_form_its_packages_were_and_is_named_by_what_is_not_the_default(tmp_path, name):
    form = FORMS[name]
    manifest = write_kit(tmp_path / "kit", form=form)
    (folder,) = ingest(write_results(tmp_path / "kit", manifest), tmp_path / "tables").folders
    assert folder.name == name
    protocol = LatencyTable.load(folder).card.protocol
    assert (protocol["layout"], protocol["state"]) == (form.layout, form.state)
    assert ("which are zeros" in protocol["method"]) == (form.state == "core_ml")
    assert ("packed by the host" in protocol["method"]) == (form.state == "host")


def test_results_of_a_kit_of_before_give_the_table_that_they_gave(tmp_path):
    manifest = write_kit(tmp_path / "kit", form=None)
    found = json.loads((tmp_path / "kit" / "manifest.json").read_text())
    assert not {"layout", "state"} & found.keys()
    for package in found["packages"]:
        del package["states"]  # as it was before
    (tmp_path / "kit" / "manifest.json").write_text(json.dumps(found))
    (table,) = ingest(write_results(tmp_path / "kit", manifest), tmp_path / "tables").tables
    assert table.name == "iphone-9.coreml.float16"
    assert not {"layout", "state"} & table.card.protocol.keys()
    assert "all inputs ready, no state kept; bytes" in table.card.protocol["method"]


@pytest.mark.parametrize("other", [None, Form(state="core_ml"), Form(state="plain")])
def test_tables_of_two_forms_are_not_merged(tmp_path, other):
    tables = []
    for number, form in enumerate((Form(), Form(), other)):
        kit = tmp_path / f"kit{number}"
        results = write_results(kit, write_kit(kit, form=form, seed=number))
        tables += ingest(results, tmp_path / f"tables{number}").tables
    both = merge(tables[:2], name="both", overlap="pool")
    for one in (tables[0], both):
        with pytest.raises(TableError, match=r"differ in the form of what was timed: 'bc1s, host' and '.*; merge "):
            merge([one, tables[2]], name="mixed", overlap="pool")


def test_a_commit_is_a_row_of_its_own_beside_the_read(tmp_path):
    rows = [("block", "lcha", "", 0), ("block", "ssa", "", 1), ("commit", "ssa", "", 2), ("fixed", "stem", "", 3)]
    manifest = write_kit(tmp_path / "kit", rows_of=rows)
    (table,) = ingest(write_results(tmp_path / "kit", manifest), tmp_path / "tables").tables
    ms = {row.role: row.latency_ms for row in table.rows if row.part == "ssa"}
    assert ms == {"block": pytest.approx(base_ms(1), rel=0.01), "commit": pytest.approx(base_ms(2), rel=0.01)}
    told = table.card.protocol["rows"].keys()
    assert {f"stream {what} 3x9x16 float16 cpu_and_neural_engine" for what in ("ssa", "ssa commit")} <= told


def test_a_kit_and_results_of_a_newer_version_are_called_so(tmp_path):
    results = write_results(tmp_path / "kit", write_kit(tmp_path / "kit"))
    whole = {path: path.read_text() for path in (results, tmp_path / "kit" / "manifest.json")}
    for path, schema in zip(whole, ("s2search.kit_results", "s2search.kit"), strict=True):
        path.write_text(whole[path].replace(f"{schema}/1", f"{schema}/2", 1))
        with pytest.raises(InputError, match=f"made by a newer s2search: its schema is '{schema}/2'"):
            ingest(results, tmp_path / "tables")
        path.write_text(whole[path])
