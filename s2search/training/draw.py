"""What a model draws from noise alone, for the eyes: its strips in the report of a run.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from s2search.streaming.full_steps import FullStepSampler
from s2search.training.share import generator

if TYPE_CHECKING:
    from s2search.training.base import TrainingRun

_STEPS = 25


def drawn(run: TrainingRun, network: nn.Module, shift: float) -> dict[str, Tensor]:
    """Return `latents_CTYX` by the held-out clips' most frequent captions, without guidance.

    Args:
        run: Says how many.
        network: Takes noisy latents, noise levels and tokens.
        shift: Of the noise levels.
    """
    apart = run.clips.of("held-out") or run.clips.of("train")
    wanted = [caption for caption, _ in Counter(clip.caption for clip in apart).most_common(run.settings.judge.strips)]
    if not wanted:
        return {}
    size = run.clips.heading.latent_size
    noise = torch.stack([torch.randn(size, generator=generator("draw", caption)) for caption in wanted])

    def asked(x_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor) -> Tensor:
        v_BCTYX: Tensor = network(x_BCTYX, s_BT, text_BSE)
        return v_BCTYX

    sampler = FullStepSampler(steps=_STEPS, solver="euler", shift=shift, guidance=1.0)
    z_BCTYX = sampler.sample(asked, noise.to(run.device, run.dtype), run.captions.tokens(wanted))
    return dict(zip(wanted, z_BCTYX.float().cpu(), strict=True))
