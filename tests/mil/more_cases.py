"""The cases of resizing, scattering, recurrent networks and transposed convolutions; see operation_cases.py."""

from __future__ import annotations

import numpy as np

from tests.verify.case import M, N, P, X, normal, rng


def add_cases(mb, case):
    """Tell `case` of every case."""
    _elementwise(mb, case)
    _pools(mb, case)
    _transposed(mb, case)
    _resizing(mb, case)
    _scattering(mb, case)
    _recurrent(mb, case)


def _elementwise(mb, case):
    case("thresholded_relu", lambda x: mb.thresholded_relu(x=x, alpha=0.3), (X,), lambda x: np.where(x >= 0.3, x, 0))
    case("atanh", lambda x: mb.atanh(x=x), (X / 5,), np.arctanh)
    alpha, beta = np.array([1, 2, 0.5], np.float32), np.array([0.3, -1, 2], np.float32)
    case("softplus_parametric", lambda x: mb.softplus_parametric(x=x, alpha=alpha, beta=beta), (X,),
         lambda x: alpha[:, None, None] * np.log1p(np.exp(beta[:, None, None] * x)))  # fmt: skip
    whole = np.array([-70000, -129, -128, -1, 0, 255, 256, 32768, 65535, 65536], np.int32)
    for kind in ("int8", "uint8", "int16", "uint16"):
        case("cast", lambda x, *, k=kind: mb.cast(x=mb.cast(x=x, dtype=k), dtype="int32"), (whole,),
             lambda x, *, k=kind: x.astype(k).astype(np.int32), f"to {kind}")  # fmt: skip
        case("cast", lambda x, *, k=kind: mb.cast(x=mb.cast(x=x, dtype=k), dtype="int32"), (30 * P,),
             lambda x, *, k=kind: np.trunc(x).astype(np.int32), f"from fractions to {kind}")  # fmt: skip
    case("real_div", lambda x, y: mb.real_div(x=x, y=y), (6 * N, np.array([-2, 3, 1, 6, -1], np.int32)),
         lambda x, y: x // y, "whole numbers")  # fmt: skip
    case("fill_like", lambda x: mb.fill_like(ref_tensor=x, value=2.5), (M,), lambda x: np.full_like(x, 2.5))
    case("shape", lambda x: mb.shape(x=x), (X,), lambda x: np.array(x.shape))
    around = [(1, 1), (2, 0), (3, 4), (6, 5)]
    for mode, numpy_mode in [("reflect", "reflect"), ("replicate", "edge")]:
        case("pad", lambda x, *, m=mode: mb.pad(x=x, pad=np.ravel(around).astype(np.int32), mode=m), (X,),
             lambda x, *, m=numpy_mode: np.pad(x, around, m), f"{mode}, four axes")  # fmt: skip
    at = rng.integers(0, 5, size=(2, 3, 4, 1)).astype(np.int32)
    case("gather_nd", lambda x, at: mb.gather_nd(x=x, indices=at, batch_dims=2), (X, at),
         lambda x, at: np.stack([[x[b, c][at[b, c, :, 0]] for c in range(3)] for b in range(2)]), "batch")  # fmt: skip


def _pools(mb, case):
    case("l2_pool", lambda x: mb.l2_pool(x=x, kernel_sizes=[2, 3], strides=[1, 2], pad_type="valid"), (X,),
         lambda x: np.sqrt((_windows(x) ** 2).sum((-1, -2))))  # fmt: skip
    # Five rows by 2, seven columns by 3: the last window has one row, and one column of three.
    options = {"kernel_sizes": [2, 3], "strides": [2, 3], "pad_type": "valid", "ceil_mode": True}
    padded = [(0, 0), (0, 0), (0, 1), (0, 2)]

    def seen(x, value):
        x = np.pad(x, padded, constant_values=value)
        return np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(2, 3))[:, :, ::2, ::3]

    case("max_pool", lambda x: mb.max_pool(x=x, **options), (X,), lambda x: seen(x, -np.inf).max((-1, -2)), "ceil")
    case("avg_pool", lambda x: mb.avg_pool(x=x, **options), (X,),
         lambda x: seen(x, 0).sum((-1, -2)) / seen(np.ones_like(x), 0).sum((-1, -2)), "ceil")  # fmt: skip


def _windows(x):
    return np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(2, 3))[:, :, :, ::2]


def _transposed(mb, case):
    weight, bias = normal(3, 4, 2, 3), normal(4)

    def whole(x):
        y = np.zeros((2, 4, 2 * 4 + 2, 7 * 2 + 1), np.float32)
        for i in range(5):
            for j in range(7):
                y[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 3] += np.einsum("bc,cokl->bokl", x[:, :, i, j], weight)
        return y

    for note, options, cut in [
        ("valid", {"pad_type": "valid"}, lambda y: y),
        ("custom", {"pad_type": "custom", "pad": [1, 0, 2, 1]}, lambda y: y[:, :, 1:, 2:-1]),
        ("same", {"pad_type": "same"}, lambda y: y[:, :, :10, :14]),
        ("a shape", {"pad_type": "custom", "pad": [1, 0, 0, 0], "output_shape": [2, 4, 9, 16]},
         lambda y: np.pad(y[:, :, 1:], [(0, 0), (0, 0), (0, 0), (0, 1)])),
    ]:  # fmt: skip
        case("conv_transpose", lambda x, *, o=options: mb.conv_transpose(x=x, weight=weight, strides=[2, 2], **o), (X,),
             lambda x, *, c=cut: c(whole(x)), note)  # fmt: skip
    case("conv_transpose", lambda x: mb.conv_transpose(x=x, weight=weight, bias=bias, strides=[2, 2]), (X,),
         lambda x: whole(x) + bias[:, None, None], "bias")  # fmt: skip


def _points(before, after, mode):
    i = np.arange(after)
    if mode == "STRICT_ALIGN_CORNERS":
        return i * (before - 1) / max(1, after - 1)
    if mode == "ALIGN_CORNERS":
        return i * (before - 1) / (after - 1) if after > 1 else np.array([(before - 1) / 2])
    if mode == "DEFAULT":
        return i * (before - before / after) / max(1, after - 1)
    if mode == "OFFSET_CORNERS":
        delta = max(1, before - 1) / after
        return 0.5 * delta + i * delta
    return i * before / after + 0.5 * before / after - 0.5


def _interpolated(x, sizes, mode):
    for axis, size in zip((-2, -1), sizes, strict=True):
        points, old = _points(x.shape[axis], size, mode), np.arange(x.shape[axis])
        x = np.apply_along_axis(lambda row, p=points, o=old: np.interp(p, o, row), axis, x)
    return x.astype(np.float32)


def _resizing(mb, case):
    for mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"):
        for rows, columns in [(11, 4), (1, 20)]:
            case("resize_bilinear", lambda x, *, m=mode, r=rows, c=columns: mb.resize_bilinear(
                    x=x, target_size_height=r, target_size_width=c, sampling_mode=m), (X,),
                 lambda x, *, m=mode, s=(rows, columns): _interpolated(x, s, m), f"{mode} {rows}")  # fmt: skip
    case("resize", lambda x: mb.resize(
            x=x, shape=[1, 0, 11], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"), (X,),
         lambda x: _interpolated(x, (5, 11), "UNALIGN_CORNERS"))  # fmt: skip
    case("resize", lambda x: mb.resize(
            x=x, shape=[3, 8], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"), (X,),
         lambda x: x[:, :, [0, 1, 3]][..., [0, 0, 1, 2, 3, 4, 5, 6]], "nearest")  # fmt: skip
    case("resize_nearest_neighbor", lambda x: mb.resize_nearest_neighbor(
            x=x, target_size_height=10, target_size_width=3), (X,),
         lambda x: x.repeat(2, -2)[..., [0, 2, 4]])  # fmt: skip
    case("upsample_nearest_neighbor", lambda x: mb.upsample_nearest_neighbor(
            x=x, scale_factor_height=1.5, scale_factor_width=1.0), (X,),
         lambda x: x[:, :, [0, 0, 1, 2, 2, 3, 4]], "fractions")  # fmt: skip
    for corners, centers, mode in [
        (True, False, "STRICT_ALIGN_CORNERS"),
        (False, True, "UNALIGN_CORNERS"),
        (False, False, "DEFAULT"),
    ]:
        case("upsample_bilinear", lambda x, *, a=corners, h=centers: mb.upsample_bilinear(
                x=x, scale_factor_height=2.0, scale_factor_width=1.5, align_corners=a, half_pixel_centers=h), (X,),
             lambda x, *, m=mode: _interpolated(x, (10, 10), m), mode)  # fmt: skip
    case("crop", lambda x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]), (X,), lambda x: x[:, :, 1:-2, :-3])


_MODES = {
    "update": lambda old, new: new,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


def _put(data, updates, places, mode):
    """Put one number after the other; `places` are indices of the whole tensor, one for each number."""
    data = data.copy()
    for place, number in zip(places, updates.flatten(), strict=True):
        data[place] = _MODES[mode](data[place], number)
    return data


def _scattering(mb, case):
    data, at = normal(4, 5), np.array([3, 0, 3], np.int32)
    updates, along = normal(4, 3), np.array([[2, 0], [1, 1], [0, 4]], np.int32).T.copy()
    rows = np.array([[[1], [3]], [[1], [0]]], np.int32)
    cells = [(r, c) for r in rows.flatten() for c in range(5)]
    for mode in _MODES:
        case("scatter", lambda x, u, *, m=mode: mb.scatter(data=x, indices=at, updates=u, axis=-1, mode=m),
             (data, updates),
             lambda x, u, *, m=mode: _put(x, u, [(r, c) for r in range(4) for c in at], m), mode)  # fmt: skip
        case("scatter_along_axis", lambda x, u, *, m=mode: mb.scatter_along_axis(
                data=x, indices=along, updates=u, axis=1, mode=m), (data[:2].copy(), normal(2, 3)),
             lambda x, u, *, m=mode: _put(x, u, [(r, c) for r in range(2) for c in along[r]], m), mode)  # fmt: skip
        case("scatter_nd", lambda x, u, *, m=mode: mb.scatter_nd(data=x, indices=rows, updates=u, mode=m),
             (data, normal(2, 2, 5)),
             lambda x, u, *, m=mode: _put(x, u, cells, m), mode)  # fmt: skip
    counts = np.array([[1, 2], [3, 4], [5, 6]], np.int32)
    case("scatter", lambda x, u: mb.scatter(data=x, indices=np.array([1, 1], np.int32), updates=u, axis=1),
         (counts, counts), lambda x, u: np.stack([x[:, 0], x[:, 1] + u.sum(1)], 1), "whole numbers")  # fmt: skip


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _recurrent(mb, case):
    x, h, c = normal(4, 2, 3), normal(2, 5), normal(2, 5)
    wi, wh, bias = normal(20, 3), normal(20, 5), normal(20)

    def lstm(x, h, c, squash=np.tanh):
        steps = []
        for step in x:
            i, f, o, z = np.split(step @ wi.T + h @ wh.T + bias, 4, axis=-1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(z)
            h = _sigmoid(o) * squash(c)
            steps.append(h)
        return np.stack(steps), h, c

    weights = {"weight_ih": wi, "weight_hh": wh, "bias": bias}
    for direction, back in (("forward", 1), ("reverse", -1)):
        for place, note in enumerate(("steps", "hidden", "cell")):
            case("lstm", lambda x, h, c, *, d=direction, p=place: mb.lstm(
                    x=x, initial_h=h, initial_c=c, direction=d, output_sequence=True, **weights)[p], (x, h, c),
                 lambda x, h, c, *, b=back, p=place: lstm(x[::b], h, c)[p], f"{direction}, {note}")  # fmt: skip
    case("lstm", lambda x, h, c: mb.lstm(x=x, initial_h=h, initial_c=c, activation="relu", **weights)[0], (x, h, c),
         lambda x, h, c: lstm(x, h, c, lambda y: np.maximum(y, 0))[0][-1:], "the last step, relu")  # fmt: skip

    def gru(x, h):
        (wr, wo, wz), (ur, uo, uz), (br, bo, bz) = (np.split(one[:15], 3) for one in (wi, wh, bias))
        steps = []
        for step in x:
            r, z = _sigmoid(step @ wr.T + h @ ur.T + br), _sigmoid(step @ wz.T + h @ uz.T + bz)
            o = np.tanh(step @ wo.T + (r * h) @ uo.T + bo)
            h = (1 - z) * o + z * h
            steps.append(h)
        return np.stack(steps)

    gates = {"weight_ih": wi[:15], "weight_hh": wh[:15], "bias": bias[:15]}
    case("gru", lambda x, h: mb.gru(x=x, initial_h=h, output_sequence=True, **gates)[0], (x, h), gru)
    case("gru", lambda x, h: mb.gru(x=x, initial_h=h, direction="reverse", **gates)[1], (x, h),
         lambda x, h: gru(x[::-1], h)[-1], "reverse, hidden")  # fmt: skip

    def rnn(x, h):
        steps = []
        for step in x:
            h = np.tanh(step @ wi[:5].T + h @ wh[:5].T + bias[:5])
            steps.append(h)
        return np.stack(steps)

    plain = {"weight_ih": wi[:5], "weight_hh": wh[:5], "bias": bias[:5]}
    case("rnn", lambda x, h: mb.rnn(x=x, initial_h=h, output_sequence=True, **plain)[0], (x, h), rnn)
    case("rnn", lambda x, h: mb.rnn(x=x, initial_h=h, direction="reverse", **plain)[0], (x, h),
         lambda x, h: rnn(x[::-1], h)[-1:], "reverse, the last step")  # fmt: skip
