"""Named model sizes, and the token grid that a video size gives.

Geometry (source: S2DiT, section 4; Wan autoencoder): 4x8x8 compression, patches of 1x2x2, chunks of 3 latent frames,
a window of 2 chunks. 512x288 video is a latent of 36x64, which is 18x32 tokens per latent frame.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from s2search.block import Scenario, Shape
from s2search.errors import InputError, UnknownNameError

LATENT_CHANNELS = 16
PATCH = (1, 2, 2)
_PIXELS_PER_TOKEN = 16


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The sizes of a model that do not depend on the video: channels, heads, depth, text and streaming window.

    >>> Preset.named("s2dit-1.8b").shape("512x288", "stream").grid
    '3x18x32'
    """

    name: str
    depth: int
    channels: int
    heads: int
    feed_forward: int
    text_channels: int = 768
    text_tokens: int = 77
    chunk_frames: int = 3
    window_chunks: int = 2
    clip_frames: int = 21

    @classmethod
    def named(cls, name: str) -> Preset:
        """Return a preset by name.

        Raises:
            UnknownNameError: There is no such preset.
        """
        if name not in PRESETS:
            raise UnknownNameError("preset", name, PRESETS)
        return PRESETS[name]

    def shape(self, video: str, scenario: Scenario, *, frames: int | None = None) -> Shape:
        """Return the shape of one call: a chunk with its window (`stream`), or a whole clip (`clip`).

        Args:
            video: Pixels, width by height, such as `512x288`.
            scenario: What a call sees.
            frames: Latent frames of the call; by default the preset's chunk or clip.
        """
        height, width = token_grid(video)
        stream = scenario == "stream"
        return Shape(
            frames=frames or (self.chunk_frames if stream else self.clip_frames),
            height=height,
            width=width,
            channels=self.channels,
            heads=self.heads,
            feed_forward=self.feed_forward,
            text_tokens=self.text_tokens,
            text_channels=self.text_channels,
            context_frames=self.window_chunks * self.chunk_frames if stream else 0,
        )


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(name="s2dit-1.8b", depth=28, channels=2048, heads=16, feed_forward=8192),
        Preset(name="s2dit-small", depth=28, channels=512, heads=8, feed_forward=2048),
        Preset(name="s2dit-tiny", depth=8, channels=64, heads=4, feed_forward=256, text_channels=64, text_tokens=16),
    )
}


def token_grid(video: str) -> tuple[int, int]:
    """Return token rows and columns of one latent frame of a video size in pixels, width by height.

    >>> token_grid("512x288"), token_grid("256x144")
    ((18, 32), (9, 16))
    """
    match = re.fullmatch(r"\s*(\d+)\s*[xX]\s*(\d+)\s*", video)
    if match is None:
        raise InputError(f"the video size {video!r} is not WIDTHxHEIGHT", remedy="write for example 512x288")
    width, height = int(match[1]), int(match[2])
    if not width or not height or width % _PIXELS_PER_TOKEN or height % _PIXELS_PER_TOKEN:
        raise InputError(
            f"the video size {video!r} does not divide into tokens of {_PIXELS_PER_TOKEN} pixels",
            remedy=f"choose multiples of {_PIXELS_PER_TOKEN}, for example 512x288",
        )
    return height // _PIXELS_PER_TOKEN, width // _PIXELS_PER_TOKEN


def video_size(height: int, width: int) -> str:
    """Return the video size in pixels of a token grid; the inverse of `token_grid`.

    >>> video_size(18, 32)
    '512x288'
    """
    return f"{width * _PIXELS_PER_TOKEN}x{height * _PIXELS_PER_TOKEN}"
