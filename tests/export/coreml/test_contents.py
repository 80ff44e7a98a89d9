import dataclasses

import pytest
import torch
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.softmax.full import FullAttention
from s2search_blocks.softmax.kv_compressed import KVCompressedAttention
from s2search_blocks.softmax.ssa import SSA
from torch import nn

from s2search.block import Shape
from s2search.errors import CheckError
from s2search.exporters.coreml import contents as coreml
from s2search.exporters.graph import BandedConv2d
from s2search.measurement.base import Item
from s2search.measurement.tensor_call import TensorCall
from s2search.measurement.torch_call import torch_call
from s2search.mil.program import Program
from s2search.testing.profilers import miniature_items
from tests.export.coreml.plain_program import convert, trace

STREAM = Shape(
    frames=2, height=5, width=4, channels=48, heads=4, feed_forward=64, text_tokens=5, text_channels=7, context_frames=4
)
CLIP = dataclasses.replace(STREAM, frames=3, context_frames=0)
BLOCKS = [
    LCHA(),
    LCHA(gate=False, rope_order="post"),
    LCHA(feature_map="relu", linear_head_dim=12),
    LCHA(local_only=True),
    LCHA(linear_only=True),
    SSA(),
    FullAttention(),
    KVCompressedAttention(),
]


def plain_call(item):
    return TensorCall(torch_call(item, torch.device("cpu"), torch.float32))


def block_item(block, shape):
    return Item(role="block", part=block, scenario="stream" if shape.context_frames else "clip", shape=shape)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (LCHA(), STREAM),
        pytest.param(KVCompressedAttention(), CLIP, marks=pytest.mark.slow),
        *(pytest.param(block, STREAM, marks=pytest.mark.slow) for block in BLOCKS[1:]),
        pytest.param(LCHA(), CLIP, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.label if hasattr(value, "label") else f"{value.context_frames} past frames",
)
def test_a_traced_block_gives_what_the_block_gives_and_has_no_shape_of_six_axes(block, shape):
    item = block_item(block, shape)
    call = plain_call(item)
    traced = trace(call, call.arguments)
    assert traced.parity_db > 110
    with torch.no_grad():
        got = traced.program.module()(*call.arguments.values())
        torch.testing.assert_close(got, torch_call(item, torch.device("cpu"), torch.float32)(), rtol=1e-4, atol=1e-5)
    values = [node.meta["val"] for node in traced.program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert max(value.ndim for value in values) <= 5
    assert not [node for node in traced.program.graph.nodes if "conv3d" in str(node.target)]


@pytest.mark.parametrize("frames", [3, 4, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_a_band_of_a_matrix_is_the_three_dimensional_convolution(frames, bias):
    torch.manual_seed(0)
    convolution = nn.Conv3d(6, 6, (3, 3, 5), padding=(0, 1, 2), groups=6, bias=bias).double().requires_grad_(False)
    x_BCTHW = torch.randn(2, 6, frames, 4, 5, dtype=torch.float64)
    banded = BandedConv2d(convolution, frames)
    torch.testing.assert_close(banded(x_BCTHW), convolution(x_BCTHW), rtol=0, atol=1e-13)


def test_only_depthwise_convolutions_are_banded():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.full = nn.Conv3d(4, 4, (2, 1, 1))
            self.depthwise = nn.Conv3d(4, 4, (2, 1, 1), groups=4)

        def forward(self, x):
            return self.full(self.depthwise(x))

    traced = trace(Mixed().eval(), {"x": torch.randn(1, 4, 5, 2, 2)})
    kinds = [str(node.target) for node in traced.program.graph.nodes if "aten.conv" in str(node.target)]
    assert kinds == ["aten.conv2d.default", "aten.conv3d.default"]


def test_tracing_leaves_the_module_as_it_was():
    call = plain_call(block_item(LCHA(), STREAM))
    before = {name: parameter.data_ptr() for name, parameter in call.module.named_parameters()}
    trace(call, call.arguments)
    assert {name: parameter.data_ptr() for name, parameter in call.module.named_parameters()} == before
    assert isinstance(call.get_submodule("module.attention.local.depthwise"), nn.Conv3d)


def test_a_module_that_is_traced_wrongly_is_refused():
    class Sly(nn.Module):
        def forward(self, x):
            return x + 1 if torch.compiler.is_exporting() else x

    with pytest.raises(CheckError, match=r"the traced Sly comes within .* dB of the module"):
        trace(Sly(), {"x": torch.randn(3)})


@pytest.fixture(scope="module")
def models():
    call = plain_call(block_item(LCHA(), STREAM))
    return call, convert(trace(call, call.arguments), exact=call.exact)


def test_sums_stay_float32_and_all_other_inputs_are_float16(models):
    call, model = models
    contents = coreml.read_contents(model.get_spec())
    assert {feature.name: feature.dtype for feature in contents.inputs} == {
        "x": "float16",
        "modulation": "float16",
        "text": "float16",
        "sum": "float32",
        "norm": "float32",
        "tail": "float16",
    }
    assert {feature.name: feature.shape for feature in contents.inputs} == {
        name: tuple(tensor.shape) for name, tensor in call.arguments.items()
    }
    assert [feature.dtype for feature in contents.outputs] == ["float16"]


def test_gelu_is_the_one_with_tanh(models, tmp_path):
    models[1].save(str(tmp_path / "block.mlpackage"))
    operations = Program.load(tmp_path / "block.mlpackage").function().operations
    assert [one.inputs["mode"][0].read() for one in operations if one.type == "gelu"] == ["TANH_APPROXIMATION"]


def test_a_package_has_the_operations_that_the_neural_engine_takes(models):
    contents = coreml.read_contents(models[1].get_spec())
    assert contents.operations["conv"] == 1
    assert contents.most_axes <= 5
    assert "softplus" not in contents.operations
    assert sum(contents.operations.values()) < 190  # norms and sums are divided by their largest number first


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(item, marks=pytest.mark.slow if item.scenario == "clip" else ())
        for item in miniature_items()
        if item.role in ("switch", "fixed")
    ],
    ids=lambda item: item.key,
)
def test_the_other_parts_convert(item):
    call = plain_call(item)
    contents = coreml.read_contents(convert(trace(call, call.arguments), exact=call.exact).get_spec())
    assert [feature.name for feature in contents.inputs] == list(call.arguments)
    assert contents.most_axes <= 5


@pytest.mark.slow
def test_palettes_have_as_many_bits_as_asked(tmp_path):
    shape = dataclasses.replace(STREAM, channels=64, text_channels=64, height=9, width=16)
    call = plain_call(block_item(FullAttention(), shape))
    model = convert(trace(call, call.arguments), exact=call.exact)
    palettized = coreml.palettize(model, {"cross_attention_key": 8})
    sizes = palette_sizes(palettized.get_spec())
    assert sizes.pop("p_module_cross_attention_key_weight_to_fp16_palettized") == 256
    assert set(sizes.values()) == {16}
    assert len(sizes) == 9  # four projections, three more of the text's, two of the feed-forward; no rotary table


def palette_sizes(spec):
    """Return how many values the tables of a program have."""
    operations = spec.mlProgram.functions["main"].block_specializations["CoreML8"].operations
    return {
        operation.outputs[0].name: max(
            axis.constant.size for axis in operation.inputs["lut"].arguments[0].value.type.tensorType.dimensions
        )
        for operation in operations
        if operation.type == "constexpr_lut_to_dense"
    }


def test_the_converter_says_nothing(capfd):
    call = plain_call(next(item for item in miniature_items() if item.key == "stream down 1x3x3"))
    coreml.palettize(convert(trace(call, call.arguments)), {})
    assert capfd.readouterr() == ("", "")
