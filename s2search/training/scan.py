"""Teacher forcing by scan: each noisy chunk is read with what clean chunks before it left, by inference's own code.

No mask and no second attention: `read` and `commit` of the streaming model are differentiable, and what they give chunk
after chunk is what the whole clip under a block-causal mask gives. So window, sink and memory are inference's own.

Source: Gao et al., "Ca2-VDM" (2024), and Huang et al., "Self-Forcing" (2025), section 3.1 (teacher forcing).

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  N chunks  S text tokens  E token channels
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from s2search.errors import InputError
from s2search.network.flow import renoise
from s2search.preset import PATCH

if TYPE_CHECKING:
    from s2search.network.config import CausalForm, ModelConfig
    from s2search.network.network import LayerStates
    from s2search.training.data.clips import Clips


def scanned(
    model: Any, x_BCTYX: Tensor, s_BN: Tensor, past_BCTYX: Tensor, level: float, text_BSE: Tensor, *, detach: bool
) -> Iterator[Tensor]:
    """Yield the velocity of each noisy chunk, v_BCTYX, first to last.

    Args:
        model: Its preset says how long a chunk is.
        x_BCTYX: Noisy latents of all chunks.
        s_BN: The noise level of each chunk.
        past_BCTYX: What is committed of each chunk.
        level: Noise level of that.
        text_BSE: Text tokens.
        detach: Let no gradient through what is committed: the graph of a chunk then ends with it.
    """
    for (x, past), s_B, state in zip(
        chunks_of(model.config, x_BCTYX, past_BCTYX),
        s_BN.unbind(1),
        states(model, past_BCTYX, level, text_BSE, detach=detach),
        strict=True,
    ):
        del past
        v_BCTYX: Tensor = model(x, s_B[:, None], text_BSE, state)
        yield v_BCTYX


def states(model: Any, past_BCTYX: Tensor, level: float, text_BSE: Tensor, *, detach: bool) -> Iterator[LayerStates]:
    """Yield the state that each chunk reads, first to last: of all chunks before it, committed at a noise level."""
    batch, last = len(past_BCTYX), past_BCTYX.shape[2] // model.config.preset.chunk_frames - 1
    grid = (past_BCTYX.shape[3] // PATCH[1], past_BCTYX.shape[4] // PATCH[2])
    state = model.initial_state(batch, grid, past_BCTYX.device, past_BCTYX.dtype)
    exact = torch.promote_types(past_BCTYX.dtype, torch.float32)
    level_B1 = torch.full((batch, 1), level, device=past_BCTYX.device, dtype=exact)
    for number, (past,) in enumerate(chunks_of(model.config, past_BCTYX)):
        yield state
        if number < last:
            with torch.no_grad() if detach else nullcontext():
                state = model.commit(past, level_B1, text_BSE, state)


def chunks_of(config: ModelConfig, *latents_BCTYX: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the chunks of latents side by side, first to last."""
    yield from zip(*(torch.split(one, config.preset.chunk_frames, dim=2) for one in latents_BCTYX), strict=True)


def as_committed(form: CausalForm, z_BCTYX: Tensor, eps_BCTYX: Tensor) -> Tensor:
    """Return clean latents as inference commits them: clean, or with the noise that the last step saw."""
    return renoise(z_BCTYX, form.level, eps_BCTYX) if form.level else z_BCTYX


def chunk_count(config: ModelConfig, clips: Clips) -> int:
    """Return how many chunks a clip has.

    Raises:
        InputError: They are not whole.
    """
    frames, chunk = clips.heading.latent_size[1], config.preset.chunk_frames
    if frames % chunk:
        whole = frames // chunk * chunk or chunk
        raise InputError(
            f"clips of {frames} latent frames do not divide into chunks of {chunk}",
            allowed=f"multiples of {chunk}, such as {whole} ({4 * (whole - 1) + 1} pixel frames)",
            remedy="make the data with such --frames, or set chunk=1",
        )
    return frames // chunk


def levels_of_chunks(generators: list[torch.Generator], chunks: int) -> Tensor:
    """Return numbers drawn evenly from 0 to below 1, u_BN, in float64."""
    return torch.stack([torch.rand(chunks, generator=one, dtype=torch.float64) for one in generators])
