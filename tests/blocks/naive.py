"""Naive references: quadratic masks and plain loops, sharing no code with the modules but their weights.

`visible_TT[i, j]` says how much frame i may see of frame j, 0 to 1; whole sequences go in, no state.

Axes: B batch  T frames  H W rows and columns  D channels  N M tokens  A heads  K channels per head  P channel pairs
"""

import torch
from torch.nn import functional


def block_causal(chunks, chunk_frames, window, sink=0, decay=1.0):
    """Which frames see which: their own chunk, `window` chunks before it and the first `sink` ones of the past."""
    chunk_T = torch.arange(chunks * chunk_frames) // chunk_frames
    behind_TT = chunk_T[:, None] - chunk_T[None]
    seen_TT = (behind_TT >= 0) & ((behind_TT <= window) | (chunk_T[None] < sink))
    return seen_TT * decay ** behind_TT.clamp_min(0).double()


def memory_of(block, chunks, chunk_frames, window, sink=0):
    """What a block of the library may see in a stream."""
    match getattr(block, "memory", "window"):
        case "running":
            return block_causal(chunks, chunk_frames, chunks)
        case "decay":
            return block_causal(chunks, chunk_frames, chunks, decay=block.decay)
    return block_causal(chunks, chunk_frames, window, sink)


def everything(frames):
    return torch.ones(frames, frames, dtype=torch.float64)


def layer(module, x_BTHWD, modulation_BT6D, text_BSE, attend):
    rows = (modulation_BT6D + module.table_6D)[:, :, :, None, None]
    shift1, scale1, gate1, shift2, scale2, gate2 = (rows[:, :, i] for i in range(6))
    x_BTHWD = x_BTHWD + gate1 * attend(module.attention, normalise(x_BTHWD) * (1 + scale1) + shift1)
    x_BTHWD = x_BTHWD + cross_attention(module.cross_attention, normalise(x_BTHWD), text_BSE)
    h_BTHWD = normalise(x_BTHWD) * (1 + scale2) + shift2
    return x_BTHWD + gate2 * module.feed_forward.narrow(gelu(module.feed_forward.widen(h_BTHWD)))


def softmax_attention(module, h_BTHWD, visible_TT, query_stride, key_stride):
    """Quadratic scores, one query frame after the other; a frame's position is its rank among the frames seen."""
    c_BThwD = means_of_cells(h_BTHWD) if key_stride > query_stride else h_BTHWD
    query_BTHWAK = rms(heads(module.query(h_BTHWD), module.heads), module.query_norm)
    key_BThwAK = rms(heads(module.key(c_BThwD), module.heads), module.key_norm)
    value_BThwAK = heads(module.value(c_BThwD), module.heads)
    outputs = []
    for frame, visible_T in enumerate(visible_TT):
        seen = visible_T.nonzero().flatten().tolist()
        query = rotate(query_BTHWAK[:, [frame]], query_stride, times=[seen.index(frame)]).flatten(1, 3)
        key = rotate(key_BThwAK[:, seen], key_stride, times=range(len(seen))).flatten(1, 3)
        score_BANM = torch.einsum("bnak,bmak->banm", query, key) / query.shape[-1] ** 0.5
        value_BMAK = value_BThwAK[:, seen].flatten(1, 3)
        outputs.append(torch.einsum("banm,bmak->bnak", score_BANM.softmax(-1), value_BMAK))
    return module.output(torch.cat(outputs, dim=1).flatten(2).view(h_BTHWD.shape))


def lcha(module, h_BTHWD, visible_TT, before_T=None):
    """`before_T` has, for every frame, the frame that came just before it; -1 for none."""
    linear = None if module.linear is None else linear_attention(module.linear, h_BTHWD, visible_TT)
    before_T = range(-1, h_BTHWD.shape[1] - 1) if before_T is None else before_T
    local = None if module.local is None else local_mixing(module.local, h_BTHWD, before_T)
    if linear is None or local is None:
        return module.output(local if linear is None else linear)
    if module.gate_D is None:
        return module.output(linear + local)
    alpha_D = 1 / (1 + torch.exp(-module.gate_D))
    return module.output(alpha_D * linear + (1 - alpha_D) * local)


def linear_attention(module, h_BTHWD, visible_TT):
    value_BNAK = heads(module.value(h_BTHWD), module.heads).flatten(1, 3)
    y_BNAK = torch.einsum("banm,bmak->bnak", linear_weights(module, h_BTHWD, visible_TT), value_BNAK)
    return y_BNAK.flatten(2).view(h_BTHWD.shape)


def linear_weights(module, h_BTHWD, visible_TT):
    """The N x N matrix that linear attention never forms."""
    query_BTHWAK = rms(heads(module.query(h_BTHWD), module.heads), module.query_norm)
    key_BTHWAK = rms(heads(module.key(h_BTHWD), module.heads), module.key_norm)
    if module.rope_order == "pre":
        query, key = (
            features(module.feature_map, rotate(x, times=None)).flatten(1, 3) for x in (query_BTHWAK, key_BTHWAK)
        )
        rotated = plain = torch.einsum("bnak,bmak->banm", query, key)
    else:
        query, key = (features(module.feature_map, x) for x in (query_BTHWAK, key_BTHWAK))
        plain = torch.einsum("bnak,bmak->banm", query.flatten(1, 3), key.flatten(1, 3))
        query, key = (rotate(x, times=None).flatten(1, 3) for x in (query, key))
        rotated = torch.einsum("bnak,bmak->banm", query, key)
    mask_NN = tokens_visible(visible_TT, h_BTHWD, h_BTHWD)
    frame_tokens = h_BTHWD.shape[2] * h_BTHWD.shape[3]
    return rotated * mask_NN / (plain * mask_NN).sum(-1, keepdim=True).clamp_min(1e-6 * frame_tokens)


def local_mixing(module, h_BTHWD, before_T):
    """The depthwise convolution as a sum over its 27 offsets; tokens outside the grid count as zero."""
    frames, height, width = h_BTHWD.shape[1:4]
    kernel_Dfrc = module.depthwise.weight[:, 0]
    y_BTHWD = torch.zeros_like(h_BTHWD) + module.depthwise.bias
    for t in range(frames):
        source = [t, before_T[t], before_T[before_T[t]] if before_T[t] >= 0 else -1]
        for f, r, c in torch.cartesian_prod(*(torch.arange(3),) * 3).tolist():
            if source[2 - f] < 0:
                continue
            rows, columns = (slice(max(0, 1 - o), n - max(0, o - 1)) for o, n in ((r, height), (c, width)))
            rows_from, columns_from = (slice(max(0, o - 1), n - max(0, 1 - o)) for o, n in ((r, height), (c, width)))
            y_BTHWD[:, t, rows, columns] += h_BTHWD[:, source[2 - f], rows_from, columns_from] * kernel_Dfrc[:, f, r, c]
    return module.mix(y_BTHWD)


def cross_attention(module, h_BTHWD, text_BSE):
    query_BNAK = rms(heads(module.query(h_BTHWD), module.heads), module.query_norm).flatten(1, 3)
    key_BSAK = rms(heads(module.key(text_BSE), module.heads), module.key_norm)
    value_BSAK = heads(module.value(text_BSE), module.heads)
    weight_BANS = (torch.einsum("bnak,bsak->bans", query_BNAK, key_BSAK) / query_BNAK.shape[-1] ** 0.5).softmax(-1)
    return module.output(torch.einsum("bans,bsak->bnak", weight_BANS, value_BSAK).flatten(2).view(h_BTHWD.shape))


def features(module, x_BTHWAK):
    if isinstance(module, torch.nn.ReLU):
        return x_BTHWAK.clamp_min(0)
    per_head = [
        functional.softplus(x_BTHWAK[..., a, :] @ module.weight_AKK[a] + module.bias_AK[a], threshold=1e9)
        for a in range(x_BTHWAK.shape[-2])
    ]
    return torch.stack(per_head, dim=-2)


def rotate(x_BTHWAK, stride=1, *, times):
    """Multiply complex pairs by exp(i position frequency), one token grid axis after the other.

    `times` has a position per frame; None leaves time out.
    """
    frames, height, width = x_BTHWAK.shape[1:4]
    pairs = x_BTHWAK.shape[-1] // 2
    columns = pairs // 2 if times is None else pairs // 3
    rows = pairs - columns if times is None else columns
    middle = 0.5 if stride == 2 else 0.0
    time = torch.zeros(frames) if times is None else torch.tensor(list(times))
    axes = (
        (time, pairs - rows - columns),
        (stride * torch.arange(height) + middle, rows),
        (stride * torch.arange(width) + middle, columns),
    )
    turns = [p[:, None].double() * 10_000.0 ** (-torch.arange(n).double() / max(n, 1)) for p, n in axes]
    angle = torch.cat(
        [
            turns[0][:, None, None].expand(-1, height, width, -1),
            turns[1][None, :, None].expand(frames, -1, width, -1),
            turns[2][None, None].expand(frames, height, -1, -1),
        ],
        dim=-1,
    )
    factor = torch.exp(1j * angle)
    z = torch.complex(x_BTHWAK[..., :pairs], x_BTHWAK[..., pairs:]) * factor[:, :, :, None]
    return torch.cat((z.real, z.imag), dim=-1)


def means_of_cells(x_BTHWD):
    height, width = x_BTHWD.shape[2:4]
    rows = [
        torch.stack(
            [
                sum(x_BTHWD[:, :, min(r + a, height - 1), min(c + b, width - 1)] for a in (0, 1) for b in (0, 1)) / 4
                for c in range(0, width, 2)
            ],
            dim=2,
        )
        for r in range(0, height, 2)
    ]
    return torch.stack(rows, dim=2)


def tokens_visible(visible_TT, query_BTHWD, key_BTHWD):
    n, m = (x.shape[2] * x.shape[3] for x in (query_BTHWD, key_BTHWD))
    return visible_TT.repeat_interleave(n, 0).repeat_interleave(m, 1)


def heads(x_BTHWD, count):
    return x_BTHWD.reshape(*x_BTHWD.shape[:-1], count, -1)


def normalise(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-6)


def rms(x, norm):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * norm.weight


def gelu(x):
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
