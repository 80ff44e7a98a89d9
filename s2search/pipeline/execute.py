"""Makes stages in their order: keeps those that are as asked, goes on with one that was stopped, and makes the others.

A stage that is made anew may leave the same files as before; then those that read it are kept.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Literal

import msgspec

from s2search.document import check_folder
from s2search.errors import InputError, S2SearchError
from s2search.journal import lock
from s2search.pipeline.record import (
    LOCK,
    RECORD,
    Asked,
    PipelineRecord,
    StageRecord,
    asked_of,
    changes,
    check_unchanged,
    hashed,
)
from s2search.pipeline.stages import Stage
from s2search.registry import own_version

_NAMED = 3  # parents, in a reason

#: Makes a stage in its folder, which is there.
Body = Callable[[Path], None]


class StageFate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a stage.

    Attributes:
        stage: Its name.
        fate: It is `kept`, is `made`, or `goes on`.
        why: In words; empty for what is kept.
    """

    stage: str
    fate: Literal["kept", "made", "goes on"]
    why: str = ""


def foreseen(folder: Path, stages: Sequence[Stage]) -> Iterator[StageFate]:
    """Yield what would become of stages; nothing is changed.

    Raises:
        InputError: The folder holds something else, or a stage's files were changed.
    """
    record, made = PipelineRecord.load(folder), set()
    for stage in stages:
        if again := [name for name in stage.parents if name in made]:
            found = StageFate(stage=stage.name, fate="made", why=f"after {_some(again)}")
            if stage.name not in record.stages:
                found = StageFate(stage=stage.name, fate="made", why="was not made yet")
        else:
            found = _found(folder, stage, record, asked_of(stage, record))
        if found.fate != "kept":
            made.add(stage.name)
        yield found


def execute(
    folder: Path,
    stages: Sequence[Stage],
    bodies: Mapping[str, Body],
    tell: Callable[[StageFate, float | None], None] = lambda found, seconds: None,
    clock: Callable[[], float] = time.monotonic,
) -> PipelineRecord:
    """Make stages, or keep what is there.

    Args:
        folder: Of the stages, opened.
        stages: In their order.
        bodies: Make them.
        tell: Told what becomes of each, before it is made, and how long it took the last time, where that is known.
        clock: Gives seconds.

    Raises:
        InputError: The folder holds something else, a stage's files were changed, or what a stage raises.
    """
    record = PipelineRecord.load(folder)
    for stage in stages:
        asked = asked_of(stage, record)
        found = _found(folder, stage, record, asked)
        before = record.stages.get(stage.name)
        tell(found, before.seconds if before is not None and before.seconds else None)
        if found.fate == "kept":
            continue
        if found.fate == "made":
            record = _emptied(folder, stage.name, record, asked)
        began_s = clock()
        try:
            bodies[stage.name](folder / stage.name)
        except S2SearchError:
            if found.fate == "made" and before is not None:
                _put_back(folder, stage.name, record, before)
            raise
        done = StageRecord(
            state="done",
            asked=asked,
            files=hashed(folder / stage.name),
            seconds=round(clock() - began_s, 3),
            s2search=own_version(),
        )
        shutil.rmtree(_aside(folder, stage.name), ignore_errors=True)
        record = record.having(stage.name, done)
        record.save(folder / RECORD)
    return record


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Keep other processes from a folder of stages, which is made where there is none.

    Raises:
        InputError: It holds something else, or another process works in it.
    """
    check_folder(folder)
    PipelineRecord.load(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileIO(folder / LOCK, "a+") as file:
        lock(file, folder)
        if not (folder / RECORD).exists():
            PipelineRecord().save(folder / RECORD)
        yield


def _found(folder: Path, stage: Stage, record: PipelineRecord, asked: Asked) -> StageFate:
    before, name = record.stages.get(stage.name), stage.name
    if before is None:
        _check_free(folder / name)
        return StageFate(stage=name, fate="made", why="was not made yet")
    if not (folder / name).is_dir():
        return StageFate(stage=name, fate="made", why="its folder is gone")
    if different := list(changes(before.asked, asked)):
        return StageFate(stage=name, fate="made", why="; ".join(different))
    if before.state == "done":
        check_unchanged(folder, name, before.files)
        return StageFate(stage=name, fate="kept")
    if before.state == "begun" and stage.resumes:
        return StageFate(stage=name, fate="goes on", why="was stopped")
    return StageFate(stage=name, fate="made", why="was stopped before it was done")


def _some(names: Sequence[str]) -> str:
    """Return the first few names, and how many there are beyond them.

    >>> _some(["score", "plan"]), _some(["score", "plan", "flow", "rival", "causal"])
    ('score, plan', 'score, plan, flow and 2 others')
    """
    beyond = len(names) - _NAMED
    return ", ".join(names) if beyond <= 0 else f"{', '.join(names[:_NAMED])} and {beyond} others"


def _check_free(place: Path) -> None:
    # A stage's folder is recorded before it is there: this one is somebody else's, and would be emptied.
    if place.exists() or place.is_symlink():
        raise InputError(f"{str(place)!r} is there, and no stage made it", remedy="move it away")


def _emptied(folder: Path, name: str, record: PipelineRecord, asked: Asked) -> PipelineRecord:
    """Empty the folder of a stage, so that however this ends nobody trusts what is left in it.

    What it held lies aside until the stage is done: a wrong setting takes nothing away.
    """
    aside = _aside(folder, name)
    record = record.having(name, StageRecord(state="removed", asked=asked))
    record.save(folder / RECORD)
    shutil.rmtree(aside, ignore_errors=True)
    if (folder / name).is_dir():
        (folder / name).rename(aside)
    (folder / name).mkdir()
    record = record.having(name, StageRecord(state="begun", asked=asked))
    record.save(folder / RECORD)
    return record


def _put_back(folder: Path, name: str, record: PipelineRecord, before: StageRecord) -> None:
    """Let a stage be what it was before it was emptied."""
    aside = _aside(folder, name)
    if not aside.is_dir():
        return
    record.having(name, StageRecord(state="removed", asked=before.asked)).save(folder / RECORD)
    shutil.rmtree(folder / name)
    aside.rename(folder / name)
    record.having(name, before).save(folder / RECORD)


def _aside(folder: Path, name: str) -> Path:
    return folder / f".{name}.before"
