"""What a measurement of distances says, and what the file of its generated samples begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from s2search.document import Document

Kind = Literal["floor", "spoilt", "model"]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]

#: Standard errors above the floor at which each of what a measure must see has to stand, by one network at least.
ERRORS_TO_SEE = 5.0
#: Standard errors by which one model has to be nearer than another, by every network, to be called nearer.
ERRORS_TO_CLAIM = 3.0


class NetworkDistance(msgspec.Struct, frozen=True, kw_only=True):
    """How far a row is from real clips by one network's features.

    Attributes:
        mmd: MMD^2 with the cubic kernel, unbiased: about 0 for real clips.
        mmd_error: Standard error.
        frechet: Fréchet distance; biased by as much as the floor shows.
        frechet_error: Standard error.
        above_floor: By how many standard errors the MMD^2 is above that of other real clips; 0 for those.
    """

    mmd: float
    mmd_error: float
    frechet: float
    frechet_error: float
    above_floor: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast one stream is made, measured beside its distance.

    Attributes:
        chunk_ms: A chunk's steps and commit, once its window is full: the median of some.
        fps: Frames of video a second that this is, without the decoder.
        clock: Processor time of all threads, or on another device time as it passes.
    """

    chunk_ms: float
    fps: float
    clock: Literal["processor", "wall"]


class DistanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row: other real clips, those spoilt, or what a model made.

    Attributes:
        name: `real`, how clips were spoilt, or the model's folder.
        kind: Which of these.
        distances: By the name of each network.
        std_ratio: Standard deviation of the latents, to that of real ones.
        motion_ratio: Mean absolute difference of a latent frame to the one before, to that of real ones.
        steps: Of the sampler, per chunk or per clip.
        sampler: How it was sampled.
        weights: A hash of the model's weights.
        speed: Of one stream; null where a model makes whole clips.
    """

    name: str
    kind: Kind
    distances: dict[str, NetworkDistance]
    std_ratio: float
    motion_ratio: float
    steps: int | None = None
    sampler: str | None = None
    weights: str | None = None
    speed: Speed | None = None

    @property
    def title(self) -> str:
        """The name, with the steps of a model."""
        return self.name if self.steps is None else f"{self.name}, {self.steps} steps"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """That one model is nearer to real clips than another.

    Attributes:
        nearer: The title of the one that by most networks is.
        than: The other one's.
        by: Difference of their MMD^2, by the name of each network.
        errors: That in standard errors, paired sample by sample.
        holds: Whether it is 3 or more by every network.
    """

    nearer: str
    than: str
    by: dict[str, float]
    errors: dict[str, float]
    holds: bool


class NetworkEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A network that distances are taken by: its features, and a hash of all that they depend on."""

    features: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Distances(Document):
    """How far models' clips are from real ones, beside what the measure sees.

    Attributes:
        data: The digest of the data set whose held-out clips are the real ones.
        codec: That encoded them.
        samples: Of every row, and of the real clips that all are held against.
        recordings: Of these.
        seed: Of all noise.
        networks: By name.
        rows: Real clips first, then spoilt ones, then models.
        claims: Of every two models.
    """

    schema: Literal["s2search.distance/1"] = "s2search.distance/1"
    data: str
    codec: str
    samples: int
    recordings: int
    seed: int
    networks: dict[str, NetworkEntry]
    rows: tuple[DistanceRow, ...]
    claims: tuple[Claim, ...]
    s2search: str
    torch: str


class GeneratedHeading(msgspec.Struct, frozen=True, kw_only=True, tag="generated"):
    """What generated samples depend on: the first line of their journal.

    Attributes:
        weights: A hash of the model's weights and sizes.
        data: The digest of the data set, whose held-out clips' captions they have.
        text: What encoded these.
        latent_size: Channels, frames, rows and columns.
        sampler: How they were sampled.
        steps: Of it.
        samples: In all.
        seed: Of all noise; a sample's own follows from it and the sample's number.
        dtype: In which numbers the model computed.
        device: On what kind of device; noise is drawn there.
        batch: Samples that are made side by side, and those of a file.
    """

    schema: Literal["s2search.generated/1"] = "s2search.generated/1"
    weights: str
    data: str
    text: str
    latent_size: tuple[Count, Count, Count, Count]
    sampler: str
    steps: Count
    samples: Count
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    dtype: Literal["float32"] = "float32"
    device: str
    batch: Annotated[int, msgspec.Meta(ge=1, le=65536)]

    @property
    def shards(self) -> int:
        """Files in all."""
        return -(-self.samples // self.batch)

    def numbers(self, shard: int) -> range:
        """Return the samples of a file."""
        return range(shard * self.batch, min((shard + 1) * self.batch, self.samples))


class GeneratedShard(msgspec.Struct, frozen=True, kw_only=True, tag="shard"):
    """A file of samples that is whole."""

    number: int
    file: str
    sha256: str
