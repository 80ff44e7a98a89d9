"""A layer with channels before tokens. Its twin is in `blocks/s2search_blocks/layer/module.py`.

Axes: D channels  S tokens  E text channels  W text tokens  M modulation (6 D): shift, scale and gate of the attention,
      then of the feed-forward
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from s2search_blocks.layer.cross_attention_channels_first import ChannelsFirstCrossAttention
from s2search_blocks.layer.feed_forward import FeedForward
from s2search_blocks.layer.module import Layer
from s2search_blocks.pieces.channels_first.norms import modulated_norm
from s2search_blocks.pieces.channels_first.projection import Projection, parameter

State = dict[str, Tensor]


class ChannelsFirstLayer(nn.Module):
    """A layer around an attention of this form, for one chunk length, grid and window.

    Attributes:
        state: What it remembers, empty, by name.
        reads_bias: Whether `past` has a `bias` (R,), one per frame of a ring, and `full`, 1 once the ring is.
        kept: What the host keeps, where it keeps the state; then `read` and `new` are called. None where the attention
            has no such form.
    """

    def __init__(self, layer: Layer, attention: Any) -> None:
        super().__init__()
        self.table_6D = parameter(layer.table_6D.flatten()[None, :, None, None])
        self.attention = attention
        self.cross_attention = ChannelsFirstCrossAttention(layer.cross_attention)
        self.feed_forward = ChannelsFirstFeedForward(layer.feed_forward)
        self.state, self.reads_bias = attention.state, attention.reads_bias
        self.kept = getattr(attention, "kept", None)

    def forward(
        self, x_1D1S: Tensor, modulation_1M11: Tensor, text_1E1W: Tensor, past: Mapping[str, Tensor] | None
    ) -> Tensor:
        """Read. See the twin."""
        return self._around(self.attention, x_1D1S, modulation_1M11, text_1E1W, past)

    def read(
        self, x_1D1S: Tensor, modulation_1M11: Tensor, text_1E1W: Tensor, given: Mapping[str, Tensor] | None
    ) -> Tensor:
        """Read what the host gives. See `s2search.block.Block`."""
        return self._around(self.attention.read, x_1D1S, modulation_1M11, text_1E1W, given)

    def new(self, x_1D1S: Tensor, modulation_1M11: Tensor) -> State:
        """Return what the host shall keep of this chunk."""
        shift, scale, *_ = self._modulation(modulation_1M11)
        new: State = self.attention.new(modulated_norm(x_1D1S, shift, scale))
        return new

    def _around(
        self,
        attention: Callable[[Tensor, Mapping[str, Tensor] | None], Tensor],
        x_1D1S: Tensor,
        modulation_1M11: Tensor,
        text_1E1W: Tensor,
        past: Mapping[str, Tensor] | None,
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self._modulation(modulation_1M11)
        x_1D1S = x_1D1S + gate1 * attention(modulated_norm(x_1D1S, shift1, scale1), past)
        x_1D1S = x_1D1S + self.cross_attention(x_1D1S, text_1E1W)
        y_1D1S: Tensor = self.feed_forward(modulated_norm(x_1D1S, shift2, scale2))
        return x_1D1S + gate2 * y_1D1S

    def commit(self, x_1D1S: Tensor, modulation_1M11: Tensor, past: Mapping[str, Tensor]) -> State:
        """Return the state that a later chunk may see. See the twin."""
        shift, scale, *_ = self._modulation(modulation_1M11)
        new: State = self.attention.commit(modulated_norm(x_1D1S, shift, scale), past)
        return new

    def _modulation(self, modulation_1M11: Tensor) -> tuple[Tensor, ...]:
        return (modulation_1M11 + self.table_6D).chunk(6, dim=1)


class ChannelsFirstFeedForward(nn.Module):
    """Two 1x1 convolutions around a GELU."""

    def __init__(self, original: FeedForward) -> None:
        super().__init__()
        self.widen, self.narrow = Projection(original.widen), Projection(original.narrow)

    def forward(self, h_1D1S: Tensor) -> Tensor:
        """Transform what is normalised and modulated."""
        narrow_1D1S: Tensor = self.narrow(functional.gelu(self.widen(h_1D1S), approximate="tanh"))
        return narrow_1D1S
