"""What a distance must see, and what its network learns to tell from real clips: clips spoilt in known ways.

Latents are normalised per channel: of mean 0 and variance 1. Random numbers come from a generator per clip, so a clip
is spoilt alike whatever stands beside it.

Axes: C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

#: Spoils latents_CTYX, more or less as a number from 0 to 1 says.
Corruption = Callable[[Tensor, float, Generator], Tensor]

#: Latent frames below which time cannot be shuffled.
LEAST_FRAMES = 3


def frozen(latents_CTYX: Tensor, strength: float, generator: Generator) -> Tensor:
    """Return one frame again and again; at less strength only from some frame on."""
    frames = latents_CTYX.shape[1]
    if strength >= 1:
        return latents_CTYX[:, :1].expand_as(latents_CTYX).clone()
    last = int(torch.randint(frames - 1, (), generator=generator))
    kept_CTYX = latents_CTYX[:, last : last + 1].expand(-1, frames - last - 1, -1, -1)
    return torch.cat([latents_CTYX[:, : last + 1], kept_CTYX], 1)


def shuffled(latents_CTYX: Tensor, strength: float, generator: Generator) -> Tensor:
    """Return the frames in another order; at less strength two of them change places."""
    frames = latents_CTYX.shape[1]
    order = torch.arange(frames)
    while bool((order == torch.arange(frames)).all()):
        drawn = torch.randperm(frames, generator=generator)
        if strength < 0.5:
            order[drawn[:2]] = drawn[:2].flip(0)
        else:
            order = drawn
    return latents_CTYX[:, order]


def reversed_in_time(latents_CTYX: Tensor, strength: float, generator: Generator) -> Tensor:
    """Return the frames from the last to the first."""
    return latents_CTYX.flip(1)


def blurred(latents_CTYX: Tensor, strength: float, generator: Generator) -> Tensor:
    """Return every frame mixed with its mean over 3 x 3 latents."""
    wide_TCYX = functional.pad(latents_CTYX.transpose(0, 1), (1, 1, 1, 1), mode="replicate")
    mean_CTYX = functional.avg_pool2d(wide_TCYX, 3, stride=1).transpose(0, 1)
    return latents_CTYX + strength * (mean_CTYX - latents_CTYX)


def noisy(latents_CTYX: Tensor, strength: float, generator: Generator) -> Tensor:
    """Return latents with noise of so many tenths of their standard deviation, and at least half a tenth, on top."""
    return latents_CTYX + 0.1 * max(strength, 0.5) * torch.randn(latents_CTYX.shape, generator=generator)


def stretched(latents_CTYX: Tensor, strength: float, generator: Generator) -> Tensor:
    """Return latents of more contrast, or of less."""
    up = bool(torch.rand((), generator=generator) < 0.5)
    return latents_CTYX * (1 + (0.5 if up else -0.35) * max(strength, 0.3))


#: What a measure must see: each at full strength.
SHOWN: dict[str, Corruption] = {"frozen": frozen, "shuffled": shuffled, "blurred": blurred, "noise 10 %": noisy}
#: Those without which a measure is refused.
NEEDED = ("frozen", "shuffled", "blurred")
#: What the trained network learns to tell apart, beside real clips and those spliced of two.
LEARNED: dict[str, Corruption] = {
    "frozen": frozen,
    "shuffled": shuffled,
    "reversed": reversed_in_time,
    "blurred": blurred,
    "noisy": noisy,
    "stretched": stretched,
}


def spliced(latents_CTYX: Tensor, other_CTYX: Tensor, generator: Generator) -> Tensor:
    """Return a clip that goes on as another one."""
    at = 1 + int(torch.randint(latents_CTYX.shape[1] - 1, (), generator=generator))
    return torch.cat([latents_CTYX[:, :at], other_CTYX[:, at:]], 1)
