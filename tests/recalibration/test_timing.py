from __future__ import annotations

import pytest

from s2search.errors import InputError
from s2search.measurement.samples import Protocol
from s2search.recalibration.timing import Subject, time_interleaved
from tests.recalibration.fake_bench import Constant, FakeProfiler, noon

PROTOCOL = Protocol(rounds=8, sentinel_every=2)


class Recorded(Constant):
    log: list[float] = []  # noqa: RUF012

    def time_ms(self, repetitions):
        self.log.append(self.ms)
        return self.ms


def subjects(*ms):
    return [Subject(key=f"{one:g}", facts={}, prepare=lambda one=one: Recorded(one)) for one in ms]


def time(path, *ms, **options):
    return time_interleaved(
        FakeProfiler(), subjects(*ms), path, preset="none", **{"protocol": PROTOCOL, "clock": noon, **options}
    )


def test_every_round_times_all_in_another_order_and_the_sentinel_between(tmp_path):
    Recorded.log.clear()
    found = time(tmp_path / "samples.jsonl", 1.0, 2.0, 3.0, 4.0)
    timed = Recorded.log[-8 * 6 :]
    rounds = [tuple(timed[start : start + 6]) for start in range(0, len(timed), 6)]
    assert all(sorted(one) == [1.0, 1.0, 1.0, 2.0, 3.0, 4.0] for one in rounds)
    assert all(one[0] == one[3] == 1.0 for one in rounds)
    assert len(set(rounds)) > 1
    assert {key: times.samples for key, times in found.items.items()} == dict.fromkeys("1234", 8)
    assert found.items["3"].corrected.median_ms == 3.0


def test_samples_of_another_order_are_refused(tmp_path):
    path = tmp_path / "samples.jsonl"
    time(path, 1.0, 2.0, 3.0)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[5], lines[4], *lines[6:]]) + "\n")
    with pytest.raises(InputError, match=r"sample 1 of .* is out of order"):
        time(path, 1.0, 2.0, 3.0)


def test_more_samples_than_the_schedule_has_are_refused(tmp_path):
    path = tmp_path / "samples.jsonl"
    time(path, 1.0, 2.0)
    with path.open("a") as file:
        file.write(path.read_text().splitlines()[-1] + "\n")
    with pytest.raises(InputError, match="out of order"):
        time(path, 1.0, 2.0)


def test_a_finished_run_is_read_and_nothing_is_timed_again(tmp_path):
    first = time(tmp_path / "samples.jsonl", 1.0, 2.0)
    Recorded.log.clear()
    assert time(tmp_path / "samples.jsonl", 1.0, 2.0) == first
    assert not Recorded.log
