"""The switches between the high-resolution and the low-resolution stream.

The paper does not specify them (S2DiT, section 3); pixel-unshuffle with a linear layer, and the reverse, are
our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2search.block import Parameters, Part, Precision, Shape, Window
from s2search_blocks.layer.spec import linear_flops

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Down(Part):
    """High to low: the four tokens of a cell become one. The built module is `Downsample` (`module.py`)."""

    def parameters(self, shape: Shape) -> Parameters:
        """Count one linear layer from 4 D to D."""
        return Parameters(boundary=4 * shape.channels**2, small=shape.channels)

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of the linear layer on the low grid."""
        return linear_flops(shape.low_tokens, 4 * shape.channels, shape.channels)

    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of the stream, its padded copies on an odd grid, its cells, and the result."""
        stored = precision.activation_bits // 8
        stream, low = (n * shape.channels * stored for n in (shape.tokens, shape.low_tokens))
        cells = 4 * low
        rows_padded = shape.frames * 2 * shape.low_height * shape.width * shape.channels * stored
        padding = cells if (shape.height % 2 or shape.width % 2) else 0
        padding_twice = rows_padded + cells if (shape.height % 2 and shape.width % 2) else 0
        return stream + max(padding + cells, padding_twice, cells + low)

    def build(self, shape: Shape) -> nn.Module:
        """Make the module. Imports torch."""
        from s2search_blocks.switches.module import Downsample

        return Downsample(shape.channels)

    def channels_first(self, module: Any, frames: int, grid: tuple[int, int], window: Window) -> nn.Module:
        """Return the module with channels before tokens."""
        from s2search_blocks.switches.channels_first import ChannelsFirstDownsample

        return ChannelsFirstDownsample(module, frames, grid)


@dataclass(frozen=True, kw_only=True)
class Up(Part):
    """Low to high: one token becomes the four of its cell. The built module is `Upsample` (`module.py`)."""

    def parameters(self, shape: Shape) -> Parameters:
        """Count one linear layer from D to 4 D."""
        return Parameters(boundary=4 * shape.channels**2, small=4 * shape.channels)

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of the linear layer on the low grid."""
        return linear_flops(shape.low_tokens, shape.channels, 4 * shape.channels)

    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of the low stream, its cells, and the cells laid out by token (on odd grids also cropped)."""
        stored = precision.activation_bits // 8
        stream, low = (n * shape.channels * stored for n in (shape.tokens, shape.low_tokens))
        # A single frame loses its last row without a copy.
        cropped = stream if (shape.width % 2 or (shape.height % 2 and shape.frames > 1)) else 0
        return low + 4 * low + 4 * low + cropped

    def build(self, shape: Shape) -> nn.Module:
        """Make the module. Imports torch."""
        from s2search_blocks.switches.module import Upsample

        return Upsample(shape.channels)

    def channels_first(self, module: Any, frames: int, grid: tuple[int, int], window: Window) -> nn.Module:
        """Return the module with channels before tokens."""
        from s2search_blocks.switches.channels_first import ChannelsFirstUpsample

        return ChannelsFirstUpsample(module, frames, grid)
