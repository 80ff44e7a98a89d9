"""A tiny model overfitted on a real clip: trained weights have other ranges than random ones.

Rectified flow: at x = (1 - s) z + s eps the network is asked for the velocity eps - z (Liu et al., "Flow Straight and
Fast", 2022, equation 1). Half of the steps see a chunk alone, the others with the chunk before it in the state.
"""

from __future__ import annotations

import torch

from s2search.codec.dct import DCT
from s2search.codec.pixels import video_from_frames
from s2search.codec.video import read_video
from s2search.network.network import S2DiT
from s2search.preset import Preset
from tests.codec.real_clips import real_clip

GRID = (3, 5)  # 80x48
FRAMES = 3  # latent frames of a chunk
_CHUNKS = 5


def clip_latents(name: str = "carphone") -> torch.Tensor:
    """Return latents of a clip's chunks: (chunk, 1, C, T, Y, X)."""
    size = f"{16 * GRID[1]}x{16 * GRID[0]}"
    frames = read_video(real_clip(name), frames=1 + 4 * (_CHUNKS * FRAMES - 1), size=size)
    latents_BCTYX = DCT().load("cpu", torch.float32).encode(video_from_frames(frames))
    return torch.stack(latents_BCTYX.split(FRAMES, dim=2))


def overfitted(
    steps: int = 800, layout: str | None = None, text_BSE: torch.Tensor | None = None
) -> tuple[S2DiT, list[float]]:
    """Return s2dit-tiny after so many steps on one clip, in evaluation mode, and the loss of every step.

    Its prompt is `text_BSE`, or noise.
    """
    torch.manual_seed(0)
    preset = Preset.named("s2dit-tiny")
    model = S2DiT.from_preset(preset, layout) if layout else S2DiT.from_preset(preset)
    latents, text = clip_latents(), torch.randn(1, preset.text_tokens, preset.text_channels)
    text = text if text_BSE is None else text_BSE
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    losses = []
    for step in range(steps):
        chunk = int(torch.randint(1, len(latents), ()))
        z_BCTYX, noise_BCTYX, s = latents[chunk], torch.randn_like(latents[chunk]), torch.rand(1, 1)
        state = None
        if step % 2:
            with torch.no_grad():
                state = model.commit(latents[chunk - 1], torch.zeros(1, 1), text, model.initial_state(1, GRID))
        x_BCTYX = (1 - s) * z_BCTYX + s * noise_BCTYX
        velocity_BCTYX = model(x_BCTYX, s, text, state) if state else model(x_BCTYX, s, text)
        loss = torch.nn.functional.mse_loss(velocity_BCTYX, noise_BCTYX - z_BCTYX)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model.eval().requires_grad_(False), losses
