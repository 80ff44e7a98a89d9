"""One program for every operation, or several, and what numpy says that it gives.

A case is an operation's type, a function of coremltools' builder and the inputs, the inputs, and the same in numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

_rng = np.random.default_rng(0)


def _normal(*shape):
    return _rng.normal(size=shape).astype(np.float32)


X = _normal(2, 3, 5, 7)
Y = _normal(3, 1, 7)  # broadcast
P = np.abs(X) + 0.1
U = np.clip(X / 4, -0.95, 0.95)
M = _normal(3, 5)
N = _rng.integers(-9, 9, size=(2, 3, 5)).astype(np.int32)
J = np.where(_rng.integers(0, 2, size=(3, 1)) == 0, -3, 4).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Case:
    type: str
    build: Any
    inputs: tuple[np.ndarray, ...]
    expected: Any
    note: str = ""

    @property
    def label(self) -> str:
        return f"{self.type} {self.note}".strip()


def cases(mb) -> list[Case]:
    found: list[Case] = []

    def case(type_, build, inputs, expected, note=""):
        found.append(Case(type=type_, build=build, inputs=inputs, expected=expected, note=note))

    def flags(operation):
        return lambda x, y: mb.cast(x=operation(x, y), dtype="int32")

    def truths(x, y):
        return mb.cast(x=x, dtype="bool"), mb.cast(x=y, dtype="bool")

    _unary(mb, case)
    _binary(mb, case, flags, truths)
    _shapes(mb, case)
    _slices(mb, case)
    _gathers(mb, case)
    _products(mb, case)
    _reductions(mb, case)
    _norms_and_pools(mb, case)
    return found


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _gelu(x):
    return x * 0.5 * (1 + special.erf(x / np.sqrt(2)))


def _tanh_gelu(x):
    return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _unary(mb, case):
    for name, reference, x in [
        ("abs", np.abs, X),
        ("acos", np.arccos, U),
        ("asin", np.arcsin, U),
        ("atan", np.arctan, X),
        ("ceil", np.ceil, X),
        ("cos", np.cos, X),
        ("cosh", np.cosh, X),
        ("erf", special.erf, X),
        ("exp", np.exp, X),
        ("exp2", np.exp2, X),
        ("floor", np.floor, X),
        ("relu", lambda x: np.maximum(x, 0), X),
        ("relu6", lambda x: np.clip(x, 0, 6), 5 * X),
        ("round", np.round, np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.4, 2.5], np.float32)),
        ("sigmoid", _sigmoid, X),
        ("sign", np.sign, np.array([-2.0, 0.0, 3.0], np.float32)),
        ("silu", lambda x: x * _sigmoid(x), X),
        ("sin", np.sin, X),
        ("sinh", np.sinh, X),
        ("softplus", lambda x: np.logaddexp(x, 0), 30 * X),
        ("softsign", lambda x: x / (1 + np.abs(x)), X),
        ("sqrt", np.sqrt, P),
        ("square", np.square, X),
        ("tan", np.tan, U),
        ("tanh", np.tanh, X),
        ("identity", lambda x: x, X),
    ]:
        case(name, lambda x, *, name=name: getattr(mb, name)(x=x), (x,), reference)
    case("inverse", lambda x: mb.inverse(x=x, epsilon=0.5), (P,), lambda x: 1 / (x + 0.5))
    case("inverse", lambda x: mb.inverse(x=x), (P,), lambda x: 1 / (x + 1e-4), "default")
    case("log", lambda x: mb.log(x=x, epsilon=0.25), (P,), lambda x: np.log(x + 0.25))
    case("rsqrt", lambda x: mb.rsqrt(x=x, epsilon=0.25), (P,), lambda x: 1 / np.sqrt(x + 0.25))
    case("rsqrt", lambda x: mb.rsqrt(x=x), (P,), lambda x: 1 / np.sqrt(x), "default")
    case("clip", lambda x: mb.clip(x=x, alpha=-0.5, beta=0.75), (X,), lambda x: np.clip(x, -0.5, 0.75))
    case("threshold", lambda x: mb.threshold(x=x, alpha=0.3), (X,), lambda x: np.maximum(x, 0.3))
    case("elu", lambda x: mb.elu(x=x, alpha=0.7), (X,), lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1)))
    case("leaky_relu", lambda x: mb.leaky_relu(x=x, alpha=0.2), (X,), lambda x: np.where(x > 0, x, 0.2 * x))
    case("linear_activation", lambda x: mb.linear_activation(x=x, alpha=2.0, beta=0.3), (X,), lambda x: 2 * x + 0.3)
    case("scaled_tanh", lambda x: mb.scaled_tanh(x=x, alpha=2.0, beta=0.3), (X,), lambda x: 2 * np.tanh(0.3 * x))
    case("sigmoid_hard", lambda x: mb.sigmoid_hard(x=x, alpha=0.3, beta=0.4), (3 * X,),
         lambda x: np.clip(0.3 * x + 0.4, 0, 1))  # fmt: skip
    case("clamped_relu", lambda x: mb.clamped_relu(x=x, alpha=0.1, beta=0.4), (X,),
         lambda x: np.minimum(0.4, np.where(x >= 0, x, 0.1 * x)))  # fmt: skip
    slope = np.array([0.1, 0.2, 0.3], np.float32)
    case("prelu", lambda x: mb.prelu(x=x, alpha=slope), (X,),
         lambda x: np.where(x > 0, x, slope[:, None, None] * x))  # fmt: skip
    case("gelu", lambda x: mb.gelu(x=x, mode="EXACT"), (3 * X,), _gelu, "exact")
    case("gelu", lambda x: mb.gelu(x=x), (3 * X,), _gelu, "default")
    case("gelu", lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"), (3 * X,), _tanh_gelu, "tanh")
    case("gelu", lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"), (3 * X,),
         lambda x: x * _sigmoid(1.702 * x), "sigmoid")  # fmt: skip
    case("cast", lambda x: mb.cast(x=x, dtype="int32"), (3 * X,), lambda x: np.trunc(x).astype(np.int32), "to int32")
    case("cast", lambda x: mb.cast(x=x, dtype="fp32"), (N,), lambda x: x.astype(np.float32), "to fp32")
    case("cast", lambda x: mb.cast(x=mb.cast(x=x, dtype="bool"), dtype="int32"), (N,),
         lambda x: (x != 0).astype(np.int32), "to bool")  # fmt: skip
    scale, zero = np.array([0.1, 0.2, 0.05], np.float32), np.array([3, -4, 0], np.int8)

    def quantized(x):
        places = zero[:, None, None]
        return np.clip(np.round(x / scale[:, None, None]) + places, -128, 127) - places

    case("quantize", lambda x: mb.dequantize(
            input=mb.quantize(input=x, scale=scale, zero_point=zero, axis=-3, output_dtype="int8"),
            scale=scale, zero_point=zero, axis=1),
         (9 * X,), lambda x: quantized(x) * scale[:, None, None])  # fmt: skip
    case("dequantize", lambda x: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.5), output_dtype="uint8"), scale=np.float32(0.25)),
         (99 * X,), lambda x: 0.25 * np.clip(np.round(x / np.float32(0.5)), 0, 255))  # fmt: skip


def _binary(mb, case, flags, truths):
    for name, reference in [
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        ("maximum", np.maximum),
        ("minimum", np.minimum),
        ("floor_div", np.floor_divide),
        ("mod", np.mod),
    ]:
        operation = getattr(mb, name)
        case(name, lambda x, y, *, o=operation: o(x=x, y=y), (X, Y), reference, "broadcast")
        case(name, lambda x, y, *, o=operation: o(x=x, y=y), (N, J), reference, "whole numbers")
    case("real_div", lambda x, y: mb.real_div(x=x, y=y), (X, Y), np.divide)
    case("pow", lambda x, y: mb.pow(x=x, y=y), (P, Y), np.power)
    for name, reference in [
        ("equal", np.equal),
        ("not_equal", np.not_equal),
        ("less", np.less),
        ("less_equal", np.less_equal),
        ("greater", np.greater),
        ("greater_equal", np.greater_equal),
    ]:
        operation = getattr(mb, name)
        case(name, flags(lambda x, y, *, o=operation: o(x=x, y=y)), (N, J), lambda x, y, *, r=reference: r(x, y) * 1)
    for name, reference in [
        ("logical_and", np.logical_and),
        ("logical_or", np.logical_or),
        ("logical_xor", np.logical_xor),
    ]:
        operation = getattr(mb, name)

        def build(x, y, *, operation=operation):
            a, b = truths(x, y)
            return mb.cast(x=operation(x=a, y=b), dtype="int32")

        ones = (N % 2).astype(np.int32)
        case(name, build, (ones, np.array([0, 1, 0, 1, 1], np.int32)), lambda x, y, *, r=reference: r(x, y) * 1)
    case("logical_not", lambda x: mb.cast(x=mb.logical_not(x=mb.cast(x=x, dtype="bool")), dtype="int32"), (N,),
         lambda x: (x == 0) * 1)  # fmt: skip
    case("select", lambda x, y: mb.select(cond=mb.greater(x=x, y=0.0), a=x, b=y), (X, X[::-1].copy()),
         lambda x, y: np.where(x > 0, x, y))  # fmt: skip


def _shapes(mb, case):
    case("reshape", lambda x: mb.reshape(x=x, shape=[3, -1, 2]), (X,), lambda x: x.reshape(3, -1, 2))
    case("transpose", lambda x: mb.transpose(x=x, perm=[2, -4, -1, 1]), (X,), lambda x: x.transpose(2, 0, 3, 1))
    case("expand_dims", lambda x: mb.expand_dims(x=x, axes=[0, -1, 2]), (M,), lambda x: x[None, :, None, :, None])
    case("squeeze", lambda x: mb.squeeze(x=x, axes=[-2]), (Y,), lambda x: x[:, 0])
    case("squeeze", lambda x: mb.squeeze(x=x), (Y[None],), lambda x: x[0, :, 0], "default")
    case("concat", lambda x, y: mb.concat(values=(x, y, x), axis=-2), (X, X[:, :, :1].copy()),
         lambda x, y: np.concatenate((x, y, x), -2))  # fmt: skip
    case("concat", lambda x, y: mb.concat(values=(x, y), axis=-1, interleave=True), (X, -X),
         lambda x, y: np.stack((x, y), -1).reshape(2, 3, 5, 14), "interleaved")  # fmt: skip
    case("stack", lambda x, y: mb.stack(values=(x, y), axis=-2), (M, -M), lambda x, y: np.stack((x, y), -2))
    case("split", lambda x: mb.split(x=x, split_sizes=[1, 4, 2], axis=-1)[1], (X,), lambda x: x[..., 1:5], "sizes")
    case("split", lambda x: mb.split(x=x, num_splits=3, axis=1)[2], (X,), lambda x: x[:, 2:], "equal")
    case("tile", lambda x: mb.tile(x=x, reps=[2, 1, 3]), (Y,), lambda x: np.tile(x, (2, 1, 3)))
    case("fill", lambda x: mb.fill(shape=x, value=2.5), (np.array([3, 5], np.int32),),
         lambda x: np.full((3, 5), 2.5))  # fmt: skip
    case("range_1d", lambda x: mb.range_1d(start=mb.squeeze(x=x), end=9, step=3), (np.array([-2], np.int32),),
         lambda x: np.arange(-2, 9, 3))  # fmt: skip
    case("reverse", lambda x: mb.reverse(x=x, axes=[-1, 0]), (X,), lambda x: x[::-1, :, :, ::-1])
    case("flatten2d", lambda x: mb.flatten2d(x=x, axis=-2), (X,), lambda x: x.reshape(6, 35))
    case("flatten2d", lambda x: mb.flatten2d(x=x, axis=0), (M,), lambda x: x.reshape(1, 15), "all")
    case("pixel_shuffle", lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), (_normal(1, 8, 3, 2),),
         lambda x: x.reshape(1, 2, 2, 2, 3, 2).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 6, 4))  # fmt: skip
    case("pixel_unshuffle", lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), (_normal(1, 2, 6, 4),),
         lambda x: x.reshape(1, 2, 3, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 8, 3, 2))  # fmt: skip
    case("upsample_nearest_neighbor",
         lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3), (X,),
         lambda x: x.repeat(2, -2).repeat(3, -1))  # fmt: skip
    for mode, numpy_mode in [("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge")]:
        options = {"constant_val": 1.5} if mode == "constant" else {}
        case("pad", lambda x, *, m=mode, o=options: mb.pad(x=x, pad=[1, 0, 2, 3], mode=m, **o), (X,),
             lambda x, *, m=numpy_mode, o=options: np.pad(
                 x, [(0, 0), (0, 0), (1, 0), (2, 3)], m, **({"constant_values": 1.5} if o else {})), mode)  # fmt: skip
    for lower, upper in [(0, -1), (-1, 1), (2, 0)]:
        case("band_part", lambda x, *, a=lower, b=upper: mb.band_part(x=x, lower=a, upper=b), (X,),
             lambda x, *, a=lower, b=upper: np.where(_band(a, b, *x.shape[-2:]), x, 0), f"{lower} {upper}")  # fmt: skip


def _band(lower, upper, rows, columns):
    m, n = np.arange(rows)[:, None], np.arange(columns)
    return ((lower < 0) | (m - n <= lower)) & ((upper < 0) | (n - m <= upper))


def _slices(mb, case):
    case("slice_by_index", lambda x: mb.slice_by_index(
            x=x, begin=[0, -2, 1, 0], end=[1, 3, -1, 7], stride=[1, 1, 2, 3]),
         (X,), lambda x: x[0:1, -2:3, 1:-1:2, 0:7:3], "strides")  # fmt: skip
    case("slice_by_index", lambda x: mb.slice_by_index(
            x=x, begin=[1, 1, 3, 2], end=[0, 0, 0, 5], begin_mask=[True, False, False, False],
            end_mask=[True, True, True, False]),
         (X,), lambda x: x[:, 1:, 3:, 2:5], "masks")  # fmt: skip
    case("slice_by_index", lambda x: mb.slice_by_index(
            x=x, begin=[-1, 2, 0, 0], end=[0, 0, 5, 7], squeeze_mask=[True, True, False, False]),
         (X,), lambda x: x[-1, 2], "squeezed")  # fmt: skip
    case("slice_by_index", lambda x: mb.slice_by_index(
            x=x, begin=[1, 0, 4, 6], end=[0, 3, 0, 0], stride=[1, 1, -2, -1], end_mask=[True, False, False, True]),
         (X,), lambda x: x[1:, :, 4:0:-2, 6::-1], "backwards")  # fmt: skip
    case("slice_by_size", lambda x: mb.slice_by_size(x=x, begin=[0, 1, 2, 3], size=[2, -1, 1, 4]), (X,),
         lambda x: x[:, 1:, 2:3, 3:7])  # fmt: skip

    def updated(x, y):
        x = x.copy()
        x[:, 1:2, 4:0:-2, 2:] = y
        return x

    case("slice_update", lambda x, y: mb.slice_update(
            x=x, update=y, begin=[0, 1, 4, 2], end=[0, 2, 0, 0], stride=[1, 1, -2, 1],
            end_mask=[True, False, False, True]),
         (X, _normal(2, 1, 2, 5)), updated)  # fmt: skip

    def squeezed(x, y):
        x = x.copy()
        x[:, -1] = y
        return x

    case("slice_update", lambda x, y: mb.slice_update(
            x=x, update=y, begin=[0, -1, 0, 0], end=[2, 0, 5, 7], squeeze_mask=[False, True, False, False]),
         (X, _normal(2, 5, 7)), squeezed, "squeezed")  # fmt: skip


def _gathers(mb, case):
    at = np.array([[2, 0], [1, 1]], np.int32)
    case("gather", lambda x, at: mb.gather(x=x, indices=at, axis=-3), (X, at), lambda x, at: x[:, at])
    case("gather", lambda x, at: mb.gather(x=x, indices=at, axis=2, batch_dims=1), (X, at),
         lambda x, at: np.stack([x[b][:, at[b]] for b in range(2)]), "batch")  # fmt: skip
    along = _rng.integers(0, 5, size=(2, 3, 4, 7)).astype(np.int32)
    case("gather_along_axis", lambda x, at: mb.gather_along_axis(x=x, indices=at, axis=-2), (X, along),
         lambda x, at: np.take_along_axis(x, at, -2))  # fmt: skip
    places = np.array([[[0, 2], [1, 0], [1, 1]]], np.int32)
    case("gather_nd", lambda x, at: mb.gather_nd(x=x, indices=at), (X, places), lambda x, at: x[at[..., 0], at[..., 1]])
    labels = np.array([[0, 3, 1]], np.int32)
    case("one_hot", lambda x: mb.one_hot(
            indices=x, one_hot_vector_size=4, axis=-2, on_value=np.float32(2.5), off_value=np.float32(-1.0)), (labels,),
         lambda x: np.where(x[:, None, :] == np.arange(4)[:, None], 2.5, -1.0))  # fmt: skip
    case("one_hot", lambda x: mb.one_hot(indices=x, one_hot_vector_size=4), (labels,),
         lambda x: (x[..., None] == np.arange(4)) * 1, "default")  # fmt: skip
    case("topk", lambda x: mb.topk(x=x, k=2, axis=-2)[0], (X,), lambda x: -np.sort(-x, axis=-2)[:, :, :2], "values")
    case("topk", lambda x: mb.topk(x=x, k=3, axis=1, ascending=True)[1], (X,),
         lambda x: np.argsort(x, axis=1), "places")  # fmt: skip
    case("argsort", lambda x: mb.argsort(x=x, axis=-3, ascending=True), (X,), lambda x: np.argsort(x, axis=1))
    case("argsort", lambda x: mb.argsort(x=x), (X,), lambda x: np.argsort(-x, axis=-1), "default")


def _products(mb, case):
    a, b = _normal(2, 1, 5, 7), _normal(3, 7, 4)
    case("matmul", lambda x, y: mb.matmul(x=x, y=y), (a, b), np.matmul, "broadcast")
    case("matmul", lambda x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True), (b, _normal(2, 1, 5, 7)),
         lambda x, y: x.swapaxes(-1, -2) @ y.swapaxes(-1, -2), "transposed")  # fmt: skip
    weight, bias = _normal(6, 7), _normal(6)
    case("linear", lambda x: mb.linear(x=x, weight=weight, bias=bias), (X,), lambda x: x @ weight.T + bias)
    case("linear", lambda x: mb.linear(x=x, weight=weight), (X,), lambda x: x @ weight.T, "no bias")
    case("einsum", lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
         (_normal(2, 3, 5, 4), _normal(2, 4, 5, 6)), lambda x, y: np.einsum("nchw,nwhu->nchu", x, y))  # fmt: skip
    q, k, v = _normal(2, 3, 5, 4), _normal(2, 3, 6, 4), _normal(2, 3, 6, 7)
    mask = _normal(5, 6)
    case("scaled_dot_product_attention",
         lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v), (q, k, v), _attention)  # fmt: skip
    case("scaled_dot_product_attention",
         lambda q, k, v, m: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=m), (q, k, v, mask),
         _attention, "mask")  # fmt: skip
    case("scaled_dot_product_attention",
         lambda q, k, v, m: mb.scaled_dot_product_attention(
             query=q, key=k, value=v, attn_mask=mb.greater(x=m, y=-0.7)), (q, k, v, mask),
         lambda q, k, v, m: _attention(q, k, v, np.where(m > np.float32(-0.7), 0, -np.inf)), "truth mask")  # fmt: skip
    x, w, bias = _normal(2, 4, 9, 8), _normal(6, 2, 3, 2), _normal(6)
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
    line = _normal(5, 4, 3)
    case("conv", lambda x: mb.conv(x=x, weight=line, pad_type="custom", pad=[2, 0]), (_normal(2, 4, 6),),
         lambda x: _convolve(np.pad(x, [(0, 0), (0, 0), (2, 0)])[:, :, None], line[:, :, None], np.zeros(5))[:, :, 0],
         "one axis")  # fmt: skip
    cube = _normal(2, 3, 2, 1, 1)
    case("conv", lambda x: mb.conv(x=x, weight=cube, pad_type="valid"), (_normal(1, 3, 4, 5, 2),),
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
    gamma, beta = _normal(5, 7), _normal(5, 7)
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
