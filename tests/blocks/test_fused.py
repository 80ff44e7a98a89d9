"""Every fused piece against the layer it was made from: outputs, states and gradients."""

import copy

import pytest
import torch
from s2search_blocks.lcha.fused import exact_product, read_sums, shifted_products
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.softmax.ssa import SSA

from tests.blocks.test_streaming_state import tensors

EXACTLY = {"rtol": 0, "atol": 1e-12}


def streamed(make, block, *, dtype=torch.float64, **inputs):
    """Return a layer, its fused form, inputs and the state after two chunks."""
    shape = make.shape(height=5, width=3, context_frames=4)
    layer = make.layer(block, shape, dtype)
    given = make.inputs(block, shape, dtype=dtype, **inputs)
    with torch.no_grad():
        state = make.start(layer, given[0])
        for factor in (-1, 2):
            state = layer.commit(factor * given[0], given[1], state)
    return layer, block.fused(layer), given, state


def both(layer, fused, inputs, state):
    """Return output and new state of the layer, and of its fused form's one pass."""
    x, modulation, text = inputs
    new = layer.commit(x, modulation, state)
    return (layer(*inputs, state), new), fused.advance(x, modulation, fused.read_text(text), state)


@pytest.mark.parametrize("inputs", [{}, {"batch": 2, "per_frame": True}], ids=["plain", "batch and times per frame"])
def test_one_fused_pass_equals_reading_and_committing(make, block, inputs):
    layer, fused, given, state = streamed(make, block, **inputs)
    (y, new), (fused_y, fused_new) = both(layer, fused, given, state)
    torch.testing.assert_close(fused_y, y, **EXACTLY)
    assert tensors(fused_new).keys() == tensors(new).keys()
    for name, tensor in tensors(new).items():
        torch.testing.assert_close(tensors(fused_new)[name], tensor, **EXACTLY)
        assert tensors(fused_new)[name].is_contiguous()
    x, modulation, text = given
    words = fused.read_text(text)
    assert torch.equal(fused(x, modulation, words, state), fused_y)
    torch.testing.assert_close(fused(x, modulation, words), layer(*given), **EXACTLY)
    for name, tensor in tensors(fused.commit(x, modulation, state)).items():
        assert torch.equal(tensor, tensors(fused_new)[name])


def test_gradients_of_inputs_and_weights_are_the_layers(make, block):
    layer, fused, given, state = streamed(make, block)
    leaves = [tensor.requires_grad_() for tensor in given]
    (y, new), (fused_y, fused_new) = both(layer, fused, given, state)
    weight = torch.randn_like(y)
    for parameter in layer.parameters():  # what is joined is a copy; what is shared would add up
        parameter.grad = None

    def gradients(y, new, parameters):
        loss = (y * weight).sum() + sum(t.sum() for t in tensors(new).values() if t.requires_grad)
        return torch.autograd.grad(loss, [*leaves, *parameters], allow_unused=True)

    expected = gradients(y, new, layer.parameters())
    got = gradients(fused_y, fused_new, fused.parameters())
    for one, other in zip(expected[:3], got[:3], strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-11)
    total, fused_total = (sum(g.sum() for g in grads[3:] if g is not None) for grads in (expected, got))
    torch.testing.assert_close(fused_total, total, rtol=1e-10, atol=1e-10)


def test_in_bfloat16_a_fused_pass_errs_no_more_than_the_layer(make, block):
    layer, fused, inputs, state = streamed(make, block, dtype=torch.bfloat16)
    exact_layer = copy.deepcopy(layer).double()
    exact_state = type(state)(**{k: v.double() if isinstance(v, torch.Tensor) else v for k, v in vars(state).items()})
    with torch.no_grad():
        exact = exact_layer(*(x.double() for x in inputs), exact_state)
        (y, _), (fused_y, fused_new) = both(layer, fused, inputs, state)
    error, fused_error = ((z.double() - exact).square().mean().sqrt() for z in (y, fused_y))
    assert fused_error <= 1.1 * error
    if isinstance(block, LCHA) and not block.local_only:
        assert {sums.dtype for sums in fused.attention.linear.chunk_sums(inputs[0])} == {torch.float32}
        assert fused_new.sum_BCAKK.dtype == fused_new.norm_BCAK.dtype == torch.float32


@pytest.mark.parametrize("kernel", [(3, 3, 3), (2, 5, 1)], ids=str)
def test_shifted_products_are_the_depthwise_convolution(kernel):
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d(6, 6, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2), groups=6).double()
    x = torch.randn(2, 5, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    expected = convolution(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    got = shifted_products(x, convolution.weight[:, 0].permute(1, 2, 3, 0), convolution.bias)
    torch.testing.assert_close(got, expected, **EXACTLY)
    weight = torch.randn_like(expected)
    wanted = [x, *convolution.parameters()]
    for one, other in zip(*(torch.autograd.grad((y * weight).sum(), wanted) for y in (expected, got)), strict=True):
        torch.testing.assert_close(other, one, **EXACTLY)


def test_shifted_products_of_bfloat16_are_added_in_float32():
    torch.manual_seed(0)
    x, kernel, bias = (torch.randn(*size).bfloat16() for size in ((1, 5, 6, 6, 8), (3, 3, 3, 8), (8,)))
    exact = shifted_products(x.double(), kernel.double(), bias.double())
    # One rounding at the end: half a unit of bfloat16's last place, and float32's far below it.
    assert (shifted_products(x, kernel, bias).double() - exact).abs().max() <= 2**-8 * exact.abs().max()
    torch.testing.assert_close(shifted_products(x, kernel, bias), exact.bfloat16(), rtol=2**-7, atol=1e-5)


def test_sums_read_by_bfloat16_queries_keep_16_bits():
    torch.manual_seed(0)
    query, sums = torch.rand(1, 2, 40, 16).bfloat16(), torch.rand(1, 2, 16, 16) * 100
    exact = query.double() @ sums.double()
    error = ((read_sums(query, sums).double() - exact) / exact).abs().max()
    assert error <= 2**-16  # 2 ** -9 with one term
    assert read_sums(query, sums).dtype == torch.float32


def test_bfloat16_products_are_summed_in_float32():
    torch.manual_seed(0)
    a, b = torch.rand(1, 2, 8, 5000).bfloat16(), torch.rand(1, 2, 5000, 8).bfloat16()
    exact = a.double() @ b.double()
    assert ((exact_product(a, b).double() - exact) / exact).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "chosen",
    [
        LCHA(memory="window"),
        SSA(),
        *(pytest.param(one, marks=pytest.mark.slow) for one in (LCHA(), LCHA(rope_order="post"))),
    ],
    ids=str,
)
def test_the_form_for_a_gpu_has_the_same_shapes_and_types(make, chosen):
    """Traced without numbers, on the meta device, which takes a GPU's branches: no GPU can be had here."""
    shape = make.shape(context_frames=4)
    layer = make.layer(chosen, shape, torch.bfloat16).to("meta")
    x, modulation, text = (tensor.to("meta") for tensor in make.inputs(chosen, shape, dtype=torch.bfloat16))
    fused, state = chosen.fused(layer), make.start(layer, x)
    # Traced whole, as torch.compile does it, so that a branch that it cannot follow is found here.
    advance = torch.compile(fused.advance, backend="aot_eager_decomp_partition", fullgraph=True, dynamic=False)
    with torch.no_grad():
        y, new = advance(x, modulation, fused.read_text(text), state)
    assert (y.shape, y.dtype) == (x.shape, torch.bfloat16)
    for name, tensor in tensors(layer.commit(x, modulation, state)).items():
        got = tensors(new)[name]
        assert (got.shape, got.dtype, got.is_contiguous()) == (tensor.shape, tensor.dtype, True)
