import pytest
import torch
from s2search_blocks.ends.spec import Head, Stem
from s2search_blocks.switches.spec import Down, Up
from torch import nn
from torch.utils import flop_counter

from s2search.block import Precision
from s2search.measurement.peak_memory import peak_activation_bytes
from tests.blocks.conftest import LCHA_VARIANTS

PARTS = [Stem(), Head(), Stem(latent_channels=4), Head(latent_channels=4), Down(), Up()]
SHAPES = [
    {"frames": 3, "height": 8, "width": 12, "channels": 48, "feed_forward": 192},
    {"frames": 3, "height": 9, "width": 16, "channels": 48, "feed_forward": 192, "context_frames": 6},
    {"frames": 1, "height": 9, "width": 16, "channels": 96, "feed_forward": 96},
    {"frames": 1, "height": 7, "width": 9, "channels": 48, "heads": 2, "feed_forward": 48, "context_frames": 2},
    {"frames": 2, "height": 7, "width": 9, "channels": 192, "feed_forward": 64},
]
# torch's counter does not know the CPU's flash attention; it does the same work as the others.
FLASH_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *_, out_val=None, **__: flop_counter.sdpa_flop_count(q, k, v)
    )
}

pytestmark = pytest.mark.parametrize("sizes", SHAPES, ids=lambda s: "-".join(map(str, s.values())))


def counted_flops(call):
    with flop_counter.FlopCounterMode(display=False, custom_mapping=FLASH_ON_CPU) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def block_call(make, block, shape, dtype, order=torch.channels_last_3d):
    """Let convolutions answer in an order of our choice: a library's own depends on processor and number format.

    A linear map reads tokens whose channels are side by side as they are, and writes once more before it adds its bias
    where they are not. The formulas count the former, which is what oneDNN's fast kernels and cuDNN return.
    """
    layer, inputs = make.layer(block, shape, dtype), make.inputs(block, shape, dtype=dtype)
    for module in layer.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(lambda module, given, y_BDTHW: y_BDTHW.contiguous(memory_format=order))
    state = None
    if shape.context_frames:
        with torch.no_grad():
            past = make.inputs(block, shape, frames=shape.context_frames, dtype=dtype)
            _, state = make.stream(layer, past, shape.frames, window=shape.context_frames)
    return layer, lambda: layer(*inputs, state), inputs


def part_call(part, shape, dtype):
    module = part.build(shape).to(dtype)
    x = torch.randn(1, shape.frames, shape.height, shape.width, shape.channels, dtype=dtype)
    low = torch.randn(1, shape.frames, shape.low_height, shape.low_width, shape.channels, dtype=dtype)
    channels = getattr(part, "latent_channels", 16)
    latents = torch.randn(1, channels, shape.frames, 2 * shape.height, 2 * shape.width, dtype=dtype)
    inputs = {
        "stem": (latents, torch.rand(1, 1)),
        "head": (x, torch.randn(1, 1, shape.channels, dtype=dtype)),
        "down": (x,),
        "up": (low, shape.height, shape.width),
    }[part.name]
    return module, lambda: module(*inputs), [tensor for tensor in inputs if isinstance(tensor, torch.Tensor)]


def assert_costs_are_counted_ones(part, shape, call_of):
    module, call, _ = call_of(torch.float32)
    assert sum(p.numel() for p in module.parameters()) == part.parameters(shape).count
    assert counted_flops(call) == part.flops(shape)
    for dtype, slack in ((torch.float32, 1.001), (torch.bfloat16, 1.05)):
        _, call, inputs = call_of(dtype)
        with torch.no_grad():
            counted = peak_activation_bytes(call, inputs)
        formula = part.peak_bytes(shape, Precision.named(str(dtype).removeprefix("torch.")))
        assert counted <= formula <= slack * counted, (dtype, formula / counted)


def test_the_formulas_of_a_block_equal_counted_costs(make, block, sizes):
    shape = make.shape(**sizes)
    assert_costs_are_counted_ones(block, shape, lambda dtype: block_call(make, block, shape, dtype))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_formulas_of_the_other_parts_equal_counted_costs(make, part, sizes):
    shape = make.shape(**sizes)
    assert_costs_are_counted_ones(part, shape, lambda dtype: part_call(part, shape, dtype))


@pytest.mark.parametrize("local", [block for block in LCHA_VARIANTS if not block.linear_only], ids=lambda b: b.label)
def test_a_convolution_that_answers_channel_by_channel_costs_at_most_one_tensor_of_tokens(make, local, sizes):
    shape = make.shape(**sizes)
    _, call, inputs = block_call(make, local, shape, torch.bfloat16, torch.contiguous_format)
    with torch.no_grad():
        counted = peak_activation_bytes(call, inputs)
    assert counted <= local.peak_bytes(shape, Precision.named("bfloat16")) + inputs[0].nbytes
