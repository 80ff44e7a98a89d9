"""A teacher's answers as trainers read them: velocities in safetensors shards, and journals of what they are.

    cache.jsonl            the first writer's journal: a heading, and a line per shard that it wrote
    cache.1.jsonl ...      those of further writers
    shards/000000.safetensors ...    velocities, a tensor `N` (channels, frames, rows, columns) per record
    texts/ENCODER/PROMPT.safetensors    tokens of each prompt, once, without padding

A record is a clip, a noise level and noise. The latents are the data set's, and the noise is drawn again from its seed,
so a velocity is all that is kept. Which records there are follows from the heading and the data alone, whoever writes
them in whatever order: a shard has the same bytes however often it was begun.

Source: S2DiT, section 4.2. Why nothing else: docs/decisions/distil.md.

Axes: B records  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import torch
from torch import Tensor

from s2search.border.regular_file import check_regular, read_regular
from s2search.errors import InputError
from s2search.journal import first_difference, plain, read_journal
from s2search.network.flow import renoise, velocity
from s2search.training.cache.documents import (
    JOURNAL,
    OF,
    OWN,
    SHARDS,
    CacheHeading,
    CacheRecord,
    CacheShard,
    Stored,
    prompt_digest,
    shard_file,
)
from s2search.training.cache.levels import levels_of, part_of
from s2search.training.cache.planned import Planned, crc_of, drawn, pieces
from s2search.training.data.base import digest_of
from s2search.training.data.clips import Clips, Split
from s2search.training.share import generator
from s2search.training.teachers.base import check_experts

_LARGEST_FLOAT8 = 448.0  # of float8_e4m3fn
_DTYPES: Mapping[Stored, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float8": torch.float8_e4m3fn,
}

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Records side by side, as a step takes them.

    Attributes:
        captions: Of their clips.
        s_B: Noise levels, in float32.
        x_BCTYX: Noisy latents.
        v_BCTYX: Their true velocities.
        answer_BCTYX: The teacher's.
        weight_B: How much each counts, so that levels have the shares that the shift gives them; 1 on average.
    """

    captions: tuple[str, ...]
    s_B: Tensor
    x_BCTYX: Tensor
    v_BCTYX: Tensor
    answer_BCTYX: Tensor
    weight_B: Tensor


@dataclass(frozen=True, kw_only=True)
class TeacherCache:
    """A cache that is whole.

    Attributes:
        folder: Where it lies.
        heading: What all records have in common.
        shards: By their numbers.
        clips: The data set.
    """

    folder: Path
    heading: CacheHeading
    shards: tuple[CacheShard, ...]
    clips: Clips
    _open: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path, clips: Clips) -> Self:
        """Read the journals; shards are opened when they are read.

        Raises:
            InputError: There is none, it is not whole, or it is of other data.
        """
        heading, shards = read_cache(folder)
        check_data(folder, heading, clips)
        found = {shard.number: shard for shard in shards if (folder / SHARDS / shard_file(shard.number)).exists()}
        wanted = pieces(heading, clips)
        if missing := set(range(len(wanted))) - found.keys():
            raise InputError(
                f"the cache {str(folder)!r} lacks {len(missing)} of {len(wanted)} shards, number {min(missing)} first",
                remedy="repeat the command that began it",
            )
        for number, piece in enumerate(wanted):
            check_shard(folder, found[number], number, piece, heading)
        return cls(
            folder=folder, heading=heading, shards=tuple(found[number] for number in range(len(wanted))), clips=clips
        )

    @cached_property
    def digest(self) -> str:
        """A hash of its heading and of all shards, whoever wrote them."""
        return digest_of(msgspec.json.encode(self.heading).hex(), *(shard.sha256 for shard in self.shards))

    def of(self, split: Split) -> tuple[CacheRecord, ...]:
        """Return the records of a part of the data, by their numbers."""
        return self._of[split]

    def sample(self, split: Split, count: int) -> tuple[CacheRecord, ...]:
        """Return so many records of a part, or all, the same whenever they are asked for, of all levels alike."""
        return drawn_from(self.of(split), count)

    def batch(self, records: Sequence[CacheRecord]) -> Answered:
        """Return records side by side.

        Raises:
            InputError: A shard cannot be read, or noise comes out another than it was.
        """
        z_BCTYX = self.clips.latents([record.clip for record in records])
        eps_BCTYX = torch.stack([noise_of(record, self.heading.latent_size) for record in records])
        s_B = torch.tensor([record.s for record in records], dtype=torch.float32)
        return Answered(
            captions=tuple(self.clips.clips[record.clip].caption for record in records),
            s_B=s_B,
            x_BCTYX=renoise(z_BCTYX, s_B[:, None, None, None, None], eps_BCTYX),
            v_BCTYX=velocity(z_BCTYX, eps_BCTYX),
            answer_BCTYX=torch.stack([self.answer(record) for record in records]),
            weight_B=torch.tensor([self._weights[record.expert] for record in records], dtype=torch.float32),
        )

    def answer(self, record: CacheRecord) -> Tensor:
        """Return a record's velocity, v_CTYX in float32.

        Raises:
            InputError: Its shard cannot be read, or it has another size.
        """
        from safetensors import SafetensorError, safe_open

        path = self.folder / SHARDS / self._file_of[record.id]
        try:
            if path.name not in self._open:
                check_regular(path)
                self._open[path.name] = safe_open(path, framework="pt")
            file = self._open[path.name]
            answer: Tensor = file.get_tensor(str(record.id))
            scale = file.get_tensor(f"{record.id}.scale") if self.heading.stored == "float8" else None
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path.name} of the cache cannot be read: {error}",
                remedy="delete it, then repeat the command that made the cache",
            ) from error
        channels, dtype = self.heading.latent_size[0], _DTYPES[self.heading.stored]
        if answer.shape != self.heading.latent_size or answer.dtype != dtype:
            said = f"{str(answer.dtype).removeprefix('torch.')} of the size {tuple(answer.shape)}"
            raise InputError(f"record {record.id} in {path.name} of the cache is {said}", remedy="restore it")
        if scale is None:
            return answer.float()
        if scale.shape != (channels,) or scale.dtype != torch.float32:
            raise InputError(f"record {record.id} in {path.name} has no scale for each channel", remedy="restore it")
        scaled: Tensor = answer.float() * scale[:, None, None, None]
        return scaled

    @cached_property
    def _of(self) -> dict[Split, tuple[CacheRecord, ...]]:
        records = sorted((record for shard in self.shards for record in shard.records), key=lambda one: one.id)
        found: dict[Split, list[CacheRecord]] = {"train": [], "held-out": []}
        for record in records:
            found[self.clips.clips[record.clip].split].append(record)
        return {split: tuple(own) for split, own in found.items()}

    @cached_property
    def _file_of(self) -> dict[int, str]:
        return {record.id: shard.file for shard in self.shards for record in shard.records}

    @cached_property
    def _weights(self) -> dict[str, float]:
        experts, levels, a = self.heading.teacher.experts, self.heading.levels, self.heading.shift
        counts = levels_of(experts, levels, a)
        return {one.name: part_of(one, a) * levels / count for one, count in zip(experts, counts, strict=True)}


def read_cache(folder: Path) -> tuple[CacheHeading, list[CacheShard]]:
    """Return the heading and all shards that are there, of all journals.

    Raises:
        InputError: There is none, or two journals differ or name a shard twice.
    """
    heading: CacheHeading | None = None
    shards: dict[int, CacheShard] = {}
    others = [path for path in sorted(folder.glob("cache.*.jsonl")) if OWN.fullmatch(path.name)]
    # A further writer's journal without a whole line is one that ended before its work began.
    for path in (folder / JOURNAL, *(path for path in others if b"\n" in read_regular(path))):
        own, journal = read_journal(
            path, CacheHeading, CacheShard, of=OF, remedy="name a folder that `s2search cache make` wrote"
        )
        check_heading(path, own)
        heading = heading or own
        if difference := first_difference(plain(heading), plain(own)):
            raise InputError(f"{str(path)!r} belongs to another {OF}: {difference}", remedy="restore it")
        for shard in journal.lines:
            if shards.setdefault(shard.number, shard) != shard:
                raise InputError(f"shard {shard.number} of {str(folder)!r} stands twice", remedy="restore the journals")
    assert heading is not None
    return heading, list(shards.values())


def check_heading(path: Path, heading: CacheHeading) -> None:
    """Raise unless the numbers of a heading can be.

    Raises:
        InputError: Levels have no expert or two, there are fewer than experts, or the shift is none.
    """
    try:
        if not 0 < heading.shift < float("inf"):
            raise InputError(f"the shift is {heading.shift:g}", allowed="finite and above 0")
        check_experts(heading.teacher.experts)
        levels_of(heading.teacher.experts, heading.levels, heading.shift)
    except InputError as error:
        raise InputError(f"the heading of {str(path)!r} cannot be: {error.problem}", remedy="restore it") from error


def check_data(folder: Path, heading: CacheHeading, clips: Clips) -> None:
    """Raise unless a cache is of this data set; every key that differs is named, with both values.

    Raises:
        InputError: It is of another one.
    """
    mine = {
        "data": heading.data,
        "codec": heading.codec,
        "codec_digest": heading.codec_digest,
        "latent_size": heading.latent_size,
        "clips": heading.clips,
    }
    theirs = {
        "data": clips.digest,
        "codec": clips.heading.codec,
        "codec_digest": clips.heading.codec_digest,
        "latent_size": clips.heading.latent_size,
        "clips": (len(clips.of("train")), len(clips.of("held-out"))),
    }
    if different := [name for name in mine if mine[name] != theirs[name]]:
        parts = "; ".join(f"{name} is {_short(mine[name])}, not {_short(theirs[name])}" for name in different)
        raise InputError(
            f"the cache {str(folder)!r} is of other data than {str(clips.folder)!r}: {parts}",
            remedy="name the data set that it was made of",
        )


def check_shard(folder: Path, shard: CacheShard, number: int, piece: Sequence[Planned], heading: CacheHeading) -> None:
    """Raise unless a shard's line says what the heading and the data imply; its noise and its file are not looked at.

    Raises:
        InputError: It says something else.
    """
    said = [(one.id, one.clip, one.prompt, one.seed, one.s, one.expert) for one in shard.records]
    implied = [
        (one.id, one.clip.id, prompt_digest(one.clip.caption), one.seed(heading.seed), one.s, one.expert.name)
        for one in piece
    ]
    if shard.file != shard_file(number) or said != implied:
        raise InputError(
            f"the journal of {str(folder)!r} has other records in shard {number} than its heading implies",
            remedy="restore it, or make the cache anew",
        )


def drawn_from(records: Sequence[_Item], count: int) -> tuple[_Item, ...]:
    """Return so many of them, or all, in an order that only their number decides.

    Every n-th record would be of one noise level wherever n is a multiple of a clip's levels.
    """
    order = torch.randperm(len(records), generator=generator("sample", len(records))).tolist()
    return tuple(records[place] for place in order[:count])


def noise_of(record: CacheRecord, size: Sequence[int]) -> Tensor:
    """Draw a record's noise, eps_CTYX.

    Raises:
        InputError: It is another one than when the teacher was asked.
    """
    eps_CTYX = drawn(record.seed, size)
    if crc_of(eps_CTYX) != record.crc:
        raise InputError(
            f"the noise of record {record.id} is not what it was: this torch {torch.__version__} draws other numbers",
            remedy="read the cache with the torch that wrote it, or make it anew",
        )
    return eps_CTYX


def stored_as(answer: Tensor, stored: Stored, id: int) -> dict[str, Tensor]:
    """Return a velocity, v_CTYX, as its shard keeps it.

    8 bits have a sign, four of exponent and three of mantissa, and a power of two for every channel beside them.
    """
    if stored == "float32":
        return {str(id): answer.float().contiguous()}
    if stored == "bfloat16":
        return {str(id): answer.bfloat16().contiguous()}
    largest_C = answer.float().abs().amax((1, 2, 3)).clamp_min(torch.finfo(torch.float32).tiny)
    scale_C = torch.exp2(torch.ceil(torch.log2(largest_C / _LARGEST_FLOAT8)))
    small = (answer.float() / scale_C[:, None, None, None]).to(torch.float8_e4m3fn)
    return {str(id): small.contiguous(), f"{id}.scale": scale_C}


def _short(value: object) -> str:
    return value[:19] if isinstance(value, str) and value.startswith("sha256:") else str(value)
