from __future__ import annotations

import copy
import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from s2search.errors import InputError
from s2search.exporters import sweep as sweeping
from s2search.exporters.sweep import PrecisionSweep, journal_path, sweep
from s2search.network.network import S2DiT
from s2search.precision.documents import Sensitivity
from s2search.preset import Preset

ASKED = PrecisionSweep(grid=(2, 2), precisions=("float16", "w8a8", "w4a16"), palette="uniform", chunks=1, mixtures=3)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        preset = Preset(
            name="two", depth=2, channels=64, heads=2, feed_forward=64, text_channels=64, text_tokens=3,
            chunk_frames=1, window_chunks=1,
        )  # fmt: skip
        return S2DiT.from_preset(preset, "LS").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    return sweep(model, ASKED, tmp_path_factory.mktemp("sweep") / "sensitivity.json")


def test_every_part_has_a_figure_for_every_precision(found):
    assert [offer.part for offer in found.parts] == ["stem", "layers.0", "layers.1", "down", "up", "head", "text"]
    assert [offer.block for offer in found.parts[1:3]] == ["lcha", "ssa"]
    for offer in found.parts:
        exact, eight, four = (offer.choice(label) for label in ASKED.precisions)
        assert exact.noise < eight.noise
        assert exact.noise < four.noise
        assert exact.bytes > eight.bytes > four.bytes or offer.part in ("layers.0", "layers.1")


def test_noise_powers_of_parts_add_up(found):
    """The law that precisions are chosen by: on a model of two layers, within 1.5 dB."""
    assert len(found.mixtures) == 3
    assert found.law_error_db < 1.5
    assert len({mixture.measured_db for mixture in found.mixtures}) == 3
    for mixture in found.mixtures:
        assert mixture.predicted_db == pytest.approx(found.predicted_db(mixture.parts))


def test_the_same_sweep_finds_the_same_and_leaves_no_journal(model, found, tmp_path):
    assert sweep(model, ASKED, tmp_path / "again.json") == found
    assert Sensitivity.load(tmp_path / "again.json") == found
    assert [path.name for path in tmp_path.iterdir()] == ["again.json"]


@pytest.mark.parametrize("torn", [b"", b'{"key":"layers.0 w4a1'])
def test_a_sweep_that_was_stopped_goes_on_without_finding_a_figure_twice(model, found, tmp_path, monkeypatch, torn):
    out, seen = tmp_path / "s.json", []

    def stop_at(count):
        def stop(done, total, label):
            if done == count:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sweep(model, ASKED, out, stop)
        assert not out.exists()

    stop_at(9)
    journal = journal_path(out)
    assert len(journal.read_bytes().splitlines()) == 10
    journal.write_bytes(journal.read_bytes() + torn)
    noise = sweeping._Figures.noise
    monkeypatch.setattr(sweeping._Figures, "noise", lambda self, parts: seen.append(parts) or noise(self, parts))
    stop_at(12)
    assert sweep(model, ASKED, out) == found
    assert len(seen) == 7 * 3 + 3 - 9


def test_a_journal_of_another_sweep_or_of_other_weights_is_refused(model, tmp_path):
    out = tmp_path / "s.json"

    def stop(done, total, label):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(model, ASKED, out, stop)
    other = PrecisionSweep(grid=(2, 2), precisions=("w4a16",), palette="uniform", chunks=1)
    with pytest.raises(InputError, match="belongs to another sweep"):
        sweep(model, other, out)
    other = copy.deepcopy(model)
    other.head.patch.weight[0, 0] += 1
    with pytest.raises(InputError, match="belongs to another sweep"):
        sweep(other, ASKED, out)
    content = journal_path(out).read_bytes()
    journal_path(out).write_bytes(content + b"nonsense\n")
    with pytest.raises(InputError, match=r"line 2 of .* is not a line of a sweep"):
        sweep(model, ASKED, out)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"grid": (2, 3)}, r"grid is \(2, 2\) there and \(2, 3\) here"),
        ({"precisions": ("float16",)}, "precisions is .* there and .* here"),
        ({"palette": "kmeans"}, "palette is uniform there and kmeans here"),
        ({"chunks": 2}, "chunks is 1 there and 2 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"mixtures": 0}, "mixtures is 3 there and 0 here"),
    ],
)
def test_a_finished_sweep_is_read_and_never_overwritten_by_another(model, found, tmp_path, options, line):
    out = tmp_path / "s.json"
    found.save(out)
    before = out.read_bytes()
    assert sweep(model, ASKED, out, lambda *call: pytest.fail("a finished sweep began again")) == found
    with pytest.raises(InputError, match=f"is of another sweep: {line}; name another file"):
        sweep(model, dataclasses.replace(ASKED, **options), out)
    other = copy.deepcopy(model)
    other.head.patch.weight[0, 0] += 1
    with pytest.raises(InputError, match="is of another sweep: weights is"):
        sweep(other, ASKED, out)
    assert out.read_bytes() == before
    assert not journal_path(out).exists()


def test_a_file_that_is_no_sweep_is_not_overwritten(model, tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(InputError, match=r"notes.json' is there and is no finished sweep; name another file"):
        sweep(model, ASKED, tmp_path / "notes.json")
    assert (tmp_path / "notes.json").read_text() == "{}"


def test_what_cannot_be_swept_is_refused_before_it_begins(model, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        sweep(model, ASKED, tmp_path / "none" / "s.json")
    with pytest.raises(InputError, match="w5a16"):
        PrecisionSweep(grid=(2, 2), precisions=("w5a16",))
    with pytest.raises(InputError, match="each once"):
        PrecisionSweep(grid=(2, 2), precisions=("w4a16", "w4a16"))
    with pytest.raises(InputError, match="at least 1 chunk"):
        PrecisionSweep(grid=(2, 2), chunks=0)


COMMAND = (
    *("sensitivity", "--preset", "two.toml", "--random-weights", "--video", "32x32", "--palette", "uniform"),
    *("--precision", "float16", "--precision", "w8a8", "--precision", "w4a16", "--chunks", "1", "--mixtures", "3"),
)
SIZES = """
depth = 2
channels = 64
heads = 2
feed_forward = 64
text_channels = 64
text_tokens = 3
chunk_frames = 1
window_chunks = 1
layout = "LS"
"""


@pytest.mark.slow
def test_the_command_prints_what_it_writes(s2search, tmp_path, found):
    (tmp_path / "two.toml").write_text(SIZES)
    done = s2search(*COMMAND, "--out", "s.json")
    assert done.code == 0, done.err
    for words in ("w4a16", "layers.0 lcha", "all, added up", "mixtures, added up / measured"):
        assert words in done.out
    again = Sensitivity.load(tmp_path / "s.json")
    assert [offer.choices for offer in again.parts] == [offer.choices for offer in found.parts]


def test_a_sweep_leads_to_a_plan_of_precisions(s2search, tmp_path, found):
    found.save(tmp_path / "s.json")
    done = s2search("plan", "precision", "s.json", "--least-db", "25", "--out", "p.json")
    assert done.code == 0, done.err
    for words in ("asked: at least 25 dB", "of the noise", "proven optimal"):
        assert words in done.out
    assert (tmp_path / "p.json").exists()
    for words, line in (
        ((), "no limit is given for the precisions"),
        (("--budget", "9kB"), "no precisions keep at most 9.0 kB of weights: the smallest takes"),
        (("--budget", "9ms"), "there is no table to price latency; give a table as well"),
        (("--budget", "10fps"), "the budget 10fps is no limit on memory or on one pass"),
        (("--least-db", "nan"), "--least-db is nan"),
        (("--budget", "9ms", "--table", "iphone-16-pro-max.coreml.w4a8"), "no streaming rows at 2x2 tokens"),
    ):
        done = s2search("plan", "precision", "s.json", *words)
        assert done.code in (2, 3)
        assert len(done.err.splitlines()) == 1, done.err
        assert line in done.err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_command_goes_on_where_it_stopped(tmp_path, how):
    (tmp_path / "two.toml").write_text(SIZES)
    words = [sys.executable, "-m", "s2search", *COMMAND[:-2], "--mixtures", "1000", "--out", "s.json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    journal = journal_path(tmp_path / "s.json")
    while not (journal.exists() and len(journal.read_bytes().splitlines()) > 20):
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(how)
    first.wait()
    assert not (tmp_path / "s.json").exists()
    kept = journal.read_bytes()
    assert len(kept.splitlines()) > 20
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Sensitivity.load(tmp_path / "s.json").mixtures) == 1000
