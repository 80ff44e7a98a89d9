"""Normalisation: LayerNorm without parameters before every sublayer, RMSNorm on queries and keys.

Axes: B batch  T frames  H W token rows and columns  D channels  (1: broadcast over rows and columns)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-6


def layer_norm(x_BTHWD: Tensor) -> Tensor:
    """Return every token with mean 0 and variance 1. Statistics are float32 in every precision, inside the kernel."""
    return functional.layer_norm(x_BTHWD, x_BTHWD.shape[-1:], eps=EPSILON)


def modulated_norm(x_BTHWD: Tensor, shift_BT11D: Tensor, scale_BT11D: Tensor) -> Tensor:
    """Return the normalised tokens, scaled and shifted as the time step asks (adaLN)."""
    return torch.addcmul(shift_BT11D, layer_norm(x_BTHWD), 1 + scale_BT11D)


class RMSNorm(nn.Module):
    """Divides the last axis by its root mean square, times a learned weight per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised over its last axis."""
        # A norm kernel that accumulates in float32 spares the float32 copies of x that torch's rms_norm makes on a CPU.
        accumulator = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=accumulator)
        # Divided before it is squared: in float16 the square of a norm above 255 is infinite.
        scale = torch.rsqrt((norm * x.shape[-1] ** -0.5).square() + EPSILON)
        return x * scale.to(x.dtype) * self.weight
