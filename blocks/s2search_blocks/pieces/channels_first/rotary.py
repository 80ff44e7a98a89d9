"""Rotary position embedding with channels before tokens. Axes: A heads  K channels per head  S tokens  P pairs (K / 2).

Source: see pieces/rotary.py. Here one product with cosines and one with signed sines, of channels with their halves
exchanged, take the place of four products with half the channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s2search_blocks.pieces.rotary import tables


def rotate(x_1AKS: Tensor, grid: tuple[int, ...], *, first_frame: int | None, stride: int = 1) -> Tensor:
    """Rotate queries or keys by their positions. See the twin."""
    cos_S1P, sin_S1P = tables(x_1AKS.shape[2] // 2, grid, first_frame, stride, like=x_1AKS)
    cos_PS, sin_PS = cos_S1P[:, 0].T, sin_S1P[:, 0].T
    first_1APS, second_1APS = x_1AKS.chunk(2, dim=2)
    exchanged_1AKS = torch.cat((second_1APS, first_1APS), dim=2)
    return x_1AKS * torch.cat((cos_PS, cos_PS)) + exchanged_1AKS * torch.cat((-sin_PS, sin_PS))
