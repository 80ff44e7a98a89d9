import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s2search.errors import InputError, TableError
from s2search.measurement.samples import Protocol
from s2search.testing.profilers import miniature_items
from tests.measure import fake_profiler
from tests.measure.fake_profiler import MACHINE, PROTOCOL, FakeProfiler, run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def calm():
    MACHINE.timed.clear()
    yield
    MACHINE.disturb = lambda done: None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A campaign that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "t"
    run(folder)
    MACHINE.timed.clear()
    return folder


def interrupt_after(samples, error=KeyboardInterrupt):
    def disturb(done):
        if done >= samples:
            raise error

    MACHINE.disturb = disturb


def interrupted(out, samples):
    interrupt_after(samples)
    with pytest.raises(KeyboardInterrupt):
        run(out)
    MACHINE.disturb = lambda done: None


def assert_same(out, whole):
    for name in ("samples.jsonl", "table.csv", "card.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("samples", [1, 7, 40, 100])
def test_an_interrupted_campaign_goes_on_to_the_same_table(tmp_path, whole, samples):
    out = tmp_path / "t"
    interrupted(out, samples)
    assert not (out / "card.json").exists()
    run(out)
    assert_same(out, whole)


def test_no_finished_sample_is_timed_again(tmp_path, whole):
    out = tmp_path / "t"
    for samples in (10, 30, 31, 90):
        interrupted(out, samples)
    run(out)
    total = (whole / "samples.jsonl").read_bytes().count(b'"kind":"sample"')
    assert len(MACHINE.timed) == total
    assert_same(out, whole)


def test_kill_9_at_random_moments_changes_nothing(tmp_path, whole):
    out, rng = tmp_path / "t", random.Random(0)
    command = [sys.executable, "-m", "tests.measure.fake_profiler", str(out)]
    size, kills = 0, 0
    while not (out / "card.json").exists():
        process = subprocess.Popen(command, cwd=ROOT)
        goal = size + rng.randint(1000, 9000)
        while process.poll() is None and (size := _size(out)) < goal:
            time.sleep(0.0005)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 3
    assert_same(out, whole)


def _size(out):
    return os.path.getsize(out / "samples.jsonl") if (out / "samples.jsonl").exists() else 0


@pytest.mark.parametrize("keep", [1, 300, -1, -30])
def test_a_torn_last_line_is_dropped(tmp_path, whole, keep):
    out = tmp_path / "t"
    interrupted(out, 20)
    content = (out / "samples.jsonl").read_bytes()
    (out / "samples.jsonl").write_bytes(content[:keep])
    run(out)
    assert_same(out, whole)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"protocol": Protocol(rounds=9, seed=3, least_sample_ms=20.0)}, "protocol.rounds is 6 there and 9 here"),
        ({"profiler": FakeProfiler(drift=0.5)}, "profiler.drift is 0.001 there and 0.5 here"),
        (
            {"items": miniature_items()[1:]},
            "items.0.key is 'stream full 1x3x3' there and 'stream kv_compressed 1x3x3' here",
        ),
        ({"items": miniature_items()[:-1]}, "items.19 is 'clip head 2x3x3' there and absent here"),
    ],
)
def test_a_different_configuration_is_refused_by_its_first_difference(tmp_path, change, difference):
    out = tmp_path / "t"
    interrupted(out, 5)
    before = (out / "samples.jsonl").read_bytes()
    with pytest.raises(InputError) as refusal:
        run(out, **change)
    assert refusal.value.difference == difference
    assert "\n" not in str(refusal.value)
    assert (out / "samples.jsonl").read_bytes() == before


def test_a_line_that_is_none_is_refused_by_its_number(tmp_path):
    out = tmp_path / "t"
    interrupted(out, 5)
    lines = (out / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (out / "samples.jsonl").write_bytes(b"".join([*lines[:-2], b"{}\n", lines[-1]]))
    with pytest.raises(InputError, match=f"line {len(lines) - 1} of .* is not a line of a campaign"):
        run(out)


def test_a_sample_that_is_missing_in_the_middle_is_noticed(tmp_path):
    out = tmp_path / "t"
    interrupted(out, 9)
    lines = (out / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (out / "samples.jsonl").write_bytes(b"".join([*lines[:-4], *lines[-3:]]))
    with pytest.raises(InputError, match=r"sample 6 of .* is out of order"):
        run(out)


def test_two_processes_cannot_measure_into_one_folder(tmp_path):
    out = tmp_path / "t"

    def second(done):
        if done == 3:
            MACHINE.disturb = lambda done: None
            run(out)

    MACHINE.disturb = second
    with pytest.raises(InputError, match="another process is writing to"):
        run(out)


def test_a_full_disk_leaves_a_file_that_can_be_resumed(tmp_path, whole):
    out = tmp_path / "t"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large; make room"):
            run(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert _size(out) == 8000
    run(out)
    assert_same(out, whole)


def test_a_death_between_the_two_files_of_a_table_is_mended(tmp_path, whole):
    out = shutil.copytree(whole, tmp_path / "t")
    (out / "card.json").unlink()
    run(out)
    assert (out / "card.json").exists()
    assert not MACHINE.timed


def test_another_tables_rows_are_not_overwritten(tmp_path):
    out = tmp_path / "t"
    interrupted(out, 5)
    (out / "table.csv").write_text("mine")
    with pytest.raises(TableError, match="already holds a table"):
        run(out)
    assert (out / "table.csv").read_text() == "mine"


def test_the_fake_times_samples_by_more_than_one_call():
    assert PROTOCOL.least_sample_ms > 2 * max(fake_profiler.base_ms(item) for item in miniature_items())


@pytest.mark.parametrize("seed", range(6))
def test_a_disk_that_fills_at_random_points_leads_to_the_same_table(tmp_path, whole, seed):
    out, rng = tmp_path / "t", random.Random(seed)
    full = (whole / "samples.jsonl").stat().st_size
    for size in sorted(rng.randrange(1, full) for _ in range(4)):
        with only_room_for(size), pytest.raises(InputError, match="cannot be written"):
            run(out)
        assert not (out / "card.json").exists()
    run(out)
    assert_same(out, whole)


def test_a_disk_that_is_full_when_the_table_is_written_leaves_it_to_be_written_again(tmp_path, whole):
    out = tmp_path / "t"

    def stop_at_the_end(done, total, label):
        if label == "done":
            limit = (whole / "table.csv").stat().st_size // 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(InputError, match=r"the table's folder .* cannot be written: .* make room"):
            run(out, progress=stop_at_the_end)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (out / "card.json").exists()
    MACHINE.timed.clear()
    run(out)
    assert_same(out, whole)
    assert not MACHINE.timed


@contextlib.contextmanager
def only_room_for(size):
    """Files may not grow beyond so many bytes: what a full disk does, at a chosen point."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
