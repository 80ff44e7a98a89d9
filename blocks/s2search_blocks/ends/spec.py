"""The two ends of the model: the stem (patches, time step, shared adaLN) and the head.

Source: S2DiT, section 4 (Wan autoencoder, 16 latent channels); Peebles and Xie, "DiT" (2023); patches of 1x2x2 and an
adaLN shared by all layers follow from 1.8 B parameters at width 2048.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2search.block import Parameters, Part, Precision, Shape, Window
from s2search.errors import InputError
from s2search_blocks.layer.spec import exact_bytes, linear_flops

if TYPE_CHECKING:
    from torch import nn

LATENT_CHANNELS = 16
_PATCH = 2 * 2  # latents of one token
TIME_CHANNELS = 256


@dataclass(frozen=True, kw_only=True)
class _End(Part):
    """What both ends have: the latents that they begin or end with."""

    latent_channels: int = LATENT_CHANNELS

    def __post_init__(self) -> None:
        if self.latent_channels < 1:
            raise InputError(f"{self.latent_channels} latent channels", allowed="at least 1")

    @property
    def patch_channels(self) -> int:
        """Numbers of the 2x2 latents of a token."""
        return self.latent_channels * _PATCH


@dataclass(frozen=True, kw_only=True)
class Stem(_End):
    """Embeds latents and the flow time; the built module is `s2search_blocks.ends.module.Embed`."""

    def parameters(self, shape: Shape) -> Parameters:
        """Count patch embedding, time network and shared adaLN."""
        channels = shape.channels
        return Parameters(
            boundary=self.patch_channels * channels + TIME_CHANNELS * channels + channels**2 + 6 * channels**2,
            small=channels + 2 * channels + 6 * channels,
        )

    def flops(self, shape: Shape) -> int:
        """Floating-point operations for one flow time shared by all frames."""
        time = linear_flops(1, TIME_CHANNELS, shape.channels) + linear_flops(1, shape.channels, 7 * shape.channels)
        return linear_flops(shape.tokens, self.patch_channels, shape.channels) + time

    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of latents and tokens beside the patches, the time step's sinusoids, or its vectors."""
        stored, exact = precision.activation_bits // 8, exact_bytes(precision)
        latents = shape.tokens * self.patch_channels * stored
        sinusoids = exact + 3 * TIME_CHANNELS * exact  # time, frequencies, angles, cosines, sines, and both joined
        vectors = (1 + 1 + 6) * shape.channels * stored  # time embedding, its SiLU, modulation
        return latents + exact + shape.tokens * shape.channels * stored + max(latents, sinusoids, vectors)

    def build(self, shape: Shape) -> nn.Module:
        """Make the module. Imports torch."""
        from s2search_blocks.ends.module import Embed

        return Embed(shape, patch_channels=self.patch_channels, time_channels=TIME_CHANNELS)

    def channels_first(self, module: Any, frames: int, grid: tuple[int, int], window: Window) -> nn.Module:
        """Return the module with channels before tokens."""
        from s2search_blocks.ends.channels_first import ChannelsFirstEmbed

        return ChannelsFirstEmbed(module)


@dataclass(frozen=True, kw_only=True)
class Head(_End):
    """Predicts the velocity of every latent; the built module is `s2search_blocks.ends.module.Unembed`."""

    def parameters(self, shape: Shape) -> Parameters:
        """Count the modulation table and the projection to patches."""
        return Parameters(boundary=self.patch_channels * shape.channels, small=2 * shape.channels + self.patch_channels)

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of the projection."""
        return linear_flops(shape.tokens, shape.channels, self.patch_channels)

    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of tokens, normalised and modulated, or of modulated tokens and their patches."""
        stored = precision.activation_bits // 8
        stream, patches = shape.tokens * shape.channels * stored, shape.tokens * self.patch_channels * stored
        vector = shape.channels * stored  # of time, shift, scale, and 1 + scale while the tokens are modulated
        return stream + 3 * vector + max(2 * stream + vector, stream + patches, 2 * patches)

    def build(self, shape: Shape) -> nn.Module:
        """Make the module. Imports torch."""
        from s2search_blocks.ends.module import Unembed

        return Unembed(shape, patch_channels=self.patch_channels)

    def channels_first(self, module: Any, frames: int, grid: tuple[int, int], window: Window) -> nn.Module:
        """Return the module with channels before tokens."""
        from s2search_blocks.ends.channels_first import ChannelsFirstUnembed

        return ChannelsFirstUnembed(module, frames, grid)
