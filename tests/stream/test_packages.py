"""Video from packages: what `export` wrote in the place of a model, a text encoder and a decoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import s2search
from s2search.codec.video import read_video
from s2search.decibels import parity_db
from s2search.errors import CheckError, InputError
from s2search.exporters.base import Exporter
from s2search.registry import create
from s2search.testing.exporters import GRID, tiny_model
from s2search.text.base import TextEncoder
from tests.conftest import run_here
from tests.text import tiny

VIDEO = "64x48"  # of GRID


def exported(exporter: str, out: Path, **sizes: Any) -> Path:
    """Write the package of one small model."""
    one: Exporter = create("exporters", exporter)
    one.export(tiny_model(**sizes), GRID, out)
    return out


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package of a small model for onnxruntime."""
    return exported("onnx", tmp_path_factory.mktemp("packages") / "step")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package of a decoder for onnxruntime."""
    out = tmp_path_factory.mktemp("packages") / "decoder"
    s2search.export("onnx", out, part="dct", video=VIDEO)
    return out


def frames_of(path: Path) -> np.ndarray[Any, Any]:
    """Return the frames of a file as numbers."""
    return np.asarray(read_video(path), np.float64)


@pytest.mark.parametrize("commit", ["reuse_last", "clean_pass"])
def test_a_package_streams_what_its_model_streams(step: Path, decoder: Path, tmp_path: Path, commit: Any) -> None:
    asked: dict[str, Any] = {"prompt": "a red ball", "chunks": 4, "commit": commit, "seed": 3}
    found = s2search.stream(tmp_path / "a.mp4", package=[decoder, step], **asked)
    s2search.stream(tmp_path / "b.mp4", tiny_model(), video=VIDEO, threads=1, **asked)
    assert parity_db(frames_of(tmp_path / "b.mp4"), frames_of(tmp_path / "a.mp4")) > 35  # mp4 loses something
    figures = json.loads(found.to_json())
    assert (figures["video"], figures["device"], figures["dtype"]) == (VIDEO, "onnx", "float32")
    assert figures["chunks"] == 4
    s2search.stream(tmp_path / "c.mp4", package=step, **{**asked, "prompt": "a green cube"})
    assert parity_db(frames_of(tmp_path / "b.mp4"), frames_of(tmp_path / "c.mp4")) < 30


@pytest.mark.parametrize("exporter", ["torch_program", "coreml", "coreml[package_mb=0.12]"])
def test_other_runtimes_stream_it_too_and_say_where_they_are_no_phone(exporter: str, tmp_path: Path) -> None:
    package = exported(exporter, tmp_path / "package")
    found = s2search.stream(tmp_path / "a.mp4", package=package, prompt="a cat", chunks=2)
    s2search.stream(tmp_path / "b.mp4", tiny_model(), video=VIDEO, threads=1, prompt="a cat", chunks=2)
    assert parity_db(frames_of(tmp_path / "b.mp4"), frames_of(tmp_path / "a.mp4")) > 25
    stands_in = [note for note in found.notes if "say nothing of a phone" in note]
    assert len(stands_in) == (0 if exporter == "torch_program" else 1)
    assert len(list(package.glob("*.mlpackage"))) == {"torch_program": 0, "coreml": 1}.get(exporter, 2)


def test_a_stream_from_packages_stops_and_goes_on_bit_for_bit(step: Path, decoder: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"package": [step, decoder], "prompt": "a cat"}
    s2search.stream(tmp_path / "whole.mp4", chunks=4, **asked)
    s2search.stream(tmp_path / "a.mp4", chunks=2, state_out=tmp_path / "state.safetensors", **asked)
    s2search.stream(tmp_path / "b.mp4", chunks=2, state_in=tmp_path / "state.safetensors", **asked)
    whole, rest = frames_of(tmp_path / "whole.mp4"), frames_of(tmp_path / "b.mp4")
    assert parity_db(whole[-len(rest) :], rest) > 35  # of two files: mp4 loses something
    for other in ({"package": step}, {"weights": tiny_model(), "video": VIDEO}):
        with pytest.raises(InputError):
            s2search.stream(tmp_path / "c.mp4", state_in=tmp_path / "state.safetensors", chunks=1, **other)


def test_the_text_encoder_may_be_a_package_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    tiny.save_clip_tokenizer(folder)
    tiny.clip_model().save_pretrained(folder)
    s2search.export("onnx", tmp_path / "text", part=f"clip[folder={folder}]")
    plugin: TextEncoder = create("texts", f"clip[folder={folder}]")
    sizes = {"text_channels": plugin.channels, "text_tokens": plugin.tokens}
    step, model = exported("onnx", tmp_path / "step", **sizes), tiny_model(**sizes)
    s2search.stream(tmp_path / "a.mp4", package=[step, tmp_path / "text"], prompt="a cat", chunks=2)
    s2search.stream(tmp_path / "b.mp4", model, video=VIDEO, text=plugin, threads=1, prompt="a cat", chunks=2)
    assert parity_db(frames_of(tmp_path / "b.mp4"), frames_of(tmp_path / "a.mp4")) > 35  # mp4 loses something


def test_many_clips_come_from_packages_and_are_kept(step: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    asked: dict[str, Any] = {"package": step, "prompts": tmp_path / "prompts.txt", "chunks": 1}
    found = s2search.stream(tmp_path / "clips", **asked)
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["a cat-0.mp4", "a dog-0.mp4"]
    assert "onnx" in found.to_json()
    assert '"kept": 2' in s2search.stream(tmp_path / "clips", **asked).to_json()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--package", "{step}", "--package", "{step}"], "2 of the packages are of a streaming step"),
        (["--package", "{decoder}"], "0 of the packages are of a streaming step"),
        (["--package", "{step}", "--package", "{decoder}", "--package", "{decoder}"], "two of the packages are a deco"),
        (["--package", "{step}", "--preset", "s2dit-tiny"], "--preset is given beside --package"),
        (["{step}/source", "--package", "{step}"], "WEIGHTS is given beside --package"),
        (["--package", "{step}", "--dtype", "float16"], "--dtype is given beside --package"),
        (["--package", "{step}", "--threads", "2"], "--threads is given beside --package"),
        (["--package", "{step}", "--video", "256x144"], "streams video of 64x48, and --video 256x144 is asked for"),
        (["--package", "{step}", "--package", "{decoder}", "--codec", "dct"], "--codec is given beside a package"),
        (["--package", "{step}", "--codec", "dct[channels=4]"], "decodes latents of 4 channels"),
        (["--package", "{step}/source"], "manifest"),
        (["--package", "nowhere"], "nowhere"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(
    step: Path, decoder: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    asked = [word.format(step=step, decoder=decoder) for word in words]
    done = run_here(["stream", *asked, "--chunks", "1", "--out", "x.mp4"], tmp_path)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_changed_package_is_not_run(step: Path, tmp_path: Path) -> None:
    shutil.copytree(step, tmp_path / "step")
    (weights,) = (tmp_path / "step").glob("*.bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(CheckError, match=weights.name):
        s2search.stream(tmp_path / "x.mp4", package=tmp_path / "step")


def test_a_policy_whose_function_is_lacking_is_refused(tmp_path: Path) -> None:
    one: Exporter = create("exporters", "onnx")
    one.export(tiny_model(), GRID, tmp_path / "step", functions=("denoise", "commit"))
    with pytest.raises(InputError, match="lacks advance, which reuse_last streams by"):
        s2search.stream(tmp_path / "x.mp4", package=tmp_path / "step", chunks=1)
    s2search.stream(tmp_path / "x.mp4", package=tmp_path / "step", chunks=1, commit="clean_pass")
    one.export(tiny_model(), GRID, tmp_path / "longer", frames=6)
    with pytest.raises(InputError, match="takes 6 latent frames at a time, and its model makes chunks of 3"):
        s2search.stream(tmp_path / "y.mp4", package=tmp_path / "longer", chunks=1)
