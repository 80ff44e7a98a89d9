"""Clips side by side in one, each with its name above it.

Axes: T frames  H W rows and columns of pixels  C colours (3, 8-bit RGB)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from s2search.codec.video import Frames

_GAP, _BAR = 8, 24  # pixels
_PAPER, _INK = 24, 235


def side_by_side(clips: Mapping[str, Frames], scale: int) -> Frames:
    """Return `frames_THWC` of clips of one size, as long as the shortest one.

    Args:
        clips: `frames_THWC` by name.
        scale: How many times larger they are shown.
    """
    length = min(map(len, clips.values()))
    shown = [_labelled(name, frames[:length], scale) for name, frames in clips.items()]
    gap_THWC = np.full((length, shown[0].shape[1], _GAP, 3), _PAPER, np.uint8)
    parts = [part for one in shown for part in (gap_THWC, one)]
    return np.concatenate([*parts, gap_THWC], axis=2)


def _labelled(name: str, frames_THWC: Frames, scale: int) -> Frames:
    from PIL import Image, ImageDraw, ImageFont

    large_THWC = frames_THWC.repeat(scale, axis=1).repeat(scale, axis=2)
    font = ImageFont.load_default()
    width = max(large_THWC.shape[2], round(font.getlength(name)) + _GAP)
    bar = Image.new("RGB", (width, _BAR), (_PAPER, _PAPER, _PAPER))
    ImageDraw.Draw(bar).text((_GAP // 2, _BAR // 4), name, fill=(_INK, _INK, _INK), font=font)
    bar_THWC = np.broadcast_to(np.asarray(bar), (len(frames_THWC), _BAR, width, 3))
    beside = ((0, 0), (0, _GAP), (0, width - large_THWC.shape[2]), (0, 0))
    return np.concatenate([bar_THWC, np.pad(large_THWC, beside, constant_values=_PAPER)], axis=1)
