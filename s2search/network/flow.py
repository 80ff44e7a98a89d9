"""The flow between clean latents and noise: the straight path, its velocity, and where sampling stops on it.

Notation: z clean latents, eps standard normal noise, s noise level from 0 (clean) to 1 (noise).

    x_s = (1 - s) z + s eps        v = eps - z        z = x_s - s v        eps = x_s + (1 - s) v

The network is asked at time t = 1000 s. A noise level is a float, or a tensor that broadcasts against the latents: one
level per frame is s_B1T11 beside x_BCTYX. All is computed directly and in float32 at least, whatever the precision of
the tensors. A table of 1,000 entries, as some samplers have, errs by 2e-3 to 4e-3: shifted by a, levels near 0 are
a / 1000 apart.

Source: Liu et al., "Flow Straight and Fast" (2022), equation 1; Esser et al., "Scaling Rectified Flow Transformers"
(2024), equation 23 (shift); Ho and Salimans, "Classifier-Free Diffusion Guidance" (2022), equation 6.
"""

from __future__ import annotations

import math
from typing import TypeVar, overload

import torch
from torch import Tensor

from s2search.errors import InputError

Level = TypeVar("Level", float, Tensor)


def shift(s: Level, a: float) -> Level:
    """Return the noise level s pushed towards 1 by a factor a > 0: a s / (1 + (a - 1) s).

    0 and 1 stay; shifts multiply: shift(shift(s, a), b) = shift(s, a b), and 1 / a takes a back.

    >>> shift(0.5, 5.0)
    0.8333333333333334
    """
    return _shifted(_exact(s), a)


def few_step_schedule(steps: int = 4, shift: float = 5.0) -> tuple[float, ...]:
    """Return the noise levels at which the network is asked, from 1 down; after the last one comes 0.

    Args:
        steps: How many; before the shift they are evenly spaced: 1, (steps - 1) / steps, ..., 1 / steps.
        shift: See the function of this name.

    >>> [round(s, 4) for s in few_step_schedule()]
    [1.0, 0.9375, 0.8333, 0.625]
    """
    if steps < 1:
        raise InputError(f"a schedule of {steps} steps", allowed="at least 1", remedy="correct the number of steps")
    return tuple(_shifted((steps - step) / steps, shift) for step in range(steps))


def network_time(s: Level) -> Level:
    """Return the time t = 1000 s that the network sees.

    >>> network_time(0.9375)
    937.5
    """
    return 1000.0 * _exact(s)


def renoise(z: Tensor, s: float | Tensor, eps: Tensor) -> Tensor:
    """Return x_s, the latents z at noise level s: between two steps, and for a training pair."""
    s = _exact(s)
    return (1 - s) * _exact(z) + s * _exact(eps)


def velocity(z: Tensor, eps: Tensor) -> Tensor:
    """Return v, what the network learns to predict."""
    return _exact(eps) - _exact(z)


def clean(x: Tensor, s: float | Tensor, v: Tensor) -> Tensor:
    """Return the z that latents x at noise level s and a velocity v point to."""
    return _exact(x) - _exact(s) * _exact(v)


def noise(x: Tensor, s: float | Tensor, v: Tensor) -> Tensor:
    """Return the eps that latents x at noise level s and a velocity v come from."""
    return _exact(x) + (1 - _exact(s)) * _exact(v)


def unit_gaussian_gain(s: Tensor) -> Tensor:
    """Return the factor of x in the velocity that is expected where latents and noise are both unit Gaussian.

    Of v = eps - z and x = (1 - s) z + s eps the covariance is 2 s - 1 and x has the variance (1 - s)^2 + s^2, so
    E[v | x] = (2 s - 1) / (1 - 2 s + 2 s^2) x: the best that can be said without looking at more than one number.

    >>> unit_gaussian_gain(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    s = _exact(s)
    return (2 * s - 1) / (1 - 2 * s + 2 * s * s)


def guided(u: Tensor, c: Tensor, w: float) -> Tensor:
    """Return the velocity u + w (c - u): 0 is unconditional, 1 conditional, more follows the prompt more closely.

    A source that writes c + g (c - u) means w = g + 1.

    Args:
        u: Velocity without the prompt.
        c: Velocity with the prompt.
        w: Weight of guidance.
    """
    u = _exact(u)
    return u + w * (_exact(c) - u)


def _shifted(s: Level, a: float) -> Level:
    if not 0 < a < math.inf:
        raise InputError(
            f"the shift is {a:g}", allowed="finite and above 0", remedy="correct it (1 leaves the levels as they are)"
        )
    # Not 1 + (a - 1) s: that rounds to something other than a at s = 1, and noise would be shifted past 1.
    return a * s / ((1 - s) + a * s)


@overload
def _exact(number: float) -> float: ...
@overload
def _exact(number: Tensor) -> Tensor: ...
def _exact(number: float | Tensor) -> float | Tensor:
    """Return float32 for anything shorter."""
    if isinstance(number, Tensor):
        return number.to(torch.promote_types(number.dtype, torch.float32))
    return number
