"""Operations that put numbers into places of a tensor that indices name."""

from __future__ import annotations

import torch
from torch import Tensor

from s2search.mil.arguments import Arguments, Compute


def _scatter(given: Arguments) -> Tensor:
    data, axis = given["data"], given.integer("axis", 0)
    at = _wrapped(given["indices"], data.shape[axis])
    return _updated(given, data, _numbered(data).index_select(axis, at.flatten()))


def _scatter_along_axis(given: Arguments) -> Tensor:
    data, axis = given["data"], given.integer("axis", 0)
    return _updated(given, data, torch.gather(_numbered(data), axis, _wrapped(given["indices"], data.shape[axis])))


def _scatter_nd(given: Arguments) -> Tensor:
    data, indices = given["data"], given["indices"].long()
    at = [_wrapped(index, size) for index, size in zip(indices.unbind(-1), data.shape, strict=False)]
    return _updated(given, data, _numbered(data)[tuple(at)])


def _numbered(data: Tensor) -> Tensor:
    """Return the number of each place."""
    return torch.arange(data.numel(), device=data.device).reshape(data.shape)


def _wrapped(indices: Tensor, size: int) -> Tensor:
    """Return indices from 0 on; negative ones count from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _updated(given: Arguments, data: Tensor, places: Tensor) -> Tensor:
    """Combine the numbers at places with `updates`; several for one place one after the other."""
    updates, mode = given["updates"], given.text("mode", "add")
    if updates.shape != places.shape:
        raise ValueError(f"updates of {tuple(updates.shape)} for {tuple(places.shape)}")
    at, numbers, flat = places.flatten(), updates.flatten().to(data.dtype), data.flatten()
    match mode:
        case "update":
            flat = flat.scatter(0, at, numbers)
        case "add" | "sub":
            flat = flat.scatter_add(0, at, numbers if mode == "add" else -numbers)
        case "mul":
            flat = flat.scatter_reduce(0, at, numbers, "prod")
        case "div" if data.is_floating_point():
            flat = flat / torch.ones_like(flat).scatter_reduce(0, at, numbers, "prod")
        case "max" | "min":
            flat = flat.scatter_reduce(0, at, numbers, f"a{mode}")
        case _:
            raise NotImplementedError(f"the mode {mode} of {data.dtype}")
    return flat.reshape(data.shape)


SCATTERING: dict[str, Compute] = {
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
}
