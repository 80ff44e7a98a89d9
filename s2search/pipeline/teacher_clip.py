"""A clip of a bidirectional model, sampled as a whole in many steps.

Axes: B clips  C channels  T latent frames  Y X latent rows and columns  H W rows and columns of pixels
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from s2search import registry
from s2search.codec.pixels import frames_from_video
from s2search.codec.video import Frames
from s2search.network.network import S2DiT
from s2search.streaming.full_steps import FullStepSampler
from s2search.training.captions import Captions, text_encoder
from s2search.training.data.clips import Clips
from s2search.training.parallel import device_of
from s2search.training.share import generator


def most_common_caption(clips: Clips) -> str:
    """Return the caption that most held-out clips have; of several, the first."""
    apart = clips.of("held-out") or clips.of("train")
    return Counter(clip.caption for clip in apart).most_common(1)[0][0]


def teacher_clip(
    weights: Path, clips: Clips, prompt: str, *, steps: int, seed: int, text: str, codec: str, device: str
) -> Frames:
    """Return `frames_THWC` of a clip of the data's size.

    Args:
        weights: A folder with those of a bidirectional model.
        clips: Say how large a clip's latents are.
        prompt: What to show.
        steps: Of Euler's method along the flow.
        seed: Of the noise.
        text: Text encoder; `hashing`, as wide as the model, where it is empty.
        codec: Decodes what comes.
        device: Where it is computed.
    """
    where = device_of(device)
    model: Any = S2DiT.from_pretrained(weights).to(where).eval()
    captions = Captions(text_encoder(text, model.config.preset), where, torch.float32)
    noise = torch.randn(1, *clips.heading.latent_size, generator=generator(seed, "clip"))

    def velocity(x_BCTYX: torch.Tensor, s_BT: torch.Tensor, text_BSE: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(x_BCTYX, s_BT, text_BSE)
        return found

    sampler = FullStepSampler(steps=steps, solver="euler", shift=5.0, guidance=1.0)
    z_BCTYX = sampler.sample(velocity, noise.to(where), captions.tokens((prompt,)))
    decoder: Any = registry.create("codecs", codec).load(where)
    return frames_from_video(decoder.decode(z_BCTYX.float())[0])
