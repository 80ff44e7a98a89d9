"""What a data set holds, in numbers: for people who are about to train on it.

Axes: B clips  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from s2search.training.data.clips import Clips, Heading, Split

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """One part of a data set.

    Attributes:
        clips: How many.
        recordings: Of how many recordings.
        captions: The most frequent captions, each with its clips.
    """

    clips: int
    recordings: int
    captions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a data set holds.

    Attributes:
        heading: As its manifest says it.
        digest: Of the manifest.
        parts: By name.
        skipped: Recordings that gave no clip.
        channel_mean: Mean of the training clips' latents, by channel.
        channel_std: Standard deviation of them, by channel: the blind Gaussian of `flow` has these numbers.
    """

    schema: Literal["s2search.data_inspection/1"] = "s2search.data_inspection/1"
    heading: Heading
    digest: str
    parts: dict[Split, SplitCounts]
    skipped: int
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]


def inspect(clips: Clips) -> Inspection:
    """Count a data set's clips, and read all latents of its training part once."""
    mean, std = channel_moments(clips)
    return Inspection(
        heading=clips.heading,
        digest=clips.digest,
        parts={split: _part(clips, split) for split in ("train", "held-out")},
        skipped=len(clips.skipped),
        channel_mean=mean,
        channel_std=std,
    )


def channel_moments(clips: Clips, most: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the training clips' latents by channel, summed in float64.

    Args:
        clips: The data set.
        most: Clips that are read, spread evenly; by default all.
    """
    import torch

    ids = [clip.id for clip in clips.of("train")]
    ids = ids[:: max(1, -(-len(ids) // most))] if most else ids
    total_C = squares_C = torch.zeros(clips.heading.latent_channels, dtype=torch.float64)
    count = 0
    for first in range(0, len(ids), _BATCH):
        latents_BCTYX = clips.latents(ids[first : first + _BATCH]).double()
        total_C = total_C + latents_BCTYX.sum((0, 2, 3, 4))
        squares_C = squares_C + latents_BCTYX.square().sum((0, 2, 3, 4))
        count += latents_BCTYX[:, 0].numel()
    mean_C = total_C / max(count, 1)
    std_C = (squares_C / max(count, 1) - mean_C.square()).clamp_min(0).sqrt()
    return tuple(mean_C.tolist()), tuple(std_C.tolist())


def _part(clips: Clips, split: Split) -> SplitCounts:
    own = clips.of(split)
    captions = Counter(clip.caption for clip in own if clip.caption)
    return SplitCounts(
        clips=len(own),
        recordings=len({(clip.source, clip.recording) for clip in own}),
        captions=tuple(captions.most_common(3)),
    )
