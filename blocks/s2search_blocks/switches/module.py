"""The switches between the streams. Axes: B batch  T frames  H W high grid  h w low grid  D channels."""

from __future__ import annotations

from torch import Tensor, nn

from s2search_blocks.pieces.cells import cells_to_channels, channels_to_cells


class Downsample(nn.Module):
    """Four tokens of a cell become one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Linear(4 * channels, channels)

    def forward(self, x_BTHWD: Tensor) -> Tensor:
        """Return the low-resolution stream (B, T, h, w, D); odd grids are padded by repetition."""
        low_BThwD: Tensor = self.mix(cells_to_channels(x_BTHWD))
        return low_BThwD


class Upsample(nn.Module):
    """One token becomes the four of its cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Linear(channels, 4 * channels)

    def forward(self, x_BThwD: Tensor, height: int, width: int) -> Tensor:
        """Return the high-resolution stream (B, T, height, width, D); rows and columns of padding are cropped."""
        return channels_to_cells(self.mix(x_BThwD), height, width)
