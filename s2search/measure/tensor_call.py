"""An item's call as other runtimes take it: a module of tensors alone.

Export knows neither our states nor options: the tensors of all arguments become inputs, in their order, and the rest
(frames seen, rows and columns) is built in, as an application builds it into the package of one chunk size.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.measure.torch_call import TorchCall

_MOST_AXES = 5  # of a tensor in Core ML
_aten = torch.ops.aten


class TensorCall(nn.Module):
    """Calls an item's module from the tensors among its arguments, the leading axes of the largest made one."""

    def __init__(self, call: TorchCall) -> None:
        super().__init__()
        self.module, self._arguments = call.module, call.arguments

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that `forward` takes, contiguous: activations, then the state's."""
        tensors = [tensor for argument in self._arguments for tensor in _tensors(argument)]
        return tuple(x.flatten(0, max(0, x.ndim - _MOST_AXES)).contiguous() for x in tensors)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the module once."""
        left = iter(inputs)
        output: Tensor = self.module(*(_filled(argument, left) for argument in self._arguments))
        return output


class PlanarConv3d(nn.Module):
    """A depthwise Conv3d without padding in time, as one grouped Conv2d: some runtimes know no depthwise Conv3d.

    Channels and frames become channels of a 2-D convolution, one group per channel, whose weight is the band of the 3-D
    kernel that joins every frame of the output with those of the input that it reaches. It is exact, and computes
    frames + kernel - 1 times as many products as frames that a kernel reaches. Axes: B batch, C channels, T frames.
    """

    def __init__(self, conv: nn.Conv3d, outputs: int) -> None:
        super().__init__()
        reach = conv.kernel_size[0]
        frames = outputs + reach - 1
        band_CTTHW = conv.weight.new_zeros(conv.in_channels, outputs, frames, *conv.kernel_size[1:])
        for output in range(outputs):
            band_CTTHW[:, output, output : output + reach] = conv.weight[:, 0]
        self.weight = nn.Parameter(band_CTTHW.flatten(0, 1), requires_grad=False)
        bias_C = conv.weight.new_zeros(conv.in_channels) if conv.bias is None else conv.bias.detach()
        self.bias = nn.Parameter(bias_C.repeat_interleave(outputs), requires_grad=False)
        self.channels, self.outputs, self.padding = conv.in_channels, outputs, conv.padding[1:]

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Convolve as the Conv3d does."""
        y = functional.conv2d(
            x_BCTHW.flatten(1, 2),
            self.weight,
            self.bias,
            padding=self.padding,
            groups=self.channels,
        )
        return y.view(y.shape[0], self.channels, self.outputs, *y.shape[2:])


def planar(module: nn.Module, frames: int) -> nn.Module:
    """Replace every depthwise Conv3d inside a module, in place; `frames` are those that it returns."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv3d) and child.groups == child.in_channels == child.out_channels:
            setattr(module, name, PlanarConv3d(child, frames))
        else:
            planar(child, frames)
    return module


def exported(call: TorchCall) -> torch.export.ExportedProgram:
    """Export an item's call; attention is written out, since a fused operator is unknown to most runtimes."""
    module = TensorCall(call).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own future; nothing here can heed them
        program: torch.export.ExportedProgram = torch.export.export(module, module.inputs)
        written_out: torch.export.ExportedProgram = program.run_decompositions(_written_out())
        return written_out


def _attention(query_BANK: Tensor, key_BANK: Tensor, value_BANK: Tensor) -> Tensor:
    """Attend without mask, as the blocks do."""
    score_BANN = query_BANK @ (key_BANK * query_BANK.shape[-1] ** -0.5).transpose(-1, -2)
    return torch.softmax(score_BANN, dim=-1) @ value_BANK


def _vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return torch.sqrt(torch.sum(x * x, dim=dim, keepdim=keepdim, dtype=dtype)) if ord == 2 else NotImplemented


def _written_out() -> dict[Any, Any]:
    """Return how to take apart operators that other runtimes do not know, or run slowly."""
    from torch._decomp import get_decompositions

    table: dict[Any, Any] = dict(get_decompositions([_aten.addcmul.default, _aten.lerp.Tensor]))
    table[_aten.alias.default] = lambda x: _aten.clone(x)
    table[_aten.linalg_vector_norm.default] = _vector_norm
    table[_aten.scaled_dot_product_attention.default] = _attention
    return table


def _tensors(argument: Any) -> Iterator[Tensor]:
    if isinstance(argument, Tensor):
        yield argument
    elif dataclasses.is_dataclass(argument):
        for field in dataclasses.fields(argument):
            yield from _tensors(getattr(argument, field.name))


def _filled(argument: Any, left: Iterator[Tensor]) -> Any:
    """Return the argument with its tensors replaced by the next ones."""
    if isinstance(argument, Tensor):
        return next(left).view(argument.shape)
    if not dataclasses.is_dataclass(argument) or isinstance(argument, type):
        return argument
    names = [field.name for field in dataclasses.fields(argument)]
    return dataclasses.replace(argument, **{name: _filled(getattr(argument, name), left) for name in names})
