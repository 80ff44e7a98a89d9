"""What stands in a cache's journals: a heading, and a line per shard with its records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self

import msgspec

from s2search.training.cache.levels import levels_of
from s2search.training.data.base import digest_of
from s2search.training.teachers.base import CONVENTION, Convention, Expert

if TYPE_CHECKING:
    from s2search.training.teachers.base import Teacher

JOURNAL, SHARDS, TEXTS = "cache.jsonl", "shards", "texts"
#: The names of what a cache holds.
OWN = re.compile(rf"cache(\.\d+)?\.jsonl|{SHARDS}|{TEXTS}")
OF = "cache of a teacher"

Computed = Literal["float32", "bfloat16"]
Stored = Literal["float32", "bfloat16", "float8"]
_BYTES: Mapping[Stored, int] = {"float32": 4, "bfloat16": 2, "float8": 1}

#: How many there are of something.
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class TeacherEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who answered.

    Attributes:
        teacher: As people write it, without its folder.
        revision: What its folder says of its version.
        files: A hash of each file that its answers depend on.
        experts: With their noise levels and guidance.
        encoder: Of prompts.
        negative: A hash of the negative prompt.
        convention: Of guidance.
    """

    teacher: str
    revision: str
    files: dict[str, str]
    experts: tuple[Expert, ...]
    encoder: str
    negative: str
    convention: Convention = CONVENTION

    @classmethod
    def of(cls, teacher: Teacher) -> Self:
        """Return what a teacher says of itself."""
        options = ",".join(f"{name}={_plain(value)}" for name, value in teacher.options.items() if name != "folder")
        return cls(
            teacher=f"{teacher.name}[{options}]" if options else teacher.name,
            revision=teacher.revision,
            files=dict(teacher.files),
            experts=teacher.experts,
            encoder=teacher.encoder,
            negative=prompt_digest(teacher.negative),
        )


class CacheHeading(msgspec.Struct, frozen=True, kw_only=True, tag="cache"):
    """What all records have in common: the first line of every journal.

    Attributes:
        kind: What is kept.
        teacher: Who answered.
        data: The digest of the data set.
        codec: That made its latents.
        codec_digest: A hash of that one's constants or weights, and so of its statistics.
        latent_size: Channels, frames, rows and columns.
        computed: In which numbers the teacher computed.
        stored: In which numbers velocities are kept.
        levels: Noise levels of each clip.
        shift: How far they are pushed towards 1.
        seed: Of levels and noise.
        noise: How noise is made of a seed.
        clips: To train on, and held out.
        batch: Records that the teacher was asked about at once: a sum is rounded otherwise beside other samples.
        per_shard: Records of a shard, at most.
    """

    schema: Literal["s2search.cache/1"] = "s2search.cache/1"
    kind: Literal["velocity"] = "velocity"
    teacher: TeacherEntry
    data: str
    codec: str
    codec_digest: str
    latent_size: tuple[Count, Count, Count, Count]
    computed: Computed
    stored: Stored
    levels: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    shift: float
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    noise: Literal["torch.randn on the processor, float32"] = "torch.randn on the processor, float32"
    clips: tuple[Count, Count]
    batch: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    per_shard: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 64

    @property
    def record_bytes(self) -> int:
        """Bytes of a record's velocity, with its scales."""
        channels, frames, rows, columns = self.latent_size
        scales = 4 * channels if self.stored == "float8" else 0
        return channels * frames * rows * columns * _BYTES[self.stored] + scales

    @property
    def shards(self) -> int:
        """How many there are when it is whole."""
        counts = levels_of(self.teacher.experts, self.levels, self.shift)
        return sum(-(-sum(self.clips) * count // self.per_shard) for count in counts)


class CacheRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One answer.

    Attributes:
        id: Its number, and the name of its velocity.
        clip: The clip's number in the data set.
        prompt: A hash of the caption.
        seed: Of the noise.
        crc: Of the noise's bytes, which another version of the generator would change.
        s: Noise level, exact in float32.
        expert: That answered.
    """

    id: int
    clip: int
    prompt: str
    seed: int
    crc: int
    s: Annotated[float, msgspec.Meta(ge=0, le=1)]
    expert: str


class CacheShard(msgspec.Struct, frozen=True, kw_only=True, tag="shard"):
    """A file that is whole, with its records."""

    number: int
    file: str
    sha256: str
    records: tuple[CacheRecord, ...]


def prompt_digest(prompt: str) -> str:
    """Return the hash by which a prompt's tokens are found.

    >>> prompt_digest("a cat")
    '51e4674156077982'
    """
    return digest_of(prompt).removeprefix("sha256:")[:16]


def shard_file(number: int) -> str:
    """Return the name of a shard's file.

    >>> shard_file(7)
    '000007.safetensors'
    """
    return f"{number:06}.safetensors"


def _plain(value: object) -> object:
    """Return a whole number as one, however it was given."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
