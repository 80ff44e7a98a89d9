"""Stem and head with channels before tokens. Twins of `module.py` beside this file.

Axes: C latent channels  T frames  Y X latent rows and columns  D channels  S tokens  M modulation (6 D)
      F frequencies  R latent rows of all frames
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from s2search_blocks.ends.module import Embed, Unembed, sinusoids
from s2search_blocks.pieces.channels_first.norms import modulated_norm
from s2search_blocks.pieces.channels_first.projection import (
    CellsToTokens,
    Projection,
    TokensToCells,
)


class ChannelsFirstEmbed(nn.Module):
    """Patches of 2x2 latents become tokens by one strided convolution over all frames, one below the other."""

    def __init__(self, original: Embed) -> None:
        super().__init__()
        self.time_channels = original.time_channels
        self.patch = CellsToTokens(original.patch)
        self.time = nn.Sequential(*(Projection(x) if isinstance(x, nn.Linear) else x for x in original.time))
        self.modulation = Projection(original.modulation)

    def forward(self, latents_1CTYX: Tensor, s_11: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (1, D, 1, S), modulation (1, M, 1, 1) and time embedding (1, D, 1, 1)."""
        sinusoids_1F11 = sinusoids(1000 * s_11, self.time_channels).to(latents_1CTYX.dtype).reshape(1, -1, 1, 1)
        return self.embedded(latents_1CTYX.flatten(2, 3), sinusoids_1F11)

    def embedded(self, latents_1CRX: Tensor, sinusoids_1F11: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same of latents whose frames stand one below the other, and of sinusoids of the time."""
        x_1DRW = self.patch(latents_1CRX)
        time_1D11: Tensor = self.time(sinusoids_1F11)
        modulation_1M11: Tensor = self.modulation(functional.silu(time_1D11))
        return x_1DRW.reshape(1, x_1DRW.shape[1], 1, -1), modulation_1M11, time_1D11


class ChannelsFirstUnembed(nn.Module):
    """Tokens become 2x2 patches of predicted velocity."""

    def __init__(self, original: Unembed, frames: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.frames, self.grid = frames, grid
        self.table_2D, self.patch = original.table_2D, TokensToCells(original.patch)

    def forward(self, x_1D1S: Tensor, time_1D11: Tensor) -> Tensor:
        """Return velocities (1, C, T, Y, X)."""
        shift_1D11, scale_1D11 = (time_1D11 + row_D[None, :, None, None] for row_D in self.table_2D)
        x_1D1S = modulated_norm(x_1D1S, shift_1D11, scale_1D11)
        y_1CRX: Tensor = self.patch(x_1D1S.reshape(1, x_1D1S.shape[1], -1, self.grid[1]))
        return y_1CRX.reshape(1, y_1CRX.shape[1], self.frames, 2 * self.grid[0], 2 * self.grid[1])
