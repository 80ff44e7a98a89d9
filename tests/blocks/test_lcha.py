import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from s2search_blocks.lcha.module import SoftplusMap, softplus
from s2search_blocks.lcha.spec import LCHA
from torch import nn

from s2search.errors import InputError
from tests.blocks import naive
from tests.blocks.conftest import Maker


class _OneHotValues(nn.Module):
    """Makes token j's value the j-th unit vector, so that attention returns its own weights."""

    def forward(self, h_BTHWD):
        batch, *grid, channels = h_BTHWD.shape
        return torch.eye(channels, dtype=h_BTHWD.dtype).view(1, *grid, channels).expand(batch, *grid, channels)


@given(seed=st.integers(0, 2**31), magnitude=st.floats(0, 20))
@settings(max_examples=40, deadline=None)
def test_weights_of_the_pre_order_are_positive_and_sum_to_one(seed, magnitude):
    make, block = Maker(), LCHA(linear_only=True, linear_head_dim=12)
    shape = make.shape(frames=2, height=2, width=3, channels=12, heads=2)
    attention = make.layer(block, shape).attention
    attention.linear.value = _OneHotValues()
    torch.manual_seed(seed)
    h_BTHWD = magnitude * torch.randn(1, 2, 2, 3, 12, dtype=torch.float64)
    weight_NN = attention.linear(h_BTHWD, make.start(attention, h_BTHWD)).flatten(1, 3)[0]
    assert (weight_NN > 0).all()
    torch.testing.assert_close(weight_NN.sum(-1), torch.ones(12, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        weight_NN, naive.linear_weights(attention.linear, h_BTHWD, naive.everything(2))[0, 0], rtol=0, atol=1e-12
    )


def test_a_relu_map_that_sees_nothing_gives_zero_and_not_nan(make):
    block = LCHA(linear_only=True, feature_map="relu")
    shape = make.shape()
    attention, h_BTHWD = make.layer(block, shape).attention, make.inputs(block, shape)[0]
    attention.linear.feature_map = nn.Threshold(torch.inf, 0.0)  # every feature is 0
    assert (attention.linear(h_BTHWD, make.start(attention, h_BTHWD)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_large_activations_stay_finite_and_right_in_half_precision(make, dtype):
    """Plain sums would exceed 65504 here: float16 must hold S and z at 3x18x32 tokens all the same."""
    block = LCHA(linear_only=True)
    shape = make.shape(frames=3, height=18, width=32)
    layer = make.layer(block, shape)
    with torch.no_grad():
        layer.attention.linear.value.weight.mul_(100)
        x_BTHWD, *_ = make.inputs(block, shape)
        h_BTHWD = 3 * x_BTHWD.abs() + 1
        start = make.start(layer.attention, h_BTHWD)
        exact = layer.attention(h_BTHWD, start)
        sums = layer.attention.commit(h_BTHWD, start)
        half = layer.to(dtype).attention(h_BTHWD.to(dtype), None)
    assert (sums.sum_BCAKK * 18 * 32).abs().max() > 65504
    assert sums.sum_BCAKK.half().isfinite().all()
    assert sums.norm_BCAK.half().isfinite().all()
    assert half.isfinite().all()
    assert (half.double() - exact).norm() < (0.01 if dtype is torch.float16 else 0.05) * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_sums_are_float32_whatever_the_input_is(make, dtype):
    block = LCHA()
    layer = make.layer(block, make.shape(), dtype)
    with torch.no_grad():
        inputs = make.inputs(block, make.shape(), dtype=dtype)
        _, later = make.stream(layer, inputs, 1)
    for state in (make.start(layer, inputs[0]), later):
        assert state.sum_BCAKK.dtype == state.norm_BCAK.dtype == torch.float32
        assert state.tail_BTHWD.dtype == dtype


@given(st.floats(-30, 60))
def test_the_feature_map_is_softplus_and_does_not_vanish_above_ten(x):
    phi = SoftplusMap(1, 1).double()(torch.full((1, 1, 1, 1), x, dtype=torch.float64)).item()
    exact = math.log1p(math.exp(-abs(x))) + max(x, 0)
    assert phi == pytest.approx(exact, rel=1e-12)
    assert phi >= max(x, 0)
    assert phi > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_softplus_has_its_gradient_at_zero_too(dtype):
    x = torch.tensor([-60000.0, -3.0, -1e-7, -0.0, 0.0, 1e-7, 3.0, 60000.0], dtype=dtype, requires_grad=True)
    y = softplus(x)
    torch.testing.assert_close(y, torch.logaddexp(x.double(), torch.zeros((), dtype=torch.float64)).to(dtype))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.sigmoid(x))


def test_softplus_has_the_second_derivative_too():
    x = torch.tensor([-2.0, 0.0, 1.5], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(softplus(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, torch.sigmoid(x) * torch.sigmoid(-x))


def test_the_gate_weighs_the_linear_path(make):
    shape = make.shape()
    attention = make.layer(LCHA(), shape).attention
    h_BTHWD = make.inputs(LCHA(), shape)[0]
    state = make.start(attention, h_BTHWD)
    with torch.no_grad():
        attention.gate_D.fill_(50.0)
        torch.testing.assert_close(attention(h_BTHWD, None), attention.output(attention.linear(h_BTHWD, state)))


def test_contradicting_ablations_are_refused():
    with pytest.raises(InputError, match="linear_only and local_only"):
        LCHA(linear_only=True, local_only=True)


def test_a_linear_head_that_does_not_divide_the_channels_is_refused(make):
    with pytest.raises(InputError, match="linear_head_dim=7 does not divide 24 channels"):
        LCHA(linear_head_dim=7).parameters(make.shape())


def test_a_head_that_rope_cannot_pair_is_refused(make, block):
    shape = make.shape(channels=36, heads=12)
    if block.head_channels(shape) % 2:
        with pytest.raises(InputError, match="3 channels per head, which RoPE cannot pair"):
            block.build(shape)
