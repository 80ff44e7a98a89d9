import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from s2search.kit.ingest import ingest
from tests.kit.conftest import Mac


def table_csv(mac, tmp_path, name="tables"):
    (folder,) = ingest(mac.results, tmp_path / name).folders
    return (folder / "table.csv").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The table of a campaign that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    other = Mac(folder)
    other.run()
    return table_csv(other, folder)


def test_a_campaign_is_measured_from_the_first_row_to_the_last_slot(mac, tmp_path):
    said = mac.run()
    assert f"done: {len(mac.manifest.order)} samples" in said
    assert [line["slot"] for line in mac.lines("sample")] == list(range(len(mac.manifest.order)))
    assert [line["row"] for line in mac.lines("placement")] == [0, 1, 2, 3]
    assert mac.lines("placement")[0]["operations"] == {"neural_engine": 2, "cpu": 1}
    assert mac.lines("placement")[0]["elsewhere"] == {"gelu": 1}
    assert mac.lines("cold")[0] == mac.lines("cold")[0] | {"load_ms": [900.0, 90.0], "predict_ms": [12.0] + [11.0] * 4}
    (campaign,) = mac.lines("campaign")
    assert campaign["device"] == "iPhone 16 Pro Max"
    assert campaign["chip"] == "A18 Pro"
    assert "00008140-000A11112222001C" not in mac.results.read_text()
    assert (mac.world / "count.unload").read_text() == "4"


def test_a_finished_campaign_is_not_measured_again(mac):
    mac.run()
    before = mac.results.read_bytes()
    mac.run()
    assert mac.results.read_bytes() == before


def test_check_says_that_all_is_ready(mac):
    assert mac.run("check") == "iPhone 16 Pro Max, iOS 26.1 (23B85), connected; 4 rows, 50 samples: ready\n"


def test_a_phone_whose_tunnel_is_closed_is_woken(mac):
    (mac.world / "idle").touch()
    assert mac.run("check").endswith("ready\n")


def test_without_a_phone_the_command_says_what_it_needs(mac):
    mac.faults(looks_until_back=100_000)
    (mac.world / "unplugged").write_text("100000")
    assert "one connected iPhone is needed, and there is: none; plug in one and unlock it" in mac.run("check", code=2)


def test_an_unplugged_phone_is_waited_for_and_the_table_is_the_same(mac, tmp_path, undisturbed):
    mac.faults(unplug_at=[3, 30], looks_until_back=8)
    said = mac.run()
    assert said.count("Test Phone is not connected; waiting") == 2
    assert not any(line["crashed"] for line in mac.lines("session"))
    assert table_csv(mac, tmp_path) == undisturbed


@pytest.mark.slow
def test_a_phone_that_does_not_come_back_ends_the_command_and_the_next_one_goes_on(mac, tmp_path, undisturbed):
    mac.faults(unplug_at=[10], looks_until_back=100_000)
    said = mac.run("run", "--team", "T", "--wait", "0.5", code=2)
    assert "runner: Test Phone did not come back; plug it in, unlock it and repeat the command" in said
    (mac.world / "unplugged").unlink()
    mac.run()
    assert table_csv(mac, tmp_path) == undisturbed


@pytest.mark.slow
def test_a_phone_unplugged_under_coremltools_is_waited_for(mac):
    mac.faults(cold={"p1": "unplug"}, looks_until_back=8)
    assert mac.run().count("not connected; waiting") == 2
    assert len(mac.lines("placement")) == 4
    assert not mac.lines("failed")


def test_a_block_that_does_not_compile_fails_alone(mac, tmp_path):
    mac.faults(cold={"p1": "compile"}, does_not_compile=["p1"])
    mac.run()
    (failed,) = mac.lines("failed")
    assert (failed["row"], failed["stage"], failed["reason"]) == (1, "compile", "does_not_compile")
    found = ingest(mac.results, tmp_path)
    assert [entry.row.part for entry in found.missing] == ["ssa"]
    assert {row.part for row in found.tables[0].rows} == {"lcha", "down", "stem", "long_skip"}


def test_without_coremltools_a_block_that_does_not_compile_is_found_by_the_compiler(mac):
    mac.faults(does_not_compile=["p1"])
    mac.run("run", "--team", "T", "--skip-cold")
    (failed,) = mac.lines("failed")
    assert "unsupported op 'surprise'" in failed["message"]
    assert {line["row"] for line in mac.lines("sample")} == {0, 2, 3}


def test_running_out_of_memory_twice_while_loading_gives_the_row_up(mac, tmp_path):
    mac.faults(dies_loading={"2": 99})
    mac.run()
    (failed,) = mac.lines("failed")
    assert (failed["row"], failed["reason"]) == (2, "out_of_memory")
    assert len([line for line in mac.lines("loading") if line["row"] == 2]) == 2
    (missing,) = ingest(mac.results, tmp_path).missing
    assert missing.reason == "out of memory (load): the app died twice while it loaded this row"


@pytest.mark.slow
def test_dying_once_while_loading_costs_nothing(mac, tmp_path, undisturbed):
    mac.faults(dies_loading={"1": 1})
    mac.run()
    assert not mac.lines("failed")
    assert table_csv(mac, tmp_path) == undisturbed


def test_dying_between_samples_costs_nothing(mac, tmp_path, undisturbed):
    mac.faults(dies_at_sample=[0, 20, 45])
    mac.run()
    assert table_csv(mac, tmp_path) == undisturbed


@pytest.mark.slow
def test_an_app_that_hangs_is_ended_and_launched_again(mac, tmp_path, undisturbed):
    mac.faults(hangs_at_launch=[1])
    begin = time.monotonic()
    mac.run()
    assert time.monotonic() - begin > 3
    assert table_csv(mac, tmp_path) == undisturbed


@pytest.mark.slow
def test_a_timeout_of_coremltools_leaves_the_steady_samples(mac, tmp_path):
    mac.faults(cold={"p1": "timeout"})
    mac.run()
    (failed,) = mac.lines("failed")
    assert (failed["stage"], failed["reason"]) == ("load", "timeout")
    rows = {row.part: row for row in ingest(mac.results, tmp_path).tables[0].rows}
    assert rows["ssa"].note == "placement not known: timeout"
    assert rows["lcha"].note == "operations: neural_engine 2, cpu 1"


@pytest.mark.slow
def test_memory_that_coremltools_ran_out_of_is_called_so(mac):
    mac.faults(cold={"p3": "memory"})
    mac.run()
    (failed,) = mac.lines("failed")
    assert failed["reason"] == "out_of_memory"


def test_an_error_of_coremltools_that_does_not_repeat_is_forgotten(mac):
    mac.faults(cold={"p2": "once"})
    mac.run()
    assert not mac.lines("failed")
    assert len([line for line in mac.lines("attempt") if line["row"] == 2]) == 2


def test_a_throttled_row_is_not_in_the_table(mac, tmp_path):
    slots = [slot.slot for slot in mac.manifest.order if slot.group == 1]
    mac.faults(hot=[slots[2], slots[-1]])
    mac.run()
    found = ingest(mac.results, tmp_path)
    assert {entry.row.part for entry in found.missing} == {"down", "stem"}
    assert all(entry.reason.startswith("throttled: ") for entry in found.missing)
    card = found.tables[0].card
    assert card.protocol["thermal"]["serious"] == len(slots) - 2
    assert card.protocol["samples_used"] == slots[0] + 1  # the first group, and the second one's first sentinel


def test_an_app_that_cannot_be_signed_is_said_in_one_line(mac):
    mac.faults(xcodebuild=True)
    said = mac.run(code=2)
    assert "runner: build failed: error: No signing certificate" in said
    assert "** BUILD FAILED **" in (mac.kit / "runner.log").read_text()


def test_another_phone_cannot_go_on_with_the_campaign(mac):
    mac.run()
    lines = mac.results.read_text().splitlines(keepends=True)
    lines[0] = lines[0].replace('"device_digest":"', '"device_digest":"x')
    mac.results.write_text("".join(lines))
    assert "was started with another phone" in mac.run(code=2)


def test_a_deleted_app_gets_its_journal_back(mac, tmp_path, undisturbed):
    mac.faults(unplug_at=[20], looks_until_back=100_000)
    mac.run("run", "--team", "TEAM1", "--wait", "0", code=2)
    (mac.world / "unplugged").unlink()
    (journal,) = mac.world.glob("phone/*kitrunner*/Documents/kit/steady.jsonl")
    mac.run("check")
    content = journal.read_bytes()
    mac.faults()
    # The first command could not fetch the last lines; the second one does, before the app is deleted.
    mac.faults(unplug_at=[30], looks_until_back=100_000)
    mac.run("run", "--team", "TEAM1", "--wait", "0", code=2)
    assert len(content.splitlines()) <= len([line for line in mac.results.read_text().splitlines() if '"n":' in line])
    (mac.world / "unplugged").unlink()
    journal.unlink()
    mac.faults()
    mac.run()
    assert table_csv(mac, tmp_path) == undisturbed


@pytest.mark.parametrize("keep", [pytest.param(1, marks=pytest.mark.slow), -30])
def test_a_torn_last_line_is_dropped(mac, tmp_path, undisturbed, keep):
    mac.faults(unplug_at=[20], looks_until_back=100_000)
    mac.run("run", "--team", "TEAM1", "--wait", "0", code=2)
    (mac.world / "unplugged").unlink()
    mac.results.write_bytes(mac.results.read_bytes()[:keep])
    mac.run()
    assert table_csv(mac, tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ending_the_runner_at_random_moments_changes_nothing(mac, tmp_path, undisturbed, how):
    mac.faults(sample_s=0.1)
    rng, ends = random.Random(how), 0
    for _ in range(8):
        process = mac.start("run", "--team", "TEAM1")
        time.sleep(rng.uniform(0.4, 1.6))
        if process.poll() == 0:
            process.communicate()
            break
        os.killpg(process.pid, how)
        _, err = process.communicate(timeout=20)
        ends += 1
        assert "Traceback" not in err or how == signal.SIGKILL, err
    assert ends >= 2
    mac.run()
    slots = [line["slot"] for line in mac.lines("sample")]
    assert sorted(slots) == list(range(len(mac.manifest.order)))
    assert table_csv(mac, tmp_path) == undisturbed


def test_a_full_disk_ends_the_runner_with_one_line_and_it_goes_on(mac, tmp_path, undisturbed):
    words = [sys.executable, "-m", "runner", "run", "--team", "TEAM1"]
    limited = ["sh", "-c", 'ulimit -S -f 8; exec "$@"', "sh", *words]
    done = subprocess.run(limited, cwd=mac.kit, env=mac.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be written: File too large; make room and repeat the command" in done.stderr
    assert "Traceback" not in done.stderr
    mac.run()
    assert table_csv(mac, tmp_path) == undisturbed


def test_two_runners_cannot_write_one_file(mac):
    mac.faults(sample_s=0.05)
    first = mac.start("run", "--team", "T")
    while not mac.results.exists():
        time.sleep(0.05)
    assert "another runner writes" in mac.run("run", "--team", "T", code=2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()


def test_a_kit_that_was_copied_in_part_is_refused_before_anything_is_timed(mac):
    shutil.rmtree(mac.kit / "packages/p1.mlpackage")
    said = mac.run("check", code=2)
    assert "runner: packages/p1.mlpackage of 4 packages missing here; copy the kit's folder again" in said
    path = mac.kit / "manifest.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert "runner: manifest.json is not whole; copy the kit's folder again" in mac.run(code=2)
    assert not mac.results.exists()
