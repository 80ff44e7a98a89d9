"""How a cache is made: prompts are read, then one expert after another is asked, shard after shard.

Any number of processes divide the shards, and any other number goes on with what they did. A shard is written under a
hidden name, synced and renamed, and then its line: what has a line is whole.

Axes: B records  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s2search.border.regular_file import check_regular, open_regular
from s2search.document import Document
from s2search.errors import CheckError, InputError
from s2search.network.flow import renoise
from s2search.network.weight_file import save_tensors
from s2search.training.cache.documents import (
    JOURNAL,
    OF,
    OWN,
    SHARDS,
    TEXTS,
    CacheHeading,
    CacheRecord,
    CacheShard,
    Computed,
    Stored,
    TeacherEntry,
    prompt_digest,
    shard_file,
)
from s2search.training.cache.levels import levels_of
from s2search.training.cache.planned import Planned, crc_of, drawn, pieces
from s2search.training.cache.records import stored_as
from s2search.training.data.base import digest_of
from s2search.training.divided import divided
from s2search.training.parallel import ALONE, DTYPES, Processes
from s2search.training.teachers.base import Expert, Teacher, Velocity, asked, check_experts

if TYPE_CHECKING:
    from s2search.training.data.clips import Clips

_PROMPTS = 64  # that are read at once

#: Called with (records done, records in all, what comes next).
Progress = Callable[[int, int, str], None]


def heading_of(
    teacher: Teacher,
    clips: Clips,
    *,
    levels: int,
    shift: float | None,
    seed: int,
    computed: Computed,
    stored: Stored,
    batch: int = 8,
) -> CacheHeading:
    """Return the heading of a cache: all that its records depend on.

    Raises:
        InputError: Teacher and data do not go together, or the levels are too few.
    """
    check_experts(teacher.experts)
    clips.check_channels(teacher.latent_channels)
    if teacher.codec_digest and teacher.codec_digest != clips.heading.codec_digest:
        raise InputError(
            f"the teacher {teacher.name} denoises latents of {teacher.codec_digest[:19]}, and the data set "
            f"{str(clips.folder)!r} has those of {clips.heading.codec}, {clips.heading.codec_digest[:19]}",
            remedy="make the data with the autoencoder of the teacher's own folder",
        )
    if not clips.of("held-out"):
        raise InputError(
            "the data set holds no recording out, and nothing would say how good a student is",
            remedy="make it with --held-out above 0",
        )
    heading = CacheHeading(
        teacher=TeacherEntry.of(teacher),
        data=clips.digest,
        codec=clips.heading.codec,
        codec_digest=clips.heading.codec_digest,
        latent_size=clips.heading.latent_size,
        computed=computed,
        stored=stored,
        levels=levels,
        shift=teacher.shift if shift is None else shift,
        seed=seed,
        clips=(len(clips.of("train")), len(clips.of("held-out"))),
        batch=batch,
    )
    try:  # what is written is read again
        heading = msgspec.convert(msgspec.to_builtins(heading), CacheHeading)
    except (msgspec.ValidationError, TypeError, OverflowError) as error:
        raise InputError(f"such a cache cannot be: {error}", remedy="correct the option") from error
    if not 0 < heading.shift < float("inf"):
        raise InputError(f"the shift is {heading.shift:g}", allowed="finite and above 0", remedy="correct it")
    levels_of(heading.teacher.experts, heading.levels, heading.shift)
    return heading


def make(
    teacher: Teacher,
    clips: Clips,
    heading: CacheHeading,
    out: Path,
    *,
    where: Processes = ALONE,
    progress: Progress = lambda done, total, label: None,
) -> None:
    """Ask a teacher about every record, or about those that are left.

    Args:
        teacher: Whom the heading names.
        clips: The data set that it names.
        heading: What is asked.
        out: The folder.
        where: The processes that divide the shards.
        progress: Told before every batch of this process.

    Raises:
        InputError: The folder holds something else or is in use, or the disk is full.
        CheckError: An answer is not finite.
    """
    if strange := [path.name for path in out.glob("*") if not OWN.fullmatch(path.name) and path.name[0] != "."]:
        raise InputError(f"{str(out)!r} holds {min(strange)!r}, which is of no cache", remedy="choose another folder")
    (out / SHARDS).mkdir(parents=True, exist_ok=True)
    wanted = pieces(heading, clips)
    records = sum(map(len, wanted))
    with divided(out / JOURNAL, heading, CacheShard, where, of=OF) as work, ExitStack() as held:
        # A file that is gone is made anew, to the same bytes.
        there = {shard.number for shard in work.lines if (out / SHARDS / shard_file(shard.number)).exists()}
        done = sum(len(wanted[number]) for number in there if number < len(wanted))
        mine = work.mine([number for number in range(len(wanted)) if number not in there])
        texts = PromptTable(teacher, out, where)
        if there != set(range(len(wanted))):
            progress(done, records, "prompts")
            texts.read([clip.caption for clip in clips.clips])
        expert: Expert | None = None
        for number in mine:
            piece = wanted[number]
            if piece[0].expert is not expert:
                held.close()  # the one before goes first
                expert = piece[0].expert
                velocity = held.enter_context(teacher.answering(expert, where.device, DTYPES[heading.computed]))
            writer = Writer(heading=heading, clips=clips, texts=texts, out=out)
            answers: list[tuple[Tensor, int]] = []
            for start in range(0, len(piece), heading.batch):
                progress(min(done + (len(answers) * where.count), records), records, expert.name)
                answers += writer.answers(velocity, piece[start : start + heading.batch], teacher.negative)
            work.append(writer.shard(number, piece, answers))
            done += len(piece) * where.count
        work.whole()
        progress(records, records, "done")


@dataclass(frozen=True, kw_only=True)
class CacheEstimate(Document):
    """What a whole cache would cost, from some batches of it.

    Attributes:
        heading: Of the cache.
        records: In all.
        of_expert: Records of each expert, by its name.
        record_bytes: Of a velocity.
        text_bytes: Of all prompts' tokens.
        weights_bytes: Of what is held one after another: what reads prompts, and each expert.
        peak_bytes: The most that the device held meanwhile; None where it does not say.
        seconds: Per record, by expert.
        timed: Batches of each expert that were timed.
    """

    schema: Literal["s2search.cache_estimate/1"] = "s2search.cache_estimate/1"
    heading: CacheHeading
    records: int
    of_expert: dict[str, int]
    record_bytes: int
    text_bytes: int
    weights_bytes: dict[str, int]
    peak_bytes: int | None
    seconds: dict[str, float]
    timed: int

    @property
    def hours(self) -> float:
        """Of one process for all records."""
        return sum(count * self.seconds[name] for name, count in self.of_expert.items()) / 3600

    @property
    def total_bytes(self) -> int:
        """On the disk."""
        return self.records * self.record_bytes + self.text_bytes


def tried(
    teacher: Teacher, clips: Clips, heading: CacheHeading, folder: Path, *, steps: int, where: Processes
) -> CacheEstimate:
    """Ask about some records, and say what all would cost; what is written lies in a folder that may go.

    Args:
        teacher: Whom the heading names.
        clips: The data set.
        heading: What would be asked.
        folder: For the tokens of prompts.
        steps: Batches that are timed, of each expert, after one that is not.
        where: One process.
    """
    wanted, batch = pieces(heading, clips), heading.batch
    per_expert: dict[str, int] = {expert.name: 0 for expert in heading.teacher.experts}
    for piece in wanted:
        per_expert[piece[0].expert.name] += len(piece)
    of_trial = {
        expert: [record for piece in wanted if piece[0].expert is expert for record in piece][: batch * (steps + 1)]
        for expert in reversed(heading.teacher.experts)
    }
    captions = sorted({clip.caption for clip in clips.clips})
    looked_at = captions[:_PROMPTS]
    texts = PromptTable(teacher, folder, where)
    texts.read([*looked_at, *(record.clip.caption for own in of_trial.values() for record in own)])
    text_bytes = sum(texts.tokens(caption).nbytes for caption in looked_at) * len(captions) // max(1, len(looked_at))
    writer = Writer(heading=heading, clips=clips, texts=texts, out=folder)
    size = {dtype: torch.empty((), dtype=DTYPES[dtype]).element_size() for dtype in DTYPES}[heading.computed]
    seconds, batches_timed = {}, steps
    on_cuda = where.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(where.device)
    for expert, own in of_trial.items():
        batches = [own[start : start + batch] for start in range(0, len(own), batch)]
        with teacher.answering(expert, where.device, DTYPES[heading.computed]) as velocity:
            writer.answers(velocity, batches[0], teacher.negative)
            timed = batches[1:] or batches
            batches_timed = min(batches_timed, len(timed))
            begun_s = time.perf_counter()
            for records in timed:
                writer.answers(velocity, records, teacher.negative)
            seconds[expert.name] = (time.perf_counter() - begun_s) / sum(map(len, timed))
    return CacheEstimate(
        heading=heading,
        records=sum(per_expert.values()),
        of_expert=per_expert,
        record_bytes=heading.record_bytes,
        text_bytes=text_bytes,
        weights_bytes={name: count * size for name, count in teacher.sizes().items()},
        peak_bytes=torch.cuda.max_memory_allocated(where.device) if on_cuda else None,
        seconds=seconds,
        timed=batches_timed,
    )


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Asks about records, and writes what was answered."""

    heading: CacheHeading
    clips: Clips
    texts: PromptTable
    out: Path

    def answers(self, velocity: Velocity, records: Sequence[Planned], negative: str) -> list[tuple[Tensor, int]]:
        """Return what the teacher says of records, each v_CTYX on the processor, with the CRC of its noise."""
        size = self.heading.latent_size
        z_BCTYX = self.clips.latents([record.clip.id for record in records])
        eps_BCTYX = torch.stack([drawn(record.seed(self.heading.seed), size) for record in records])
        s_B = torch.tensor([record.s for record in records], dtype=torch.float32)
        x_BCTYX = renoise(z_BCTYX, s_B[:, None, None, None, None], eps_BCTYX)
        tokens = [self.texts.tokens(record.clip.caption) for record in records]
        without, w = self.texts.tokens(negative), records[0].expert.guidance
        answer_BCTYX = asked(velocity, x_BCTYX, s_B, tokens, without, w).cpu()
        finite_B = answer_BCTYX.isfinite().flatten(1).all(1).tolist()
        for record, finite in zip(records, finite_B, strict=True):
            if not finite:
                raise CheckError(
                    f"the teacher's answer to record {record.id} (clip {record.clip.id}, noise level {record.s:.4f}) "
                    "is not finite",
                    remedy="look at that clip, or compute in float32",
                )
        return list(zip(answer_BCTYX.unbind(0), map(crc_of, eps_BCTYX.unbind(0)), strict=True))

    def shard(self, number: int, piece: Sequence[Planned], answers: Sequence[tuple[Tensor, int]]) -> CacheShard:
        """Write a shard, and return its line."""
        tensors: dict[str, Tensor] = {}
        records: list[CacheRecord] = []
        for planned, (answer, crc) in zip(piece, answers, strict=True):
            tensors |= stored_as(answer, self.heading.stored, planned.id)
            records.append(self._record(planned, crc))
        path = self.out / SHARDS / shard_file(number)
        digest = _written(path, tensors)
        return CacheShard(number=number, file=path.name, sha256=digest, records=tuple(records))

    def _record(self, planned: Planned, crc: int) -> CacheRecord:
        return CacheRecord(
            id=planned.id,
            clip=planned.clip.id,
            prompt=prompt_digest(planned.clip.caption),
            seed=planned.seed(self.heading.seed),
            crc=crc,
            s=planned.s,
            expert=planned.expert.name,
        )


class PromptTable:
    """Prompts as tokens, each in a file of its own, read by the teacher's encoder once."""

    def __init__(self, teacher: Teacher, out: Path, where: Processes) -> None:
        self._teacher, self._where = teacher, where
        self._folder = out / TEXTS / digest_of(teacher.encoder).removeprefix("sha256:")[:16]
        self.tokens = functools.lru_cache(_PROMPTS)(self._tokens)  # all of them would fill the memory

    def read(self, prompts: Sequence[str]) -> None:
        """Have the tokens of these prompts and of the negative one; processes divide what is missing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        wanted = sorted({*prompts, self._teacher.negative})
        missing = [prompt for prompt in wanted if not self._file(prompt).exists()]
        self._where.wait()  # nobody writes before all have looked
        mine = missing[self._where.rank :: self._where.count]
        if mine:
            with self._teacher.reading(self._where.device) as read:
                for start in range(0, len(mine), _PROMPTS):
                    some = mine[start : start + _PROMPTS]
                    for prompt, text_SE in zip(some, read(some), strict=True):
                        _written(self._file(prompt), {"tokens": text_SE.cpu().contiguous()})
        self._where.wait()

    def _tokens(self, prompt: str) -> Tensor:
        """Return text_SE of a prompt that was read."""
        path = self._file(prompt)
        try:
            check_regular(path)
            text_SE = load_file(path)["tokens"]
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(
                f"the tokens {str(path)!r} cannot be read: {error}", remedy="delete that file and repeat the command"
            ) from error
        if text_SE.ndim != 2 or not text_SE.is_floating_point() or not text_SE.isfinite().all():
            raise InputError(
                f"the tokens {str(path)!r} are {text_SE.dtype} of the size {tuple(text_SE.shape)}, or not finite",
                remedy="delete that file and repeat the command",
            )
        return text_SE

    def _file(self, prompt: str) -> Path:
        return self._folder / f"{prompt_digest(prompt)}.safetensors"


def _written(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write tensors under a hidden name, sync and rename them; return the hash of the file."""
    hidden = path.with_name(f".{path.name}.partial")
    save_tensors(tensors, hidden, {"format": "pt"})
    try:
        with open_regular(hidden) as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        hidden.replace(path)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise InputError(
            f"{str(path)!r} cannot be written: {error.strerror}", remedy="make room, then repeat the command"
        ) from error
    return digest
