"""Wan's decoder with frames as a batch: the weights of diffusers' module, on four axes, a chunk at once.

diffusers decodes one latent frame at a time on five axes, and its graph of a chunk is that of a frame, over and over.
Here a causal convolution over three frames is one 2-D convolution: each frame stands behind its two predecessors, all
their channels side by side, (T, 3C, Y, X), and the kernel's frames stand side by side in its matrix, (O, 3C, r, c). The
frames before a chunk are the cache; at the start of a stream they are zeros, which is what diffusers pads with. A
temporal upsampling makes two frames of one by twice the channels, (T, 2C, Y, X) -> (2T, C, Y, X), which moves nothing;
the first frame of a stream it leaves single.

Squares are taken of numbers up to 1 only, because float16 has none of a number above 255.

Source: `AutoencoderKLWan` of diffusers; Wan Team 2025, arXiv 2503.20314, section 4.1. Modules have its names, so that
weights do as well.

Axes: T frames  C channels  Y X rows and columns  O channels of a convolution's output  P places of a frame
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_BEFORE = 2  # frames that a causal convolution sees before its own
_LEAST = 2.0**-14  # the smallest normal number of float16


class FrameStream:
    """What causal convolutions saw before this call, in the order in which they work, and what they see last in it.

    Args:
        cache: (2, C, Y, X) for each; none at the start of a stream, when all of it is zeros.
        begins: Whether the stream starts here.
    """

    def __init__(self, cache: tuple[Tensor, ...], *, begins: bool) -> None:
        self.first = begins
        self.after: list[Tensor] = []
        self._before: Iterator[Tensor] = iter(cache)

    def behind_its_past(self, x_TCYX: Tensor) -> Tensor:
        """Return each frame behind the two before it, (T, 3C, Y, X), and keep the last two."""
        whole_TCYX = _padded(x_TCYX, _BEFORE) if self.first else torch.cat([next(self._before), x_TCYX])
        self.after.append(whole_TCYX[-_BEFORE:])
        return torch.cat([whole_TCYX[:-2], whole_TCYX[1:-1], x_TCYX], dim=1)


class WanDecoder(nn.Module):
    """Latents to video.

    Args:
        codec: The loaded codec, with diffusers' `AutoencoderKLWan`; it is left as it was.
    """

    def __init__(self, codec: Any) -> None:
        super().__init__()
        self.mean, self.std = _fixed(codec.mean_C111[..., 0]), _fixed(codec.std_C111[..., 0])
        self.post_quant_conv = _causal(codec.vae.post_quant_conv)
        self.decoder = _Decoder(codec.vae.decoder)

    def forward(self, latents_BCTYX: Tensor, *cache: Tensor, begins: bool) -> tuple[Tensor, ...]:
        """Return video_BCTYX from -1 to 1, and the cache after it; a stream begins without one."""
        stream = FrameStream(cache, begins=begins)
        x_TCYX = latents_BCTYX[0].transpose(0, 1) * self.std + self.mean
        y_TCYX = self.decoder(self.post_quant_conv(x_TCYX, stream), stream)
        return (y_TCYX.clamp(-1, 1).transpose(0, 1)[None], *stream.after)


class _Decoder(nn.Module):
    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.conv_in, self.mid_block = _causal(decoder.conv_in), _Middle(decoder.mid_block)
        self.up_blocks = nn.ModuleList(_Up(block) for block in decoder.up_blocks)
        self.norm_out, self.conv_out = _Norm(decoder.norm_out), _causal(decoder.conv_out)

    def forward(self, x_TCYX: Tensor, stream: FrameStream) -> Tensor:
        x_TCYX = self.mid_block(self.conv_in(x_TCYX, stream), stream)
        for block in self.up_blocks:
            x_TCYX = block(x_TCYX, stream)
        y_TCYX: Tensor = self.conv_out(torch.nn.functional.silu(self.norm_out(x_TCYX)), stream)
        return y_TCYX


class _Middle(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Residual(one) for one in block.resnets)
        self.attentions = nn.ModuleList(_Attention(one) for one in block.attentions if one is not None)

    def forward(self, x_TCYX: Tensor, stream: FrameStream) -> Tensor:
        first, *others = self.resnets
        x_TCYX = first(x_TCYX, stream)
        for attention, resnet in zip(self.attentions, others, strict=True):
            x_TCYX = resnet(attention(x_TCYX), stream)
        return x_TCYX


class _Up(nn.Module):
    """Residual blocks, then twice the rows and columns and, where it says so, twice the frames."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Residual(one) for one in block.resnets)
        self.upsamplers = nn.ModuleList(_Upsampling(one) for one in getattr(block, "upsamplers", None) or ())
        # The residual form of Wan 2.2 has one by another name, and beside it a shortcut.
        upsampler, shortcut = getattr(block, "upsampler", None), getattr(block, "avg_shortcut", None)
        self.upsampler = None if upsampler is None else _Upsampling(upsampler)
        self.shortcut = None if shortcut is None else _Repeated(shortcut)

    def forward(self, x_TCYX: Tensor, stream: FrameStream) -> Tensor:
        y_TCYX = x_TCYX
        for resnet in self.resnets:
            y_TCYX = resnet(y_TCYX, stream)
        for upsampling in self.upsamplers:
            y_TCYX = upsampling(y_TCYX, stream)
        if self.upsampler is not None:
            y_TCYX = self.upsampler(y_TCYX, stream)
        return y_TCYX if self.shortcut is None else y_TCYX + self.shortcut(x_TCYX, stream)


class _Residual(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.conv1 = _Norm(block.norm1), _causal(block.conv1)
        self.norm2, self.conv2 = _Norm(block.norm2), _causal(block.conv2)
        self.conv_shortcut = None if isinstance(block.conv_shortcut, nn.Identity) else _causal(block.conv_shortcut)

    def forward(self, x_TCYX: Tensor, stream: FrameStream) -> Tensor:
        short_TCYX = x_TCYX if self.conv_shortcut is None else self.conv_shortcut(x_TCYX, stream)
        y_TCYX = self.conv1(torch.nn.functional.silu(self.norm1(x_TCYX)), stream)
        y_TCYX = self.conv2(torch.nn.functional.silu(self.norm2(y_TCYX)), stream)
        sum_TCYX: Tensor = y_TCYX + short_TCYX
        return sum_TCYX


class _Attention(nn.Module):
    """Every place of a frame attends to all of the same frame, with one head."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm, self.to_qkv, self.proj = _Norm(block.norm), _plain(block.to_qkv), _plain(block.proj)

    def forward(self, x_TCYX: Tensor) -> Tensor:
        query_TCP, key_TCP, value_TCP = self.to_qkv(self.norm(x_TCYX)).flatten(2).chunk(3, dim=1)
        score_TPP = query_TCP.transpose(1, 2) @ (key_TCP * query_TCP.shape[1] ** -0.5)
        mixed_TCP = value_TCP @ torch.softmax(score_TPP, dim=-1).transpose(1, 2)
        y_TCYX: Tensor = x_TCYX + self.proj(mixed_TCP.view(x_TCYX.shape))
        return y_TCYX


class _Upsampling(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        # The first is diffusers' own upsampling; its nearest-exact takes the same places where the factor is 2.
        self.resample = nn.ModuleList([nn.Identity(), _plain(block.resample[1])])
        self.time_conv = _causal(block.time_conv) if block.mode == "upsample3d" else None

    def forward(self, x_TCYX: Tensor, stream: FrameStream) -> Tensor:
        if self.time_conv is not None:
            x_TCYX = self._in_time(x_TCYX, stream)
        larger_TCYX = torch.nn.functional.interpolate(x_TCYX, scale_factor=2.0, mode="nearest")
        y_TCYX: Tensor = self.resample[1](larger_TCYX)
        return y_TCYX

    def _in_time(self, x_TCYX: Tensor, stream: FrameStream) -> Tensor:
        alone_TCYX, rest_TCYX = x_TCYX[: int(stream.first)], x_TCYX[int(stream.first) :]
        if not len(rest_TCYX):
            stream.after.append(_padded(x_TCYX[:0], _BEFORE))
            return x_TCYX
        assert self.time_conv is not None
        twice_TCYX: Tensor = self.time_conv(rest_TCYX, stream).reshape(-1, *x_TCYX.shape[1:])
        return torch.cat([alone_TCYX, twice_TCYX]) if stream.first else twice_TCYX


class _Repeated(nn.Module):
    """Channels as frames, rows and columns, each as often as it takes."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.frames, self.side = block.factor_t, block.factor_s
        place_OT = torch.arange(block.in_channels).repeat_interleave(block.repeats).view(-1, self.frames, self.side**2)
        self.places = place_OT.transpose(0, 1).flatten()

    def forward(self, x_TCYX: Tensor, stream: FrameStream) -> Tensor:
        more_TCYX = x_TCYX[:, self.places].reshape(len(x_TCYX) * self.frames, -1, *x_TCYX.shape[2:])
        y_TCYX = torch.pixel_shuffle(more_TCYX, self.side)
        return y_TCYX[self.frames - 1 :] if stream.first else y_TCYX


class _Norm(nn.Module):
    """Divides by the root of the mean of squares over channels."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.gamma = _fixed(norm.gamma.flatten()[:, None, None])
        self.bias = _fixed(norm.bias.flatten()[:, None, None]) if isinstance(norm.bias, Tensor) else None

    def forward(self, x_TCYX: Tensor) -> Tensor:
        part_TCYX = x_TCYX / x_TCYX.abs().amax(dim=1, keepdim=True).clamp_min(_LEAST)
        norm_T1YX = part_TCYX.square().sum(dim=1, keepdim=True).sqrt().clamp_min(_LEAST)
        y_TCYX = part_TCYX / norm_T1YX * math.sqrt(x_TCYX.shape[1]) * self.gamma
        return y_TCYX if self.bias is None else y_TCYX + self.bias


class _Causal(nn.Conv2d):
    """A convolution over this frame and the two before it, or over this one alone, on frames as a batch."""

    reach: int

    def forward(self, x_TCYX: Tensor, stream: FrameStream) -> Tensor:  # type: ignore[override]  # a stream as well
        return super().forward(stream.behind_its_past(x_TCYX) if self.reach > 1 else x_TCYX)


def _padded(x_TCYX: Tensor, frames: int) -> Tensor:
    """Return frames behind so many of zeros: by an operation, for as constants they would be stored in packages."""
    return torch.nn.functional.pad(x_TCYX, (0, 0, 0, 0, 0, 0, frames, 0))


def _causal(convolution: Any) -> _Causal:
    """Return diffusers' causal convolution on frames as a batch."""
    weight_OCfrc = convolution.weight
    outputs, channels, reach, *kernel = weight_OCfrc.shape
    padding = (convolution._padding[2], convolution._padding[0])
    made = _Causal(reach * channels, outputs, kernel, padding=padding, device="meta")
    made.reach = reach
    made.weight, made.bias = _fixed(weight_OCfrc.transpose(1, 2).flatten(1, 2)), _fixed(convolution.bias)
    return made


def _plain(convolution: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with weights of its own, which no gradient follows."""
    made = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
        device="meta",
    )
    assert convolution.bias is not None
    made.weight, made.bias = _fixed(convolution.weight), _fixed(convolution.bias)
    return made


def _fixed(numbers: Tensor) -> nn.Parameter:
    return nn.Parameter(numbers.detach().contiguous(), requires_grad=False)
