"""What other runtimes run is what torch runs: a profiler that times a wrong graph is worthless."""

import dataclasses

import numpy as np
import pytest
import torch

from s2search.exporters.graph import BandedConv2d, banded, decompositions_of_attention, exported
from s2search.measurement.tensor_call import TensorCall
from s2search.measurement.torch_call import torch_call
from s2search.testing.profilers import miniature_items

ITEMS = miniature_items()
QUICK = ("stream lcha 1x3x3", "stream ssa 1x3x3", "stream ssa commit 1x3x3", "stream head 1x3x3")


def tensors_of(output):
    """What a runtime gives back of a call, a new state's tensors among it."""
    if dataclasses.is_dataclass(output):
        fields = (getattr(output, field.name) for field in dataclasses.fields(output))
        return tuple(value for value in fields if isinstance(value, torch.Tensor))
    return output if isinstance(output, tuple) else (output,)


def first(output):
    return tensors_of(output)[0]


def snr_db(expected, found):
    expected, found = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    assert expected.shape == found.shape
    return 10 * np.log10(np.square(expected).sum() / max(np.square(expected - found).sum(), 1e-300))


@pytest.mark.parametrize(
    "item",
    [pytest.param(item, marks=() if item.key in QUICK else pytest.mark.slow) for item in ITEMS],
    ids=lambda item: item.key,
)
def test_the_exported_graph_computes_what_the_module_does(item):
    call = torch_call(item, torch.device("cpu"), torch.float32)
    expected = tensors_of(call())
    tensors = TensorCall(call)
    inputs = tensors.inputs
    program = exported(banded(tensors, inputs), inputs, decompositions_of_attention())
    assert not [node for node in program.graph.nodes if "conv3d" in str(node.target)]
    assert not [node for node in program.graph.nodes if "scaled_dot_product" in str(node.target)]
    assert all(tensor.ndim <= 5 and tensor.is_contiguous() for tensor in inputs)
    found = tensors_of(program.module()(*inputs))
    assert min(snr_db(*pair) for pair in zip(expected, found, strict=True)) > 120
    for inside in program.graph.nodes if item.role != "commit" else ():  # Core ML times no commits
        if inside.op == "call_function" and "val" in inside.meta and isinstance(inside.meta["val"], torch.Tensor):
            assert inside.meta["val"].ndim <= 5, inside


def test_a_graph_with_another_weight_is_told_apart():
    """The gate can fail: one weight off by 1 % in one matrix is seen."""
    call = torch_call(ITEMS[0], torch.device("cpu"), torch.float32)
    expected = first(call())
    with torch.no_grad():
        next(p for p in call.module.parameters() if p.ndim == 2).mul_(1.01)
    tensors = TensorCall(call)
    program = exported(tensors, tensors.inputs, decompositions_of_attention())
    assert snr_db(expected, first(program.module()(*tensors.inputs))) < 100


@pytest.mark.parametrize(("frames", "kernel"), [(1, (3, 3, 3)), (4, (3, 3, 3)), (2, (2, 5, 3)), (3, (1, 1, 1))])
@pytest.mark.parametrize("bias", [True, False])
def test_a_banded_convolution_is_the_3d_one(frames, kernel, bias):
    torch.manual_seed(0)
    padding = (0, kernel[1] // 2, kernel[2] // 2)
    conv = torch.nn.Conv3d(6, 6, kernel, padding=padding, groups=6, bias=bias)
    x = torch.randn(2, 6, frames + kernel[0] - 1, 5, 7)
    with torch.no_grad():
        assert torch.allclose(BandedConv2d(conv, x.shape[2])(x), conv(x), atol=1e-6)
