"""The cases of products, convolutions, reductions, norms and pools; see operation_cases.py."""

from __future__ import annotations

import numpy as np
from scipy import special

from tests.verify.case import N, P, X, normal


def add_cases(mb, case):
    """Tell `case` of every case."""
    _products(mb, case)
    _reductions(mb, case)
    _norms_and_pools(mb, case)


def _products(mb, case):
    a, b = normal(2, 1, 5, 7), normal(3, 7, 4)
    case("matmul", lambda x, y: mb.matmul(x=x, y=y), (a, b), np.matmul, "broadcast")
    case("matmul", lambda x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True), (b, normal(2, 1, 5, 7)),
         lambda x, y: x.swapaxes(-1, -2) @ y.swapaxes(-1, -2), "transposed")  # fmt: skip
    weight, bias = normal(6, 7), normal(6)
    case("linear", lambda x: mb.linear(x=x, weight=weight, bias=bias), (X,), lambda x: x @ weight.T + bias)
    case("linear", lambda x: mb.linear(x=x, weight=weight), (X,), lambda x: x @ weight.T, "no bias")
    case("einsum", lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
         (normal(2, 3, 5, 4), normal(2, 4, 5, 6)), lambda x, y: np.einsum("nchw,nwhu->nchu", x, y))  # fmt: skip
    q, k, v = normal(2, 3, 5, 4), normal(2, 3, 6, 4), normal(2, 3, 6, 7)
    mask = normal(5, 6)
    case("scaled_dot_product_attention",
         lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v), (q, k, v), _attention)  # fmt: skip
    case("scaled_dot_product_attention",
         lambda q, k, v, m: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=m), (q, k, v, mask),
         _attention, "mask")  # fmt: skip
    case("scaled_dot_product_attention",
         lambda q, k, v, m: mb.scaled_dot_product_attention(
             query=q, key=k, value=v, attn_mask=mb.greater(x=m, y=-0.7)), (q, k, v, mask),
         lambda q, k, v, m: _attention(q, k, v, np.where(m > np.float32(-0.7), 0, -np.inf)), "truth mask")  # fmt: skip
    x, w, bias = normal(2, 4, 9, 8), normal(6, 2, 3, 2), normal(6)
    for note, options, pads in [
        ("valid", {"pad_type": "valid"}, [(0, 0), (0, 0)]),
        ("custom", {"pad_type": "custom", "pad": [1, 0, 2, 3]}, [(1, 0), (2, 3)]),
        ("same", {"pad_type": "same"}, [(1, 1), (0, 1)]),
        ("same_lower", {"pad_type": "same_lower"}, [(1, 1), (1, 0)]),
    ]:
        case("conv", lambda x, *, o=options: mb.conv(x=x, weight=w, bias=bias, groups=2, **o), (x,),
             lambda x, *, p=pads: _convolve(np.pad(x, [(0, 0), (0, 0), *p]), w, bias, 2), note)  # fmt: skip
    case("conv", lambda x: mb.conv(x=x, weight=w, groups=2, strides=[2, 3], dilations=[2, 1], pad_type="valid"), (x,),
         lambda x: _convolve(x, w, 0 * bias, 2, (2, 3), (2, 1)), "strides and dilations")  # fmt: skip
    case("conv", lambda x: mb.conv(x=x, weight=w, groups=2, strides=[2, 3], pad_type="same"), (x,),
         lambda x: _convolve(np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)]), w, 0 * bias, 2, (2, 3)),
         "same, strides")  # fmt: skip
    line = normal(5, 4, 3)
    case("conv", lambda x: mb.conv(x=x, weight=line, pad_type="custom", pad=[2, 0]), (normal(2, 4, 6),),
         lambda x: _convolve(np.pad(x, [(0, 0), (0, 0), (2, 0)])[:, :, None], line[:, :, None], np.zeros(5))[:, :, 0],
         "one axis")  # fmt: skip
    cube = normal(2, 3, 2, 1, 1)
    case("conv", lambda x: mb.conv(x=x, weight=cube, pad_type="valid"), (normal(1, 3, 4, 5, 2),),
         lambda x: np.einsum("bctshw,oct->boshw", np.stack([x[:, :, :-1], x[:, :, 1:]], 2), cube[..., 0, 0]),
         "three axes")  # fmt: skip


def _attention(q, k, v, mask=0.0):
    score = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + mask
    power = np.exp(score - score.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True) @ v


def _convolve(x, weight, bias, groups=1, strides=(1, 1), dilations=(1, 1)):
    """Convolve place by place."""
    out_channels, per_group, rows, columns = weight.shape
    height = (x.shape[2] - (rows - 1) * dilations[0] - 1) // strides[0] + 1
    width = (x.shape[3] - (columns - 1) * dilations[1] - 1) // strides[1] + 1
    y = np.zeros((x.shape[0], out_channels, height, width))
    for o in range(out_channels):
        first = o // (out_channels // groups) * per_group
        for i in range(height):
            for j in range(width):
                at, by = i * strides[0], j * strides[1]
                seen = x[
                    :,
                    first : first + per_group,
                    at : at + rows * dilations[0] : dilations[0],
                    by : by + columns * dilations[1] : dilations[1],
                ][:, :, :rows, :columns]
                y[:, o, i, j] = (seen * weight[o]).sum((1, 2, 3)) + bias[o]
    return y


def _reductions(mb, case):
    for name, reference in [
        ("reduce_sum", np.sum),
        ("reduce_mean", np.mean),
        ("reduce_max", np.max),
        ("reduce_min", np.min),
        ("reduce_prod", np.prod),
        ("reduce_l1_norm", lambda x, *, axis=None, keepdims=False: np.abs(x).sum(axis, keepdims=keepdims)),
        ("reduce_l2_norm", lambda x, *, axis=None, keepdims=False: np.sqrt((x * x).sum(axis, keepdims=keepdims))),
        ("reduce_sum_square", lambda x, *, axis=None, keepdims=False: (x * x).sum(axis, keepdims=keepdims)),
        ("reduce_log_sum", lambda x, *, axis=None, keepdims=False: np.log(x.sum(axis, keepdims=keepdims))),
        ("reduce_log_sum_exp", lambda x, *, axis=None, keepdims=False: np.log(np.exp(x).sum(axis, keepdims=keepdims))),
    ]:
        x = P if name == "reduce_log_sum" else X
        operation = getattr(mb, name)
        case(name, lambda x, *, o=operation: o(x=x, axes=[-1, 1], keep_dims=True), (x,),
             lambda x, *, r=reference: r(x, axis=(-1, 1), keepdims=True), "kept axes")  # fmt: skip
        case(
            name, lambda x, *, o=operation: o(x=x, axes=[-2]), (x,), lambda x, *, r=reference: r(x, axis=-2), "one axis"
        )
        case(name, lambda x, *, o=operation: o(x=x), (x,), lambda x, *, r=reference: r(x), "all axes")
    case("reduce_sum", lambda x: mb.reduce_sum(x=x, axes=[1]), (N,), lambda x: x.sum(1), "whole numbers")
    case("reduce_argmax", lambda x: mb.reduce_argmax(x=x, axis=-2, keep_dims=True), (X,),
         lambda x: x.argmax(-2, keepdims=True))  # fmt: skip
    case("reduce_argmin", lambda x: mb.reduce_argmin(x=x), (X,), lambda x: x.argmin(-1))
    for exclusive in (False, True):
        for backwards in (False, True):
            case("cumsum", lambda x, *, e=exclusive, b=backwards: mb.cumsum(x=x, axis=2, exclusive=e, reverse=b), (X,),
                 lambda x, *, e=exclusive, b=backwards: _cumsum(x, e, b), f"{exclusive} {backwards}")  # fmt: skip
    case("softmax", lambda x: mb.softmax(x=x, axis=1), (9 * X,), lambda x: special.softmax(x, 1))
    case("softmax", lambda x: mb.softmax(x=x), (9 * X,), lambda x: special.softmax(x, -1), "default")


def _cumsum(x, exclusive, backwards):
    x = x[:, :, ::-1] if backwards else x
    y = x.cumsum(-2) - (x if exclusive else 0)
    return y[:, :, ::-1] if backwards else y


def _norms_and_pools(mb, case):
    gamma, beta = normal(5, 7), normal(5, 7)
    case("layer_norm", lambda x: mb.layer_norm(x=x, axes=[-2, -1], gamma=gamma, beta=beta, epsilon=0.01), (X,),
         lambda x: _norm(x, (2, 3), 0.01) * gamma + beta)  # fmt: skip
    case("layer_norm", lambda x: mb.layer_norm(x=x, axes=[-1]), (X,), lambda x: _norm(x, (3,), 1e-5), "default")
    gain, shift = np.array([1.5, 0.5, -1], np.float32), np.array([0.1, 0.2, 0.3], np.float32)
    each = (slice(None), None, None)
    case("instance_norm", lambda x: mb.instance_norm(x=x, gamma=gain, beta=shift, epsilon=0.01), (X,),
         lambda x: _norm(x, (2, 3), 0.01) * gain[each] + shift[each])  # fmt: skip
    mean, variance = np.array([0.3, -0.2, 0], np.float32), np.array([1, 2, 0.5], np.float32)
    case("batch_norm",
         lambda x: mb.batch_norm(x=x, mean=mean, variance=variance, gamma=gain, beta=shift, epsilon=0.01), (X,),
         lambda x: (x - mean[each]) / np.sqrt(variance[each] + 0.01) * gain[each] + shift[each])  # fmt: skip
    case("l2_norm", lambda x: mb.l2_norm(x=x, epsilon=0.01), (X,),
         lambda x: x / np.sqrt((x * x).sum((1, 2, 3), keepdims=True) + 0.01))  # fmt: skip
    for exclude in (False, True):
        case("avg_pool", lambda x, *, e=exclude: mb.avg_pool(
                x=x, kernel_sizes=[2, 3], strides=[1, 2], pad_type="custom", pad=[1, 0, 0, 2],
                exclude_padding_from_average=e), (X,),
             lambda x, *, e=exclude: _average_pool(x, e), f"padding excluded {exclude}")  # fmt: skip
    case("max_pool", lambda x: mb.max_pool(
            x=x, kernel_sizes=[2, 3], strides=[1, 2], pad_type="custom", pad=[1, 0, 0, 2]), (X,),
         lambda x: _seen(np.pad(x, _POOL_PADS, constant_values=-np.inf)).max((-1, -2)))  # fmt: skip


_POOL_PADS = [(0, 0), (0, 0), (1, 0), (0, 2)]


def _seen(x):
    return np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(2, 3))[:, :, :, ::2]


def _average_pool(x, exclude):
    total = _seen(np.pad(x, _POOL_PADS)).sum((-1, -2))
    return total / (_seen(np.pad(np.ones_like(x), _POOL_PADS)).sum((-1, -2)) if exclude else 6)


def _norm(x, axes, epsilon):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)
