"""Operators of torch that coremltools 9.0 makes others of, without a word: what they must become is said here.

- It reads no setting that torch takes by keyword only: GELU with tanh becomes the one with erf (its pull request 2863),
  x + alpha y becomes x + y, a sum or mean in another type stays in its own.
- `reciprocal` becomes 1 / (x + 1e-4).
- Of an RMS norm, epsilon is added to squares that were divided by the largest; a row of zeros becomes 0 / 0.
- The threshold above which softplus is its input is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from s2search.exporters.graph import LEAST_LARGEST, decompositions
from s2search.mil.library import load_coremltools

_aten = torch.ops.aten
_NO_EPSILON = 1e-45  # the least number above 0 in float32
_MODES = {"none": "EXACT", "tanh": "TANH_APPROXIMATION"}
_EXACT_THRESHOLD = 20.0  # of softplus: above it float32 is the input anyway


def decompositions_for_coreml() -> dict[Any, Any]:
    """Return how to take operators apart for coremltools: those that it does not know, and those that it gets wrong."""
    return decompositions() | {
        _aten.add.Tensor: _scaled(torch.add),
        _aten.sub.Tensor: _scaled(torch.sub),
        _aten.rsub.Tensor: _rsub,
        _aten.rsub.Scalar: _rsub,
        _aten.sum.default: _in_type(torch.sum),
        _aten.sum.dim_IntList: _in_type(torch.sum),
        _aten.mean.default: _in_type(torch.mean),
        _aten.mean.dim: _in_type(torch.mean),
        _aten.round.decimals: lambda x, *, decimals: torch.round(x * 10.0**decimals) / 10.0**decimals,
        _aten.rms_norm.default: _rms_norm,
        _aten.softplus.default: _softplus,
    }


@contextmanager
def right_operators() -> Iterator[None]:
    """Let coremltools convert GELU in its mode, and a reciprocal without an epsilon."""
    load_coremltools()
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    ours = {"gelu": _convert_gelu, "reciprocal": _convert_reciprocal}
    before = {name: _TORCH_OPS_REGISTRY.get_func(name) for name in ours}
    _set(_TORCH_OPS_REGISTRY, ours)
    try:
        yield
    finally:
        _set(_TORCH_OPS_REGISTRY, before)


def _set(registry: Any, functions: Mapping[str, Any]) -> None:
    for name, function in functions.items():
        registry.set_func_by_name(function, name)


def _convert_gelu(context: Any, node: Any) -> None:
    from coremltools.converters.mil import Builder

    # A graph has the setting as a keyword, a script as its second input.
    (keyword,) = (node.kwinputs or {}).get("approximate", ("none",))
    given = context[node.inputs[1]].val if len(node.inputs) > 1 else keyword
    context.add(Builder.gelu(x=context[node.inputs[0]], mode=_MODES[given], name=node.name))


def _convert_reciprocal(context: Any, node: Any) -> None:
    from coremltools.converters.mil import Builder

    context.add(Builder.inverse(x=context[node.inputs[0]], epsilon=_NO_EPSILON, name=node.name))


def _scaled(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    def compute(x: Tensor, y: Tensor, *, alpha: float = 1) -> Any:
        return NotImplemented if alpha == 1 else function(x, y * alpha)

    return compute


def _rsub(x: Tensor, y: Tensor | float, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else x * -alpha + y


def _in_type(function: Callable[..., Tensor]) -> Callable[..., Any]:
    def compute(x: Tensor, *axes: Any, dtype: torch.dtype | None = None) -> Any:
        return NotImplemented if dtype in (None, x.dtype) else function(x.to(dtype), *axes)

    return compute


def _rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Return x / sqrt(mean(x^2) + eps) over the last axes, squares taken of numbers up to 1."""
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    axes = list(range(-len(shape), 0))
    largest = torch.amax(x.abs(), dim=axes, keepdim=True).clamp_min(max(math.sqrt(eps), LEAST_LARGEST))
    part, least = x / largest, math.sqrt(eps) / largest
    y = part * torch.rsqrt(torch.mean(part * part, dim=axes, keepdim=True) + least * least)
    return y if weight is None else y * weight


def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Any:
    if threshold >= _EXACT_THRESHOLD:
        return NotImplemented
    return torch.where(x * beta > threshold, x, functional.softplus(x, beta, _EXACT_THRESHOLD))
