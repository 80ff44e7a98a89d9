"""Operations that resize the last two axes: each axis is sampled at the points that a sampling mode says.

Source: the descriptions of coremltools 9.0's `resize_bilinear`, `upsample_bilinear` (iOS 16) and `resize` (iOS 17).
"""

from __future__ import annotations

import torch
from torch import Tensor

from s2search.mil.arguments import Arguments, Compute


def _upsample_bilinear(given: Arguments) -> Tensor:
    corners = given.flag("align_corners", True)
    match corners, given.flag("half_pixel_centers", not corners):
        case True, False:
            sampling = "STRICT_ALIGN_CORNERS"
        case False, True:
            sampling = "UNALIGN_CORNERS"
        case False, False:
            sampling = "DEFAULT"
        case _:
            raise NotImplementedError("align_corners with half_pixel_centers")
    return _interpolated(given, given["x"], _scaled_sizes(given), sampling)


def _upsample_nearest(given: Arguments) -> Tensor:
    return _nearest(given["x"], _scaled_sizes(given), "DEFAULT")


def _resize_bilinear(given: Arguments) -> Tensor:
    sizes = [given.integer(f"target_size_{side}", 1) for side in ("height", "width")]
    return _interpolated(given, given["x"], sizes, given.text("sampling_mode", "DEFAULT"))


def _resize_nearest(given: Arguments) -> Tensor:
    return _nearest(given["x"], [given.integer(f"target_size_{side}") for side in ("height", "width")], "DEFAULT")


def _resize(given: Arguments) -> Tensor:
    x, count = given["x"], given.integer("resized_dims")
    shape = given.integers("shape")
    if not 1 <= count <= min(len(shape), x.ndim):
        raise ValueError(f"{count} axes of {tuple(x.shape)} to {shape}")
    sizes = [size or old for size, old in zip(shape[-count:], x.shape[-count:], strict=True)]
    sampling = given.text("sampling_mode", "DEFAULT")
    match given.text("interpolation_mode", "LINEAR"):
        case "LINEAR" if x.is_floating_point():
            return _interpolated(given, x, sizes, sampling)
        case "NEAREST_NEIGHBOR":
            return _nearest(x, sizes, sampling)
        case mode:
            raise NotImplementedError(f"the mode {mode} of {x.dtype}")


def _scaled_sizes(given: Arguments) -> list[int]:
    x = given["x"]
    factors = [given.number(f"scale_factor_{side}", 1.0) for side in ("height", "width")]
    return [int(factor * size) for factor, size in zip(factors, x.shape[-2:], strict=True)]


def _interpolated(given: Arguments, x: Tensor, sizes: list[int], sampling: str) -> Tensor:
    """Interpolate one axis after the other."""
    if x.is_meta:
        return x.new_empty([*x.shape[: x.ndim - len(sizes)], *sizes])
    inner = given.sums.inner
    for axis, size in enumerate(sizes, start=x.ndim - len(sizes)):
        points = _points(x.shape[axis], size, sampling)
        low = points.floor().long()
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        shape = [-1, *[1] * (x.ndim - 1 - axis)]
        weight = (points - low).float().view(shape).to(x.device)
        below, above = (x.index_select(axis, at.to(x.device)) for at in (low, high))
        x = inner(inner(below * (1 - weight)) + inner(above * weight))
    return x


def _nearest(x: Tensor, sizes: list[int], sampling: str) -> Tensor:
    """Take the number at or before each point, as torch's `nearest` does; of other points nobody says which it is."""
    if sampling != "DEFAULT":
        raise NotImplementedError(f"the nearest number with {sampling}")
    for axis, size in enumerate(sizes, start=x.ndim - len(sizes)):
        if size < 1:
            raise ValueError(f"{size} places")
        at = torch.arange(size, device=x.device) * x.shape[axis] // size
        x = x.index_select(axis, at)
    return x


def _points(before: int, after: int, sampling: str) -> Tensor:
    """Return where an axis is sampled."""
    if not 1 <= after <= 2**31:
        raise ValueError(f"{after} places")
    places = torch.arange(after, dtype=torch.float64)
    match sampling:
        case "ALIGN_CORNERS" if after == 1:
            points = places + (before - 1) / 2
        case "STRICT_ALIGN_CORNERS" | "ALIGN_CORNERS":
            points = places * ((before - 1) / max(1, after - 1))
        case "DEFAULT":
            points = places * (before / after)
        case "OFFSET_CORNERS":
            points = (places + 0.5) * (max(1, before - 1) / after)
        case "UNALIGN_CORNERS":
            points = (places + 0.5) * (before / after) - 0.5
        case _:
            raise NotImplementedError(f"the sampling mode {sampling}")
    return points.clamp(0, before - 1)


def _crop(given: Arguments) -> Tensor:
    x = given["x"]
    for axis, side in ((-2, "height"), (-1, "width")):
        before, after = given.integers(f"crop_{side}")
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


RESIZING: dict[str, Compute] = {
    "crop": _crop,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest,
}
