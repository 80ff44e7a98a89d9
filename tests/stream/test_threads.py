"""How many threads a stream takes where nobody says."""

import pytest
import torch

from s2search.api.stream import stream
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.streaming import threads
from s2search.streaming.threads import fastest_threads, is_small, one_pass

TINY = Preset.named("s2dit-tiny")


@pytest.fixture
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_fastest_number_of_threads_is_first_and_one_slow_call_does_not_count(best):
    now, calls = [0.0], []

    def run():
        calls.append(torch.get_num_threads())
        slow = calls.count(calls[-1]) in (1, 3)  # the start of threads, and something else that runs
        now[0] += 0.4 if slow else 0.010 if calls[-1] == best else 0.020

    found = fastest_threads(run, 4, clock=lambda: now[0])
    assert next(iter(found.items())) == (best, pytest.approx(10))
    assert sorted(found) == [1, 2, 4]


@pytest.mark.usefixtures("_threads_as_before")
def test_a_hopeless_number_of_threads_is_tried_once():
    now, calls = [0.0], []

    def run():
        calls.append(torch.get_num_threads())
        now[0] += {1: 0.4, 3: 0.5, 6: 4.0}[calls[-1]]

    assert fastest_threads(run, 6, clock=lambda: now[0]) == pytest.approx({1: 400, 3: 500, 6: 4000})
    assert calls == [1] * 4 + [3] * 4 + [6]


def test_only_models_whose_passes_are_short_are_tried():
    with torch.device("meta"):
        tiny, small = S2DiT.from_preset(TINY), S2DiT.from_preset(Preset.named("s2dit-small"))
    assert is_small(tiny, (18, 32))
    assert not is_small(small, (9, 16))


@pytest.mark.parametrize("channels", [16, 4])
def test_a_pass_of_the_trial_reads_one_chunk(channels):
    model = S2DiT.from_preset(TINY, latent_channels=channels).eval()
    assert one_pass(model, (2, 3))().shape == (1, channels, 3, 4, 6)


@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize(
    ("options", "count", "notes"),
    [
        ({}, 1, ("--threads 1 by a short trial: a pass took 10 ms with it, 30 ms with 2",)),
        ({"threads": 2}, 2, ()),
    ],
)
def test_a_stream_says_how_many_threads_it_took_and_why(tmp_path, monkeypatch, options, count, notes):
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "fastest_threads", lambda run, most: {1: 10.0, 2: 30.0})
    made = {"preset": "s2dit-tiny", "random_weights": True, "video": "32x32", "chunks": 1}
    report = stream(tmp_path / "x.mp4", **made, **options)
    assert (report.threads, report.summary()["threads"], report.notes) == (count, count, notes)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_threads_as_before")
def test_a_model_too_large_to_try_says_so(tmp_path, monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "_LARGEST_TRIAL", 1)
    report = stream(tmp_path / "x.mp4", preset="s2dit-tiny", random_weights=True, video="32x32", chunks=1)
    assert report.notes == ("2 threads, as torch chose; on a busy machine fewer may be faster: --threads",)
