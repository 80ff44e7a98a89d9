"""The whole network as one masked forward over [committed | noisy] frames: no state, no code of the streaming path.

Frame t < T is frame t as it was committed; frame T + t is frame t as it is being denoised. A noisy chunk sees what its
memory keeps of committed chunks, and itself; committed chunks see each other under the same rules (teacher forcing).

Axes: B batch  T frames  C latent channels  Y X latent rows and columns  H W token grid  D channels  S E text
"""

import torch

from s2search.block import Stream
from tests.blocks import naive


def teacher_forced(model, committed_BCTYX, s_committed_T, noisy_BCTYX, s_T, text_BSE, *, chunk_frames, window, sink):
    """Return the velocity of every noisy frame."""
    frames = noisy_BCTYX.shape[2]
    chunks = frames // chunk_frames
    chunk_T = torch.arange(frames) // chunk_frames
    own_TT = chunk_T[:, None] == chunk_T[None]
    before_T = [t - 1 for t in range(frames)]
    before_T += [frames + t - 1 if t % chunk_frames else t - 1 for t in range(frames)]

    def attend(block):
        memory_TT = naive.memory_of(block, chunks, chunk_frames, chunks if window is None else window, sink)
        past_TT = memory_TT * ~own_TT
        visible_TT = torch.cat(
            (torch.cat((memory_TT, torch.zeros_like(memory_TT)), 1), torch.cat((past_TT, own_TT.double()), 1))
        )
        if block.name == "lcha":
            return lambda attention, h: naive.lcha(attention, h, visible_TT, before_T)
        return lambda attention, h: naive.softmax_attention(
            attention, h, visible_TT, block.query_stride, block.key_stride
        )

    latents = torch.cat((committed_BCTYX, noisy_BCTYX), dim=2)
    s_BT = torch.cat((s_committed_T, s_T))[None].expand(latents.shape[0], -1)
    velocity = network(model, latents, s_BT, text_BSE, attend)
    return velocity[:, :, frames:]


def network(model, latents_BCTYX, s_BT, text_BSE, attend):
    """The streams as the paper writes them but for the head's skip, with both computed or carried at every layer."""
    x, modulation, time = model.stem(latents_BCTYX, s_BT)
    height, width = x.shape[2:4]
    y_high, y_low, skip, m_before = x, None, None, 1
    for layer, block in zip(model.layers, blocks_of(model), strict=True):
        m = 1 if block.stream is Stream.HIGH else 0
        u, d = max(m - m_before, 0), max(m_before - m, 0)
        in_high = model.up(y_low, height, width) + skip if u else y_high
        in_low = model.down(y_high) if d else y_low
        skip = y_high if d else skip
        if m:
            y_high = naive.layer(layer, in_high, modulation, text_BSE, attend(block))
        else:
            y_low = naive.layer(layer, in_low, modulation, text_BSE, attend(block))
        m_before = m
    if not m_before:
        y_high = model.up(y_low, height, width) + (skip if model.config.head_skip else 0)
    velocity = model.head(y_high, time)
    if model.config.velocity == "residual":  # on top of what is best for unit Gaussian latents, one number by itself
        s = s_BT[:, None, :, None, None]
        velocity = velocity + (s - (1 - s)) / (s**2 + (1 - s) ** 2) * latents_BCTYX
    return velocity


def blocks_of(model):
    from s2search import registry

    return [registry.create("blocks", label) for label in model.config.layout]
