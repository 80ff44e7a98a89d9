import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from s2search_blocks.ends.module import sinusoids
from s2search_blocks.ends.spec import Head, Stem
from s2search_blocks.pieces.cells import cells_to_channels, channels_to_cells
from s2search_blocks.switches.spec import Down, Up

from s2search.block import Precision, Shape
from s2search.measurement.peak_memory import peak_activation_bytes


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2))
@settings(deadline=None)
def test_laying_out_cells_undoes_gathering_them(height, width, frames):
    x = torch.randn(2, frames, height, width, 3)
    assert torch.equal(channels_to_cells(cells_to_channels(x), height, width), x)


@pytest.mark.parametrize(("height", "width"), [(9, 16), (7, 9), (4, 3), (1, 1)])
def test_switches_cover_odd_grids(make, height, width):
    shape = make.shape(height=height, width=width)
    x = torch.randn(2, 3, height, width, shape.channels)
    low = Down().build(shape)(x)
    assert low.shape == (2, 3, shape.low_height, shape.low_width, shape.channels)
    assert Up().build(shape)(low, height, width).shape == x.shape


def test_padding_repeats_the_last_row_and_column():
    x = torch.arange(9.0).view(1, 1, 3, 3, 1)
    assert cells_to_channels(x)[0, 0, 1].tolist() == [[6, 7, 6, 7], [8, 8, 8, 8]]


def test_a_low_token_depends_on_its_own_cell_only(make):
    shape = make.shape(height=3, width=5)
    down = Down().build(shape)
    x = torch.randn(1, 1, 3, 5, shape.channels, requires_grad=True)
    (gradient,) = torch.autograd.grad(down(x)[0, 0, 0, 1].sum(), x)
    assert gradient[0, 0].abs().sum(-1).nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


@pytest.mark.parametrize(("height", "width", "frames", "channels"), [(9, 16, 1, 16), (2, 3, 3, 4)])
def test_the_ends_keep_the_shape_of_the_latents(make, height, width, frames, channels):
    shape = make.shape(height=height, width=width, frames=frames)
    stem, head = (end(latent_channels=channels).build(shape) for end in (Stem, Head))
    latents = torch.randn(2, channels, frames, 2 * height, 2 * width)
    for entries in (1, frames):
        x, modulation, time = stem(latents, torch.rand(2, entries))
        assert x.shape == (2, frames, height, width, shape.channels)
        assert modulation.shape == (2, entries, 6, shape.channels)
        assert time.shape == (2, entries, shape.channels)
        assert head(x, time).shape == latents.shape


def test_a_patch_goes_back_to_where_it_came_from():
    """With an identity projection the head puts every latent value where the stem found it."""
    shape = Shape(frames=2, height=3, width=2, channels=64, heads=2, feed_forward=64, text_tokens=1, text_channels=1)
    stem, head = Stem().build(shape), Head().build(shape)
    latents = torch.randn(1, 16, 2, 6, 4)
    with torch.no_grad():
        for linear in (stem.patch, head.patch):
            torch.nn.init.eye_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
        head.table_2D.zero_()
        x, _, time = stem(latents, torch.zeros(1, 1))
        restored = head(x, torch.zeros_like(time))
    patches = latents.unfold(3, 2, 2).unfold(4, 2, 2)
    mean, std = (f(dim=(1, 5, 6), keepdim=True) for f in (patches.mean, lambda **k: patches.std(**k, correction=0)))
    expected = (patches - mean) / (std.square() + 1e-6).sqrt()
    torch.testing.assert_close(restored.unfold(3, 2, 2).unfold(4, 2, 2), expected)


def test_sinusoids_resolve_neighbouring_times():
    s = torch.tensor([[0.9375, 0.9376]])
    a, b = sinusoids(1000 * s, 256)[0]
    assert a.dtype == torch.float32
    exact = sinusoids(1000 * s.double(), 256)[0]
    torch.testing.assert_close(torch.stack((a, b)).double(), exact, rtol=0, atol=1e-4)
    assert (a - b).abs().max() > 0.05


def test_the_peak_of_a_narrow_stem_is_its_sinusoids(make):
    shape = make.shape(frames=1, height=2, width=2, channels=16, heads=2, feed_forward=16)
    module, latents, s = Stem().build(shape), torch.randn(1, 16, 1, 4, 4), torch.rand(1, 1)
    with torch.no_grad():
        counted = peak_activation_bytes(lambda: module(latents, s), (latents, s))
    assert counted <= Stem().peak_bytes(shape, Precision.named("float32")) <= 1.01 * counted
