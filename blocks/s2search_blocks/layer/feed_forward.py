"""The position-wise feed-forward network. Axes: B batch  T frames  H W rows and columns  D channels  F hidden."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from s2search_blocks.pieces.norms import modulated_norm


class FeedForward(nn.Module):
    """Two matrices around a tanh-approximated GELU; no gate, as 1.8 B parameters at width 2048 imply."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.widen = nn.Linear(channels, hidden_channels)
        self.narrow = nn.Linear(hidden_channels, channels)

    def forward(self, x_BTHWD: Tensor, shift_BT11D: Tensor, scale_BT11D: Tensor) -> Tensor:
        """Normalise, modulate, transform. The caller adds the result to the stream."""
        # Nested, so that the modulated copy is freed before the two widest tensors of the block coexist.
        wide_BTHWF = functional.gelu(self.widen(modulated_norm(x_BTHWD, shift_BT11D, scale_BT11D)), approximate="tanh")
        narrow_BTHWD: Tensor = self.narrow(wide_BTHWF)
        return narrow_BTHWD
