from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2search.codec.video import read_video
from tests.conftest import Outcome

Run = Callable[..., Outcome]
TINY = ("stream", "--preset", "s2dit-tiny", "--random-weights", "--threads", "1", "--video", "64x48")


def test_eight_chunks_become_a_playable_file_of_93_frames_and_a_table_of_times(s2search: Run, tmp_path: Path) -> None:
    done = s2search(*TINY, "--prompt", "a cat", "--chunks", "8", "--out", "clip.mp4", "--overlap")
    assert done.code == 0, done.err
    assert read_video(tmp_path / "clip.mp4").shape == (93, 48, 64, 3)
    for word in ("93 frames in 8 chunks", "first chunk", "p50", "p95", "text", "DiT", "commit", "decode", "4 passes"):
        assert word in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_the_report_is_json_for_programs(s2search: Run) -> None:
    done = s2search(*TINY, "--chunks", "3", "--out", "clip.mp4", "--json", "--commit", "clean_pass")
    report = json.loads(done.out)
    assert report["schema"] == "s2search.stream_report/1"
    assert (report["chunks"], report["frames"], report["passes_per_chunk"]) == (3, 33, 5)
    assert report["stage_ms"]["commit"] > 0
    assert report["frames_per_second"]["all"] <= 1.01 * report["frames_per_second"]["transformer"]


def test_a_stream_is_the_same_per_seed_and_goes_on_where_it_stopped(s2search: Run, tmp_path: Path) -> None:
    prompts = ("--prompt", "a cat", "--prompt-at", "2:a dog")
    s2search(*TINY, *prompts, "--chunks", "4", "--out", "whole.mp4", "--state-out", "whole.safetensors")
    s2search(*TINY, *prompts[:2], "--chunks", "2", "--out", "one.mp4", "--state-out", "one.safetensors")
    done = s2search(
        *TINY,
        *prompts,
        "--chunks",
        "2",
        "--out",
        "two.mp4",
        "--state-in",
        "one.safetensors",
        "--state-out",
        "two.safetensors",
    )
    assert done.code == 0, done.err
    assert (tmp_path / "two.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert len(read_video(tmp_path / "one.mp4")) + len(read_video(tmp_path / "two.mp4")) == 45


def test_a_stream_goes_on_as_what_it_was_or_not_at_all(s2search: Run, tmp_path: Path) -> None:
    assert s2search(*TINY, "--chunks", "1", "--out", "one.mp4", "--state-out", "one.safetensors").code == 0
    files = sorted(tmp_path.iterdir())
    for words, line in {
        "--video 128x96": "'one.safetensors' is of 64x48 video, not of 128x96; go on with --video 64x48",
        "--dtype bfloat16": "'one.safetensors' is float32, not bfloat16",
        "--seed 7": "was made with the weights",
        "--steps 3": "is of 4 steps (1, 0.9375, 0.8333, 0.625), not of 3 steps",
        "--shift 3": "not of 4 steps (1, 0.9, 0.75, 0.5)",
        "--commit clean_pass": "is committed by reuse_last, not by clean_pass",
        "--codec wan[folder=x]": "is of the codec plugin dct, not of wan[folder=x]",
        "--text clip[folder=x]": "is of the text plugin hashing[channels=64,tokens=16], not of clip[folder=x]",
        "--prompt-at 3:x": "--prompt-at names chunk 3; 0 to 2",
        "--layout L8": "belongs to the model",
        "--state-out x.mp4": "video and state are both 'x.mp4'",
    }.items():
        done = s2search(*TINY, "--state-in", "one.safetensors", "--chunks", "2", "--out", "x.mp4", *words.split())
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), words
        assert line in done.err, words
        assert sorted(tmp_path.iterdir()) == files, words


def test_what_a_stream_takes_over_from_its_state_is_said(s2search: Run, tmp_path: Path) -> None:
    import torch

    from s2search.network.network import S2DiT
    from s2search.preset import Preset

    torch.manual_seed(0)
    S2DiT.from_preset(Preset.named("s2dit-tiny")).save_pretrained(tmp_path / "weights")
    command = ("stream", "weights", *TINY[4:], "--chunks", "1")
    s2search(*command, "--out", "one.mp4", "--seed", "3", "--state-out", "one.safetensors")
    done = s2search(*command, "--out", "two.mp4", "--state-in", "one.safetensors", "--json")
    untrained = "the weights do not say that they were trained to stream: "
    untrained += "steps, shift and commit policy are the paper's"
    assert json.loads(done.out)["notes"] == [untrained, "the noise goes on with the state's seed 3, not 0"]
    done = s2search(*command, "--out", "two.mp4", "--state-in", "one.safetensors")
    assert done.out.endswith("\nthe noise goes on with the state's seed 3, not 0\n")


def test_the_times_are_printed_though_the_state_cannot_be_written(
    s2search: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s2search.network.weight_file.save_file", full)
    done = s2search(*TINY, "--chunks", "1", "--out", "x.mp4", "--state-out", "s.safetensors", "--json")
    assert (done.code, json.loads(done.out)["frames"], len(done.err.splitlines())) == (2, 9, 1)
    assert "No space left on device" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


def saved(folder: Path, **form: Any) -> None:
    """Save tiny weights that say that they were trained to stream so."""
    import torch

    from s2search.network.config import CausalForm, ModelConfig
    from s2search.network.network import S2DiT
    from s2search.preset import Preset

    preset = Preset.named("s2dit-tiny")
    torch.manual_seed(0)
    layout = S2DiT.from_preset(preset).config.layout
    S2DiT(ModelConfig.new(preset, layout, causal=CausalForm(**form))).save_pretrained(folder)


def test_trained_weights_stream_as_they_were_trained_and_in_no_other_way(
    s2search: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "weights", commit="clean_pass", level=0.0, schedule=(1.0, 0.75))
    command = ("stream", "weights", *TINY[4:], "--chunks", "2", "--out", "x.mp4")
    report = json.loads(s2search(*command, "--json").out)
    assert (report["passes_per_chunk"], report["notes"]) == (3, [])
    assert s2search(*command, "--steps", "2", "--shift", "3", "--commit", "clean_pass").code == 0
    (tmp_path / "x.mp4").unlink()

    def read(*_: object, **__: object) -> None:
        raise AssertionError("weights were read before the options")

    monkeypatch.setattr("s2search.network.network.S2DiT.from_pretrained", read)
    for words, line in {
        "--steps 4": "trained for 2 steps (1, 0.75), and 4 steps (1, 0.9375, 0.8333, 0.625) are asked for",
        "--shift 5": "trained for 2 steps (1, 0.75), and 2 steps (1, 0.8333) are asked for",
        "--commit reuse_last": "trained with --commit clean_pass, and reuse_last is asked for",
    }.items():
        done = s2search(*command, *words.split())
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), words
        assert line in done.err, words
        assert [path.name for path in tmp_path.iterdir()] == ["weights"], words


def test_weights_that_follow_the_flow_take_any_steps_along_it_and_go_on_with_these(
    s2search: Run, tmp_path: Path
) -> None:
    saved(tmp_path / "weights", commit="reuse_last", level=0.625)
    command = ("stream", "weights", *TINY[4:], "--chunks", "1", "--out", "x.mp4", "--json")
    assert json.loads(s2search(*command).out)["passes_per_chunk"] == 51
    done = s2search(*command, "--steps", "4", "--state-out", "four.safetensors")
    assert json.loads(done.out)["passes_per_chunk"] == 5
    assert s2search(*command, "--steps", "4", "--state-in", "four.safetensors").code == 0
    done = s2search(*command, "--state-in", "four.safetensors")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "is of 4 steps (1, 0.9375, 0.8333, 0.625), not of 50 steps" in done.err


@pytest.mark.slow
def test_saved_weights_stream_as_they_did_before(s2search: Run, tmp_path: Path) -> None:
    import torch

    from s2search.network.network import S2DiT
    from s2search.preset import Preset

    torch.manual_seed(0)
    S2DiT.from_preset(Preset.named("s2dit-tiny")).save_pretrained(tmp_path / "weights")
    for words in (TINY, ("stream", "weights", *TINY[4:])):
        assert s2search(*words, "--chunks", "2", "--out", f"{len(words)}.mp4").code == 0
    one, other = (read_video(path) for path in sorted(tmp_path.glob("*.mp4")))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("stream", "--out", "x.mp4"), "there are no weights; a folder of weights, or --preset NAME --random-weights"),
        ((*TINY, "--out", "x.mp4", "--layout", "L3"), "the layout has 3 layers and the preset 's2dit-tiny' 8"),
        ((*TINY, "--out", "x.mp4", "--video", "65x48"), "does not divide into tokens of 16 pixels"),
        ((*TINY, "--out", "x.mp4", "--codec", "dtc"), "did you mean 'dct'?"),
        ((*TINY, "--out", "x.mp4", "--text", "hashing"), "makes tokens of 768 channels, and the model reads 64"),
        ((*TINY, "--out", "x.avi"), "use a name that ends in .mp4"),
        ((*TINY, "--out", "no/x.mp4"), "'no/x.mp4' cannot be written"),
        ((*TINY, "--out", "x.mp4", "--prompt-at", "a dog"), "'a dog' does not name a chunk"),
        ((*TINY, "--out", "x.mp4", "--device", "cuda:99"), "the device 'cuda:99' cannot be used"),
        ((*TINY, "--out", "x.mp4", "--device", "warp"), "the device 'warp' cannot be used"),
        ((*TINY, "--out", "x.mp4", "--state-in", "none"), "'none' is not a stream's state"),
        ((*TINY, "--out", "x.mp4", "--chunks", "0"), "'0'"),
        ((*TINY, "--out", "x.mp4", "--shift", "-1"), "the shift is -1"),
        (("stream", "nowhere", "--out", "x.mp4"), "there is no folder of weights 'nowhere'"),
        (
            ("stream", "w", "--preset", "s2dit-tiny", "--out", "x.mp4"),
            "--preset cannot be combined with the weights 'w'",
        ),
        (("stream", "--preset", "s2dit-tny", "--random-weights", "--out", "x.mp4"), "did you mean 's2dit-tiny'?"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_bad_input_gives_one_line_and_leaves_nothing(
    s2search: Run, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    done = s2search(*words)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1, done.err
    assert line in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_stream_keeps_its_frames_and_its_state(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s2search", *TINY, "--chunks", "100000", "--out", "clip.mp4"]
    process = subprocess.Popen([*command, "--state-out", "state.safetensors"], cwd=tmp_path, text=True, env=os.environ)
    deadline = time.monotonic() + 60
    while not (tmp_path / ".clip.mp4.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    frames = len(read_video(tmp_path / "clip.mp4"))
    assert frames >= 9
    assert (frames - 9) % 12 == 0
    assert (tmp_path / "state.safetensors").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "state.safetensors"]


def patiently(folder: Path, *words: str) -> str:
    """Run a command that takes minutes, and return what it printed."""
    command = [sys.executable, "-m", "s2search", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_compiled_model_streams_the_same_frames(tmp_path: Path) -> None:
    for options in ([], ["--compile"]):
        patiently(tmp_path, *TINY, "--chunks", "4", "--out", f"{len(options)}.mp4", *options)
    one, other = (read_video(path).astype(int) for path in sorted(tmp_path.glob("*.mp4")))
    assert abs(one - other).mean() < 1


@pytest.mark.slow
def test_memory_stays_flat_over_1000_chunks(tmp_path: Path) -> None:
    peaks = {}
    for chunks in (50, 1000):
        report = json.loads(patiently(tmp_path, *TINY, "--chunks", str(chunks), "--out", "clip.mp4", "--json"))
        peaks[chunks] = report["peak_process_bytes"]
    assert peaks[1000] < peaks[50] + 30e6, peaks
