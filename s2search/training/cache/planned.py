"""Which records a cache is to have, in which shards: this follows from its heading and the data alone.

Axes: C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2search.training.cache.documents import CacheHeading
from s2search.training.cache.levels import level_at, levels_of, unshifted
from s2search.training.data.base import digest_of
from s2search.training.data.clips import Clip, Clips
from s2search.training.share import generator
from s2search.training.teachers.base import Expert


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A record before it was asked for: which clip, at which level, and the expert that answers there."""

    id: int
    clip: Clip
    s: float
    expert: Expert

    def seed(self, of: int) -> int:
        """Return the seed of its noise, in a cache of this seed."""
        return int(digest_of("cache", of, self.id, "noise").removeprefix("sha256:")[:15], 16)


def pieces(heading: CacheHeading, clips: Clips) -> list[list[Planned]]:
    """Return the records of every shard, in the order in which they are written: one expert after another.

    The highest noise levels come first, as in sampling; a shard is of one expert.
    """
    records = list(_planned(heading, clips))
    found = []
    for expert in reversed(heading.teacher.experts):
        own = [record for record in records if record.expert is expert]
        found += [own[start : start + heading.per_shard] for start in range(0, len(own), heading.per_shard)]
    return found


def _planned(heading: CacheHeading, clips: Clips) -> Iterator[Planned]:
    """Yield all records: a clip's levels divide what each expert answers for into equal parts, one in each."""
    experts, a = heading.teacher.experts, heading.shift
    counts = levels_of(experts, heading.levels, a)
    for clip in clips.clips:
        drawn_K = torch.rand(
            heading.levels, generator=generator("cache", heading.seed, clip.id, "s"), dtype=torch.float64
        ).tolist()
        number = 0
        for expert, count in zip(experts, counts, strict=True):
            low, high = unshifted(expert.low, a), unshifted(expert.high, a)
            for place in range(count):
                u = low + (high - low) * (place + drawn_K[number]) / count
                yield Planned(id=clip.id * heading.levels + number, clip=clip, s=level_at(u, a, expert), expert=expert)
                number += 1


def drawn(seed: int, size: Sequence[int]) -> Tensor:
    """Draw noise on the processor: devices draw other numbers of one seed."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def crc_of(tensor: Tensor) -> int:
    """Return the CRC-32 of a tensor's bytes."""
    return zlib.crc32(tensor.contiguous().numpy().data)
