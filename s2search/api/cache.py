"""The command `cache`: a teacher's answers, asked for once and for all of distillation."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from s2search.api.processes import joined
from s2search.api.values import PathText, plugin_of
from s2search.document import check_folder
from s2search.errors import InputError, require

if TYPE_CHECKING:
    from s2search.training.cache.documents import CacheHeading, Computed, Stored
    from s2search.training.cache.inspect import CacheInspection
    from s2search.training.cache.make import CacheEstimate
    from s2search.training.cache.records import TeacherCache
    from s2search.training.data.clips import Clips
    from s2search.training.teachers.base import Teacher

_TRIED = 20  # batches of each expert


def cache_make(
    teacher: str | Teacher,
    data: PathText,
    out: PathText = "cache",
    *,
    levels: int = 4,
    shift: float | None = None,
    seed: int = 0,
    dtype: Computed = "float32",
    store: Stored = "bfloat16",
    batch: int = 8,
    device: str = "cpu",
) -> TeacherCache:
    """Ask a teacher about noisy clips, and keep what it answers.

    Under torchrun every process calls it; they divide the shards, each on a device of its own.

    Args:
        teacher: A teacher: `local[folder=run/model]`, `wan22[folder=DIR]`.
        data: A folder that `data make` wrote.
        out: The folder. An unfinished cache is finished.
        levels: Noise levels of each clip; each expert gets one at least.
        shift: How far they are pushed towards 1; the teacher's own by default.
        seed: Of levels and noise.
        dtype: In which numbers the teacher computes.
        store: In which numbers its answers are kept: float32, bfloat16 or float8.
        batch: Records that are asked about at once.
        device: Where it is computed: cpu or cuda.

    Raises:
        InputError: Something does not go together, or the folder holds another cache.
        CheckError: An answer is not finite.
    """
    check_folder(Path(out))
    require("torch", "safetensors")
    from s2search.training.cache.make import make
    from s2search.training.cache.records import TeacherCache

    asked, clips = _teacher(teacher), _clips(data)
    heading = _heading(asked, clips, levels, shift, seed, dtype, store, batch)
    with joined(device, "asking") as (where, progress):
        make(asked, clips, heading, Path(out), where=where, progress=progress)
    return TeacherCache.load(Path(out), clips)


def cache_dry(
    teacher: str | Teacher,
    data: PathText,
    *,
    levels: int = 4,
    shift: float | None = None,
    seed: int = 0,
    dtype: Computed = "float32",
    store: Stored = "bfloat16",
    batch: int = 8,
    device: str = "cpu",
) -> CacheEstimate:
    """Return what a cache would cost: bytes, what the device must hold, and hours, from 20 batches of each expert.

    See `cache_make` for the arguments; nothing is kept.

    Raises:
        InputError: Something does not go together.
    """
    require("torch", "safetensors")
    from s2search.training.cache.make import tried

    asked, clips = _teacher(teacher), _clips(data)
    heading = _heading(asked, clips, levels, shift, seed, dtype, store, batch)
    with joined(device, "asking") as (where, _), tempfile.TemporaryDirectory() as folder:
        return tried(asked, clips, heading, Path(folder), steps=_TRIED, where=where)


def cache_inspect(folder: PathText) -> CacheInspection:
    """Say what a cache holds: records of each expert by noise level, bytes, and what is missing.

    Args:
        folder: What `cache make` wrote, whole or not.

    Raises:
        InputError: It is no cache.
    """
    require("torch", "safetensors")
    from s2search.training.cache.inspect import inspect

    return inspect(Path(folder))


def cache_verify(
    folder: PathText, data: PathText, *, recompute: int = 0, teacher: str | Teacher | None = None, device: str = "cpu"
) -> tuple[str, ...]:
    """Return what does not hold of a cache, a line each: shards, hashes, records, noise, and the teacher's answers.

    Args:
        folder: What `cache make` wrote.
        data: The data set that it was made of.
        recompute: Records that the teacher is asked about again, of all levels.
        teacher: Who answered; needed to ask again.
        device: Where it is computed: cpu or cuda.

    Raises:
        InputError: It is no cache, or one of other data or of another teacher.
    """
    require("torch", "safetensors")
    from s2search.training.cache.inspect import asked_again, check, least_decibels
    from s2search.training.cache.records import read_cache

    if recompute < 0:
        raise InputError(f"{recompute} records to ask about again", allowed="0 or more", remedy="correct it")
    if bool(recompute) != (teacher is not None):
        given, missing = ("recompute", "teacher") if recompute else ("teacher", "recompute")
        raise InputError(f"{given} is given without {missing}", remedy="give both, or neither")
    place, clips = Path(folder), _clips(data)
    problems = list(check(place, clips))
    if problems or teacher is None:
        return tuple(problems)
    least = least_decibels(read_cache(place)[0])
    with joined(device, "asking") as (where, progress):
        for done, (id, decibels) in enumerate(asked_again(place, clips, _teacher(teacher), recompute, where)):
            progress(done + 1, recompute, "")
            if decibels < least:
                problems.append(
                    f"record {id}: the teacher's answer is {decibels:.1f} dB from the one that is kept "
                    f"(allowed: {least:g} dB or more)"
                )
    return tuple(problems)


def _heading(
    teacher: Teacher,
    clips: Clips,
    levels: int,
    shift: float | None,
    seed: int,
    dtype: Computed,
    store: Stored,
    batch: int,
) -> CacheHeading:
    from s2search.training.cache.documents import Computed, Stored
    from s2search.training.cache.make import heading_of

    for name, value, allowed in (("dtype", dtype, get_args(Computed)), ("store", store, get_args(Stored))):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}", allowed=", ".join(allowed), remedy="choose one of them")
    return heading_of(teacher, clips, levels=levels, shift=shift, seed=seed, computed=dtype, stored=store, batch=batch)


def _teacher(given: str | Teacher) -> Teacher:
    from s2search.training.teachers.base import Teacher

    found = plugin_of("teachers", given)
    if not isinstance(found, Teacher):
        raise InputError(f"the teacher is {found!r}", allowed="its name with its options, or the teacher itself")
    return found


def _clips(data: PathText) -> Clips:
    from s2search.training.data.clips import Clips

    return Clips.load(Path(data))
