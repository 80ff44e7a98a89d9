"""files: video files of a folder, or of a tar archive, with captions beside them.

A caption stands in a file of the video's name that ends in .txt, or in .json as {"caption": "..."}; or in one CSV file
with the columns `file` and `caption`, which names the videos by their paths in the folder. A video without a caption
has an empty one; one with two is refused.
"""

from __future__ import annotations

import abc
import csv
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import ClassVar

import msgspec
import numpy as np
from typing_extensions import override

from s2search.border.regular_file import check_regular, read_regular, read_regular_text
from s2search.codec.video import Frames, count_frames, iterate_video
from s2search.errors import InputError
from s2search.training.data.base import ClipSource, Cut, Footage, Geometry

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".gif")
_CAPTIONS = (".txt", ".json")


@dataclass(frozen=True, kw_only=True)
class Files(ClipSource):
    """Videos of a folder and of all folders in it, of one file, or of a tar archive.

    Attributes:
        path: The folder, the file, or the archive.
        captions: A CSV file of captions, instead of files beside the videos.
    """

    statement: ClassVar[str] = "video files that FFmpeg reads, of a folder or a tar archive"

    path: str
    captions: str = ""

    @override
    def recordings(self) -> Sequence[Footage]:
        path = Path(self.path)
        if not path.exists():
            raise InputError(f"there is no {self.path!r}", remedy="name a folder, a video file or a tar archive")
        place: _Place = _Archive(path) if path.suffix == ".tar" else _Folder(path)
        names = place.names()
        videos = [name for name in names if PurePosixPath(name).suffix.lower() in ENDINGS]
        if not videos:
            raise InputError(f"no video is in {self.path!r}", allowed=", ".join(ENDINGS), remedy="name another folder")
        listed = _listed(Path(self.captions)) if self.captions else {}
        for unknown in sorted(listed.keys() - set(videos)):
            raise InputError(
                f"{self.captions!r} has a caption of {unknown!r}, which is no video in {self.path!r}",
                remedy="correct the name",
            )
        return tuple(
            VideoFile(
                name=name,
                digest=f"sha256:{hashlib.sha256(place.read(name)).hexdigest()}",
                caption=_caption(name, names, place, listed),
                place=place,
            )
            for name in videos
        )


@dataclass(frozen=True, kw_only=True)
class VideoFile(Footage):
    """One file, decoded once for all of its clips."""

    place: _Place

    @override
    def length(self) -> int:
        with self.place.opened(self.name) as path:
            return count_frames(path)

    @override
    def clips(self, cuts: Sequence[Cut], geometry: Geometry) -> Iterator[Frames]:
        rows, columns = geometry.size
        taken: list[list[Frames]] = [[] for _ in cuts]
        given = 0
        with self.place.opened(self.name) as path:
            for number, frame_HWC in enumerate(iterate_video(path, size=geometry.video, whole=True)):
                for cut, frames in zip(cuts[given:], taken[given:], strict=True):
                    past = number - cut.start
                    if past >= 0 and past % cut.stride == 0 and len(frames) < geometry.frames:
                        top = round(cut.top * (frame_HWC.shape[0] - rows))
                        left = round(cut.left * (frame_HWC.shape[1] - columns))
                        frames.append(frame_HWC[top : top + rows, left : left + columns])
                while given < len(cuts) and len(taken[given]) == geometry.frames:
                    yield np.stack(taken[given])
                    taken[given], given = [], given + 1
                if given == len(cuts):
                    return
        raise InputError(f"{self.name!r} ends before the clips that were cut from it", remedy="check the file")


class _Place(abc.ABC):
    """Where files lie, by their names there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abc.abstractmethod
    def names(self) -> list[str]:
        """Return the names of all regular files, sorted."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's content."""

    @abc.abstractmethod
    def opened(self, name: str) -> AbstractContextManager[Path]:
        """Give a file that FFmpeg can open."""


class _Folder(_Place):
    """A folder and all folders in it, or one file and what is beside it under its name."""

    @override
    def names(self) -> list[str]:
        if not self.path.is_dir():
            check_regular(self.path)
            beside = (self.path.with_suffix(ending) for ending in _CAPTIONS)
            return [path.name for path in (self.path, *beside) if path.is_file()]
        found = (path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def _at(self, name: str) -> Path:
        return self.path / name if self.path.is_dir() else self.path.with_name(name)

    @override
    def read(self, name: str) -> bytes:
        return read_regular(self._at(name))

    @override
    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        yield self._at(name)


class _Archive(_Place):
    """A tar archive; nothing is unpacked but one file at a time, under a name of our own."""

    @override
    def names(self) -> list[str]:
        with self._open() as archive:
            found = sorted(member.name for member in archive if member.isfile())
        if twice := next((a for a, b in pairwise(found) if a == b), None):
            raise InputError(f"{str(self.path)!r} holds {twice!r} twice", remedy="make the archive anew")
        return found

    @override
    def read(self, name: str) -> bytes:
        with self._open() as archive:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

    @override
    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(suffix=PurePosixPath(name).suffix) as file:
            file.write(self.read(name))
            file.flush()
            yield Path(file.name)

    @contextmanager
    def _open(self) -> Iterator[tarfile.TarFile]:
        try:
            check_regular(self.path)
            with tarfile.open(self.path, "r:") as archive:
                yield archive
        except (tarfile.TarError, OSError) as error:
            raise InputError(f"{str(self.path)!r} is no tar archive: {error}", remedy="check the file") from error


def _listed(path: Path) -> dict[str, str]:
    """Read captions by their videos' names from a CSV file."""
    rows = csv.DictReader(io.StringIO(read_regular_text(path), newline=""))
    if not {"file", "caption"} <= set(rows.fieldnames or ()):
        raise InputError(f"{str(path)!r} has no columns `file` and `caption`", remedy="name them in its first line")
    found: dict[str, str] = {}
    for row in rows:
        if row["file"] in found:
            raise InputError(f"{str(path)!r} has two captions of {row['file']!r}", remedy="leave out one")
        found[row["file"]] = row["caption"] or ""
    return found


def _caption(name: str, names: Sequence[str], place: _Place, listed: dict[str, str]) -> str:
    beside = [other for ending in _CAPTIONS if (other := str(PurePosixPath(name).with_suffix(ending))) in names]
    if len(beside) + (name in listed) > 1:
        also = ["the list"] if name in listed else []
        raise InputError(f"{name!r} has two captions: {' and '.join([*beside, *also])}", remedy="leave out one")
    if not beside:
        return listed.get(name, "")
    content = place.read(beside[0])
    try:
        text = msgspec.json.decode(content, type=_Said).caption if beside[0].endswith(".json") else content.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the caption {beside[0]!r} cannot be read: {error}", remedy="correct it") from error
    return " ".join(text.split())


class _Said(msgspec.Struct):
    caption: str
