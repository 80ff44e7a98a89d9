"""How far clips are from real ones, never without what the measure sees of clips that were spoilt.

The held-out clips are divided by recording into two halves. All rows are held against the first one. The second one as
it is gives the floor, spoilt it gives the rows beside it, and its captions are what models are asked for.

Axes: N clips  C channels  T latent frames  Y X latent rows and columns  F features
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from s2search import registry
from s2search.errors import InputError
from s2search.training.distance.corruptions import NEEDED, SHOWN, Corruption
from s2search.training.distance.documents import (
    ERRORS_TO_CLAIM,
    ERRORS_TO_SEE,
    Claim,
    DistanceRow,
    Distances,
    Kind,
    NetworkDistance,
    NetworkEntry,
    Speed,
)
from s2search.training.distance.statistics import FeatureSample, Mmd, check_samples, farther, frechet, mmd
from s2search.training.share import generator

if TYPE_CHECKING:
    from s2search.training.data.clips import Clip, Clips
    from s2search.training.distance.networks import FeatureNetwork, FeatureNetworks

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What networks see of some clips.

    Attributes:
        samples: Features, by the name of each network.
        std: Standard deviation of the normalised latents within a channel.
        motion: Mean absolute difference of their frames, each to the one before.
    """

    samples: dict[str, FeatureSample]
    std: float
    motion: float


@dataclass(frozen=True, kw_only=True)
class MeasuredRow:
    """A row, with what claims about it need."""

    row: DistanceRow
    mmds: dict[str, Mmd]


def see(networks: Sequence[FeatureNetwork], batches: Iterable[Tensor], recordings: Sequence[str] | None = None) -> Seen:
    """Look at clips, a batch at a time.

    Args:
        networks: That look, with equal means and deviations of latents.
        batches: latents_BCTYX, as they are in the data set.
        recordings: What each clip was cut out of; each is by itself where none is given.
    """
    features: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]] = {one.name: [] for one in networks}
    count = moved = 0
    total_C = squares_C = torch.zeros(())
    motion = 0.0
    for latents_BCTYX in batches:
        for network in networks:
            features[network.name].append(network(latents_BCTYX))
        x_BCTYX = networks[0].normalised(latents_BCTYX.float().cpu()).double()
        total_C, squares_C = total_C + x_BCTYX.sum((0, 2, 3, 4)), squares_C + x_BCTYX.square().sum((0, 2, 3, 4))
        count += x_BCTYX[:, 0].numel()
        moves_BCTYX = x_BCTYX.diff(dim=2).abs()
        motion, moved = motion + float(moves_BCTYX.sum()), moved + moves_BCTYX.numel()
    variance_C = squares_C / count - (total_C / count).square()
    return Seen(
        samples={name: FeatureSample.of(np.concatenate(parts), recordings) for name, parts in features.items()},
        std=float(variance_C.clamp_min(0).mean().sqrt()),
        motion=motion / moved,
    )


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """Real clips in two halves, and the networks that look at them.

    Attributes:
        clips: The data set.
        networks: Both.
        first: Held-out clips that all rows are held against.
        second: Others, of other recordings: the floor, and what is spoilt.
    """

    clips: Clips
    networks: FeatureNetworks
    first: tuple[Clip, ...]
    second: tuple[Clip, ...]

    @classmethod
    def of(cls, clips: Clips, networks: FeatureNetworks, samples: int) -> Yardstick:
        """Divide held-out clips.

        Raises:
            InputError: There are too few, or the networks are of other data.
        """
        networks.check_data(clips)
        check_samples(samples, networks.heading.features)
        first, second = halves(clips, samples)
        return cls(clips=clips, networks=networks, first=first, second=second)

    @cached_property
    def real(self) -> Seen:
        """What all rows are held against."""
        return self._seen(self.first)

    @cached_property
    def floor(self) -> MeasuredRow:
        """Other real clips."""
        return self.measured("real", "floor", self._seen(self.second))

    def spoilt(self, name: str) -> MeasuredRow:
        """Return the row of clips spoilt in one way."""
        return self.measured(name, "spoilt", self._seen(self.second, name, SHOWN[name]))

    def checked(self) -> list[MeasuredRow]:
        """Return the floor and the spoilt rows.

        Raises:
            InputError: The measure does not see what it must see.
        """
        spoilt = [self.spoilt(name) for name in SHOWN]
        blind = []
        for one in spoilt:
            seen = max(own.above_floor for own in one.row.distances.values())
            if one.row.name in NEEDED and not seen > ERRORS_TO_SEE:
                blind.append(f"{one.row.name} ({seen:.1f})")
        if blind:
            raise InputError(
                f"on this data the measure cannot tell from real clips: {', '.join(blind)} standard errors above other "
                f"real ones, of {len(self.second)} samples",
                allowed=f"above {ERRORS_TO_SEE:g} by one network at least",
                remedy="train the networks longer or on more clips, or take more samples",
            )
        return [self.floor, *spoilt]

    def measured(
        self,
        name: str,
        kind: Kind,
        seen: Seen,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        weights: str | None = None,
        speed: Speed | None = None,
    ) -> MeasuredRow:
        """Return a row of clips that networks have seen."""
        mmds = {own: mmd(self.real.samples[own], sample) for own, sample in seen.samples.items()}
        row = DistanceRow(
            name=name,
            kind=kind,
            distances={own: self._distance(own, kind, found, seen) for own, found in mmds.items()},
            std_ratio=seen.std / self.real.std,
            motion_ratio=seen.motion / self.real.motion,
            steps=steps,
            sampler=sampler,
            weights=weights,
            speed=speed,
        )
        return MeasuredRow(row=row, mmds=mmds)

    def document(self, rows: Sequence[MeasuredRow], seed: int) -> Distances:
        """Return all rows, and which of two models is nearer."""
        models = [one for one in rows if one.row.kind == "model"]
        return Distances(
            data=self.clips.digest,
            codec=self.clips.heading.codec,
            samples=len(self.first),
            recordings=len({clip.digest for clip in self.first}),
            seed=seed,
            networks={one.name: NetworkEntry(features=one.count, digest=one.digest) for one in self.networks.both},
            rows=tuple(one.row for one in rows),
            claims=tuple(nearer(one, other) for one, other in combinations(models, 2)),
            s2search=registry.own_version(),
            torch=str(torch.__version__),
        )

    def _distance(self, network: str, kind: Kind, found: Mmd, seen: Seen) -> NetworkDistance:
        apart = frechet(self.real.samples[network], seen.samples[network])
        above = 0.0
        if kind != "floor":
            difference, error = farther(found, self.floor.mmds[network], paired=kind == "spoilt")
            above = _in_errors(difference, error)
        return NetworkDistance(
            mmd=found.value,
            mmd_error=found.error,
            frechet=apart.value,
            frechet_error=apart.error,
            above_floor=above,
        )

    def _seen(self, part: Sequence[Clip], name: str = "", spoil: Corruption | None = None) -> Seen:
        batches = self._batches(part, name, spoil)
        return see(self.networks.both, batches, [clip.digest for clip in part])

    def _batches(self, part: Sequence[Clip], name: str, spoil: Corruption | None) -> Iterator[Tensor]:
        network = self.networks.random
        for start in range(0, len(part), _BATCH):
            own = part[start : start + _BATCH]
            latents_BCTYX = self.clips.latents([clip.id for clip in own])
            if spoil is None:
                yield latents_BCTYX
                continue
            x_BCTYX = network.normalised(latents_BCTYX)
            found = [spoil(x, 1.0, generator("spoilt", name, clip.id)) for x, clip in zip(x_BCTYX, own, strict=True)]
            yield network.as_in_data(torch.stack(found))


def nearer(one: MeasuredRow, other: MeasuredRow) -> Claim:
    """Return which of two models is nearer to real clips, and whether that can be said: only if every network says so.

    Both are held against the same clips, and were given the same captions and seeds, sample by sample.
    """
    found = {name: farther(other.mmds[name], one.mmds[name], paired=True) for name in one.mmds}
    if sum(_in_errors(*pair) for pair in found.values()) < 0:
        one, other = other, one
        found = {name: (-difference, error) for name, (difference, error) in found.items()}
    errors = {name: _in_errors(*pair) for name, pair in found.items()}
    return Claim(
        nearer=one.row.title,
        than=other.row.title,
        by={name: difference for name, (difference, _) in found.items()},
        errors=errors,
        holds=min(errors.values()) >= ERRORS_TO_CLAIM,
    )


def halves(clips: Clips, samples: int) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Return so many held-out clips, spread over all, and as many others of other recordings.

    Raises:
        InputError: There are not twice as many.
    """
    part = clips.of("held-out")
    number = {digest: place for place, digest in enumerate(dict.fromkeys(clip.digest for clip in part))}
    two = [[clip for clip in part if number[clip.digest] % 2 == half] for half in range(2)]
    if (most := min(map(len, two))) < samples:
        raise InputError(
            f"{samples} samples need {2 * samples} held-out clips, half of them of other recordings than the rest; "
            f"the data set {str(clips.folder)!r} has {len(part)}",
            remedy=f"make a larger one, or give --samples {most}" if most else "make a larger one",
        )
    first, second = (tuple(own[place * len(own) // samples] for place in range(samples)) for own in two)
    return first, second


def _in_errors(difference: float, error: float) -> float:
    return difference / error if error > 0 else 0.0
