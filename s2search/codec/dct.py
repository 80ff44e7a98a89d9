"""dct: a fixed transform into latents, without weights, so that everything runs on real video offline.

A block of 4 frames x 8 x 8 pixels x 3 colours is expanded in the orthonormal cosine basis of its four axes (DCT-II;
source: Ahmed, Natarajan and Rao 1974, "Discrete cosine transform"). Along colour that is (R+G+B)/sqrt 3, (R-B)/sqrt 2
and (R-2G+B)/sqrt 6, close to the principal axes of natural colours (source: Ohta, Kanade and Sakai 1980, "Color
information for region segmentation"). Because the basis is orthonormal, the squared error of a decoded video is the
energy of the coefficients left out. The 16 that are kept have the most energy, measured on three real clips: the mean
of the three colour axes, and 13 more of luma: eight still, three of change in time, two of moving edges. The first
frame of a stream counts as a still of four frames, of which decoding gives one.

It is linear (decoding clamps to [-1, 1]) and loses 47 of 48 numbers: pictures are soft, colours change only from block
to block, and edges that move leave a dotted trail. PSNR over the first 1 + 4k frames of a clip, at 8 bits, RGB:

    clip            512x288    256x144
    bikes           30.42 dB   26.92 dB
    bigbuckbunny    27.51 dB   25.90 dB
    carphone        33.44 dB   28.32 dB

What was measured: docs/decisions/streaming.md, "The codec without weights is 16 cosines, chosen by energy".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from s2search.codec.base import FRAMES_PER_LATENT, PIXELS_PER_LATENT, Codec, DecoderComponent, LoadedCodec
from s2search.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: The axes of a block: colours, frames, rows, columns.
BLOCK = (3, FRAMES_PER_LATENT, PIXELS_PER_LATENT, PIXELS_PER_LATENT)

#: The kept coefficients by their order in colour, time, rows and columns, by falling energy; then mean and standard
#: deviation. Pooled over the clips bikes, bigbuckbunny and carphone at 512x288, each counting the same, without their
#: first frames. tests/codec/test_dct.py measures them again.
CHANNELS: tuple[tuple[int, int, int, int, float, float], ...] = (
    (0, 0, 0, 0, -4.651, 12.194),
    (1, 0, 0, 0, 0.936, 3.314),
    (2, 0, 0, 0, -0.973, 2.198),
    (0, 0, 1, 0, 0.011, 1.914),
    (0, 0, 0, 1, -0.089, 1.770),
    (0, 1, 0, 0, 0.041, 1.677),
    (0, 2, 0, 0, 0.029, 0.987),
    (0, 0, 2, 0, 0.015, 0.855),
    (0, 0, 0, 2, -0.006, 0.781),
    (0, 0, 1, 1, 0.002, 0.757),
    (0, 3, 0, 0, 0.014, 0.692),
    (0, 1, 1, 0, 0.000, 0.496),
    (0, 0, 1, 2, -0.002, 0.481),
    (0, 1, 0, 1, -0.001, 0.479),
    (0, 0, 2, 1, 0.003, 0.472),
    (0, 0, 0, 3, -0.007, 0.462),
)


@dataclass(frozen=True, kw_only=True)
class DCT(Codec):
    """The strongest cosines of each block.

    Args:
        channels: How many, 1 to 16. A model has to carry four tokens' latents through a low layer, 16 numbers per
            channel: with 4, a model of width 64 can, and pictures are softer still.
    """

    statement: ClassVar[str] = "16 cosines of 4x8x8 blocks, fixed; chosen and normalised on three real clips"
    channels: int = len(CHANNELS)

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= len(CHANNELS):
            raise InputError(f"dct with {self.channels} channels", allowed=f"1 to {len(CHANNELS)}")

    @property
    @override
    def latent_channels(self) -> int:
        return self.channels

    @property
    @override
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(repr(CHANNELS[: self.channels]).encode()).hexdigest()}"

    @override
    def load(self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> LoadedCodec:
        import torch

        return _LoadedDCT(torch.device(device), dtype or torch.float32, self.channels)

    @override
    def component(self) -> DecoderComponent:
        from s2search.codec.decoders.dct import DCTDecoder

        loaded = self.load()
        return DecoderComponent(loaded=loaded, model=DCTDecoder(loaded, BLOCK).eval())


class _LoadedDCT(LoadedCodec):
    """Works in float32 or better; each block is alone, so all that a stream remembers is that it began.

    Axes: P the 768 pixels of a block, C the channels.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, channels: int = len(CHANNELS)) -> None:
        import torch

        super().__init__(DCT.name, device, dtype, latent_channels=channels)
        exact = torch.promote_types(dtype, torch.float32)
        kept = CHANNELS[:channels]
        self.basis_CP = torch.tensor([_cosines(*row[:4]) for row in kept], device=device, dtype=exact)
        self.mean_C, self.std_C = torch.tensor([row[4:] for row in kept], device=device, dtype=exact).unbind(1)

    def _encode(self, video_BCTYX: Tensor, before: Mapping[str, Tensor] | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        import torch

        if before is None:
            still_BCTYX = video_BCTYX[:, :, :1].expand(-1, -1, FRAMES_PER_LATENT, -1, -1)
            video_BCTYX = torch.cat([still_BCTYX, video_BCTYX[:, :, 1:]], dim=2)
        batch, colours, frames, rows, columns = video_BCTYX.shape
        blocks = video_BCTYX.to(self.basis_CP.dtype).reshape(
            (batch, colours, frames // BLOCK[1], BLOCK[1], rows // BLOCK[2], BLOCK[2], columns // BLOCK[3], BLOCK[3])
        )
        blocks_BTYXP = blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        latents_BTYXC = (blocks_BTYXP @ self.basis_CP.T - self.mean_C) / self.std_C
        return latents_BTYXC.permute(0, 4, 1, 2, 3).to(self.dtype).contiguous(), {}

    def _decode(
        self, latents_BCTYX: Tensor, before: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        import torch

        batch, _, frames, rows, columns = latents_BCTYX.shape
        latents_BTYXC = latents_BCTYX.to(self.basis_CP.dtype).permute(0, 2, 3, 4, 1)
        blocks_BTYXP = (latents_BTYXC * self.std_C + self.mean_C) @ self.basis_CP
        blocks = blocks_BTYXP.reshape(batch, frames, rows, columns, *BLOCK).permute(0, 4, 1, 5, 2, 6, 3, 7)
        video_BCTYX = blocks.reshape(batch, BLOCK[0], frames * BLOCK[1], rows * BLOCK[2], columns * BLOCK[3])
        if before is None:
            still_BCTYX = video_BCTYX[:, :, : BLOCK[1]].mean(dim=2, keepdim=True)
            video_BCTYX = torch.cat([still_BCTYX, video_BCTYX[:, :, BLOCK[1] :]], dim=2)
        return video_BCTYX.to(self.dtype), {}


def _cosines(*orders: int) -> list[float]:
    """Return one vector of the orthonormal cosine basis of a block, flattened."""
    vector = [1.0]
    for length, order in zip(BLOCK, orders, strict=True):
        scale = math.sqrt((2 if order else 1) / length)
        axis = [scale * math.cos(math.pi * (2 * i + 1) * order / (2 * length)) for i in range(length)]
        vector = [left * right for left in vector for right in axis]
    return vector
