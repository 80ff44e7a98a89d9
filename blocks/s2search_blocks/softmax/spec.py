"""What softmax attention costs, on one grid or from a fine grid to a coarse one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from s2search.block import Parameters, Precision, Shape, Stream, Window
from s2search_blocks.layer.spec import (
    LayerBlock,
    exact_bytes,
    linear_flops,
    rms_norm_peak_bytes,
    rotate_peak_bytes,
    softmax_flops,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class SoftmaxBlock(LayerBlock):
    """A block whose attention compares every query with every key in the window."""

    key_stride: ClassVar[int]

    @property
    def query_stride(self) -> int:
        """High-resolution tokens per row and column step of the block's stream."""
        return 1 if self.stream is Stream.HIGH else 2

    def frame_keys(self, shape: Shape) -> int:
        """Keys per latent frame."""
        return shape.low_height * shape.low_width if self.key_stride == 2 else shape.height * shape.width

    def attention_parameters(self, shape: Shape) -> Parameters:
        """Count four projections with biases, and the query and key norms."""
        return Parameters(matrix=4 * shape.channels**2, small=4 * shape.channels + 2 * shape.head_channels)

    def attention_flops(self, shape: Shape) -> int:
        """Floating-point operations of projections and attention over a full window."""
        tokens, channels = self.tokens(shape), shape.channels
        keys = shape.frames * self.frame_keys(shape)
        window = (shape.context_frames + shape.frames) * self.frame_keys(shape)
        projections = 2 * linear_flops(tokens, channels, channels) + 2 * linear_flops(keys, channels, channels)
        return projections + softmax_flops(tokens, window, channels)

    def attention_peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes at the worst moment: keys are made first, then values, then queries."""
        stored, channels, heads = precision.activation_bits // 8, shape.channels, shape.heads
        tokens, keys = self.tokens(shape), shape.frames * self.frame_keys(shape)
        window_keys = keys + shape.context_frames * self.frame_keys(shape)
        queries, chunk, window = (n * channels * stored for n in (tokens, keys, window_keys))
        means = chunk if self.key_stride > self.query_stride else 0
        normalise_queries = rms_norm_peak_bytes(tokens, channels, heads, precision)
        rotate_queries = rotate_peak_bytes(tokens, channels, heads, stored)
        return max(
            means + rms_norm_peak_bytes(keys, channels, heads, precision),
            means + rotate_peak_bytes(window_keys, channels, heads, stored),
            means + 2 * window + (chunk if shape.context_frames else 0),
            2 * window + max(normalise_queries, rotate_queries),
            2 * window + 2 * queries + tokens * heads * exact_bytes(precision),
        )

    def state_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of the ring of keys and values."""
        return 2 * shape.context_frames * self.frame_keys(shape) * shape.channels * precision.ring_bits // 8

    def build_attention(self, shape: Shape) -> nn.Module:
        """Make the attention. Imports torch."""
        from s2search_blocks.softmax.module import SoftmaxAttention

        return SoftmaxAttention(shape, query_stride=self.query_stride, key_stride=self.key_stride)

    def fused_attention(self, attention: Any) -> nn.Module:
        """Return the attention with one matrix product for all that comes from one grid."""
        from s2search_blocks.softmax.fused import FusedSoftmaxAttention
        from s2search_blocks.softmax.module import SoftmaxAttention

        return FusedSoftmaxAttention(attention) if type(attention) is SoftmaxAttention else attention

    def channels_first_attention(
        self, attention: Any, frames: int, grid: tuple[int, int], window: Window
    ) -> nn.Module | None:
        """Return the attention with channels before tokens; a subclass that builds another has none."""
        from s2search_blocks.softmax.channels_first import ChannelsFirstSoftmaxAttention
        from s2search_blocks.softmax.module import SoftmaxAttention

        if type(attention) is not SoftmaxAttention:
            return None
        return ChannelsFirstSoftmaxAttention(attention, frames, grid, window)
