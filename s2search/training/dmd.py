"""Distribution matching: in which direction generated latents are more likely under the teacher than as they are.

Source: Yin et al., "Improved Distribution Matching Distillation" (2024), equations 2 and 3; "One-step Diffusion with
Distribution Matching Distillation" (2024), equation 8 (the normaliser).

Axes: B samples  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from torch import Tensor

_LEAST = 1e-6


def matching_gradient(z: Tensor, z_fake: Tensor, z_real: Tensor) -> Tensor:
    """Return (z_F - z_R) / mean |z - z_R|, per sample; 0 for a sample that is not finite.

    Args:
        z: Generated latents, z_BCTYX.
        z_fake: What the critic makes of them with noise.
        z_real: What the teacher makes of the same.
    """
    axes = tuple(range(1, z.ndim))
    scale = (z - z_real).abs().mean(axes, keepdim=True).clamp_min(_LEAST)
    gradient = (z_fake - z_real) / scale
    finite = gradient.isfinite().flatten(1).all(1).view(-1, *(1 for _ in axes))
    return gradient.nan_to_num().where(finite, 0.0)


def matching_loss(z: Tensor, gradient: Tensor, numbers: int) -> Tensor:
    """Return a loss of value sum g^2 / 2 n whose gradient at z is g / n.

    Args:
        z: Generated latents, or a part of them.
        gradient: g there.
        numbers: n, of all parts.
    """
    loss: Tensor = 0.5 * (z - (z - gradient).detach()).square().sum() / numbers
    return loss
