"""Cells of 2x2 tokens: how the high-resolution grid and the low-resolution one relate.

Axes: B batch  T frames  H W token rows and columns (h w: of the low-resolution grid)  r c row and column in a cell
      D channels
"""

from __future__ import annotations

import torch
from torch import Tensor


def cell_means(x_BTHWD: Tensor) -> Tensor:
    """Return the mean of every cell: (B, T, h, w, D).

    >>> cell_means(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3, 1)).flatten().tolist()
    [1.5, 3.0]
    """
    return _cells(x_BTHWD).mean(dim=(3, 5))


def cells_to_channels(x_BTHWD: Tensor) -> Tensor:
    """Return the four tokens of every cell side by side: (B, T, h, w, 4 D)."""
    return _cells(x_BTHWD).transpose(3, 4).flatten(4)


def channels_to_cells(x_BThwD: Tensor, height: int, width: int) -> Tensor:
    """Undo `cells_to_channels`: (B, T, height, width, D / 4), dropping the rows and columns that padding added."""
    x_BThwrcD = torch.unflatten(x_BThwD, -1, (2, 2, -1))
    return x_BThwrcD.transpose(3, 4).flatten(4, 5).flatten(2, 3)[:, :, :height, :width].contiguous()


def _cells(x_BTHWD: Tensor) -> Tensor:
    """Return (B, T, h, r, w, c, D), the last row and column repeated where their number is odd."""
    if x_BTHWD.shape[2] % 2:
        x_BTHWD = torch.cat((x_BTHWD, x_BTHWD[:, :, -1:]), dim=2)
    if x_BTHWD.shape[3] % 2:
        x_BTHWD = torch.cat((x_BTHWD, x_BTHWD[:, :, :, -1:]), dim=3)
    return torch.unflatten(torch.unflatten(x_BTHWD, 3, (-1, 2)), 2, (-1, 2))
