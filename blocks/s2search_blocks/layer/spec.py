"""What every block costs around its attention: modulation, text cross-attention, feed-forward and residuals.

The formulas of `blocks/` count for batch 1 and one modulation for all frames. A peak is the largest of a few phases,
each a sum of the tensors alive then, in the order in which the modules run. `stored` is the bytes of an activation,
`exact` those of a number that is float32 at least.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2search.block import Block, Parameters, Precision, Shape, Stream, Window
from s2search.errors import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LayerBlock(Block):
    """A block that differs from the others in its attention only, whose forms it makes as well.

    An attention keeps the contract of a block's module (see `s2search.block.Block`) with `h_BTHWD`, the stream
    normalised and modulated, for all that comes before the state: `forward(h_BTHWD, state)`, `commit(h_BTHWD, state)`
    and `advance(h_BTHWD, state)`. With channels first it takes `h_1D1S` and the past.
    """

    @abstractmethod
    def attention_parameters(self, shape: Shape) -> Parameters:
        """Count the parameters of the attention."""

    @abstractmethod
    def attention_flops(self, shape: Shape) -> int:
        """Floating-point operations of the attention."""

    @abstractmethod
    def attention_peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes that the attention adds, at its worst moment, to its input and to the stream."""

    @abstractmethod
    def build_attention(self, shape: Shape) -> nn.Module:
        """Make the attention. Imports torch."""

    def fused_attention(self, attention: Any) -> nn.Module:
        """Return what `build_attention` made again for running fast; by default itself."""
        return attention  # type: ignore[no-any-return]

    def channels_first_attention(
        self, attention: Any, frames: int, grid: tuple[int, int], window: Window
    ) -> nn.Module | None:
        """Return what `build_attention` made again with channels before tokens; by default there is no such form."""
        return None

    def head_channels(self, shape: Shape) -> int:
        """Channels per head of the attention, K."""
        return shape.head_channels

    def tokens(self, shape: Shape) -> int:
        """Tokens of the block's stream, N."""
        return shape.tokens if self.stream is Stream.HIGH else shape.low_tokens

    def parameters(self, shape: Shape) -> Parameters:
        """Count attention, cross-attention, feed-forward and modulation table."""
        attention, channels, wide = self.attention_parameters(shape), shape.channels, shape.feed_forward
        cross_small = 4 * channels + 2 * shape.head_channels
        return Parameters(
            matrix=attention.matrix + 2 * channels**2 + 2 * channels * wide,
            text=2 * shape.text_channels * channels,
            small=attention.small + cross_small + (wide + channels) + 6 * channels,
        )

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of one read with a full window."""
        tokens, channels = self.tokens(shape), shape.channels
        cross = (
            2 * linear_flops(tokens, channels, channels)
            + 2 * linear_flops(shape.text_tokens, shape.text_channels, channels)
            + softmax_flops(tokens, shape.text_tokens, channels)
        )
        return self.attention_flops(shape) + cross + 2 * linear_flops(tokens, channels, shape.feed_forward)

    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes alive at the worst moment of one read, where the caller holds the inputs all along."""
        stored = precision.activation_bits // 8
        stream = self.tokens(shape) * shape.channels * stored
        text = shape.text_tokens * shape.text_channels * stored
        modulation = 2 * 6 * shape.channels * stored  # as given, and with the layer's table added
        feed_forward = 2 * self.tokens(shape) * max(shape.channels, shape.feed_forward) * stored
        # Beside the input stands the attention's normalised input, and later the stream after the attention.
        beside = max(
            self.attention_peak_bytes(shape, precision), self._cross_peak_bytes(shape, precision), feed_forward
        )
        return stream + text + modulation + stream + beside

    def build(self, shape: Shape) -> nn.Module:
        """Make the layer.

        Raises:
            InputError: RoPE cannot pair the channels of a head.
        """
        if self.head_channels(shape) % 2:
            raise InputError(
                f"{self.label} has {self.head_channels(shape)} channels per head, which RoPE cannot pair",
                allowed="an even number",
                remedy="change the channels or the heads",
            )
        from s2search_blocks.layer.module import Layer

        return Layer(shape, self.build_attention(shape))

    def fused(self, module: Any) -> nn.Module:
        """Return the layer with its attention in the fused form."""
        from s2search_blocks.layer.module import Layer

        if type(module) is not Layer:  # whoever builds or wraps it otherwise has other forms, or none
            return module  # type: ignore[no-any-return]
        return module.around(self.fused_attention(module.attention))

    def channels_first(self, module: Any, frames: int, grid: tuple[int, int], window: Window) -> nn.Module | None:
        """Return the layer with channels before tokens, where its attention has this form."""
        from s2search_blocks.layer.channels_first import ChannelsFirstLayer
        from s2search_blocks.layer.module import Layer

        if type(module) is not Layer:
            return None
        attention = self.channels_first_attention(module.attention, frames, grid, window)
        return None if attention is None else ChannelsFirstLayer(module, attention)

    def _cross_peak_bytes(self, shape: Shape, precision: Precision) -> int:
        stored = precision.activation_bits // 8
        tokens, words = self.tokens(shape), 2 * shape.text_tokens * shape.channels * stored
        queries = tokens * shape.channels * stored
        statistics = tokens * shape.heads * exact_bytes(precision)
        return max(
            rms_norm_peak_bytes(tokens, shape.channels, shape.heads, precision),
            queries + 2 * words,  # keys are normalised while the queries wait
            2 * queries + words + statistics,  # attention: queries, output, log-sum-exp
        )


def exact_bytes(precision: Precision) -> int:
    """Bytes of a number that is computed in float32 at least."""
    return max(32, precision.activation_bits) // 8


def linear_flops(rows: int, inputs: int, outputs: int) -> int:
    """Floating-point operations of a matrix product."""
    return 2 * rows * inputs * outputs


def softmax_flops(queries: int, keys: int, channels: int) -> int:
    """Floating-point operations of scaled dot-product attention: scores, and the weighted sum of values."""
    return 4 * queries * keys * channels


def rms_norm_peak_bytes(tokens: int, channels: int, heads: int, precision: Precision) -> int:
    """Bytes while queries or keys are normalised: before, scaled, weighted; the norm and its inverse per head."""
    stored = precision.activation_bits // 8
    return 3 * tokens * channels * stored + 2 * tokens * heads * exact_bytes(precision)


def rotate_peak_bytes(tokens: int, channels: int, heads: int, number_bytes: int) -> int:
    """Bytes while queries or keys are rotated: before, both halves, after; cosines and sines for one head."""
    return (3 * tokens * channels + tokens * channels // heads) * number_bytes
