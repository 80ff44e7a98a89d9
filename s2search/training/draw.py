"""What a model draws from noise alone, for the eyes: its strips in the report of a run.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
    wanted = _wanted(run)
    return dict(zip(wanted, streams(run, network, wanted, seed=0, first=0), strict=True)) if wanted else {}


def streams(run: TrainingRun, network: Any, captions: Sequence[str], *, seed: int, first: int) -> Tensor:
    """Return latents_BCTYX of streams as long as a clip, in float32 on the processor.

    Args:
        run: Has the size of clips, and what encodes captions.
        network: Its config says how it streams.
        captions: Of each.
        seed: Of all noise.
        first: The number of the first stream, from which its noise follows.
    """
    from s2search.streaming.sampler_of import sampler_of
    from s2search.streaming.state import StreamState
    from s2search.training.rollout import InFormat
    from s2search.training.scan import chunk_count

    model, sampler, text_BSE = InFormat(network, run.dtype), sampler_of(run.config), run.captions.tokens(captions)
    _, _, rows, columns = run.clips.heading.latent_size
    grid = rows // PATCH[1], columns // PATCH[2]
    state = StreamState.start(model, grid, seed=seed, batch=len(captions), first=first, dtype=run.dtype)
    chunks = []
    for _ in range(chunk_count(run.config, run.clips)):
        z_BCTYX, state = sampler.next_chunk(model, text_BSE, state)
        chunks.append(z_BCTYX)
    return torch.cat(chunks, dim=2).float().cpu()


def _wanted(run: TrainingRun) -> list[str]:
    apart = run.clips.of("held-out") or run.clips.of("train")
    return [caption for caption, _ in Counter(clip.caption for clip in apart).most_common(run.settings.judge.strips)]
