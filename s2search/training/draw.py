"""What a model draws from noise alone, for the eyes: its strips in the report of a run.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from s2search.preset import PATCH
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
    wanted = _wanted(run)
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


def streamed(run: TrainingRun, network: Any) -> dict[str, Tensor]:
    """Return `latents_CTYX` of streams as long as a clip, by the same captions.

    Args:
        run: Says how many.
        network: Its config says how it streams.
    """
    from s2search.streaming.sampler_of import sampler_of
    from s2search.streaming.state import StreamState
    from s2search.training.rollout import InFormat
    from s2search.training.scan import chunk_count

    wanted = _wanted(run)
    if not wanted:
        return {}
    model, sampler = InFormat(network, run.dtype), sampler_of(run.config)
    _, _, rows, columns = run.clips.heading.latent_size
    state = StreamState.start(model, (rows // PATCH[1], columns // PATCH[2]), batch=len(wanted), dtype=run.dtype)
    chunks = []
    for _ in range(chunk_count(run.config, run.clips)):
        z_BCTYX, state = sampler.next_chunk(model, run.captions.tokens(wanted), state)
        chunks.append(z_BCTYX)
    return dict(zip(wanted, torch.cat(chunks, dim=2).float().cpu(), strict=True))


def _wanted(run: TrainingRun) -> list[str]:
    apart = run.clips.of("held-out") or run.clips.of("train")
    return [caption for caption, _ in Counter(clip.caption for clip in apart).most_common(run.settings.judge.strips)]
