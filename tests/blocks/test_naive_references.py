import pytest
import torch

from tests.blocks import naive

AWKWARD = [
    {"frames": 1, "height": 9, "width": 16},
    {"frames": 1, "height": 7, "width": 9},
    {"frames": 3, "height": 3, "width": 5},
    {"frames": 2, "height": 4, "width": 1},
]


@pytest.mark.parametrize("grid", AWKWARD, ids=lambda grid: "x".join(map(str, grid.values())))
def test_outputs_and_gradients_equal_the_naive_reference(make, block, grid):
    shape = make.shape(**grid)
    layer = make.layer(block, shape)
    inputs = [x.requires_grad_() for x in make.inputs(block, shape, batch=2, per_frame=True)]
    leaves = [*inputs, *layer.parameters()]

    fast = layer(*inputs)
    slow = make.naive(block, layer, inputs, naive.everything(shape.frames))
    weight = torch.randn_like(slow)

    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    fast_gradients = torch.autograd.grad((fast * weight).sum(), leaves)
    slow_gradients = torch.autograd.grad((slow * weight).sum(), leaves)
    for ours, reference in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sink", [0, 1], ids=["no sink", "sink"])
@pytest.mark.parametrize("window", [1, 2, None], ids=["1 chunk", "2 chunks", "all"])
@pytest.mark.parametrize(("chunk_frames", "grid"), [(1, (3, 5)), (2, (4, 3)), (3, (1, 2))])
def test_streaming_equals_the_block_causal_naive_reference(make, block, window, sink, chunk_frames, grid):
    shape = make.shape(frames=chunk_frames, height=grid[0], width=grid[1])
    layer = make.layer(block, shape)
    inputs = make.inputs(block, shape, frames=5 * chunk_frames, batch=2)
    visible_TT = naive.memory_of(block, 5, chunk_frames, 5 if window is None else window, sink)
    frames = None if window is None else window * chunk_frames
    with torch.no_grad():
        streamed, _ = make.stream(layer, inputs, chunk_frames, window=frames, sink=sink * chunk_frames)
        expected = make.naive(block, layer, inputs, visible_TT)
    torch.testing.assert_close(streamed, expected, rtol=1e-12, atol=1e-12)


def test_gradients_through_the_stream_equal_those_of_the_naive_reference(make, block):
    shape = make.shape(frames=1)
    layer = make.layer(block, shape)
    inputs = [x.requires_grad_() for x in make.inputs(block, shape, frames=4)]
    leaves = [*inputs, *layer.parameters()]
    visible_TT = naive.memory_of(block, 4, 1, 2)
    streamed, _ = make.stream(layer, inputs, 1, window=2)
    fast = torch.autograd.grad(streamed.square().sum(), leaves)
    slow = torch.autograd.grad(make.naive(block, layer, inputs, visible_TT).square().sum(), leaves)
    for ours, reference in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)
