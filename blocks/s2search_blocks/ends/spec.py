"""The two ends of the model: the stem (patches, time step, shared adaLN) and the head.

Source: S2DiT, section 4 (Wan autoencoder, 16 latent channels); Peebles and Xie, "DiT" (2023); patches of 1x2x2 and an
adaLN shared by all layers follow from 1.8 B parameters at width 2048.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2search.block import Parameters, Part, Precision, Shape, Window
from s2search_blocks.layer.spec import exact_bytes, linear_flops

if TYPE_CHECKING:
    from torch import nn

LATENT_CHANNELS = 16
PATCH_CHANNELS = LATENT_CHANNELS * 2 * 2
TIME_CHANNELS = 256


@dataclass(frozen=True, kw_only=True)
class Stem(Part):
    """Embeds latents and the flow time; the built module is `s2search_blocks.ends.module.Embed`."""

    def parameters(self, shape: Shape) -> Parameters:
        """Count patch embedding, time network and shared adaLN."""
        channels = shape.channels
        return Parameters(
            boundary=PATCH_CHANNELS * channels + TIME_CHANNELS * channels + channels**2 + 6 * channels**2,
            small=channels + 2 * channels + 6 * channels,
        )

    def flops(self, shape: Shape) -> int:
        """Floating-point operations for one flow time shared by all frames."""
        time = linear_flops(1, TIME_CHANNELS, shape.channels) + linear_flops(1, shape.channels, 7 * shape.channels)
        return linear_flops(shape.tokens, PATCH_CHANNELS, shape.channels) + time

    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of latents and tokens beside the patches, the time step's sinusoids, or its vectors."""
        stored, exact = precision.activation_bits // 8, exact_bytes(precision)
        latents = shape.tokens * PATCH_CHANNELS * stored
        sinusoids = exact + 3 * TIME_CHANNELS * exact  # time, frequencies, angles, cosines, sines, and both joined
        vectors = (1 + 1 + 6) * shape.channels * stored  # time embedding, its SiLU, modulation
        return latents + exact + shape.tokens * shape.channels * stored + max(latents, sinusoids, vectors)

    def build(self, shape: Shape) -> nn.Module:
        """Make the module. Imports torch."""
        from s2search_blocks.ends.module import Embed

        return Embed(shape, patch_channels=PATCH_CHANNELS, time_channels=TIME_CHANNELS)

    def channels_first(self, module: Any, frames: int, grid: tuple[int, int], window: Window) -> nn.Module:
        """Return the module with channels before tokens."""
        from s2search_blocks.ends.channels_first import ChannelsFirstEmbed

        return ChannelsFirstEmbed(module)


@dataclass(frozen=True, kw_only=True)
class Head(Part):
    """Predicts the velocity of every latent; the built module is `s2search_blocks.ends.module.Unembed`."""

    def parameters(self, shape: Shape) -> Parameters:
        """Count the modulation table and the projection to patches."""
        return Parameters(boundary=PATCH_CHANNELS * shape.channels, small=2 * shape.channels + PATCH_CHANNELS)

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of the projection."""
        return linear_flops(shape.tokens, shape.channels, PATCH_CHANNELS)

    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of tokens, normalised and modulated, or of modulated tokens and their patches."""
        stored = precision.activation_bits // 8
        stream, patches = shape.tokens * shape.channels * stored, shape.tokens * PATCH_CHANNELS * stored
        vector = shape.channels * stored  # of time, shift, scale, and 1 + scale while the tokens are modulated
        return stream + 3 * vector + max(2 * stream + vector, stream + patches, 2 * patches)

    def build(self, shape: Shape) -> nn.Module:
        """Make the module. Imports torch."""
        from s2search_blocks.ends.module import Unembed

        return Unembed(shape, patch_channels=PATCH_CHANNELS)

    def channels_first(self, module: Any, frames: int, grid: tuple[int, int], window: Window) -> nn.Module:
        """Return the module with channels before tokens."""
        from s2search_blocks.ends.channels_first import ChannelsFirstUnembed

        return ChannelsFirstUnembed(module, frames, grid)
