import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from s2search_blocks.pieces.rotary import axis_pairs, rotate

from tests.blocks import naive


def scores(first_frame, stride):
    """Dot products of one query and one key, both repeated over the grid: (t, h, w, t', h', w')."""
    torch.manual_seed(0)
    query, key = (torch.randn(20, dtype=torch.float64).expand(1, 60, 1, 20) for _ in range(2))
    query, key = (rotate(x, (3, 4, 5), first_frame=first_frame, stride=stride).view(3, 4, 5, 20) for x in (query, key))
    return torch.einsum("thwk,xyzk->thwxyz", query, key)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_dot_products_depend_on_offsets_only(axis, stride):
    s = scores(0, stride)
    n = s.shape[axis]
    ahead = s.narrow(axis, 1, n - 1).narrow(axis + 3, 1, n - 1)
    behind = s.narrow(axis, 0, n - 1).narrow(axis + 3, 0, n - 1)
    torch.testing.assert_close(ahead, behind, rtol=0, atol=1e-12)
    assert not torch.allclose(s.narrow(axis, 0, 1), s.narrow(axis, 1, 1))


def test_dot_products_do_not_depend_on_the_first_frame():
    torch.testing.assert_close(scores(0, 1), scores(1000, 1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("stride", [1, 2])
def test_rotation_equals_complex_multiplication(stride):
    x = torch.randn(2, 3, 4, 5, 2, 14, dtype=torch.float64)
    rotated = rotate(x.flatten(1, 3), (3, 4, 5), first_frame=0, stride=stride)
    torch.testing.assert_close(rotated, naive.rotate(x, stride, times=range(3)).flatten(1, 3), rtol=0, atol=1e-13)


def test_a_cell_stands_in_the_middle_of_its_tokens():
    """Both tokens of a cell are equally far from it, on either side."""
    x = torch.ones(1, 2, 1, 20, dtype=torch.float64)
    tokens = rotate(x, (1, 2, 1), first_frame=0)[0, :, 0]
    cells = rotate(x[:, :1], (1, 1, 1), first_frame=0, stride=2)[0, 0, 0]
    torch.testing.assert_close(tokens[0] @ cells, tokens[1] @ cells, rtol=0, atol=1e-12)


@given(st.integers(1, 256))
def test_axis_pairs_use_every_pair(pairs):
    time, rows, columns = axis_pairs(pairs, time=True)
    assert time + rows + columns == pairs
    assert time >= rows == columns
    time, rows, columns = axis_pairs(pairs, time=False)
    assert (time, rows + columns) == (0, pairs)
    assert 0 <= rows - columns <= 1


def test_without_time_frames_do_not_matter_and_rows_and_columns_do():
    x = torch.ones(1, 3 * 4 * 5, 1, 20, dtype=torch.float64)
    rotated = rotate(x, (3, 4, 5), first_frame=None).view(3, 4, 5, 20)
    torch.testing.assert_close(rotated, naive.rotate(x.view(1, 3, 4, 5, 1, 20), times=None)[0, ..., 0, :])
    assert torch.equal(rotated[0], rotated[2])
    assert not torch.allclose(rotated[0, 0], rotated[0, 1])
    assert not torch.allclose(rotated[0, :, 0], rotated[0, :, 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_angles_are_exact_in_half_precision(dtype):
    x = torch.randn(1, 24, 1, 12)
    far = rotate(x.to(dtype), (2, 3, 4), first_frame=999).float()
    torch.testing.assert_close(far, rotate(x.double(), (2, 3, 4), first_frame=999).float(), rtol=0.02, atol=0.05)
