"""The contract's own words: caches, pixels, and that planning is spared torch."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2search.codec.base import Cache
from s2search.codec.dct import DCT
from s2search.codec.pixels import frames_from_video, psnr_db, video_from_frames
from s2search.errors import InputError
from s2search.testing.codecs import check_codec


def cache(**changes):
    fields = {"codec": "x", "direction": "decode", "latent_frames": 3, "grid": (1, 2, 3)}
    return Cache(**fields | {"tensors": {"0": torch.ones(2, 3), "1.a": torch.zeros(4)}} | changes)


def test_a_cache_becomes_named_tensors_and_back():
    named = cache().named_tensors()
    assert sorted(named) == ["x.decode", "x.decode.0", "x.decode.1.a"]
    again = Cache.from_named_tensors(dict(reversed(named.items())))
    assert (again.codec, again.direction, again.latent_frames, again.grid) == ("x", "decode", 3, (1, 2, 3))
    assert {name: tensor.tolist() for name, tensor in again.tensors.items()} == {"0": [[1.0] * 3] * 2, "1.a": [0.0] * 4}


def test_a_cache_counts_its_bytes_and_cannot_be_changed():
    held = {"0": torch.ones(2, 3, dtype=torch.bfloat16)}
    made = cache(tensors=held)
    held["1"] = torch.zeros(9)
    assert made.cache_bytes == 12
    with pytest.raises(TypeError):
        made.tensors["0"] = torch.zeros(1)
    with pytest.raises(AttributeError):
        made.latent_frames = 4


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"x": torch.tensor([1, 1, 1, 1])},
        {"x.decode": torch.tensor([1, 1, 1])},
        {"x.decode": torch.ones(4)},
        {"x.decode": torch.tensor([1, 1, 1, 1]), "y.decode.0": torch.ones(1)},
    ],
)
def test_other_tensors_are_no_cache(named):
    with pytest.raises(InputError, match="are not a codec cache"):
        Cache.from_named_tensors(named)


def test_an_odd_call_says_what_fits():
    worker = DCT().load()
    with pytest.raises(InputError, match=r"^4 frames cannot be encoded at the start of a stream; 1, 5, 9, "):
        worker.encode(torch.zeros(1, 3, 4, 8, 8))
    with pytest.raises(InputError, match=r"3 channels, 8 rows and 12 columns .* multiples of 8; resize or crop it$"):
        worker.encode(torch.zeros(1, 3, 1, 8, 12))
    _, encoded = worker.encode_chunk(torch.zeros(1, 3, 1, 8, 8), None)
    with pytest.raises(InputError, match=r"a cache of dct encode .*\(1, 1, 1\) does not fit dct decode"):
        worker.decode(torch.zeros(1, 16, 1, 1, 1), encoded)


class _Flawed(type(DCT().load())):
    """A worker with one flaw, which the conformance suite must find."""

    flaw = ""

    def _encode(self, video_BCTYX, before):
        if self.flaw == "looks ahead":
            video_BCTYX = video_BCTYX + 1e-3 * video_BCTYX.mean()
        return super()._encode(video_BCTYX, before)

    def _decode(self, latents_BCTYX, before):
        if self.flaw == "forgets":
            before = None if latents_BCTYX.shape[2] > 1 else before
        if self.flaw == "counts calls":
            self.std_C = self.std_C * 1.01
        video_BCTYX, _ = super()._decode(latents_BCTYX, before)
        if self.flaw == "changes its cache":
            after = before or {"0": torch.zeros(1)}
            return video_BCTYX + after["0"].add_(0.1), after
        if self.flaw == "hoards":
            return video_BCTYX, {"0": torch.zeros(1 if before is None else len(before["0"]) + 1)}
        if self.flaw == "mixes":
            return video_BCTYX.flip(0) if len(video_BCTYX) == 2 else video_BCTYX, {}
        return video_BCTYX, {}


class _FlawedDCT(DCT):
    def load(self, device="cpu", dtype=None):
        return _Flawed(torch.device(device), dtype or torch.float32)


@pytest.mark.parametrize("flaw", ["looks ahead", "forgets", "counts calls", "changes its cache", "hoards", "mixes"])
def test_the_conformance_suite_finds_a_flaw(flaw, monkeypatch):
    check_codec(_FlawedDCT())
    monkeypatch.setattr(_Flawed, "flaw", flaw)
    with pytest.raises(AssertionError):
        check_codec(_FlawedDCT())


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_frames_survive_the_way_to_pixels_and_back(seed, frames):
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 8, 16, 3), dtype=np.uint8)
    video_BCTYX = video_from_frames(pixels)
    assert video_BCTYX.shape == (1, 3, frames, 8, 16)
    assert video_BCTYX.abs().max() <= 1
    assert (frames_from_video(video_BCTYX) == pixels).all()
    assert (frames_from_video(video_BCTYX * 3)[pixels > 255 * 0.7] == 255).all()


def test_psnr_is_that_of_its_definition():
    one = np.zeros((2, 4, 4, 3), np.uint8)
    other = one.copy()
    other[0] = 10
    assert psnr_db(one, other) == pytest.approx(10 * np.log10(255**2 / 50))
    assert psnr_db(one, one) == np.inf


def test_naming_a_codec_loads_neither_torch_nor_a_codec_library():
    program = (
        "import sys; from s2search import registry; registry.create('codecs', 'dct'); import s2search.codec.video\n"
        "assert not {'torch', 'diffusers', 'av'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
