"""The folder of a training run, and the one process that writes to it.

run.toml        as it was given
run.json        all settings, digests of what went in, versions
start/          the first weights
checkpoints/    the last ones, by the number of steps done
metrics.csv     what was reported: a step, a name and a value a line
model/          averaged weights, as save_pretrained writes them
judgement.json  how good they are
strip.png       what the model draws, a row for each caption, where it draws
report.html     all of it to look at
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Literal

from s2search.border.regular_file import read_regular_text
from s2search.document import Document, check_folder, read_json, write_text
from s2search.errors import InputError
from s2search.journal import first_difference, lock, plain
from s2search.training.settings import RunSettings

GIVEN, RECORD, START, METRICS = "run.toml", "run.json", "start", "metrics.csv"
MODEL, JUDGEMENT, STRIP, REPORT = "model", "judgement.json", "strip.png", "report.html"
_LOCK = ".lock"
_HEADER = ("step", "name", "value")

Row = tuple[int, str, float]


@dataclass(frozen=True, kw_only=True)
class Record(Document):
    """What a run is: the content of run.json.

    Attributes:
        settings: All of them.
        digests: Of what went in: the model's config, the plan, the data, the first weights, and further data sets.
        versions: That it was begun with: of s2search, torch and Python.
    """

    schema: Literal["s2search.run/1"] = "s2search.run/1"
    settings: RunSettings
    digests: dict[str, str]
    versions: dict[str, str]


@contextmanager
def opened(folder: Path, record: Record, given: str) -> Iterator[None]:
    """Begin a run in a folder, or go on with it; no other process can meanwhile.

    Args:
        folder: Made where there is none.
        record: What is asked.
        given: The text of run.toml.

    Raises:
        InputError: It holds another run or something else, or another process trains in it.
    """
    check_folder(folder)
    begun = (folder / RECORD).exists()
    strange = (
        sorted(path.name for path in folder.glob("*") if path.name != _LOCK) if not begun and folder.is_dir() else []
    )
    if strange:
        raise InputError(
            f"{str(folder)!r} is not empty, and no training run: it has {strange[0]!r}", remedy="choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with FileIO(folder / _LOCK, "a+") as file:
        lock(file, folder)
        if begun:
            _check_same(folder, record)
        else:
            record.save(folder / RECORD)
        if not (folder / GIVEN).exists():
            write_text(folder / GIVEN, given)
        yield


def _check_same(folder: Path, record: Record) -> None:
    there = read_json(folder / RECORD, Record, what="training run")
    for name in ("settings", "digests"):
        if difference := first_difference(plain(getattr(there, name)), plain(getattr(record, name))):
            what = "" if name == "settings" else "the digest of "
            raise InputError(
                f"{str(folder)!r} holds another run: {what}{difference}",
                remedy="go on with what it was begun with, or choose another folder",
                difference=difference,
            )


class Metrics:
    """The reported figures of a run, a line each.

    Args:
        folder: Of the run.
        steps: Done so far: lines of later ones, which a killed process left, are dropped.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._path = folder / METRICS
        write_text(self._path, _text([_HEADER, *read_metrics(folder, steps)]))

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Write what a step gave; `step` counts from 1, and 0 is before the first."""
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text([(step, name, repr(value)) for name, value in values.items()]))
        except OSError as error:
            raise InputError(
                f"{str(self._path)!r} cannot be written: {error.strerror}",
                remedy="make room; the same command then goes on from the last checkpoint",
            ) from error


def read_metrics(folder: Path, steps: int | None = None) -> list[Row]:
    """Return what a run reported, without a last line that a killed process tore.

    Args:
        folder: Of the run.
        steps: Without what it reported of later ones, and nothing where it has not begun.

    Raises:
        InputError: It cannot be read.
    """
    path = folder / METRICS
    if steps is not None and not path.exists():
        return []
    try:
        text = read_regular_text(path)
        whole = text[: text.rfind("\n") + 1]
        found = [(int(step), name, float(value)) for step, name, value in list(csv.reader(io.StringIO(whole)))[1:]]
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}", remedy="name a training run") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{str(path)!r} is no table of metrics: {error}", remedy="restore it") from error
    return [row for row in found if math.isfinite(row[2]) and (steps is None or row[0] <= steps)]


def _text(rows: list[tuple[object, ...]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
