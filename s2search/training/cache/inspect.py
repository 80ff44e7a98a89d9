"""What a cache holds, and whether it still is what the teacher says.

Axes: B records  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from s2search.border.regular_file import open_regular
from s2search.decibels import parity_db
from s2search.errors import InputError
from s2search.journal import plain
from s2search.training.cache.documents import SHARDS, TEXTS, CacheHeading, CacheShard, Stored, TeacherEntry, shard_file
from s2search.training.cache.make import PromptTable, Writer
from s2search.training.cache.planned import Planned, pieces
from s2search.training.cache.records import TeacherCache, check_data, check_shard, drawn_from, noise_of, read_cache
from s2search.training.data.clips import Clips
from s2search.training.judgement import BANDS
from s2search.training.parallel import DTYPES, Processes
from s2search.training.teachers.base import Teacher

#: Decibels that an answer must keep when it is asked for again: what numbers of so many bits keep, with a margin.
_LEAST_DB: dict[Stored, float] = {"float32": 80.0, "bfloat16": 40.0, "float8": 24.0}
_LISTED = 8  # missing shards, by their numbers
_LEAST_COMPUTED_DB = {"float32": 80.0, "bfloat16": 30.0}


@dataclass(frozen=True, kw_only=True)
class CacheInspection:
    """What a cache holds.

    Attributes:
        heading: What all records have in common.
        shards: That are there.
        missing: How many are not.
        missing_first: The first of those, by their numbers.
        records: That are there.
        bands: Records of each expert in each band of noise levels, by its lower end.
        record_bytes: Of a velocity.
        prompts: Whose tokens are there.
        prompt_bytes: Of all of them.
    """

    schema: Literal["s2search.cache_inspection/1"] = "s2search.cache_inspection/1"
    heading: CacheHeading
    shards: int
    missing: int
    missing_first: tuple[int, ...]
    records: int
    bands: dict[str, dict[str, int]]
    record_bytes: int
    prompts: int
    prompt_bytes: int


def inspect(folder: Path) -> CacheInspection:
    """Count what the journals say; no shard is opened.

    Raises:
        InputError: It is no cache.
    """
    heading, shards = read_cache(folder)
    lows = [low for low, _ in pairwise(BANDS)]
    bands = {expert.name: dict.fromkeys((f"{low:.1f}" for low in lows), 0) for expert in heading.teacher.experts}
    for (expert, low), count in Counter(
        (record.expert, max(low for low in lows if low <= record.s)) for shard in shards for record in shard.records
    ).items():
        bands.setdefault(expert, {})[f"{low:.1f}"] = count
    records, there = sum(len(shard.records) for shard in shards), {shard.number for shard in shards}
    texts = [path.stat().st_size for path in (folder / TEXTS).glob("*/*.safetensors")]
    return CacheInspection(
        heading=heading,
        shards=len(shards),
        missing=heading.shards - len(there),
        missing_first=tuple(islice((number for number in range(heading.shards) if number not in there), _LISTED)),
        records=records,
        bands=bands,
        record_bytes=heading.record_bytes,
        prompts=len(texts),
        prompt_bytes=sum(texts),
    )


def check(folder: Path, clips: Clips) -> Iterator[str]:
    """Yield a line for everything that does not hold: shards, hashes, records, noise, sizes, numbers.

    Raises:
        InputError: It is no cache, or one of other data.
    """
    heading, shards = read_cache(folder)
    check_data(folder, heading, clips)
    wanted, there = pieces(heading, clips), {shard.number: shard for shard in shards}
    for number in sorted(there.keys() - range(len(wanted))):
        yield f"shard {number} is none of {len(wanted)}"
    for number, piece in enumerate(wanted):
        if number not in there:
            yield f"shard {number} is missing"
        else:
            yield from _problems(folder, there[number], number, piece, heading, clips)


def _problems(
    folder: Path, shard: CacheShard, number: int, piece: list[Planned], heading: CacheHeading, clips: Clips
) -> Iterator[str]:
    path = folder / SHARDS / shard_file(number)
    try:
        check_shard(folder, shard, number, piece, heading)
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except InputError as error:
        yield error.problem
        return
    except OSError as error:
        yield f"{path.name} cannot be read: {error.strerror}; the command that made the cache makes it again"
        return
    if digest != shard.sha256:
        yield f"{path.name} was changed since it was written; delete it, and the command that made it makes it again"
        return
    cache = TeacherCache(folder=folder, heading=heading, shards=(shard,), clips=clips)
    for record in shard.records:
        try:
            noise_of(record, heading.latent_size)
            if not cache.answer(record).isfinite().all():
                yield f"record {record.id} in {path.name} has numbers that are not finite"
        except InputError as error:
            yield error.problem


def check_teacher(folder: Path, heading: CacheHeading, teacher: Teacher) -> None:
    """Raise unless a teacher is the one that answered; every key that differs is named, with both values.

    Raises:
        InputError: It is another one, or says other things of itself now.
    """
    mine, now = plain(heading.teacher), plain(TeacherEntry.of(teacher))
    if different := [name for name in mine if mine[name] != now[name]]:
        parts = "; ".join(f"{name} is {mine[name]}, not {now[name]}" for name in different)
        raise InputError(
            f"the cache {str(folder)!r} is of another teacher: {parts}", remedy="name the one that answered"
        )


def asked_again(
    folder: Path, clips: Clips, teacher: Teacher, count: int, where: Processes
) -> Iterator[tuple[int, float]]:
    """Ask the teacher again about some records of all levels, and yield each one's number and its decibels.

    Raises:
        InputError: The cache is not whole, of other data, or of another teacher.
    """
    cache = TeacherCache.load(folder, clips)
    check_teacher(folder, cache.heading, teacher)
    every = [planned for piece in pieces(cache.heading, clips) for planned in piece]
    if count > len(every):
        raise InputError(
            f"{count} records to ask about again, and the cache has {len(every)}",
            allowed=f"0 to {len(every)}",
            remedy="correct it",
        )
    chosen = drawn_from(every, count)
    records = {record.id: record for shard in cache.shards for record in shard.records}
    with TemporaryDirectory() as temporary:
        texts = PromptTable(teacher, Path(temporary), where)
        texts.read([planned.clip.caption for planned in chosen])
        writer = Writer(heading=cache.heading, clips=clips, texts=texts, out=Path(temporary))
        for expert in reversed(teacher.experts):
            own = [planned for planned in chosen if planned.expert == expert]
            if not own:
                continue
            with teacher.answering(expert, where.device, DTYPES[cache.heading.computed]) as velocity:
                for planned in own:
                    ((answer, _),) = writer.answers(velocity, [planned], teacher.negative)
                    yield planned.id, parity_db(answer.numpy(), cache.answer(records[planned.id]).numpy())


def least_decibels(heading: CacheHeading) -> float:
    """Return what an answer must keep when it is asked for again, by how it was computed and kept."""
    return min(_LEAST_DB[heading.stored], _LEAST_COMPUTED_DB[heading.computed])
