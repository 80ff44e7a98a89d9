"""How far what a model makes is from held-out clips, asked again and again while it is trained.

Axes: N samples  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from s2search.errors import InputError
from s2search.training.distance.measure import Seen, see
from s2search.training.distance.networks import batched, check_frames
from s2search.training.distance.statistics import mmd
from s2search.training.distance.watched import WatchedDistance

if TYPE_CHECKING:
    from torch import Tensor

    from s2search.training.data.clips import Clip, Clips
    from s2search.training.distance.networks import FeatureNetwork

_LEAST = 8
_LEAST_RECORDINGS = 3
_BATCH = 32


def check_held_out(clips: Clips) -> None:
    """Raise unless a data set holds out what samples can be held against.

    Raises:
        InputError: There are fewer than 8 clips, fewer than 3 recordings, or too few frames.
    """
    check_frames(clips)
    part = clips.of("held-out")
    recordings = len({clip.digest for clip in part})
    if len(part) < _LEAST or recordings < _LEAST_RECORDINGS:
        raise InputError(
            f"a distance to {len(part)} held-out clips of {recordings} recordings",
            allowed=f"{_LEAST} or more of {_LEAST_RECORDINGS} or more",
            remedy="hold more recordings out",
        )


@dataclass(frozen=True, kw_only=True)
class HeldOutDistance:
    """Held-out clips as networks see them; made once, and asked by calling it.

    It gives MMD^2 alone, whose mean does not depend on how many samples there are: some dozens will do to see a model
    get nearer, where a table of models takes `Yardstick`.

    Attributes:
        networks: That look.
        clips: Held-out clips, spread over all. `asked` are their captions.
        real: What the networks see of them.
    """

    networks: tuple[FeatureNetwork, ...]
    clips: tuple[Clip, ...]
    real: Seen

    @classmethod
    def of(cls, clips: Clips, networks: Sequence[FeatureNetwork], samples: int) -> Self:
        """Look at so many held-out clips, or at all where there are fewer.

        Args:
            clips: The data set.
            networks: Those of a file (`FeatureNetworks.load(FILE).both`), or `random_network(clips)` alone.
            samples: How many at most.

        Raises:
            InputError: As `check_held_out`.
        """
        check_held_out(clips)
        part = clips.of("held-out")
        count = min(samples, len(part))
        chosen = tuple(part[place * len(part) // count] for place in range(count))
        batches = (
            clips.latents([clip.id for clip in chosen[at : at + _BATCH]]) for at in range(0, len(chosen), _BATCH)
        )
        real = see(networks, batches, [clip.digest for clip in chosen])
        return cls(networks=tuple(networks), clips=chosen, real=real)

    def captions(self, samples: int) -> list[str]:
        """Return captions to ask a model for: those of the clips, spread over all, again from the first where few."""
        count = len(self.clips)
        return [
            self.clips[number * count // samples if samples <= count else number % count].caption
            for number in range(samples)
        ]

    def __call__(self, latents_NCTYX: Tensor) -> WatchedDistance:
        """Return what samples are like; equal samples are always alike.

        Raises:
            InputError: There are fewer than 8, of another size, or they are not finite.
        """
        if len(latents_NCTYX) < _LEAST:
            raise InputError(
                f"a distance of {len(latents_NCTYX)} samples", allowed=f"{_LEAST} or more", remedy="make more of them"
            )
        seen = see(self.networks, batched(latents_NCTYX))
        found = {name: mmd(self.real.samples[name], sample) for name, sample in seen.samples.items()}
        return WatchedDistance(
            mmd={name: one.value for name, one in found.items()},
            mmd_error={name: one.error for name, one in found.items()},
            std_ratio=seen.std / self.real.std,
            motion_ratio=seen.motion / self.real.motion,
        )
