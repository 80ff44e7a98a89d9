"""LinConv Hybrid Attention: the high-resolution candidate of the sandwich, linear in the number of tokens.

Source: S2DiT, section 3 (LCHA) and the ablations of table 3; arXiv 2601.12719.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from s2search.block import Parameters, Precision, Shape, Stream, Window
from s2search.errors import InputError
from s2search_blocks.layer.spec import LayerBlock, exact_bytes, linear_flops, rms_norm_peak_bytes, rotate_peak_bytes

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LCHA(LayerBlock):
    """Linear attention beside a local convolution, mixed by a learned gate per channel.

    Attributes:
        linear_only: Leave the local path out.
        local_only: Leave the linear path out.
        feature_map: `softplus` is learned per head; `relu` has no parameters.
        linear_head_dim: Channels per head of the linear path; by default the model's.
        gate: Mix the paths by a learned gate; without it they are added.
        rope_order: `pre` rotates before the feature map: weights are positive and sum to one. `post` rotates features,
            in the numerator only: weights depend on offsets only, and may be negative.
        memory: What a stream's sums keep of past chunks: all of them (`running`), those of the window and the sink
            (`window`), or all with a chunk n back weighing `decay` ** n (`decay`).
        decay: That weight of the chunk before; 0 to 1, used by `decay` only.

    >>> LCHA(gate=False, rope_order="post").label
    'lcha[gate=false,rope_order=post]'
    """

    symbol: ClassVar[str] = "L"
    stream: ClassVar[Stream] = Stream.HIGH
    kernel: ClassVar[tuple[int, int, int]] = (3, 3, 3)  # frames, rows, columns

    linear_only: bool = False
    local_only: bool = False
    feature_map: Literal["softplus", "relu"] = "softplus"
    linear_head_dim: int | None = None
    gate: bool = True
    rope_order: Literal["pre", "post"] = "pre"
    memory: Literal["running", "window", "decay"] = "running"
    decay: float = 0.9

    def __post_init__(self) -> None:
        if self.linear_only and self.local_only:
            raise InputError("lcha cannot be linear_only and local_only at once", remedy="set at most one of them")
        if not 0 <= self.decay <= 1:
            raise InputError(f"lcha's decay is {self.decay}", allowed="0 to 1", remedy="correct the option")

    def heads(self, shape: Shape) -> int:
        """Heads of the linear path, A.

        Raises:
            InputError: `linear_head_dim` does not divide the channels.
        """
        width = shape.head_channels if self.linear_head_dim is None else self.linear_head_dim
        if width < 1 or shape.channels % width:
            raise InputError(
                f"linear_head_dim={width} does not divide {shape.channels} channels", remedy="choose a divisor"
            )
        return shape.channels // width

    def head_channels(self, shape: Shape) -> int:
        """Channels per head of the linear path, K."""
        return shape.channels // self.heads(shape)

    def attention_parameters(self, shape: Shape) -> Parameters:
        """Count output projection, linear path, local path and gate."""
        channels, width = shape.channels, self.head_channels(shape)
        matrix, small = channels**2, channels
        if not self.local_only:
            matrix += 3 * channels**2
            small += 3 * channels + 2 * width
            small += channels * (width + 1) if self.feature_map == "softplus" else 0
        if not self.linear_only:
            matrix += channels**2
            small += channels + channels * (math.prod(self.kernel) + 1)
        if self.gate and not (self.linear_only or self.local_only):
            small += channels
        return Parameters(matrix=matrix, small=small)

    def attention_flops(self, shape: Shape) -> int:
        """Floating-point operations of both paths and the output projection."""
        tokens, channels, width = shape.tokens, shape.channels, self.head_channels(shape)
        flops = linear_flops(tokens, channels, channels)
        if not self.local_only:
            per_head = linear_flops(tokens, channels, width)  # a KxK product per token and head
            maps = 2 if self.feature_map == "softplus" else 0
            flops += 3 * linear_flops(tokens, channels, channels) + (maps + 2) * per_head + 2 * tokens * channels
        if not self.linear_only:
            flops += 2 * tokens * channels * math.prod(self.kernel) + linear_flops(tokens, channels, channels)
        return flops

    def attention_peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes at the worst moment of the linear path, the local path or their mixture."""
        stored = precision.activation_bits // 8
        stream = shape.tokens * shape.channels * stored
        past = shape.height * shape.width * shape.channels * stored * (self.kernel[0] - 1)
        waiting = 0 if self.local_only else stream  # the linear path's result
        # A clip starts from an empty state of its own; a stream's state is counted by `state_bytes`.
        empty_sums = 0 if self.memory == "window" else self._sum_bytes(shape)
        empty = 0 if shape.context_frames else empty_sums + (0 if self.linear_only else past)
        phases = [2 * stream]
        if not self.local_only:
            phases.append(self._linear_peak_bytes(shape, precision))
        if not self.linear_only:
            phases.append(waiting + (past + stream) + 2 * stream)  # with the past; convolved; mixed
        return empty + max(phases)

    def state_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of the float32 sums and of the convolution's tail."""
        if shape.context_frames == 0:
            return 0
        tail = (self.kernel[0] - 1) * shape.height * shape.width * shape.channels * precision.ring_bits // 8
        chunks = -(-shape.context_frames // shape.frames) if self.memory == "window" else 1
        return chunks * self._sum_bytes(shape) + (0 if self.linear_only else tail)

    def build_attention(self, shape: Shape) -> nn.Module:
        """Make the attention. Imports torch."""
        from s2search_blocks.lcha.module import LinConvHybridAttention

        return LinConvHybridAttention(shape, self)

    def fused_attention(self, attention: Any) -> nn.Module:
        """Return the attention with its linear path's products joined."""
        from s2search_blocks.lcha.fused import FusedLinConvHybridAttention
        from s2search_blocks.lcha.module import LinConvHybridAttention

        return FusedLinConvHybridAttention(attention) if type(attention) is LinConvHybridAttention else attention

    def channels_first_attention(
        self, attention: Any, frames: int, grid: tuple[int, int], window: Window
    ) -> nn.Module | None:
        """Return the attention with channels before tokens; a subclass that builds another has none."""
        from s2search_blocks.lcha.channels_first import ChannelsFirstLCHA
        from s2search_blocks.lcha.module import LinConvHybridAttention

        if type(attention) is not LinConvHybridAttention:
            return None
        return ChannelsFirstLCHA(attention, frames, grid, window)

    def _linear_peak_bytes(self, shape: Shape, precision: Precision) -> int:
        stored, exact = precision.activation_bits // 8, exact_bytes(precision)
        numbers, heads = shape.tokens * shape.channels, self.heads(shape)
        pre, sums = self.rope_order == "pre", self._sum_bytes(shape)
        rotated_bytes = stored if pre else exact
        # The map holds its input; softplus also W x + b and, of its two terms, three tensors.
        mapping = ((1 if pre else 0) + (5 if self.feature_map == "softplus" else 2)) * numbers * stored
        features = (1 if pre else 2) * numbers * exact
        return max(
            rms_norm_peak_bytes(shape.tokens, shape.channels, heads, precision) + sums,
            rotate_peak_bytes(shape.tokens, shape.channels, heads, rotated_bytes)
            + (0 if pre else numbers * stored)
            + sums,
            mapping + sums,
            features + numbers * exact,  # keys, and keys over the tokens of a frame
            2 * numbers * exact + sums,  # keys and values; the chunk's sums
            # Values made exact; later sums read, divided, laid out by token.
            2 * numbers * exact + numbers * stored + shape.tokens * heads * exact + sums,
        )

    def _sum_bytes(self, shape: Shape) -> int:
        width = self.head_channels(shape)
        return 0 if self.local_only else shape.channels * (width + 1) * 4
