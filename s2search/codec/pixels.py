"""Frames of 8 bits <-> the pixels of codecs, and how far two videos are apart."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def video_from_frames(frames_THWC: NDArray[np.uint8]) -> Tensor:
    """Return 8-bit RGB frames as a codec takes them: `video_BCTYX` in float32, from -1 to 1, batch 1.

    >>> video_from_frames(np.full((1, 8, 8, 3), 255, np.uint8)).max()
    tensor(1.)
    """
    return torch.from_numpy(frames_THWC).permute(3, 0, 1, 2)[None].to(torch.float32) / 127.5 - 1


def frames_from_video(video_BCTYX: Tensor) -> NDArray[np.uint8]:
    """Return the pixels that a codec gave, of batch 1, as 8-bit RGB frames `frames_THWC`, rounded and clamped.

    >>> frames = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    >>> bool((frames_from_video(video_from_frames(frames)) == frames).all())
    True
    """
    (video_CTYX,) = video_BCTYX.to(torch.float32)
    levels_CTYX = ((video_CTYX + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels_CTYX.permute(1, 2, 3, 0).cpu().numpy())


def psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of 8-bit frames in dB, over all their pixels; inf where they are equal.

    >>> round(psnr_db(np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2, 3), np.uint8)), 2)
    48.13
    """
    errors = [
        np.square(a.astype(np.int32) - b).mean(dtype=np.float64) for a, b in zip(one, other, strict=True)
    ]  # frame by frame: clips are large
    mean_square = float(np.mean(errors))
    return 10 * math.log10(255**2 / mean_square) if mean_square else math.inf
