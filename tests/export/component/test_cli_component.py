"""Text encoders and decoders on the command line: exported, verified, refused."""

import pytest

from tests.text import tiny


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("transformers", reason="the extra s2search[video] is not installed")
    tiny.save_clip_tokenizer(tmp_path / "clip")
    tiny.clip_model().save_pretrained(tmp_path / "clip")
    return "clip[folder=clip]"


@pytest.mark.slow
def test_a_text_encoder_is_exported_and_verified(s2search, clip):
    done = s2search("export", "--part", clip, "--exporter", "coreml[bits=8]", "--out", "text, 8 bits")
    assert done.code == 0, done.err
    assert "text of clip by coreml[bits=8]" in done.out
    assert "encode: 1 inputs, 1 outputs" in done.out
    done = s2search("verify", "text, 8 bits")
    assert done.code == 0, done.err
    assert "weights passed" in done.out
    assert "verified, 3 required checks passed" in " ".join(done.out.split())


@pytest.mark.parametrize("exporter", ["onnx", "coreml"])
def test_a_decoder_is_exported_and_verified(s2search, tmp_path, exporter):
    done = s2search("export", "--part", "dct", "--exporter", exporter, "--video", "64x48", "--out", "decoder")
    assert done.code == 0, done.err
    assert s2search("verify", "decoder", "--chunks", "2").code == 0
    done = s2search("verify", "decoder", "--threshold", "parity=200")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    again = s2search("export", "--part", "dct", "--exporter", exporter, "--out", "decoder")
    assert (again.code, len(again.err.splitlines())) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["decoder"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--part", "foo"), "no text encoder or codec is called 'foo'; installed: clip, dct, "),
        (("--part", "wan[folder=nowhere]"), "'nowhere' is not a folder with config.json"),
        (
            ("--part", "dct", "--preset", "s2dit-tiny"),
            "--preset cannot be combined with --part, which has no such model; leave",
        ),
        (
            ("--part", "dct", "--exporter", "torch_program"),
            "the exporter 'torch_program' writes no text encoders and no decoders; coreml, onnx",
        ),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(s2search, tmp_path, words, line):
    exporter = () if "--exporter" in words else ("--exporter", "onnx")
    done = s2search("export", *words, *exporter, "--out", "package")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1, done.err
    assert line in done.err
    assert not list(tmp_path.iterdir())
