"""A source of clips in one file: stripes that move to the right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from s2search.codec.video import Frames
from s2search.training.data.base import ClipSource, Cut, Footage, Geometry, digest_of


@dataclass(frozen=True, kw_only=True)
class Stripes(ClipSource):
    """Stripes of several widths, a recording each."""

    count: int = 6
    statement: ClassVar[str] = "grey stripes that move to the right, one width a recording"

    def recordings(self) -> Sequence[Footage]:
        return [_Width(name=f"stripes {4 + n}", digest=digest_of("stripes", 4 + n), caption=f"stripes {4 + n} wide",
                       width=4 + n) for n in range(self.count)]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Width(Footage):
    width: int

    def length(self) -> int:
        return 60

    def clips(self, cuts: Sequence[Cut], geometry: Geometry) -> Iterator[Frames]:
        rows, columns = geometry.size
        for cut in cuts:
            times = cut.start + cut.stride * np.arange(geometry.frames)
            places = np.arange(columns)[None] + round(cut.left * self.width) - times[:, None]
            line = np.where(places // self.width % 2, 200, 60).astype(np.uint8)
            yield np.broadcast_to(line[:, None, :, None], (geometry.frames, rows, columns, 3)).copy()
