"""LCHA again for running fast; its twin is in `blocks/s2search_blocks/lcha/module.py`, whose axes these are.

Beside one matrix product for queries, keys and values, and one for both feature maps:
  on a GPU the depthwise convolution is a sum of 27 shifted products, which a compiler fuses into one kernel;
  bfloat16 features are multiplied as they are and added in float32: their products are exact there;
  sums that bfloat16 queries read are split into two bfloat16 terms, 16 bits in all, beside features of 8.
The sums themselves are added and kept in float32 at least, as ever.

Q: heads of queries, then of keys (2 A)  f r c: frames, rows and columns of a kernel
"""

from __future__ import annotations

from itertools import product as pairs

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.block import LinearState
from s2search_blocks.lcha.module import (
    LEAST_DENOMINATOR,
    LinConvHybridAttention,
    LinearAttention,
    LocalMixing,
    SoftplusMap,
    Sums,
)
from s2search_blocks.pieces.joined import joined
from s2search_blocks.pieces.norms import RMSNorm
from s2search_blocks.pieces.rotary import rotate

_GPU = ("cuda", "meta")  # meta tensors trace what a GPU would do


class FusedLinConvHybridAttention(LinConvHybridAttention):
    """LCHA with its linear path's products joined and its local path as the device likes it."""

    def __init__(self, original: LinConvHybridAttention) -> None:
        nn.Module.__init__(self)
        self.channels, self.memory, self.decay = original.channels, original.memory, original.decay
        self.linear = None if original.linear is None else FusedLinearAttention(original.linear)
        self.local = None if original.local is None else FusedLocalMixing(original.local)
        self.gate_D, self.output = original.gate_D, original.output


class FusedLinearAttention(LinearAttention):
    """Linear attention with one product for queries, keys and values, and one for both feature maps."""

    @torch.no_grad()
    def __init__(self, original: LinearAttention) -> None:
        nn.Module.__init__(self)
        self.heads, self.rope_order, self.feature_map = original.heads, original.rope_order, original.feature_map
        self.project = joined(original.query, original.key, original.value)
        self.norm = RMSNorm(0)
        weights = (norm.weight.expand(self.heads, -1) for norm in (original.query_norm, original.key_norm))
        self.norm.weight = nn.Parameter(torch.cat(tuple(weights)))
        if isinstance(original.feature_map, SoftplusMap):
            self.feature_map = SoftplusMap(0, 0)
            self.feature_map.weight_AKK = nn.Parameter(original.feature_map.weight_AKK.repeat(2, 1, 1))
            self.feature_map.bias_AK = nn.Parameter(original.feature_map.bias_AK.repeat(2, 1))

    def forward(self, h_BTHWD: Tensor, state: LinearState) -> Tensor:
        """Return the attention of every token. See the twin."""
        return self.advance(h_BTHWD, state)[0]

    def chunk_sums(self, h_BTHWD: Tensor) -> Sums:
        """Return S and z over the chunk's tokens."""
        return self._query_and_sums(h_BTHWD)[1]

    def advance(self, h_BTHWD: Tensor, state: LinearState) -> tuple[Tensor, Sums]:
        """Return what `forward` and `chunk_sums` return, from one product for queries, keys and values."""
        query_BNAJ, sums = self._query_and_sums(h_BTHWD)
        return self._read_by(query_BNAJ, h_BTHWD, sums, state), sums

    def _query_and_sums(self, h_BTHWD: Tensor) -> tuple[tuple[Tensor, Tensor], Sums]:
        """Return features of queries for numerator and denominator (B, N, A, J), and the chunk's S and z."""
        grid, exact = h_BTHWD.shape[1:4], torch.promote_types(h_BTHWD.dtype, torch.float32)
        x_BN3AK = self.project(h_BTHWD).flatten(1, 3).unflatten(-1, (3, self.heads, -1))
        x_BNQK, value_BNAV = self.norm(x_BN3AK[:, :, :2].flatten(2, 3)), x_BN3AK[:, :, 2]
        if self.rope_order == "pre":
            plain_BNQJ = rotated_BNQJ = self.feature_map(rotate(x_BNQK, grid, first_frame=None))
        else:  # a rotated feature is no bfloat16 number: it stays exact, and so do its products
            plain_BNQJ = self.feature_map(x_BNQK).to(exact)
            rotated_BNQJ = rotate(plain_BNQJ, grid, first_frame=None)
        plain_query, plain_key = plain_BNQJ.chunk(2, dim=2)
        rotated_query, rotated_key = rotated_BNQJ.chunk(2, dim=2)
        norm_BAK = plain_key.sum(dim=1, dtype=exact)
        sum_BAKV = exact_product(rotated_key.permute(0, 2, 3, 1), value_BNAV.transpose(1, 2))
        frame_tokens = grid[1] * grid[2]
        return (rotated_query, plain_query), (sum_BAKV / frame_tokens, norm_BAK / frame_tokens)

    def _read_by(self, query_BNAJ: tuple[Tensor, Tensor], h_BTHWD: Tensor, sums: Sums, state: LinearState) -> Tensor:
        """Return phi(q)^T S / phi(q)^T z over the chunk's sums and the state's."""
        assert state.sum_BCAKK is not None
        assert state.norm_BCAK is not None
        sum_BAKV, norm_BAK = sums[0] + state.sum_BCAKK.sum(dim=1), sums[1] + state.norm_BCAK.sum(dim=1)
        rotated_BNAJ, plain_BNAJ = query_BNAJ
        denominator_BNA = (plain_BNAJ * norm_BAK[:, None]).sum(dim=-1).clamp_min(LEAST_DENOMINATOR)
        y_BNAV = read_sums(rotated_BNAJ.transpose(1, 2), sum_BAKV).transpose(1, 2)
        return (y_BNAV / denominator_BNA[..., None]).to(h_BTHWD.dtype).reshape(h_BTHWD.shape)


class FusedLocalMixing(LocalMixing):
    """The local path: on a GPU as a sum of shifted products, elsewhere as the convolution that it is."""

    def __init__(self, original: LocalMixing) -> None:
        nn.Module.__init__(self)
        self.reach, self.depthwise, self.mix = original.reach, original.depthwise, original.mix
        kernel_frcD = original.depthwise.weight.detach()[:, 0].permute(1, 2, 3, 0).contiguous()
        self.register_buffer("kernel_frcD", kernel_frcD, persistent=False)

    def forward(self, h_BTHWD: Tensor, state: LinearState) -> Tensor:
        """Return the mixture of every token's neighbours. See the twin."""
        if h_BTHWD.device.type not in _GPU:  # oneDNN's convolution is several times faster than the sum
            return super().forward(h_BTHWD, state)
        assert state.tail_BTHWD is not None
        assert isinstance(self.kernel_frcD, Tensor)
        frames_BTHWD = torch.cat((state.tail_BTHWD, h_BTHWD), dim=1)
        mixed_BTHWD: Tensor = self.mix(shifted_products(frames_BTHWD, self.kernel_frcD, self.depthwise.bias))
        return mixed_BTHWD


def shifted_products(x_BTHWD: Tensor, kernel_frcD: Tensor, bias_D: Tensor | None) -> Tensor:
    """Return the depthwise convolution, valid in time and padded in rows and columns, summed in float32 at least."""
    reach, rows, columns = kernel_frcD.shape[:3]
    frames, (height, width) = x_BTHWD.shape[1] - reach + 1, x_BTHWD.shape[2:4]
    exact = torch.promote_types(x_BTHWD.dtype, torch.float32)
    padded_BTHWD = functional.pad(x_BTHWD, (0, 0, columns // 2, columns // 2, rows // 2, rows // 2))
    total_BTHWD = torch.zeros((), dtype=exact, device=x_BTHWD.device) if bias_D is None else bias_D.to(exact)
    for f, r, c in pairs(range(reach), range(rows), range(columns)):
        shifted_BTHWD = padded_BTHWD[:, f : f + frames, r : r + height, c : c + width]
        total_BTHWD = total_BTHWD + shifted_BTHWD.to(exact) * kernel_frcD[f, r, c].to(exact)
    return total_BTHWD.to(x_BTHWD.dtype)


def exact_product(a_BANK: Tensor, b_BAKM: Tensor) -> Tensor:
    """Return a matrix product that is summed in float32 at least, and left so."""
    if a_BANK.device.type in _GPU and a_BANK.dtype == b_BAKM.dtype == torch.bfloat16:
        y_NM = torch.bmm(a_BANK.flatten(0, 1), b_BAKM.flatten(0, 1), out_dtype=torch.float32)
        return torch.unflatten(y_NM, 0, a_BANK.shape[:2])
    exact = torch.promote_types(a_BANK.dtype, torch.float32)
    return a_BANK.to(exact) @ b_BAKM.to(exact)


def read_sums(query_BANJ: Tensor, sum_BAJV: Tensor) -> Tensor:
    """Return query times sums; sums meet bfloat16 queries as two bfloat16 terms, which err by 2 ** -16 at most."""
    if query_BANJ.dtype != torch.bfloat16:
        return query_BANJ @ sum_BAJV
    high_BAJV = sum_BAJV.bfloat16()
    low_BAJV = (sum_BAJV - high_BAJV).bfloat16()
    of_high_BANV, of_low_BANV = exact_product(query_BANJ, torch.cat((high_BAJV, low_BAJV), dim=-1)).chunk(2, dim=-1)
    return of_high_BANV + of_low_BANV
