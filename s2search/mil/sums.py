"""Operations that accumulate: products, convolutions, reductions, norms and attention.

How wide the running sums are, and why: docs/decisions/verification.md, "The Core ML evaluator".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from s2search.mil.arguments import Arguments, Compute
from s2search.mil.pools import padded_input
from s2search.mil.rounding import Kernel


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
    padded = padded_input(given, x, weight.shape[2:], kernel.strides, kernel.dilations)
    y = given.sums.convolve(padded, weight, kernel)
    return y + given["bias"].view(-1, *[1] * dims) if "bias" in given else y


def _conv_transpose(given: Arguments) -> Tensor:
    """Spread every number of the input by the kernel: a convolution with it, turned, of the input among zeros."""
    x, weight = given["x"], given["weight"]
    dims, groups = weight.ndim - 2, given.integer("groups", 1)
    if not 1 <= dims <= 3 or x.ndim != weight.ndim:
        raise ValueError(f"a kernel of {weight.ndim} axes on an input of {x.ndim}")
    strides, dilations = given.integers("strides", [1] * dims), given.integers("dilations", [1] * dims)
    reaches = [(size - 1) * dilation for size, dilation in zip(weight.shape[2:], dilations, strict=True)]
    spread = x.new_zeros(
        [*x.shape[:2], *(stride * (n - 1) + 1 for n, stride in zip(x.shape[2:], strides, strict=True))]
    )
    spread[(slice(None), slice(None), *(slice(None, None, stride) for stride in strides))] = x
    spread = functional.pad(spread, [reach for reach in reversed(reaches) for _ in (0, 1)])
    by_group = torch.unflatten(weight, 0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    turned = by_group.flip(list(range(2, 2 + dims)))
    kernel = Kernel(strides=(1,) * dims, dilations=tuple(dilations), groups=groups)
    y = given.sums.convolve(spread, turned, kernel)
    for axis, (before, size) in enumerate(_cuts(given, x.shape[2:], y.shape[2:], strides), start=2):
        beyond = max(0, before + size - y.shape[axis])
        y = functional.pad(y, [0, 0] * (y.ndim - 1 - axis) + [max(0, -before), beyond])
        y = y.narrow(axis, max(0, before), size)
    return y + given["bias"].view(-1, *[1] * dims) if "bias" in given else y


def _cuts(
    given: Arguments, before: Sequence[int], whole: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return for each axis of a transposed convolution's whole output where what is returned begins, and its size."""
    dims = len(whole)
    match given.text("pad_type", "valid"):
        case "valid":
            starts, sizes = [0] * dims, [*whole]
        case "custom":
            pads = given.integers("pad", [0] * 2 * dims)
            starts = pads[::2]
            sizes = [size - pads[2 * axis] - pads[2 * axis + 1] for axis, size in enumerate(whole)]
        case "same":
            sizes = [size * stride for size, stride in zip(before, strides, strict=True)]
            starts = [(all_ - size) // 2 for all_, size in zip(whole, sizes, strict=True)]
        case kind:
            raise NotImplementedError(f"the padding {kind}")
    if "output_shape" in given:
        sizes = given.integers("output_shape")[2:]
    return list(zip(starts, sizes, strict=True))


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
    "batch_norm": _batch_norm,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "cumsum": _cumsum,
    "einsum": _einsum,
    "instance_norm": _instance_norm,
    "l2_norm": _unit_norm,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
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
