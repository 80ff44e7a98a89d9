"""What a source of clips is: recordings, from which clips of one size and length are cut.

A source plugin is configuration (`files[path=DIR]`, `shapes[count=500]`). Training and held-out clips are divided by
recording, or by groups of recordings that belong together: one video file, one scene, all walks through one map. Their
clips look alike, and a model that is judged on what it has nearly seen is judged too well.

Axes: T frames  H W rows and columns of pixels  C colours (3, 8-bit RGB)
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import numpy as np

from s2search.codec.base import FRAMES_PER_LATENT, PIXELS_PER_LATENT
from s2search.codec.video import Frames
from s2search.errors import InputError
from s2search.preset import token_grid, video_size
from s2search.registry import Plugin


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """The size of all clips of a data set.

    Attributes:
        video: Pixels, width by height: `128x64`.
        frames: Pixel frames, 1 + 4 k: the first latent frame is one of them, every other one four.
    """

    video: str
    frames: int

    def __post_init__(self) -> None:
        token_grid(self.video)
        below = 1 + (self.frames - 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT
        if self.frames < 1 or below != self.frames:
            nearest = [n for n in (below, below + FRAMES_PER_LATENT) if n > 0]
            raise InputError(
                f"clips of {self.frames} frames",
                allowed="1 + 4 k: one frame, and four for every further latent frame",
                remedy=f"take {' or '.join(map(str, nearest))}",
            )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        width, height = (int(side) for side in video_size(*token_grid(self.video)).split("x"))
        return height, width

    @property
    def latent_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of a clip's latents."""
        rows, columns = (side // PIXELS_PER_LATENT for side in self.size)
        return 1 + self.frames // FRAMES_PER_LATENT, rows, columns


class Cut(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Where in its recording a clip lies.

    Attributes:
        start: Its first frame.
        stride: Frames of the recording from one frame of the clip to the next.
        left: Where between the left edge (0) and the right one (1) of what there is room for it stands.
        top: The same from the top to the bottom.
    """

    start: int
    stride: int
    left: float
    top: float

    def last(self, frames: int) -> int:
        """Return the last frame that a clip of so many frames needs."""
        return self.start + self.stride * (frames - 1)


@dataclass(frozen=True, kw_only=True)
class Footage(abc.ABC):
    """Something that clips can be cut out of.

    Attributes:
        name: One line, the same wherever and whenever its source names it; no other recording of the source has it.
        digest: A hash of what its frames are made from.
        caption: What is to be seen, for all of its clips.
        group: What it is divided by, together with others of its source; by itself where it has none.
    """

    name: str
    digest: str
    caption: str
    group: str = ""

    @abc.abstractmethod
    def length(self) -> int:
        """Return how many frames it has.

        Raises:
            InputError: It cannot be read.
        """

    @abc.abstractmethod
    def clips(self, cuts: Sequence[Cut], geometry: Geometry) -> Iterator[Frames]:
        """Yield one clip `frames_THWC` per cut, in their order; the cuts come by their starts.

        Raises:
            InputError: It cannot be read.
        """


@dataclass(frozen=True, kw_only=True)
class ClipSource(Plugin, abc.ABC):
    """Configuration of a source; making one reads nothing."""

    #: What it gives and whence: one line.
    statement: ClassVar[str]

    @abc.abstractmethod
    def recordings(self) -> Sequence[Footage]:
        """Return its recordings, always in the same order.

        Raises:
            InputError: There are none, or what is needed to find them cannot be read.
        """


def digest_of(*words: object) -> str:
    """Return a hash of what something is made from, each part in its own line.

    >>> digest_of("shapes", 7)[:23]
    'sha256:b819e608360f7289'
    """
    return f"sha256:{hashlib.sha256(chr(10).join(map(str, words)).encode()).hexdigest()}"


def random_of(*words: object) -> np.random.Generator:
    """Return a generator that these words alone seed, on every machine the same."""
    return np.random.default_rng(int(digest_of(*words).removeprefix("sha256:")[:32], 16))
