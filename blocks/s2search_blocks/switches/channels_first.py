"""The switches with channels before tokens. Twins of `module.py` beside this file.

Axes: D channels  S tokens  R rows of all frames  W columns
"""

from __future__ import annotations

from torch import Tensor, nn

from s2search_blocks.pieces.channels_first.projection import CellsToTokens, TokensToCells, cropped, padded_to_even
from s2search_blocks.switches.module import Downsample, Upsample


class ChannelsFirstDownsample(nn.Module):
    """Four tokens of a cell become one."""

    def __init__(self, original: Downsample, frames: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.frames, self.grid, self.mix = frames, grid, CellsToTokens(original.mix)

    def forward(self, x_1D1S: Tensor) -> Tensor:
        """Return the low-resolution stream; odd grids are padded by repetition."""
        x_1DRW = padded_to_even(x_1D1S.reshape(1, x_1D1S.shape[1], -1, self.grid[1]), self.frames)
        return self.mix(x_1DRW).reshape(1, x_1D1S.shape[1], 1, -1)  # type: ignore[no-any-return]


class ChannelsFirstUpsample(nn.Module):
    """One token becomes the four of its cell."""

    def __init__(self, original: Upsample, frames: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.frames, self.grid, self.mix = frames, grid, TokensToCells(original.mix)

    def forward(self, x_1D1S: Tensor) -> Tensor:
        """Return the high-resolution stream; rows and columns of padding are cropped."""
        channels, width = x_1D1S.shape[1], -(-self.grid[1] // 2)
        x_1DRW = cropped(self.mix(x_1D1S.reshape(1, channels, -1, width)), self.frames, *self.grid)
        return x_1DRW.reshape(1, channels, 1, -1)
