"""average: a codec in one file. Blocks become their mean colour; its decoder says itself how it is exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from s2search.codec.base import FRAMES_PER_LATENT, PIXELS_PER_LATENT, Codec, DecoderComponent, LoadedCodec
from s2search.preset import LATENT_CHANNELS


@dataclass(frozen=True, kw_only=True)
class Average(Codec):
    """Keeps the mean colour of every block of four frames.

    Attributes:
        gain: Of latents over colours.
    """

    statement: ClassVar[str] = "the mean colour of 4x8x8 blocks in three channels; the others are 0"

    gain: float = 1.0

    def load(self, device="cpu", dtype=None):
        return LoadedAverage(self, torch.device(device), dtype or torch.float32)

    def component(self) -> DecoderComponent:
        loaded = self.load()
        return DecoderComponent(loaded=loaded, model=loaded.decoder)


class LoadedAverage(LoadedCodec):
    """All that a stream remembers is that it began."""

    def __init__(self, config, device, dtype):
        super().__init__(config.name, device, dtype)
        self.gain, self.decoder = config.gain, AverageDecoder(config.gain).to(device, dtype).eval()

    def _encode(self, video_BCTYX, before):
        side = PIXELS_PER_LATENT
        first = 1 if before is None else 0
        means = [video_BCTYX[:, :, :first], *video_BCTYX[:, :, first:].split(FRAMES_PER_LATENT, dim=2)]
        frames_BCTYX = torch.cat([one.mean(dim=2, keepdim=True) for one in means if one.shape[2]], dim=2)
        small_BCTYX = nn.functional.avg_pool3d(frames_BCTYX, (1, side, side))
        rest_BCTYX = small_BCTYX[:, :1].expand(-1, LATENT_CHANNELS - 3, -1, -1, -1) * 0
        return torch.cat([small_BCTYX * self.gain, rest_BCTYX], dim=1), {}

    def _decode(self, latents_BCTYX, before):
        return torch.cat([self.decoder(one[None], begins=before is None)[0] for one in latents_BCTYX]), {}


class AverageDecoder(nn.Module):
    """A 1x1 convolution and repetition, on frames as a batch."""

    def __init__(self, gain):
        super().__init__()
        self.colours = nn.Conv2d(LATENT_CHANNELS, 3, kernel_size=1, bias=False)
        self.colours.weight = nn.Parameter(torch.eye(3, LATENT_CHANNELS)[..., None, None] / gain, requires_grad=False)

    def forward(self, latents_BCTYX, *, begins):
        colours_TCYX = self.colours(latents_BCTYX[0].transpose(0, 1))
        large_TCYX = nn.functional.interpolate(colours_TCYX, scale_factor=float(PIXELS_PER_LATENT), mode="nearest")
        repeated_CTYX = torch.cat([large_TCYX[:, None]] * FRAMES_PER_LATENT, dim=1).flatten(0, 1).transpose(0, 1)
        return (repeated_CTYX[:, FRAMES_PER_LATENT - 1 if begins else 0 :].clamp(-1, 1)[None],)
