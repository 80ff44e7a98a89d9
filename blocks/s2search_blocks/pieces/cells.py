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
    height, width = _cells_of(x_BTHWD)
    return _cells(x_BTHWD).mean(dim=(1, 3)).view(x_BTHWD.shape[0], -1, height, width, x_BTHWD.shape[-1])


def cells_to_channels(x_BTHWD: Tensor) -> Tensor:
    """Return the four tokens of every cell side by side: (B, T, h, w, 4 D)."""
    height, width = _cells_of(x_BTHWD)
    return _cells(x_BTHWD).transpose(1, 2).reshape(x_BTHWD.shape[0], -1, height, width, 4 * x_BTHWD.shape[-1])


def channels_to_cells(x_BThwD: Tensor, height: int, width: int) -> Tensor:
    """Undo `cells_to_channels`: (B, T, height, width, D / 4), dropping the rows and columns that padding added."""
    batch, _, low_height, low_width, channels = x_BThwD.shape
    x_nwrc = x_BThwD.reshape(-1, low_width, 2, channels // 2)  # n: batch, frames and rows of cells; c: with channels
    x_BTHWD = x_nwrc.transpose(1, 2).reshape(batch, -1, 2 * low_height, 2 * low_width, channels // 4)
    return x_BTHWD[:, :, :height, :width].contiguous()


def _cells_of(x_BTHWD: Tensor) -> tuple[int, int]:
    """Return rows and columns of cells."""
    return -(-x_BTHWD.shape[2] // 2), -(-x_BTHWD.shape[3] // 2)


def _cells(x_BTHWD: Tensor) -> Tensor:
    """Return (B*T*h, r, w, c, D), the last row and column repeated where their number is odd.

    Five axes, the most that Core ML takes.
    """
    if x_BTHWD.shape[2] % 2:
        x_BTHWD = torch.cat((x_BTHWD, x_BTHWD[:, :, -1:]), dim=2)
    if x_BTHWD.shape[3] % 2:
        x_BTHWD = torch.cat((x_BTHWD, x_BTHWD[:, :, :, -1:]), dim=3)
    return x_BTHWD.reshape(-1, 2, x_BTHWD.shape[3] // 2, 2, x_BTHWD.shape[-1])
