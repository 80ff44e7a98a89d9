"""One program for every operation, or several, and what numpy says that it gives."""

from __future__ import annotations

import numpy as np
from scipy import special

from tests.mil import more_cases, sum_cases
from tests.verify.case import Case, J, M, N, P, U, X, Y, normal, rng


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
    sum_cases.add_cases(mb, case)
    more_cases.add_cases(mb, case)
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
    case("pixel_shuffle", lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), (normal(1, 8, 3, 2),),
         lambda x: x.reshape(1, 2, 2, 2, 3, 2).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 6, 4))  # fmt: skip
    case("pixel_unshuffle", lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), (normal(1, 2, 6, 4),),
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
         (X, normal(2, 1, 2, 5)), updated)  # fmt: skip

    def squeezed(x, y):
        x = x.copy()
        x[:, -1] = y
        return x

    case("slice_update", lambda x, y: mb.slice_update(
            x=x, update=y, begin=[0, -1, 0, 0], end=[2, 0, 5, 7], squeeze_mask=[False, True, False, False]),
         (X, normal(2, 5, 7)), squeezed, "squeezed")  # fmt: skip


def _gathers(mb, case):
    at = np.array([[2, 0], [1, 1]], np.int32)
    case("gather", lambda x, at: mb.gather(x=x, indices=at, axis=-3), (X, at), lambda x, at: x[:, at])
    case("gather", lambda x, at: mb.gather(x=x, indices=at, axis=2, batch_dims=1), (X, at),
         lambda x, at: np.stack([x[b][:, at[b]] for b in range(2)]), "batch")  # fmt: skip
    along = rng.integers(0, 5, size=(2, 3, 4, 7)).astype(np.int32)
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
