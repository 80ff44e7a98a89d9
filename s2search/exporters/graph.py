"""From a module of torch to a graph of ATen operators that other runtimes take: what they refuse is rewritten, exactly.

Profilers, the phone kit and exporters all start here, so that what is timed is what is shipped.

Axes: B batch  C channels  T frames  H W rows and columns  O frames of a convolution's output  r c kernel rows, columns
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

from s2search.mil.library import quiet

LEAST_PARITY_DB = 90.0  # float32 against float32: what is left is rounding
LEAST_LARGEST = 2.0**-14  # the smallest normal number of float16
_aten = torch.ops.aten
VIEWS = (_aten.view.default, _aten.reshape.default, _aten._unsafe_view.default)


def program_with_outputs(program: ExportedProgram, first: int, count: int) -> ExportedProgram:
    """Return a graph with some of another's outputs, and without what only the others need. They share weights."""
    module = copy.deepcopy(program.graph_module)
    output = module.graph.output_node()
    output.args = (tuple(output.args[0][first : first + count]),)
    module.graph.eliminate_dead_code()
    module.recompile()
    signature = dataclasses.replace(
        program.graph_signature, output_specs=program.graph_signature.output_specs[first : first + count]
    )
    return ExportedProgram(
        module,
        module.graph,
        signature,
        program.state_dict,
        program.range_constraints,
        program.module_call_graph,
        constants=program.constants,
        verifiers=program.verifiers,
    )


class BandedConv2d(nn.Module):
    """A depthwise 3-D convolution as one grouped 2-D convolution, exactly.

    The frames of a channel become a group of channels, and the kernel's reach in time a Toeplitz band in the group's
    matrix: output frame o reads input frame o + f through the kernel's frame f. ExecuTorch and LiteRT refuse the 3-D
    form, and the Neural Engine is reported never to run it.

    Args:
        convolution: Stride and dilation 1, one group per channel, no padding in time.
        frames: T of its input.
    """

    def __init__(self, convolution: nn.Conv3d, frames: int) -> None:
        super().__init__()
        kernel_C1frc = convolution.weight
        channels, _, reach, rows, columns = kernel_C1frc.shape
        self.out_frames = frames - reach + 1
        band_COTrc = kernel_C1frc.new_zeros(channels, self.out_frames, frames, rows, columns)
        for o in range(self.out_frames):
            band_COTrc[:, o, o : o + reach] = kernel_C1frc[:, 0]
        self.convolution = nn.Conv2d(
            channels * frames,
            channels * self.out_frames,
            (rows, columns),
            padding=(int(convolution.padding[1]), int(convolution.padding[2])),
            groups=channels,
            bias=convolution.bias is not None,
            device="meta",
        )
        self.convolution.weight = nn.Parameter(band_COTrc.flatten(0, 1), requires_grad=False)
        if convolution.bias is not None:
            bias = convolution.bias.repeat_interleave(self.out_frames)
            self.convolution.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return (B, C, O, H, W)."""
        y_BCHW: Tensor = self.convolution(x_BCTHW.flatten(1, 2))
        return torch.unflatten(y_BCHW, 1, (-1, self.out_frames))


@torch.no_grad()
def banded(module: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Return the module with every depthwise 3-D convolution as a `BandedConv2d`, for inputs of these shapes.

    The module is left as it was. What is returned shares its parameters; only modules that are rewritten are new.
    """
    rewritten = copy.deepcopy(module, memo={id(x): x for x in [*module.parameters(), *module.buffers()]})
    with _recorded_frames(rewritten) as frames, FakeTensorMode(allow_non_fake_inputs=True) as fake:
        rewritten(*(fake.from_tensor(x) for x in inputs))  # shapes only: no weight is read
    for name, count in frames.items():
        rewritten.set_submodule(name, BandedConv2d(module.get_submodule(name), count))  # type: ignore[arg-type]
    return rewritten


@torch.no_grad()
def exported(module: nn.Module, inputs: tuple[Tensor, ...], table: dict[Any, Any]) -> ExportedProgram:
    """Export a module for inputs of these shapes, with the operators of a table of decompositions taken apart."""
    with quiet():
        program: ExportedProgram = torch.export.export(module.eval(), inputs).run_decompositions(table)
    join_views(program)
    return program


def decompositions() -> dict[Any, Any]:
    """Return how to take apart the operators that coremltools 9 does not know; torch's whole table bloats a program."""
    from torch._decomp import get_decompositions

    table: dict[Any, Any] = dict(get_decompositions([_aten.addcmul.default, _aten.lerp.Tensor]))
    table[_aten.alias.default] = lambda x: _aten.clone(x)
    table[_aten.linalg_vector_norm.default] = _vector_norm
    return table


def decompositions_of_attention() -> dict[Any, Any]:
    """Return the same and attention written out, for runtimes that do not know it fused or run it slowly so."""
    return decompositions() | {_aten.scaled_dot_product_attention.default: _attention}


@contextlib.contextmanager
def _recorded_frames(module: nn.Module) -> Iterator[dict[str, int]]:
    """Yield a dictionary that a call fills: names of depthwise 3-D convolutions and the frames that they get."""
    frames: dict[str, int] = {}

    def record(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        frames[name] = inputs[0].shape[2]

    hooks = [
        child.register_forward_pre_hook(functools.partial(record, name))
        for name, child in module.named_modules()
        if isinstance(child, nn.Conv3d) and _can_be_banded(child)
    ]
    try:
        yield frames
    finally:
        for hook in hooks:
            hook.remove()


def _can_be_banded(convolution: nn.Conv3d) -> bool:
    plain = set(convolution.stride) == set(convolution.dilation) == {1} and convolution.padding_mode == "zeros"
    depthwise = convolution.groups == convolution.in_channels == convolution.out_channels
    return plain and depthwise and not isinstance(convolution.padding, str) and convolution.padding[0] == 0


def _vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    if ord != 2:
        return NotImplemented
    # Squares are those of numbers up to 1: float16 has none of a number above 255.
    largest = torch.amax(x.abs(), dim=dim, keepdim=True).clamp_min(LEAST_LARGEST)
    part = x / largest
    norm = torch.sqrt(torch.sum(part * part, dim=dim, keepdim=True, dtype=dtype)) * largest
    return norm if keepdim else norm.squeeze(dim)


def _attention(query_BANK: Tensor, key_BANK: Tensor, value_BANK: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Attend, with what is added to the scores, as the blocks do."""
    score_BANN = query_BANK @ (key_BANK * query_BANK.shape[-1] ** -0.5).transpose(-1, -2)
    if attn_mask is not None:
        score_BANN = score_BANN + attn_mask
    return torch.softmax(score_BANN, dim=-1) @ value_BANK


def join_views(program: ExportedProgram) -> None:
    """Let a view of a view read the first one's input, so that a shape between them with six axes is never made."""
    for node in program.graph.nodes:
        if node.target in VIEWS:
            while node.args[0].target in VIEWS:
                node.update_arg(0, node.args[0].args[0])
    program.graph.eliminate_dead_code()
