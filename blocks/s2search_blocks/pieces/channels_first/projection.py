"""A linear map of channels as a 1x1 convolution, and maps of 2x2 cells of tokens as strided ones.

Axes: I O channels in and out  S tokens  R rows of all frames, one frame after the other  W columns  r c row and column
      in a cell
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Projection(nn.Module):
    """y = W x + b over channels, at every token."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        self.weight = parameter(original.weight[:, :, None, None])
        self.bias = original.bias

    def forward(self, x_1I1S: Tensor) -> Tensor:
        """Return (1, O, 1, S)."""
        return functional.conv2d(x_1I1S, self.weight, self.bias)


class CellsToTokens(nn.Module):
    """A linear map of the four tokens of a cell, in the order of `cells_to_channels`, to one token."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        weight_OrcI = torch.unflatten(original.weight, 1, (2, 2, -1))
        self.weight = parameter(weight_OrcI.permute(0, 3, 1, 2).contiguous())
        self.bias = original.bias

    def forward(self, x_1IRW: Tensor) -> Tensor:
        """Return (1, O, R / 2, W / 2); rows and columns are even, so no cell lies in two frames."""
        return functional.conv2d(x_1IRW, self.weight, self.bias, stride=2)


class TokensToCells(nn.Module):
    """A linear map of one token to the four of its cell, in the order of `channels_to_cells`."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        self.weight = parameter(_channels_first(original.weight)[:, :, None, None])
        self.bias = parameter(_channels_first(original.bias))

    def forward(self, x_1IRW: Tensor) -> Tensor:
        """Return (1, O / 4, 2 R, 2 W)."""
        return functional.pixel_shuffle(functional.conv2d(x_1IRW, self.weight, self.bias), 2)


def _channels_first(rows_O: Tensor) -> Tensor:
    """Return rows as `pixel_shuffle` reads them, channel, row, column; they come as row, column, channel."""
    return torch.unflatten(rows_O, 0, (4, -1)).transpose(0, 1).flatten(0, 1)


def parameter(x: Tensor) -> nn.Parameter:
    """Return a view of a weight as a weight."""
    return nn.Parameter(x.detach(), requires_grad=False)


def padded_to_even(x_1CRW: Tensor, frames: int) -> Tensor:
    """Return every frame with its last row and column repeated where their number is odd."""
    _, channels, rows, width = x_1CRW.shape
    height = rows // frames
    if height % 2:
        x_1CRW = x_1CRW.reshape(1, channels * frames, height, width)
        x_1CRW = torch.cat((x_1CRW, x_1CRW[:, :, -1:]), dim=2).reshape(1, channels, -1, width)
    if width % 2:
        x_1CRW = torch.cat((x_1CRW, x_1CRW[:, :, :, -1:]), dim=3)
    return x_1CRW


def cropped(x_1CRW: Tensor, frames: int, height: int, width: int) -> Tensor:
    """Return every frame without the rows and columns that padding added."""
    channels = x_1CRW.shape[1]
    if x_1CRW.shape[2] != frames * height:
        x_1CRW = x_1CRW.reshape(1, channels * frames, -1, x_1CRW.shape[3])[:, :, :height]
    return x_1CRW[:, :, :, :width].reshape(1, channels, frames * height, width)
