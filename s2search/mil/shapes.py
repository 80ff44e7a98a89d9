"""Operations that move numbers and compute none: shapes, slices, gathers, and tensors from settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from s2search.mil.arguments import Arguments, Compute


def _reshape(given: Arguments) -> Tensor:
    x, shape = given["x"], given.integers("shape")
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def _expand_dims(given: Arguments) -> Tensor:
    x, axes = given["x"], given.integers("axes")
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(given: Arguments) -> Tensor:
    x = given["x"]
    axes = given.axes("axes", x.ndim) if "axes" in given else [i for i, size in enumerate(x.shape) if size == 1]
    if any(x.shape[axis] != 1 for axis in axes):
        raise ValueError(f"no axes of size 1 at {axes} of {tuple(x.shape)}")
    return x.squeeze(tuple(axes))


def _concat(given: Arguments) -> Tensor:
    values, axis = given.tensors("values"), given.integer("axis")
    if given.flag("interleave"):
        axis %= values[0].ndim
        return torch.stack(values, dim=axis + 1).flatten(axis, axis + 1)
    return torch.cat(values, dim=axis)


def _split(given: Arguments) -> tuple[Tensor, ...]:
    x, axis = given["x"], given.integer("axis")
    if "split_sizes" in given:
        return torch.split(x, given.integers("split_sizes"), dim=axis)
    count = given.integer("num_splits")
    if count < 1 or x.shape[axis] % count:
        raise ValueError(f"{x.shape[axis]} do not split into {count}")
    return torch.split(x, x.shape[axis] // count, dim=axis)


def _places(given: Arguments, shape: Sequence[int]) -> list[tuple[int, range]]:
    """Return for each axis that is cut its places; where an axis is dropped, one place."""
    rank = len(shape)
    begin, end = given.integers("begin"), given.integers("end")
    stride = given.integers("stride", [1] * rank)
    free_begin, free_end, dropped = (
        given.integers(name, [0] * rank) for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    places = []
    for axis, size in enumerate(shape):
        if dropped[axis]:
            # As coremltools: with a mask on its begin, the first place.
            place = 0 if free_begin[axis] else begin[axis]
            if not -size <= place < size:
                raise ValueError(f"place {place} of {size}")
            places.append((axis, range(place % size, place % size + 1)))
            continue
        cut = slice(None if free_begin[axis] else begin[axis], None if free_end[axis] else end[axis], stride[axis])
        places.append((axis, range(*cut.indices(size))))
    return places


def _slice_by_index(given: Arguments) -> Tensor:
    x = given["x"]
    dropped = given.integers("squeeze_mask", [0] * x.ndim)
    for axis, places in _places(given, x.shape):
        x = _at(x, axis, places)
    return x.squeeze(tuple(axis for axis, drop in enumerate(dropped) if drop))


def _slice_by_size(given: Arguments) -> Tensor:
    x = given["x"]
    for axis, (begin, size) in enumerate(zip(given.integers("begin"), given.integers("size"), strict=True)):
        start = begin % x.shape[axis]
        x = x.narrow(axis, start, x.shape[axis] - start if size == -1 else size)
    return x


def _slice_update(given: Arguments) -> Tensor:
    x, update = given["x"].clone(), given["update"]
    places = _places(given, x.shape)
    x[torch.meshgrid(*(torch.tensor(at, device=x.device) for _, at in places), indexing="ij")] = update.reshape(
        [len(at) for _, at in places]
    )
    return x


def _at(x: Tensor, axis: int, places: range) -> Tensor:
    if places.step == 1:
        return x.narrow(axis, places.start, len(places))
    return x.index_select(axis, torch.tensor(places, dtype=torch.long, device=x.device))


def _pad(given: Arguments) -> Tensor:
    x, pads, mode = given["x"], given.integers("pad"), given.text("mode", "constant")
    last_first = [pads[place + side] for place in range(len(pads) - 2, -2, -2) for side in (0, 1)]
    if mode == "constant":
        value = given.number("constant_val", 0.0)
        return functional.pad(x, last_first, value=value)
    if mode not in ("reflect", "replicate"):
        raise NotImplementedError(f"the mode {mode}")
    for axis, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True), start=x.ndim - len(pads) // 2):
        last = x.shape[axis] - 1
        if min(before, after) < 0 or (mode == "reflect" and max(before, after) > last):
            raise ValueError(f"{before} and {after} places around {last + 1}")
        at = torch.arange(-before, last + after + 1, device=x.device)
        at = last - (last - at.abs()).abs() if mode == "reflect" else at.clamp(0, last)
        x = x.index_select(axis, at)
    return x


def _range(given: Arguments) -> Tensor:
    start, end, step = given["start"], given.number("end"), given.number("step")
    dtype = torch.float32 if start.is_floating_point() else torch.int32
    return torch.arange(given.number("start"), end, step, device=start.device).to(dtype)


def _one_hot(given: Arguments) -> Tensor:
    indices, size = given["indices"], given.integer("one_hot_vector_size")
    axis = given.integer("axis", -1) % (indices.ndim + 1)
    if not 0 <= size <= 2**31:
        raise ValueError(f"{size} places")
    places = torch.arange(size, device=indices.device).view(-1, *[1] * (indices.ndim - axis))
    on = given.get("on_value")
    off = given.get("off_value")
    return torch.where(
        indices.unsqueeze(axis) == places,
        torch.ones((), dtype=torch.int32, device=indices.device) if on is None else on,
        torch.zeros((), dtype=torch.int32, device=indices.device) if off is None else off,
    )


def _gather(given: Arguments) -> Tensor:
    x, indices = given["x"], given["indices"].long()
    batch = given.integer("batch_dims", 0)
    axis = given.integer("axis", 0) % x.ndim
    if not 0 <= batch <= min(axis, indices.ndim):
        raise ValueError(f"{batch} axes of a batch")
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    if not batch:
        taken = x.index_select(axis, indices.flatten())
        return taken.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])
    each = zip(x.flatten(0, batch - 1), indices.flatten(0, batch - 1), strict=True)
    taken = torch.stack([part.index_select(axis - batch, at.flatten()) for part, at in each])
    return taken.reshape([*x.shape[:axis], *indices.shape[batch:], *x.shape[axis + 1 :]])


def _gather_along_axis(given: Arguments) -> Tensor:
    x, indices, axis = given["x"], given["indices"].long(), given.integer("axis", 0)
    return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices))


def _gather_nd(given: Arguments) -> Tensor:
    x, indices, batch = given["x"], given["indices"].long(), given.integer("batch_dims", 0)
    if not 0 <= batch < indices.ndim:
        raise ValueError(f"{batch} axes of a batch")
    places = [
        torch.arange(size, device=x.device).view(-1, *[1] * (indices.ndim - 2 - axis))
        for axis, size in enumerate(x.shape[:batch])
    ]
    return x[(*places, *indices.unbind(-1))]


def _band_part(given: Arguments) -> Tensor:
    x, lower, upper = given["x"], given.integer("lower", -1), given.integer("upper", -1)
    below = torch.arange(x.shape[-2], device=x.device)[:, None] - torch.arange(x.shape[-1], device=x.device)
    keep = torch.ones_like(below, dtype=torch.bool)
    if lower >= 0:
        keep &= below <= lower
    if upper >= 0:
        keep &= -below <= upper
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype, device=x.device))


def _topk(given: Arguments) -> tuple[Tensor, ...]:
    ascending, x = given.flag("ascending"), given["x"]
    values, places = torch.topk(x, given.integer("k", 1), given.integer("axis", -1), largest=not ascending)
    return (values, places.to(torch.int32)) if given.flag("return_indices", True) else (values,)


def _argsort(given: Arguments) -> Tensor:
    order = torch.argsort(
        given["x"], dim=given.integer("axis", -1), descending=not given.flag("ascending"), stable=True
    )
    return order.int()


def _flatten2d(given: Arguments) -> Tensor:
    x, axis = given["x"], given.integer("axis", 1)
    return x.reshape(-1 if axis else 1, int(torch.Size(x.shape[axis:]).numel()))


def _fill(given: Arguments) -> Tensor:
    value = given["value"] if "value" in given else torch.zeros(())
    return value.expand(given.integers("shape"))


def _fill_like(given: Arguments) -> Tensor:
    value = given["value"] if "value" in given else torch.zeros(())
    return value.expand(given["ref_tensor"].shape)


def _shape(given: Arguments) -> Tensor:
    x = given["x"]
    return torch.tensor(x.shape, dtype=torch.int32, device=x.device)


SHAPES: dict[str, Compute] = {
    "argsort": _argsort,
    "band_part": _band_part,
    "concat": _concat,
    "expand_dims": _expand_dims,
    "fill": _fill,
    "fill_like": _fill_like,
    "flatten2d": _flatten2d,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "one_hot": _one_hot,
    "pad": _pad,
    "pixel_shuffle": lambda given: functional.pixel_shuffle(given["x"], given.integer("upscale_factor")),
    "pixel_unshuffle": lambda given: functional.pixel_unshuffle(given["x"], given.integer("downscale_factor")),
    "range_1d": _range,
    "reshape": _reshape,
    "reverse": lambda given: given["x"].flip(given.axes("axes", given["x"].ndim)),
    "shape": _shape,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda given: torch.stack(given.tensors("values"), dim=given.integer("axis")),
    "tile": lambda given: given["x"].repeat(given.integers("reps")),
    "topk": _topk,
    "transpose": lambda given: given["x"].permute(given.integers("perm")),
}
