"""Rotary position embedding over rows and columns, and over time where attention is not a sum.

Axes: B batch  T frames  H W token rows and columns  N tokens (T*H*W)  A heads  K channels per head
      P channel pairs (K / 2)

Source: Su et al., "RoFormer" (2021), equation 34, once per axis. The pairs are divided among the axes; the first takes
the remainder, as in Wan (2025).
"""

from __future__ import annotations

import torch
from torch import Tensor

_BASE = 10_000.0


def rotate(x_BNAK: Tensor, grid: tuple[int, ...], *, first_frame: int | None, stride: int = 1) -> Tensor:
    """Rotate queries or keys by their positions, so that dot products depend on offsets only.

    Args:
        x_BNAK: Channels k and k + K/2 form a pair; K is even.
        grid: Frames, rows and columns of the tokens.
        first_frame: Position in time of the first frame; None leaves time out, and all pairs to rows and columns.
        stride: High-resolution tokens per row and column step. A token of stride 2 stands at the centre of its cell:
            2 i + 0.5 in high-resolution units.
    """
    cos_N1P, sin_N1P = tables(x_BNAK.shape[-1] // 2, grid, first_frame, stride, like=x_BNAK)
    a_BNAP, b_BNAP = x_BNAK.chunk(2, dim=-1)
    return torch.cat((a_BNAP * cos_N1P - b_BNAP * sin_N1P, a_BNAP * sin_N1P + b_BNAP * cos_N1P), dim=-1)


def axis_pairs(pairs: int, *, time: bool) -> tuple[int, int, int]:
    """Return how many channel pairs encode time, rows and columns.

    >>> axis_pairs(64, time=True), axis_pairs(64, time=False)
    ((22, 21, 21), (0, 32, 32))
    """
    each = pairs // (3 if time else 2)
    return (pairs - 2 * each, each, each) if time else (0, pairs - each, each)


def tables(
    pairs: int, grid: tuple[int, ...], first_frame: int | None, stride: int, *, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (N, 1, P). Angles are float32 at least: a bfloat16 angle errs by whole radians."""
    frames, height, width = grid
    centre = (stride - 1) / 2
    axes = ((frames, first_frame or 0, 1), (height, centre, stride), (width, centre, stride))
    pairs_of_axes = axis_pairs(pairs, time=first_frame is not None)
    cosines, sines = [], []
    for axis, ((length, start, step), of_axis) in enumerate(zip(axes, pairs_of_axes, strict=True)):
        if of_axis == 0:
            continue
        angle = _angles(length, start, step, of_axis, like=like)
        on_grid = [length if axis == other else 1 for other in range(3)] + [1, of_axis]
        cosines.append(angle.cos().to(like.dtype).view(on_grid).expand(frames, height, width, 1, of_axis))
        sines.append(angle.sin().to(like.dtype).view(on_grid).expand(frames, height, width, 1, of_axis))
    return torch.cat(cosines, dim=-1).flatten(0, 2), torch.cat(sines, dim=-1).flatten(0, 2)


def _angles(length: int, start: float, step: int, pairs: int, *, like: Tensor) -> Tensor:
    """Return position times frequency: (length, pairs)."""
    exact = torch.promote_types(like.dtype, torch.float32)
    position = start + step * torch.arange(length, device=like.device, dtype=exact)
    exponent = torch.arange(pairs, device=like.device, dtype=exact) / max(pairs, 1)
    return position[:, None] * torch.pow(_BASE, -exponent)
