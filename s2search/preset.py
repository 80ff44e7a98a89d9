"""Named model sizes, and the token grid that a video size gives.

Geometry (source: S2DiT, section 4; Wan autoencoder): 4x8x8 compression, patches of 1x2x2, chunks of 3 latent frames,
a window of 2 chunks. 512x288 video is a latent of 36x64, which is 18x32 tokens per latent frame.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from s2search.block import Scenario, Shape, Window
from s2search.border.regular_file import read_regular_text
from s2search.border.toml import parsed_toml
from s2search.errors import InputError, UnknownNameError

LATENT_CHANNELS = 16
PATCH = (1, 2, 2)
_PIXELS_PER_TOKEN = 16
PIXEL_FRAMES = 4  # of a latent frame


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The sizes of a model that do not depend on the video: channels, heads, depth, text and streaming window.

    `layout` is the layers where no plan says otherwise, `L4S8L4S8L4`; by default 3 of 7 LCHA, as evenly as possible,
    first and last layer included (source: 12 LCHA and 16 SSA of 28, derived from S2DiT, tables 3 and A3).

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
    sink_chunks: int = 0
    clip_frames: int = 21
    layout: str = ""

    def __post_init__(self) -> None:
        for field in ("depth", "chunk_frames", "clip_frames", "text_tokens"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} of the preset {self.name!r} is {getattr(self, field)}", allowed="at least 1")
        self.window  # noqa: B018  - checks the chunks
        self.shape("16x16", "stream")

    @property
    def window(self) -> Window:
        """What softmax attention sees of a stream's past."""
        return Window(frames=self.window_chunks * self.chunk_frames, sink_frames=self.sink_chunks * self.chunk_frames)

    @classmethod
    def named(cls, name: str) -> Preset:
        """Return a preset by name, or read one from a TOML file with this class's fields.

        Raises:
            UnknownNameError: There is no such preset.
            InputError: The file cannot be read, or is no preset.
        """
        if name.endswith(".toml"):
            return _read(Path(name))
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
            context_frames=(self.window_chunks + self.sink_chunks) * self.chunk_frames if stream else 0,
        )


def _read(path: Path) -> Preset:
    try:
        found = parsed_toml(read_regular_text(path))
        for key in found.keys() - {field.name for field in dataclasses.fields(Preset)}:
            raise UnknownNameError(
                f"key of the preset {str(path)!r}", key, Preset.__dataclass_fields__, listed_as="its keys"
            )
        return msgspec.convert({"name": path.stem} | found, Preset)
    except OSError as error:
        raise InputError(
            f"the preset {str(path)!r} cannot be read: {error.strerror}", remedy="check the path"
        ) from error
    except (ValueError, msgspec.ValidationError) as error:
        raise InputError(f"{str(path)!r} is not a preset: {error}", remedy="correct the file") from error


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


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(name="s2dit-1.8b", depth=28, channels=2048, heads=16, feed_forward=8192),
        Preset(name="s2dit-small", depth=28, channels=512, heads=8, feed_forward=2048),
        Preset(name="s2dit-tiny", depth=8, channels=64, heads=4, feed_forward=256, text_channels=64, text_tokens=16),
    )
}
