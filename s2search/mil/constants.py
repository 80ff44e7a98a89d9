"""Operations that unpack compressed weights. What they give is the weight, rounded to its type in every mode.

Source: the descriptions of coremltools 9.0's `constexpr` operations of iOS 16 and iOS 18.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from s2search.mil.arguments import Arguments, Compute
from s2search.mil.numbers import KINDS

_PALETTE_BITS = {2: "uint1", 4: "uint2", 16: "uint4", 64: "uint6", 256: "uint8"}


def _palette(given: Arguments) -> Tensor:
    """Look indices up: one table for all (iOS 16, indices packed), or one for each block of each axis (iOS 18)."""
    if "shape" in given:
        table = given["lut"]
        indices = _unpacked(given["indices"], _PALETTE_BITS[len(table)], given.integers("shape"))
        return table[indices.long()]
    table, indices = given["lut"], given["indices"].long()
    *blocks, size, length = table.shape
    if len(blocks) != indices.ndim:
        raise ValueError(f"a table of {table.ndim} axes for indices of {indices.ndim}")
    group = torch.zeros((), dtype=torch.long)
    for axis, count in enumerate(blocks):
        places = _block_of(indices.shape[axis], count).view(-1, *[1] * (indices.ndim - axis - 1))
        group = group * count + places
    found = table.reshape(-1, size, length)[group.expand(indices.shape), indices]
    if length == 1:
        return found.squeeze(-1)
    axis = given.axes("vector_axis", indices.ndim)[0]
    return found.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _shift_scale(given: Arguments) -> Tensor:
    """Return scale * (data - offset), one of each for each block of each axis."""
    data, scale, offset = given["data"].float(), given["scale"], given.get("offset")
    if offset is not None:
        data = data - _as_blocks(offset.float(), data)
    return _as_blocks(scale, data) * data


def _affine(given: Arguments) -> Tensor:
    data, scale, zero = given["quantized_data"].float(), given["scale"], given["zero_point"].float()
    shape = [1] * data.ndim
    shape[given.integer("axis")] = -1
    scale, zero = (x.view(shape) if x.ndim else x for x in (scale, zero))
    return scale * (data - zero)


def _sparse(given: Arguments) -> Tensor:
    """Put numbers where a mask is 1: a mask of bits (iOS 18), or of packed bytes and a shape (iOS 16)."""
    numbers, mask = given["nonzero_data"], given["mask"]
    if "shape" in given:
        mask = _unpacked(mask, "uint1", given.integers("shape"))
    return _placed(numbers, mask)


def _sparse_palette(given: Arguments) -> tuple[Tensor, Tensor]:
    """Look up the indices that a mask leaves; return the mask, over the places of vectors, and the numbers in them."""
    mask = given["indices_mask"]
    table, axis = given["lut"], given.axes("vector_axis", mask.ndim)[0] if "vector_axis" in given else 0
    values = {"lut": [table], "indices": [_placed(given["indices_nonzero_data"], mask)]}
    if "vector_axis" in given:
        values["vector_axis"] = [torch.tensor(axis)]
    dense = _palette(Arguments(values, given.sums))
    mask = mask.repeat_interleave(table.shape[-1], dim=axis)
    return mask, dense[mask != 0]


def _sparse_shift_scale(given: Arguments) -> tuple[Tensor, Tensor]:
    mask = given["data_mask"]
    values = {"data": [_placed(given["nonzero_data"], mask)], "scale": [given["scale"]]}
    if "offset" in given:
        values["offset"] = [given["offset"]]
    return mask, _shift_scale(Arguments(values, given.sums))[mask != 0]


def _placed(numbers: Tensor, mask: Tensor) -> Tensor:
    """Put numbers where a mask is 1."""
    places = mask != 0
    if int(places.sum()) != numbers.numel():
        raise ValueError(f"{numbers.numel()} numbers for {int(places.sum())} places")
    dense = torch.zeros(mask.shape, dtype=numbers.dtype)
    dense[places] = numbers
    return dense


def _as_blocks(x: Tensor, like: Tensor) -> Tensor:
    """Repeat each number over its block."""
    if x.ndim != like.ndim:
        raise ValueError(f"blocks of {x.ndim} axes for {like.ndim}")
    for axis, (count, size) in enumerate(zip(x.shape, like.shape, strict=True)):
        if count not in (1, size):
            x = x.index_select(axis, _block_of(size, count))
    return x


def _block_of(size: int, count: int) -> Tensor:
    """Return for each place of an axis the number of its block."""
    if count < 1 or size % count:
        raise ValueError(f"{count} blocks for {size} places")
    return torch.arange(size) // (size // count)


def _unpacked(packed: Tensor, kind: str, shape: list[int]) -> Tensor:
    data = packed.numpy().astype(np.uint8).tobytes()
    numbers = KINDS[kind].unpack(data, math.prod(shape))
    return torch.from_numpy(numbers.astype(np.int32)).reshape(shape)


CONSTANTS: dict[str, Compute] = {
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _shift_scale,
    "constexpr_cast": lambda given: given["source_val"].float(),
    "constexpr_lut_to_dense": _palette,
    "constexpr_lut_to_sparse": _sparse_palette,
    "constexpr_sparse_blockwise_shift_scale": _sparse_shift_scale,
    "constexpr_sparse_to_dense": _sparse,
}
