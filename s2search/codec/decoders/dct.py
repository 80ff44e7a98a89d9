"""`dct`'s decoder as one 1x1 convolution per frame and a shuffle of its channels: its own way goes over eight axes.

Axes: T frames  C channels  P pixels of a block  Y X rows and columns  t frames of a block
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class DCTDecoder(nn.Module):
    """Latents to video.

    Args:
        codec: The loaded codec; it is left as it was.
        block: Colours, frames, rows and columns of a block.
    """

    def __init__(self, codec: Any, block: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.colours, self.frames, self.side, _ = block
        basis_CP = codec.basis_CP
        self.mean, self.std = _fixed(codec.mean_C[:, None, None]), _fixed(codec.std_C[:, None, None])
        channels, pixels = basis_CP.shape
        self.cosines = nn.Conv2d(channels, pixels, kernel_size=1, bias=False, device="meta")
        self.cosines.weight = _fixed(basis_CP.T[..., None, None])

    def forward(self, latents_BCTYX: Tensor, *, begins: bool) -> tuple[Tensor, ...]:
        """Return video_BCTYX from -1 to 1; a stream begins with a still, of which one frame is left."""
        colours, frames, side = self.colours, self.frames, self.side
        x_TCYX = latents_BCTYX[0].transpose(0, 1) * self.std + self.mean
        split_TCtYX = torch.unflatten(torch.pixel_shuffle(self.cosines(x_TCYX), side), 1, (colours, frames))
        video_BCTYX = split_TCtYX.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None]
        if begins:
            still_BC1YX = video_BCTYX[:, :, :frames].mean(dim=2, keepdim=True)
            video_BCTYX = torch.cat([still_BC1YX, video_BCTYX[:, :, frames:]], dim=2)
        return (video_BCTYX.clamp(-1, 1),)


def _fixed(numbers: Tensor) -> nn.Parameter:
    return nn.Parameter(numbers.detach().contiguous(), requires_grad=False)
