"""Checkpoints: what a run goes on from, in safetensors shards that load on any number of processes.

A checkpoint is written under a hidden name, synced, and then renamed: what has a number is whole. Its state.json names
the hashes of its files; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from s2search.border.regular_file import open_regular
from s2search.document import Document, read_json
from s2search.errors import InputError
from s2search.training.parallel import Processes, load, saved
from s2search.training.trained_network import TrainedNetwork

CHECKPOINTS, _STATE = "checkpoints", "state.json"


@dataclass(frozen=True, kw_only=True)
class State(Document):
    """What a checkpoint says beside its tensors: the content of state.json.

    Attributes:
        steps: Done.
        updates: How often each network moved.
        model: The digest of the model's config.
        files: The hash of each file.
    """

    schema: Literal["s2search.checkpoint/1"] = "s2search.checkpoint/1"
    steps: int
    updates: dict[str, int]
    model: str
    files: dict[str, str]


def save(
    folder: Path,
    steps: int,
    moved: Mapping[str, TrainedNetwork],
    model: str,
    where: Processes,
    *,
    keep: int,
    best: int | None = None,
) -> None:
    """Write a checkpoint, then drop those before the last `keep`, but for the one of `best` steps.

    Raises:
        InputError: The disk does not take it; the ones before are safe.
    """
    place = folder / CHECKPOINTS / f"{steps:08}"
    hidden = place.with_name(f".{place.name}.partial")
    try:
        if where.first:
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir(parents=True)
        where.wait()
        saved({key: tensor for name, one in moved.items() for key, tensor in one.tensors(name).items()}, hidden, where)
        where.wait()
        if not where.first:
            return
        files = {path.name: _sha256(path) for path in sorted(hidden.iterdir())}
        updates = {name: one.updates for name, one in moved.items()}
        State(steps=steps, updates=updates, model=model, files=files).save(hidden / _STATE)
        for path in (*hidden.iterdir(), hidden):
            _sync(path)
        hidden.replace(place)
        _sync(place.parent)
    except OSError as error:
        shutil.rmtree(hidden, ignore_errors=True)
        raise InputError(
            f"the checkpoint {str(place)!r} cannot be written: {error.strerror or error}",
            remedy="make room; the same command then goes on from the one before",
        ) from error
    for old in _found(folder)[:-keep]:
        if int(old.name) != best:
            shutil.rmtree(old)


def resume(folder: Path, moved: Mapping[str, TrainedNetwork], model: str, where: Processes) -> int:
    """Fill networks from the last checkpoint and return its steps; 0 where there is none yet.

    Raises:
        InputError: It is harmed, or of another model.
    """
    found = _found(folder)
    if not found:
        return 0
    place = found[-1]
    state = read_json(place / _STATE, State, what="checkpoint")
    if state.model != model or state.updates.keys() != moved.keys():
        raise InputError(
            f"the checkpoint {str(place)!r} is of another model: {state.model[:19]}, not {model[:19]}",
            remedy="restore it, or choose another folder",
        )
    _check(place, state, remedy="delete that checkpoint: the same command goes on from the one before")
    load({key: tensor for name, one in moved.items() for key, tensor in one.tensors(name).items()}, place, where)
    for name, one in moved.items():
        one.resumed(state.updates[name])
    return state.steps


def recall(folder: Path, steps: int, tensors: Mapping[str, Tensor], where: Processes) -> None:
    """Fill tensors, by their names among `TrainedNetwork.tensors`, from the checkpoint of so many steps.

    Raises:
        InputError: It is gone, or harmed.
    """
    place = folder / CHECKPOINTS / f"{steps:08}"
    state = read_json(place / _STATE, State, what="checkpoint")
    _check(place, state, remedy="restore it: the best average is in it")
    load(tensors, place, where)


def _check(place: Path, state: State, *, remedy: str) -> None:
    names = {path.name for path in place.iterdir()} - {_STATE}
    harmed = sorted(names ^ state.files.keys()) or [
        name for name, digest in state.files.items() if _sha256(place / name) != digest
    ]
    if harmed:
        raise InputError(
            f"{harmed[0]!r} of the checkpoint {str(place)!r} is not as it was written",
            remedy=remedy,
        )


def _found(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / CHECKPOINTS).glob("*") if re.fullmatch(r"\d{8}", path.name))


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
