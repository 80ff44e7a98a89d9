"""Operations that accumulate: products, convolutions, reductions, norms, attention and pooling.

How wide the running sums are, and why: docs/decisions/verification.md, "The Core ML evaluator".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from s2search.mil.arguments import Arguments, Compute
from s2search.mil.rounding import Kernel, windows


def _matmul(given: Arguments) -> Tensor:
    x, y = given["x"], given["y"]
    if given.flag("transpose_x"):
        x = x.transpose(-1, -2)
    if given.flag("transpose_y"):
        y = y.transpose(-1, -2)
    return given.sums.matmul(x, y)


def _linear(given: Arguments) -> Tensor:
    y = given.sums.matmul(given["x"], given["weight"].transpose(-1, -2))
    return y + given["bias"] if "bias" in given else y


def _einsum(given: Arguments) -> Tensor:
    x, y = given.tensors("values")
    return given.sums.einsum(given.text("equation").replace(" ", ""), x, y)


def _attention(given: Arguments) -> Tensor:
    """Attend; the scores are scaled after the product, so that in float16 a product too large shows."""
    query, key, value, mask = given["query"], given["key"], given["value"], given.get("attn_mask")
    sums = given.sums
    score = sums.inner(sums.matmul(query, key.transpose(-1, -2)) * query.shape[-1] ** -0.5)
    if mask is not None:
        score = score.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else sums.inner(score + mask)
    return sums.matmul(sums.softmax(score, -1), value)


def _conv(given: Arguments) -> Tensor:
    x, weight = given["x"], given["weight"]
    dims = weight.ndim - 2
    if not 1 <= dims <= 3 or x.ndim != weight.ndim:
        raise ValueError(f"a kernel of {weight.ndim} axes on an input of {x.ndim}")
    kernel = Kernel(
        strides=tuple(given.integers("strides", [1] * dims)),
        dilations=tuple(given.integers("dilations", [1] * dims)),
        groups=given.integer("groups", 1),
    )
    padded = _padded(given, x, weight.shape[2:], kernel.strides, kernel.dilations)
    y = given.sums.convolve(padded, weight, kernel)
    return y + given["bias"].view(-1, *[1] * dims) if "bias" in given else y


def _padded(
    given: Arguments, x: Tensor, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Tensor:
    """Pad as `pad_type` says: valid, custom, or same with the odd one behind (same) or before (same_lower)."""
    match given.text("pad_type", "valid"):
        case "valid":
            return x
        case "custom":
            pads = given.integers("pad", [0] * 2 * len(sizes))
        case "same" | "same_lower" as kind:
            pads = []
            for size, length, stride, dilation in zip(sizes, x.shape[2:], strides, dilations, strict=True):
                reach = (size - 1) * dilation + 1
                total = max(0, (-(-length // stride) - 1) * stride + reach - length)
                less, more = total // 2, total - total // 2
                pads += [less, more] if kind == "same" else [more, less]
        case kind:
            raise ValueError(f"no padding {kind}")
    if len(pads) != 2 * len(sizes):
        raise ValueError(f"{len(pads)} paddings")
    return functional.pad(x, [pads[2 * axis + side] for axis in reversed(range(len(sizes))) for side in (0, 1)])


def _average_pool(given: Arguments) -> Tensor:
    x = given["x"]
    seen = _pooled(given, x)
    dims = x.ndim - 2
    axes = list(range(-dims, 0))
    if not given.flag("exclude_padding_from_average"):
        return given.sums.mean(seen, axes, False)
    counted = _pooled(given, torch.ones_like(x)).sum(dim=axes)
    return given.sums.total(seen, axes, False) / counted


def _max_pool(given: Arguments) -> Tensor:
    x = given["x"]
    inside = _pooled(given, torch.ones_like(x)) > 0
    seen = _pooled(given, x).masked_fill(~inside, float("-inf"))
    return seen.amax(dim=list(range(2 - x.ndim, 0)))


def _pooled(given: Arguments, x: Tensor) -> Tensor:
    if given.flag("ceil_mode"):
        raise ValueError("pooling with ceil_mode has no cover")
    sizes = given.integers("kernel_sizes")
    strides, dilations = given.integers("strides", [1] * len(sizes)), [1] * len(sizes)
    return windows(_padded(given, x, sizes, strides, dilations), sizes, strides, dilations)


def _reduce(function: Callable[[Arguments, Tensor, list[int], bool], Tensor]) -> Compute:
    def compute(given: Arguments) -> Tensor:
        x = given["x"]
        return function(given, x, given.axes("axes", x.ndim), given.flag("keep_dims"))

    return compute


def _sum(given: Arguments, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return given.sums.total(x, axes, keep)


def _l1_norm(given: Arguments, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return given.sums.total(x.abs(), axes, keep)


def _l2_norm(given: Arguments, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _sum_square(given, x, axes, keep).sqrt()


def _sum_square(given: Arguments, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return given.sums.total(given.sums.inner(x * x), axes, keep)


def _log_sum(given: Arguments, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return given.sums.total(x, axes, keep).log()


def _log_sum_exp(given: Arguments, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    largest = x.amax(dim=axes, keepdim=True)
    total = given.sums.total(given.sums.inner((x - largest).exp()), axes, keep).log()
    return total + (largest if keep else largest.amax(dim=axes))


def _product(given: Arguments, x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(dim=axis, keepdim=keep)
    return x


def _place(function: Callable[..., Tensor]) -> Compute:
    def compute(given: Arguments) -> Tensor:
        keep = given.flag("keep_dims")
        return function(given["x"], dim=given.integer("axis", -1), keepdim=keep).to(torch.int32)

    return compute


def _cumsum(given: Arguments) -> Tensor:
    """Sum up in float32 in every mode; only the result is rounded."""
    x, axis = given["x"], given.integer("axis", 0)
    if given.flag("reverse"):
        x = x.flip(axis)
    total = x.cumsum(axis).to(x.dtype)
    if given.flag("exclusive"):
        total = total - x
    return total.flip(axis) if given.flag("reverse") else total


def _layer_norm(given: Arguments) -> Tensor:
    x = given["x"]
    axes = given.axes("axes", x.ndim)
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    return _normalized(given, x, axes, shape)


def _instance_norm(given: Arguments) -> Tensor:
    x = given["x"]
    return _normalized(given, x, list(range(2, x.ndim)), [-1, *[1] * (x.ndim - 2)])


def _normalized(given: Arguments, x: Tensor, axes: list[int], shape: list[int]) -> Tensor:
    """Take the mean away, divide by the standard deviation, then apply gain and bias of this shape."""
    sums = given.sums
    centred = sums.inner(x - sums.mean(x, axes, True))
    variance = sums.mean(sums.inner(centred * centred), axes, True)
    y = sums.inner(centred * sums.inner(torch.rsqrt(variance + given.number("epsilon", 1e-5))))
    if "gamma" in given:
        y = sums.inner(y * given["gamma"].reshape(shape))
    return y + given["beta"].reshape(shape) if "beta" in given else y


def _batch_norm(given: Arguments) -> Tensor:
    x = given["x"]
    shape = [-1, *[1] * (x.ndim - 2)]
    gain = torch.rsqrt(given["variance"] + given.number("epsilon", 1e-5))
    if "gamma" in given:
        gain = gain * given["gamma"]
    y = (x - given["mean"].view(shape)) * gain.view(shape)
    return y + given["beta"].view(shape) if "beta" in given else y


def _unit_norm(given: Arguments) -> Tensor:
    """Divide by the root of the sum of squares over the last three axes."""
    x, sums = given["x"], given.sums
    squares = sums.total(sums.inner(x * x), [-3, -2, -1], True)
    return x * torch.rsqrt(squares + given.number("epsilon", 1e-6))


SUMS: dict[str, Compute] = {
    "avg_pool": _average_pool,
    "batch_norm": _batch_norm,
    "conv": _conv,
    "cumsum": _cumsum,
    "einsum": _einsum,
    "instance_norm": _instance_norm,
    "l2_norm": _unit_norm,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": _max_pool,
    "reduce_argmax": _place(torch.argmax),
    "reduce_argmin": _place(torch.argmin),
    "reduce_l1_norm": _reduce(_l1_norm),
    "reduce_l2_norm": _reduce(_l2_norm),
    "reduce_log_sum": _reduce(_log_sum),
    "reduce_log_sum_exp": _reduce(_log_sum_exp),
    "reduce_max": _reduce(lambda _, x, axes, keep: x.amax(dim=axes, keepdim=keep)),
    "reduce_mean": _reduce(lambda given, x, axes, keep: given.sums.mean(x, axes, keep)),
    "reduce_min": _reduce(lambda _, x, axes, keep: x.amin(dim=axes, keepdim=keep)),
    "reduce_prod": _reduce(_product),
    "reduce_sum": _reduce(_sum),
    "reduce_sum_square": _reduce(_sum_square),
    "scaled_dot_product_attention": _attention,
    "softmax": lambda given: given.sums.softmax(given["x"], given.integer("axis", -1)),
}
