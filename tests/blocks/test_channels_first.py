"""Pieces with channels before tokens, against the pieces that they are twins of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from s2search_blocks.lcha.channels_first import ChannelsFirstSoftplus
from s2search_blocks.lcha.module import SoftplusMap
from s2search_blocks.pieces.cells import cell_means, cells_to_channels, channels_to_cells
from s2search_blocks.pieces.channels_first import norms, rotary
from s2search_blocks.pieces.channels_first.projection import (
    CellsToTokens,
    Projection,
    TokensToCells,
    cropped,
    padded_to_even,
)
from s2search_blocks.pieces.channels_first.window import remembered
from s2search_blocks.pieces.norms import EPSILON, RMSNorm, layer_norm
from s2search_blocks.pieces.rotary import rotate
from s2search_blocks.pieces.window import remembered as remembered_of_blocks
from torch import nn

SIDES = some.integers(1, 5)
TOLERANCE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread):
    """Every test here."""


def normal(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(inputs, outputs):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs).double()


def first(x_BTHWD):
    """Return (1, D, T H, W)."""
    return x_BTHWD.permute(0, 4, 1, 2, 3).flatten(2, 3)


def test_a_projection_is_the_linear_map_and_its_kernel_a_view_of_the_matrix():
    original, x_1SD = linear(6, 8), normal(1, 7, 6)
    twin = Projection(original)
    got = twin(x_1SD.transpose(1, 2)[:, :, None])
    torch.testing.assert_close(got[:, :, 0].transpose(1, 2), original(x_1SD), **TOLERANCE)
    assert twin.weight.data_ptr() == original.weight.data_ptr()
    assert twin.weight.shape == (8, 6, 1, 1)


@given(frames=some.integers(1, 3), height=SIDES, width=SIDES)
def test_cells_become_tokens_on_every_grid(frames, height, width):
    original, x_BTHWD = linear(12, 5), normal(1, frames, height, width, 3)
    got = CellsToTokens(original)(padded_to_even(first(x_BTHWD), frames))
    torch.testing.assert_close(got, first(original(cells_to_channels(x_BTHWD))), **TOLERANCE)


@given(frames=some.integers(1, 3), height=SIDES, width=SIDES)
def test_tokens_become_cells_on_every_grid(frames, height, width):
    original = linear(3, 20)
    x_BThwD = normal(1, frames, -(-height // 2), -(-width // 2), 3)
    got = cropped(TokensToCells(original)(first(x_BThwD)), frames, height, width)
    torch.testing.assert_close(got, first(channels_to_cells(original(x_BThwD), height, width)), **TOLERANCE)


@given(frames=some.integers(1, 3), height=SIDES, width=SIDES)
def test_means_of_padded_cells_are_means_of_cells(frames, height, width):
    x_BTHWD = normal(1, frames, height, width, 3)
    got = nn.functional.avg_pool2d(padded_to_even(first(x_BTHWD), frames), 2)
    torch.testing.assert_close(got, first(cell_means(x_BTHWD)), **TOLERANCE)


@given(
    frames=SIDES,
    height=SIDES,
    width=SIDES,
    pairs=some.integers(1, 7),
    start=some.sampled_from([None, 0, 3]),
    stride=some.sampled_from([1, 2]),
)
def test_rotation_is_the_same_with_channels_first(frames, height, width, pairs, start, stride):
    grid, tokens = (frames, height, width), frames * height * width
    x_1SAK = normal(1, tokens, 3, 2 * pairs)
    wanted = rotate(x_1SAK, grid, first_frame=start, stride=stride)
    got = rotary.rotate(x_1SAK.permute(0, 2, 3, 1), grid, first_frame=start, stride=stride)
    torch.testing.assert_close(got.permute(0, 3, 1, 2), wanted, **TOLERANCE)


def test_norms_are_the_same_with_channels_first():
    x_1S1D = normal(1, 7, 1, 12)
    got = norms.layer_norm(x_1S1D.permute(0, 3, 2, 1))
    torch.testing.assert_close(got.permute(0, 3, 2, 1), layer_norm(x_1S1D), **TOLERANCE)
    original, x_1SAK = RMSNorm(6).double(), normal(1, 7, 2, 6)
    original.weight = nn.Parameter(normal(6))
    got = norms.HeadNorm(original)(x_1SAK.permute(0, 2, 3, 1), 0.5)
    torch.testing.assert_close(got.permute(0, 3, 1, 2), 0.5 * original(x_1SAK), **TOLERANCE)


@given(channels=some.integers(2, 300), size=some.floats(-7, 4).map(lambda power: 10**power), offset=some.floats(-9, 9))
def test_dividing_large_tokens_changes_a_norm_by_no_more_than_its_epsilon(channels, size, offset):
    x_1D1S = size * (normal(1, channels, 1, 5) + offset)
    x_1D1S[:, 0, :, 0] *= 1000  # a token with one large channel
    got = norms.layer_norm(x_1D1S)
    wanted = layer_norm(x_1D1S.movedim(1, -1)).movedim(-1, 1)
    largest_111S, limit = x_1D1S.abs().amax(dim=1, keepdim=True), norms.limit(channels)
    variance_111S = x_1D1S.var(dim=1, keepdim=True, correction=0) / (largest_111S / limit).clamp(min=1) ** 2
    # 1 / sqrt(v + e) beside 1 / sqrt(v) is off by e / 2v at most.
    change_111S = torch.where(largest_111S > limit, EPSILON / (2 * variance_111S), 0.0)
    assert ((got - wanted).abs() <= 1e-10 + change_111S * wanted.abs()).all()
    if offset == 0:
        assert (change_111S <= EPSILON * channels / limit**2).all()


@given(channels=some.integers(1, 4096))
def test_tokens_at_the_limit_have_squares_that_add_up_within_float16_with_room_for_rounding(channels):
    limit = norms.limit(channels)
    assert 2 * channels * limit**2 == pytest.approx(2.0**16)
    assert channels * limit <= 2.0**15


def test_tokens_within_the_limit_are_not_touched():
    x_1D1S = normal(1, 64, 1, 5).clamp(-norms.limit(64), norms.limit(64))
    centred = x_1D1S - x_1D1S.mean(dim=1, keepdim=True)
    plain = centred * torch.rsqrt((centred * centred).mean(dim=1, keepdim=True) + EPSILON)
    assert torch.equal(norms.layer_norm(x_1D1S), plain)


def test_a_token_of_zeros_stays_one():
    x_1D1S = torch.zeros(1, 8, 1, 2, dtype=torch.float16)
    assert torch.equal(norms.layer_norm(x_1D1S), x_1D1S)


def test_the_norm_of_128_channels_of_size_80_fits_float16_where_the_plain_sum_of_squares_does_not():
    x_1AKS = torch.full((1, 1, 128, 1), 80.0, dtype=torch.float16)
    assert (x_1AKS * x_1AKS).sum(dim=2).isinf().all()
    part = x_1AKS * 0.25
    assert (part * part).sum(dim=2).isfinite().all()
    twin = norms.HeadNorm(RMSNorm(128).half())
    torch.testing.assert_close(twin(x_1AKS), torch.ones_like(x_1AKS), rtol=2e-3, atol=0)


def test_a_feature_map_is_a_convolution_with_a_group_per_head():
    torch.manual_seed(0)
    original = SoftplusMap(3, 4).double()
    original.weight_AKK, original.bias_AK = nn.Parameter(normal(3, 4, 4)), nn.Parameter(normal(3, 4))
    x_1SAK = 10 * normal(1, 7, 3, 4)
    got = ChannelsFirstSoftplus(original)(x_1SAK.permute(0, 2, 3, 1))
    torch.testing.assert_close(got.permute(0, 3, 1, 2), original(x_1SAK), **TOLERANCE)


@given(added=some.integers(1, 3), latest=some.integers(1, 6), sinks=some.integers(0, 2), chunks=some.integers(0, 8))
def test_a_ring_that_is_full_from_the_start_remembers_what_a_growing_one_does(added, latest, sinks, chunks):
    # As in a step: where there are sinks, window and sink are whole chunks.
    latest, sinks = (added * latest, added * sinks) if sinks else (latest, 0)
    ring_1CR, grown_BT = torch.zeros(1, 2, latest + sinks), torch.zeros(1, 0)
    there = 0
    for chunk in range(chunks):
        new_BT = 1.0 + torch.arange(chunk * added, (chunk + 1) * added)[None]
        full = torch.tensor(1.0 if there >= latest + sinks else 0.0)
        ring_1CR = remembered(ring_1CR, new_BT[:, None].expand(1, 2, -1), sinks, full)
        grown_BT = remembered_of_blocks(grown_BT, new_BT, latest=latest, first=sinks)
        there = min(there + added, latest + sinks)
        assert ring_1CR.shape == (1, 2, latest + sinks)
        assert torch.equal(ring_1CR[0, 1, latest + sinks - grown_BT.shape[1] :], grown_BT[0])
