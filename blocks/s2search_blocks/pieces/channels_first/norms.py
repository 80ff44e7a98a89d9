"""Norms over channels before tokens. Axes: D channels  S tokens  A heads  K channels per head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from s2search_blocks.pieces.channels_first.projection import parameter
from s2search_blocks.pieces.norms import EPSILON, RMSNorm

#: Squares are summed of numbers a quarter as large: the sum of 128 of them fits float16 up to a norm of 90 per channel.
_PART = 0.25
#: Half of what float16 holds: a sum that is rounded again and again stays below 65,504.
_LARGEST_SUM = 2.0**15


def layer_norm(x_1D1S: Tensor) -> Tensor:
    """Return every token with mean 0 and variance 1; coremltools makes one `layer_norm` over axis 1 of the last lines.

    A token is divided by max(1, max |x| / limit) first, so that its D squares add up within float16 however large it
    is. Tokens within the limit stay as they are. For others the epsilon grows by the square of the divisor: to
    EPSILON D / limit^2 of the variance at most, unless the token's mean is far above its spread.
    """
    largest_111S = x_1D1S.abs().amax(dim=1, keepdim=True)
    x_1D1S = x_1D1S / (largest_111S * (1 / limit(x_1D1S.shape[1]))).clamp(min=1)
    centred_1D1S = x_1D1S - x_1D1S.mean(dim=1, keepdim=True)
    variance_111S = (centred_1D1S * centred_1D1S).mean(dim=1, keepdim=True)
    return centred_1D1S * torch.rsqrt(variance_111S + EPSILON)


def limit(channels: int) -> float:
    """Return how large the numbers of a token may be, so that the sum of their squares is certain to fit float16.

    >>> limit(2048)
    4.0
    """
    return math.sqrt(_LARGEST_SUM / channels)


def modulated_norm(x_1D1S: Tensor, shift_1D11: Tensor, scale_1D11: Tensor) -> Tensor:
    """Return the normalised tokens, scaled and shifted as the time step asks (adaLN)."""
    return layer_norm(x_1D1S) * (1 + scale_1D11) + shift_1D11


class HeadNorm(nn.Module):
    """RMSNorm of every head: x / 4 over the root mean square of x / 4, which is the same."""

    def __init__(self, original: RMSNorm) -> None:
        super().__init__()
        self.weight = parameter(original.weight[:, None])

    def forward(self, x_1AKS: Tensor, scale: float = 1.0) -> Tensor:
        """Return `x` normalised over K, times a number that becomes part of the weight."""
        part_1AKS = x_1AKS * _PART
        mean_1A1S = (part_1AKS * part_1AKS).mean(dim=2, keepdim=True)
        weight_K1 = self.weight if scale == 1 else self.weight * scale
        return part_1AKS * torch.rsqrt(mean_1A1S + EPSILON * _PART**2) * weight_K1
