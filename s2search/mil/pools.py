"""Pooling, and the padding that it shares with convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from s2search.mil.arguments import Arguments, Compute
from s2search.mil.rounding import windows


def padded_input(
    given: Arguments, x: Tensor, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Tensor:
    """Pad as `pad_type` says: valid, custom, or same with the odd one behind (same) or before (same_lower)."""
    return _with_zeros(x, _pads(given, x, sizes, strides, dilations))


def _pads(
    given: Arguments, x: Tensor, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    match given.text("pad_type", "valid"):
        case "valid":
            return [0] * 2 * len(sizes)
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
            raise NotImplementedError(f"the padding {kind}")
    if len(pads) != 2 * len(sizes):
        raise ValueError(f"{len(pads)} paddings")
    return pads


def _with_zeros(x: Tensor, pads: Sequence[int]) -> Tensor:
    return functional.pad(x, [pads[2 * axis + side] for axis in reversed(range(len(pads) // 2)) for side in (0, 1)])


def _average_pool(given: Arguments) -> Tensor:
    x = given["x"]
    seen, inside = _seen(given, x, with_padding=not given.flag("exclude_padding_from_average"))
    axes = list(range(2 - x.ndim, 0))
    return given.sums.total(seen, axes, False) / inside.sum(dim=axes)


def _l2_pool(given: Arguments) -> Tensor:
    x = given["x"]
    seen, _ = _seen(given, x, with_padding=True)
    return given.sums.total(given.sums.inner(seen * seen), list(range(2 - x.ndim, 0)), False).sqrt()


def _max_pool(given: Arguments) -> Tensor:
    x = given["x"]
    seen, inside = _seen(given, x, with_padding=False)
    return seen.masked_fill(inside == 0, float("-inf")).amax(dim=list(range(2 - x.ndim, 0)))


def _seen(given: Arguments, x: Tensor, *, with_padding: bool) -> tuple[Tensor, Tensor]:
    """Return what each window sees, and 1 where that counts: what ceil_mode alone lets it see beyond never does."""
    sizes = given.integers("kernel_sizes")
    strides, dilations = given.integers("strides", [1] * len(sizes)), [1] * len(sizes)
    pads = _pads(given, x, sizes, strides, dilations)
    counts = _with_zeros(torch.ones_like(x), pads)
    if with_padding:
        counts = torch.ones_like(counts)
    x = _with_zeros(x, pads)
    if given.flag("ceil_mode"):
        beyond = [
            (_places(length, size, stride, pads[2 * axis : 2 * axis + 2]) - 1) * stride + size - length
            for axis, (length, size, stride) in enumerate(zip(x.shape[2:], sizes, strides, strict=True))
        ]
        more = [pad for one in beyond for pad in (0, one)]  # negative where the last window would see no number
        x, counts = _with_zeros(x, more), _with_zeros(counts, more)
    return windows(x, sizes, strides, dilations), windows(counts, sizes, strides, dilations)


def _places(length: int, size: int, stride: int, pads: Sequence[int]) -> int:
    """Return how many windows a padded axis has with ceil_mode: as in torch, none begins in the padding behind."""
    places = -(-(length - size) // stride) + 1
    begins_behind = (places - 1) * stride >= length - pads[1]
    return places - 1 if begins_behind and any(pads) else places


POOLS: dict[str, Compute] = {"avg_pool": _average_pool, "l2_pool": _l2_pool, "max_pool": _max_pool}
