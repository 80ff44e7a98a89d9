"""Sustained load in a kit: minutes without a pause on a phone that throttles, beside the cold figures."""

import json
import re
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from s2search.errors import InputError, S2SearchError
from s2search.kit.ingest import ingest
from s2search.kit.readme import expected_minutes, readme
from s2search.kit.results import Results
from s2search.kit.sustained import sustained_samples
from s2search.lint.linter import lint
from tests.kit.conftest import Mac, write_kit
from tests.kit.fake_mac.latencies import THROTTLE, base_ms
from tests.kit.test_ingest import write_results

SECONDS = 60.0


@pytest.fixture
def mac(tmp_path):
    return Mac(tmp_path / "mac", sustained_s=SECONDS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A campaign that nothing disturbed."""
    other = Mac(tmp_path_factory.mktemp("undisturbed") / "mac", sustained_s=SECONDS)
    other.run()
    return other


def tables_of(mac, folder):
    return {path.name: (path / "table.csv").read_bytes() for path in ingest(mac.results, folder).folders}


def change_lines(mac, change):
    """Alter the lines of a campaign, or drop those for which `change` gives None."""
    lines = [change(json.loads(line)) for line in mac.results.read_text().splitlines()]
    mac.results.write_text("".join(json.dumps(line) + "\n" for line in lines if line is not None))


def kit_of(mac, tmp_path):
    """Return a copy of a campaign that may be altered."""
    other = Mac(tmp_path / "copy", sustained_s=SECONDS)
    other.results.write_bytes(mac.results.read_bytes())
    return other


def test_a_phone_that_throttles_gets_a_cold_table_and_a_sustained_one_beside_it(undisturbed, tmp_path):
    cold, hot = ingest(undisturbed.results, tmp_path).tables
    assert (cold.name, hot.name) == ("iphone-16-pro-max.coreml.float16", "iphone-16-pro-max.coreml.float16.sustained")
    for number, (one, other) in enumerate(zip(cold.rows[:4], hot.rows[:4], strict=True)):
        assert one.label == other.label
        assert one.latency_ms == pytest.approx(base_ms(number), rel=0.015)
        assert other.latency_ms == pytest.approx((1 + THROTTLE) * base_ms(number), rel=0.015)
        beside = hot.card.protocol["rows"][undisturbed.manifest.rows[number].label]
        assert beside["cold_ms"] == one.latency_ms
        assert beside["sustained_over_cold"] == pytest.approx(1 + THROTTLE, rel=0.02)
    assert "sustained for 60 s" in hot.card.protocol["mode"]
    slower = re.search(r"the sentinel takes \+([\d.]+) % against the cold run$", hot.card.protocol["mode"])
    assert float(slower[1]) == pytest.approx(100 * THROTTLE, abs=1.5)
    assert cold.card.protocol["mode"].startswith("cold")
    assert not hot.card.protocol["drift"]["corrected"]


def test_every_sample_says_how_hot_the_phone_was(undisturbed, tmp_path):
    assert {line["thermal"] for line in undisturbed.lines("hot")} == {"nominal", "fair", "serious", "critical"}
    cold, hot = ingest(undisturbed.results, tmp_path).tables
    assert cold.card.protocol["thermal"] == {"nominal": len(undisturbed.manifest.order)}
    assert hot.card.protocol["thermal"]["critical"] > SECONDS
    assert hot.card.protocol["thermal"]["nominal"] < 10


def test_sustained_load_lasts_as_long_as_asked_for_and_the_last_third_of_each_group_counts(undisturbed):
    for group in (0, 1):
        (heated,) = [line for line in undisturbed.lines("heated") if line["group"] == group]
        assert SECONDS <= heated["seconds"] < SECONDS + 12
    results = Results(undisturbed.results, undisturbed.manifest, undisturbed.lines("campaign")[0]["kit"])
    counted = sustained_samples(undisturbed.manifest, results, ())
    for group, stretch in results.stretches.items():
        begin, end = (datetime.fromisoformat(stretch[place].at) for place in (0, -1))
        own = [sample for sample in counted if undisturbed.manifest.order[sample.slot].group == group]
        assert datetime.fromisoformat(own[0].at) >= begin + 2 / 3 * (end - begin)
        assert datetime.fromisoformat(own[0].at) < begin + 2 / 3 * (end - begin) + timedelta(seconds=10)
        assert own[-1].n == stretch[-1].n
        assert len({sample.round for sample in own}) >= 3


def test_nothing_waits_for_the_phone_to_cool_under_sustained_load(undisturbed):
    first = undisturbed.lines("heating")[0]["n"]
    assert [line["n"] for line in undisturbed.lines("pause") if line["n"] > first] == []


def test_a_phone_unplugged_under_sustained_load_begins_that_load_anew_and_the_tables_are_the_same(
    mac, tmp_path, undisturbed
):
    mac.faults(unplug_hot_at=[40, 140], looks_until_back=8)
    said = mac.run()
    assert said.count("Test Phone is not connected; waiting") == 2
    assert [line["group"] for line in mac.lines("heating")] == [0, 0, 1, 1]
    assert [line["group"] for line in mac.lines("heated")] == [0, 1]
    assert tables_of(mac, tmp_path / "one") == tables_of(undisturbed, tmp_path / "other")


@pytest.mark.slow
def test_a_phone_unplugged_before_counts_for_both_tables(mac, tmp_path, undisturbed):
    mac.faults(unplug_at=[3, 30], looks_until_back=8)
    mac.run()
    assert tables_of(mac, tmp_path / "one") == tables_of(undisturbed, tmp_path / "other")


def test_a_finished_campaign_is_not_heated_again(undisturbed):
    before = undisturbed.results.read_bytes()
    undisturbed.run()
    assert undisturbed.results.read_bytes() == before


def test_the_runner_says_how_long_to_leave_the_phone_alone(mac):
    assert mac.run().count("sustained load has begun: 1.0 minutes; leave the phone alone") == 2


def test_an_app_that_dies_again_and_again_under_load_is_not_launched_for_ever(mac, tmp_path, undisturbed):
    mac.faults(dies_hot_at=[10, 20, 30, 40])
    assert "the app ended 3 times without a new sample" in mac.run(code=2)
    mac.run()
    assert tables_of(mac, tmp_path / "one") == tables_of(undisturbed, tmp_path / "other")


def test_a_group_whose_load_has_lasted_is_progress(mac):
    mac.faults(dies_hot_at=[10, 20, 30, 130])
    mac.run()
    assert [line["group"] for line in mac.lines("heating")] == [0, 0, 0, 0, 1, 1]


def test_a_row_that_fails_when_it_is_hot_is_in_the_cold_table_alone(mac, tmp_path):
    mac.faults(fails_hot={"2": 50})
    mac.run()
    found = ingest(mac.results, tmp_path)
    assert [{row.part for row in table.rows} for table in found.tables] == [
        {"lcha", "ssa", "down", "stem", "long_skip"},
        {"lcha", "ssa", "stem", "long_skip"},
    ]
    assert [(entry.row.part, entry.reason) for entry in found.missing] == [("down", "error (predict): too hot")]


def test_a_sentinel_that_fails_when_it_is_hot_leaves_the_cold_table(mac, tmp_path):
    mac.faults(fails_hot={"0": 50})
    mac.run()
    found = ingest(mac.results, tmp_path)
    assert [table.name for table in found.tables] == ["iphone-16-pro-max.coreml.float16"]
    assert len(found.tables[0].rows) == 5
    assert found.marks[-1].startswith("no sustained table: the sentinel stream lcha")


def test_a_row_that_fails_is_in_neither_table(mac, tmp_path):
    mac.faults(fails=[2])
    mac.run()
    found = ingest(mac.results, tmp_path)
    assert [entry.row.part for entry in found.missing] == ["down"]
    assert [{row.part for row in table.rows} for table in found.tables] == 2 * [{"lcha", "ssa", "stem", "long_skip"}]


def test_a_group_of_which_nothing_runs_is_not_heated(mac, tmp_path):
    mac.faults(fails=[2, 3])
    mac.run()
    assert [line["group"] for line in mac.lines("heated")] == [0]
    assert len(ingest(mac.results, tmp_path).tables) == 2


def test_a_row_too_hot_in_the_cold_run_is_in_the_sustained_table_alone(mac, tmp_path):
    slots = [slot.slot for slot in mac.manifest.order if slot.group == 1]
    mac.faults(hot=[slots[2], slots[-1]])
    mac.run()
    cold, hot = ingest(mac.results, tmp_path).tables
    assert {row.part for row in hot.rows} - {row.part for row in cold.rows} == {"down", "stem"}
    assert hot.card.protocol["rows"][mac.manifest.rows[2].label]["cold_ms"] is None


def test_a_load_that_did_not_last_is_asked_for_again(undisturbed, tmp_path):
    other = kit_of(undisturbed, tmp_path)
    end = undisturbed.lines("heated")[-1]["n"]
    change_lines(other, lambda line: None if line.get("n", 0) >= end else line)
    with pytest.raises(InputError, match=r"holds the sustained load of 1 of 2 groups; repeat `python3 -m runner run`"):
        ingest(other.results, tmp_path / "tables")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hot", "ms": 0.0}, "is not a result"),
        ({"kind": "hot", "slot": 9999}, "names a group or slot that the manifest does not have"),
        ({"kind": "hot", "row": 3}, "names a group or slot that the manifest does not have"),
        ({"kind": "heating", "group": 2}, "names a group or slot that the manifest does not have"),
        ({"kind": "heated", "group": 1}, "does not belong to a sustained load that was started"),
        ({"kind": "hot", "lap": 7}, "is out of order"),
        ({"kind": "hot", "at": "2026-99-02T12:00:00.000Z"}, "is no time"),
    ],
)
def test_a_line_of_sustained_load_that_is_wrong_is_refused(undisturbed, tmp_path, change, message):
    other, done = kit_of(undisturbed, tmp_path), []

    def alter(line):
        if line["kind"] == change["kind"] and not done:
            done.append(line)
            return {**line, **change}
        return line

    change_lines(other, alter)
    with pytest.raises(InputError, match=message) as refusal:
        ingest(other.results, tmp_path / "tables")
    assert "\n" not in str(refusal.value)


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_sustained_load_gives_an_error_in_one_line_or_tables(undisturbed, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    write_kit(folder / "kit", sustained_s=SECONDS)
    content = bytearray(undisturbed.results.read_bytes())
    first = content.index(b'"heating"')
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(first, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=12))
    for _ in range(data.draw(st.integers(0, 2))):
        lines = content.splitlines(keepends=True)
        del lines[data.draw(st.integers(1, len(lines) - 1))]
        content = bytearray(b"".join(lines))
    (folder / "kit" / "results.jsonl").write_bytes(content)
    try:
        found = ingest(folder / "kit" / "results.jsonl", folder / "tables")
    except S2SearchError as error:
        assert "\n" not in str(error)  # noqa: PT017  either is right
    else:
        assert all(table.rows for table in found.tables)


def test_a_load_that_is_told_of_twice_is_refused(undisturbed, tmp_path):
    other = kit_of(undisturbed, tmp_path)
    change_lines(other, lambda line: {**line, "kind": "heating", "group": 0} if line["kind"] == "done" else line)
    with pytest.raises(InputError, match="does not belong to a sustained load that was started"):
        ingest(other.results, tmp_path / "tables")


def test_a_clock_that_is_set_back_under_sustained_load_does_no_harm(undisturbed, tmp_path):
    other = kit_of(undisturbed, tmp_path)
    last = undisturbed.lines("hot")[-20]["n"]
    change_lines(
        other,
        lambda line: {**line, "at": "2025-01-02T12:00:00.000Z"} if line.get("n", 0) >= last else line,
    )
    cold, hot = ingest(other.results, tmp_path / "tables").tables
    assert len(hot.rows) == len(cold.rows)


def test_the_linter_finds_no_more_in_the_sustained_table_than_in_the_cold_one(undisturbed, tmp_path):
    cold, hot = (
        {finding.rule for finding in lint(str(folder))} for folder in ingest(undisturbed.results, tmp_path).folders
    )
    assert hot <= cold


def test_a_kit_without_sustained_load_is_what_it_was(tmp_path):
    kit = tmp_path / "kit"
    manifest = write_kit(kit)
    assert manifest.protocol.sustained_s is None
    assert "ustained" not in readme(manifest)
    (table,) = ingest(write_results(kit, manifest), tmp_path / "tables").tables
    assert not {"mode", "sustained_s"} & table.card.protocol.keys()


def test_the_readme_says_what_sustained_load_is_and_counts_its_minutes(tmp_path):
    plain = write_kit(tmp_path / "plain")
    heated = write_kit(tmp_path / "heated", sustained_s=300.0)
    text = readme(heated)
    assert "Then sustained load: 2 groups of rows, each timed back to back for 300 s" in text
    assert 10 < expected_minutes(heated) - expected_minutes(plain) < 12
    assert "11 under sustained load," in text


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_duration_that_is_none_is_refused(tmp_path, seconds):
    with pytest.raises(InputError, match="sustained_s is"):
        write_kit(tmp_path / "kit", sustained_s=seconds)
