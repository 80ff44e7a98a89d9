import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.mil.rounding import TERMS, HalfSums, Kernel, WideSums, half

SIZES = st.integers(1, 40)


def numbers(*shape, seed=0):
    return half(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def naive_sum(terms_NK):
    """Add 16 terms at a time to a float16 sum, in numpy."""
    total = np.zeros(terms_NK.shape[0], np.float16)
    for start in range(0, terms_NK.shape[1], TERMS):
        part = terms_NK[:, start : start + TERMS].astype(np.float64).sum(1)
        total = (total.astype(np.float64) + part).astype(np.float16)
    return total


@given(SIZES, SIZES, SIZES, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_product_in_float16_is_the_sum_of_its_terms_in_float16(rows, columns, terms, seed):
    x, y = numbers(rows, terms, seed=seed), numbers(terms, columns, seed=seed + 1)
    got = HalfSums().matmul(x, y).numpy().reshape(-1)
    products = (x[:, :, None] * y[None]).permute(0, 2, 1).reshape(-1, terms).numpy()
    # Float32 rounds a part before float16 does: rarely, the last bit differs.
    np.testing.assert_allclose(got, naive_sum(products), rtol=2**-10, atol=2**-12)
    np.testing.assert_array_equal(got, got.astype(np.float16))


@given(st.integers(1, 4), st.integers(1, 100), st.booleans(), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_total_in_float16_is_the_sum_of_its_terms_in_float16(rows, terms, keep, seed):
    x = numbers(rows, terms, seed=seed)
    got = HalfSums().total(x, [-1], keep)
    assert got.shape == ((rows, 1) if keep else (rows,))
    np.testing.assert_allclose(got.flatten(), naive_sum(x.numpy()), rtol=2**-10, atol=2**-12)


@pytest.mark.parametrize("axes", [[0], [1, -1], [-3, 2], [0, 1, 2]])
@pytest.mark.parametrize("keep", [True, False])
def test_totals_have_the_axes_of_exact_ones(axes, keep):
    x = numbers(3, 4, 5)
    exact = WideSums().total(x, axes, keep)
    torch.testing.assert_close(HalfSums().total(x, axes, keep), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("strides", "dilations", "groups"), [((1, 1), (1, 1), 1), ((2, 1), (1, 2), 2), ((1, 3), (2, 1), 4)]
)
def test_a_convolution_in_float16_comes_near_the_exact_one(strides, dilations, groups):
    x, weight = numbers(2, 8, 9, 7), numbers(12, 8 // groups, 3, 2)
    kernel = Kernel(strides=strides, dilations=dilations, groups=groups)
    exact, got = WideSums().convolve(x, weight, kernel), HalfSums().convolve(x, weight, kernel)
    torch.testing.assert_close(got, exact, rtol=1e-2, atol=2e-2)
    assert not torch.equal(got, exact)


def test_a_sum_beyond_float16_overflows_only_where_it_is_accumulated_in_float16():
    x = torch.full((1, 2000), 60.0)
    assert HalfSums().mean(x, [-1], False).isinf().all()
    assert WideSums().mean(x, [-1], False) == 60
    y = torch.full((2000, 1), 1.0)
    assert HalfSums().matmul(x, y).isinf().all()
    ones = torch.ones(1, 2000, 1, 1)
    kernel = Kernel(strides=(1, 1), dilations=(1, 1), groups=1)
    assert HalfSums().convolve(60 * ones, ones, kernel).isinf().all()
    assert HalfSums().einsum("nchw,nwhu->nchu", 60 * ones.permute(0, 2, 3, 1), ones).isinf().all()


def test_a_small_term_is_lost_beside_a_large_sum():
    x = torch.cat([torch.full((1, 16), 256.0), torch.full((1, 160), 0.1)], dim=1)
    assert HalfSums().total(x, [1], False) == 4096  # ten parts of 1.6, where float16 counts by 4
    assert half(WideSums().total(x, [1], False)) == 4112


def test_einsum_and_softmax_in_float16_come_near_the_exact_ones():
    x, y = numbers(2, 3, 5, 40), numbers(2, 40, 5, 6)
    exact = WideSums().einsum("nchw,nwhu->nchu", x, y)
    torch.testing.assert_close(HalfSums().einsum("nchw,nwhu->nchu", x, y), exact, rtol=2e-2, atol=3e-2)
    got = HalfSums().softmax(x, 1)
    torch.testing.assert_close(got, torch.softmax(x, 1), rtol=3e-3, atol=1e-3)
    assert torch.equal(got, half(got))
    assert not torch.equal(torch.softmax(x, 1), half(got))


def test_whole_numbers_are_summed_exactly():
    x = torch.full((1, 3000), 3000, dtype=torch.int32)
    assert HalfSums().total(x, [1], False) == 9_000_000
