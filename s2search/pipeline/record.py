"""The record of a folder of stages: what each was made from, and the hashes of its files, in stages.json.

A stage is a function of its parents' files and of its own settings. One whose record says the same as what is asked is
kept. The record is written before a folder is emptied, when its stage begins, and when it is done: whenever a process
is killed, the record says which folders can be trusted.

What tells times, or is no result, is not hashed: figures of single steps with their seconds, how far samples are from
real clips beside how fast they were made (the samples are hashed), checkpoints of a finished run, pages for people.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from s2search.border.regular_file import check_regular
from s2search.document import Document, read_json
from s2search.errors import InputError
from s2search.journal import plain
from s2search.pipeline.stages import Stage

RECORD, LOCK = "stages.json", ".lock"
_UNHASHED = (LOCK, "metrics.csv", "report.html", "times.json", "distance.json")
_UNHASHED_FOLDERS = ("checkpoints", "tensorboard")
_SIZE = 1 << 20

State = Literal["removed", "begun", "done"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage is made from.

    Attributes:
        settings: Its own.
        parents: The digest of each parent's files.
        inputs: Hashes of what it reads from outside.
    """

    settings: dict[str, Any] = {}
    parents: dict[str, str] = {}
    inputs: dict[str, str] = {}


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stage as it is in the folder.

    Attributes:
        state: `removed`: its folder is being emptied; `begun`; `done`.
        asked: What it is made from.
        files: A hash of each file, by its path in the stage's folder; when it is done.
        seconds: That it took the process that finished it.
        s2search: The version that made it.
    """

    state: State
    asked: Asked
    files: dict[str, str] = {}
    seconds: float = 0.0
    s2search: str = ""

    @property
    def digest(self) -> str:
        """A hash of its files."""
        text = "\n".join(f"{name} {digest}" for name, digest in sorted(self.files.items()))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class PipelineRecord(Document):
    """What a folder of stages holds: the content of stages.json.

    Attributes:
        stages: By name, in the order in which they were first made.
    """

    schema: Literal["s2search.pipeline/1"] = "s2search.pipeline/1"
    stages: dict[str, StageRecord] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> PipelineRecord:
        """Return the record in a folder, an empty one where there is nothing.

        Raises:
            InputError: The folder holds something else.
        """
        if (folder / RECORD).exists():
            return read_json(folder / RECORD, cls, what="record of stages")
        strange = sorted(path.name for path in folder.iterdir() if path.name != LOCK) if folder.is_dir() else []
        if strange:
            raise InputError(
                f"{str(folder)!r} is not empty, and not the folder of a run: it has {strange[0]!r}",
                remedy="choose another folder",
            )
        return cls()

    def having(self, name: str, stage: StageRecord) -> PipelineRecord:
        """Return the record with a stage in it."""
        return replace(self, stages={**self.stages, name: stage})


def asked_of(stage: Stage, record: PipelineRecord) -> Asked:
    """Return what a stage is made from now; its parents must be there."""
    parents = {name: record.stages[name].digest for name in stage.parents}
    found: Asked = msgspec.convert(
        plain({"settings": stage.settings, "parents": parents, "inputs": stage.inputs}), Asked
    )
    return found


def changes(before: Asked, after: Asked) -> Iterator[str]:
    """Yield in words what differs, with both values.

    >>> before, after = Asked(settings={"lr": 0.1}, parents={"data": "sha256:1"}), Asked(settings={"lr": 0.2})
    >>> list(changes(before, after))
    ['lr was 0.1 and is 0.2', 'data was sha256:1 and is absent']
    """
    for name in ("settings", "parents", "inputs"):
        old, new = (msgspec.to_builtins(getattr(one, name)) for one in (before, after))
        for key in old | new:
            if old.get(key) != new.get(key):
                yield f"{key} was {_brief(old.get(key))} and is {_brief(new.get(key))}"


def hashed(folder: Path) -> dict[str, str]:
    """Return a hash of every file of a stage, by its path.

    Raises:
        InputError: One of them cannot be read, or is no plain file.
    """
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _UNHASHED_FOLDERS)
        for name in sorted(files):
            if name not in _UNHASHED and not name.endswith(".partial"):
                path = Path(place, name)
                found[path.relative_to(folder).as_posix()] = _hash(path)
    return found


def check_unchanged(folder: Path, name: str, files: Mapping[str, str]) -> None:
    """Raise if the files of a stage are not those that it left.

    Raises:
        InputError: It names the first one.
    """
    now = hashed(folder / name)
    for file in sorted(files.keys() | now.keys()):
        if now.get(file) == files.get(file):
            continue
        what = "is gone" if file not in now else "is new" if file not in files else "was changed"
        both = f" ({files[file][:12]} before, {now[file][:12]} now)" if what == "was changed" else ""
        raise InputError(
            f"{str(folder / name / file)!r} {what}{both} since the stage {name!r} was done",
            remedy=f"restore it, or remove the folder {str(folder / name)!r}, and the stage is made again",
            stage=name,
            file=file,
        )


def _hash(path: Path) -> str:
    found = hashlib.sha256()
    try:
        check_regular(path)
        with path.open("rb") as file:
            while part := file.read(_SIZE):
                found.update(part)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}", remedy="check the file") from error
    return found.hexdigest()


def _brief(value: Any) -> str:
    if value is None:
        return "absent"
    return str(value)[:19] if str(value).startswith("sha256:") else repr(value)
