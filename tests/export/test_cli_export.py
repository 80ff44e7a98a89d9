from __future__ import annotations

import pytest
import torch

from s2search.exporters.package import Package
from s2search.network.network import S2DiT
from s2search.preset import Preset

SIZES = """
depth = 1
channels = 32
heads = 4
feed_forward = 64
text_channels = 8
text_tokens = 5
layout = "S"
"""
SMALL = ("export", "--preset", "small.toml", "--random-weights", "--video", "64x48")


def test_a_model_becomes_a_package_with_its_files_sizes_and_time(s2search, tmp_path):
    (tmp_path / "small.toml").write_text(SIZES)
    done = s2search(*SMALL, "--exporter", "torch_program", "--out", "package", "--seed", "3")
    assert done.code == 0, done.err
    for words in (
        "torch_program package in package after",
        "ssa\n64x48, chunks of 3",
        "first, denoise, commit, advance",
    ):
        assert words in done.out
    for words in ("advance.pt2", "source/model.safetensors", "predicted", "state", "+0.0%", "plan none"):
        assert words in done.out
    package = Package.load(tmp_path / "package")
    assert package.manifest.grid == (3, 4)
    torch.manual_seed(3)
    expected = S2DiT.from_preset(Preset.named(str(tmp_path / "small.toml")))
    source = S2DiT.from_pretrained(package.source)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--exporter", "onix", "--out", "x"), "no exporter is called 'onix' (did you mean 'onnx'?)"),
        (("--exporter", "onnx", "--out", "small.toml"), "'small.toml' exists; name another folder, or remove it"),
        (("--exporter", "onnx", "--out", "x", "--video", "65x48"), "does not divide into tokens of 16 pixels"),
        (("--exporter", "onnx", "--out", "x", "--layout", "L3"), "the layout has 3 layers"),
        (("--exporter", "onnx", "--out", "x", "--plan", "p.json"), "'p.json'"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_bad_input_gives_one_line_and_leaves_nothing(s2search, tmp_path, words, line):
    (tmp_path / "small.toml").write_text(SIZES)
    done = s2search(*SMALL, *words)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1, done.err
    assert line in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]
