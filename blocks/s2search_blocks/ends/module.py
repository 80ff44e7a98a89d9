"""The two ends of the model: latents to tokens with the time step's modulation, and tokens to latents.

Axes: B batch  T frames  C latent channels  Y X latent rows and columns  H W token rows and columns (Y/2, X/2)
      D channels  F frequencies  6: shift, scale and gate of the attention, then of the feed-forward
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import Shape
from s2search_blocks.pieces.cells import cells_to_channels, channels_to_cells
from s2search_blocks.pieces.norms import modulated_norm


class Embed(nn.Module):
    """Patches of 2x2 latents become tokens; the flow time becomes the adaLN modulation that all layers share."""

    def __init__(self, shape: Shape, *, patch_channels: int, time_channels: int) -> None:
        super().__init__()
        self.time_channels = time_channels
        self.patch = nn.Linear(patch_channels, shape.channels)
        self.time = nn.Sequential(
            nn.Linear(time_channels, shape.channels), nn.SiLU(), nn.Linear(shape.channels, shape.channels)
        )
        self.modulation = nn.Linear(shape.channels, 6 * shape.channels)

    def forward(self, latents_BCTYX: Tensor, s_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (B, T, H, W, D), modulation (B, T, 6, D) and time embedding (B, T, D).

        Args:
            latents_BCTYX: Y and X are even (video sizes are multiples of 16 pixels).
            s_BT: Flow time in [0, 1], float32 or better; one per frame, or one for all (T = 1).
        """
        x_BTHWD: Tensor = self.patch(cells_to_channels(latents_BCTYX.permute(0, 2, 3, 4, 1)))
        time_BTD: Tensor = self.time(sinusoids(1000 * s_BT, self.time_channels).to(x_BTHWD.dtype))
        modulation_BT6D: Tensor = self.modulation(functional.silu(time_BTD)).unflatten(-1, (6, -1))
        return x_BTHWD, modulation_BT6D, time_BTD


class Unembed(nn.Module):
    """Tokens become 2x2 patches of predicted velocity."""

    def __init__(self, shape: Shape, *, patch_channels: int) -> None:
        super().__init__()
        self.table_2D = nn.Parameter(torch.randn(2, shape.channels) / shape.channels**0.5)
        self.patch = nn.Linear(shape.channels, patch_channels)

    def forward(self, x_BTHWD: Tensor, time_BTD: Tensor) -> Tensor:
        """Return velocities (B, C, T, Y, X)."""
        height, width = x_BTHWD.shape[2:4]
        shift_BT11D, scale_BT11D = (time_BTD[:, :, None, None] + row_D for row_D in self.table_2D)
        patches_BTHWD = self.patch(modulated_norm(x_BTHWD, shift_BT11D, scale_BT11D))
        return channels_to_cells(patches_BTHWD, 2 * height, 2 * width).permute(0, 4, 1, 2, 3)


def sinusoids(t_BT: Tensor, channels: int) -> Tensor:
    """Return cosines, then sines, of a time at geometric frequencies: (B, T, channels), float32 or better.

    Source: Vaswani et al. (2017), section 3.5, in the order of Ho et al. (2020) as diffusion transformers use it.
    """
    exact = torch.promote_types(t_BT.dtype, torch.float32)
    half = channels // 2
    frequency_F = torch.exp(-math.log(10_000) / half * torch.arange(half, device=t_BT.device, dtype=exact))
    angle_BTF = t_BT.to(exact)[..., None] * frequency_F
    return torch.cat((angle_BTF.cos(), angle_BTF.sin()), dim=-1)
