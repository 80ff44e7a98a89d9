"""Qualities from a file: what somebody states of designs, by as many of their sides as he likes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NoReturn

import msgspec
from msgspec import UNSET, UnsetType
from typing_extensions import override

from s2search import registry
from s2search.border.printable import printable
from s2search.border.regular_file import read_regular
from s2search.cost import CommitPolicy
from s2search.document import read_json, without_mark
from s2search.errors import InputError, QualityError
from s2search.preset import token_grid
from s2search.quality.base import FIELDS, Judgement, Quality, Setting
from s2search.space import layout_labels

SCHEMA = "s2search.quality/1"
_LARGEST, _LONGEST, _MOST_ENTRIES = 1e100, 300, 10_000

_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
_Past = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sides of the designs that an entry is about; what is left out may be anything. See `Setting`.

    Attributes:
        layout: As people write it, `L4S8L4S8L4` or `lcha*4,ssa*8`.
    """

    preset: str | UnsetType = UNSET
    depth: _Count | UnsetType = UNSET
    channels: _Count | UnsetType = UNSET
    video: str | UnsetType = UNSET
    steps: _Count | UnsetType = UNSET
    chunk_frames: _Count | UnsetType = UNSET
    window_chunks: _Past | UnsetType = UNSET
    commit: CommitPolicy | UnsetType = UNSET
    precision: str | UnsetType = UNSET
    decoder: str | UnsetType = UNSET
    layout: str | UnsetType = UNSET

    @property
    def sides(self) -> dict[str, Any]:
        """What is stated, as the fields of a setting have it."""
        stated = {name: getattr(self, name) for name in FIELDS if getattr(self, name) is not UNSET}
        return stated | ({"layout": layout_labels(stated["layout"])} if "layout" in stated else {})


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is stated of some designs.

    Attributes:
        when: Of which.
        value: How good they are.
        error: Standard error; null where it is not known.
        scale: What the value is of, where it is not the file's.
        source: Where it comes from.
    """

    when: When
    value: float
    error: float | None = None
    scale: str | None = None
    source: str


@dataclass(frozen=True, kw_only=True)
class QualityFile(Quality):
    """Qualities as JSON.

    Of the entries that a design fits, the one counts that states the sides of all others and more; where there is none,
    the design is refused, unless the entries in question say the same.

    Attributes:
        name: Of the file.
        statement: Where the values come from, in a sentence.
        scale: What values are of; the file's name where nothing is said.
        larger_is_better: Whether more of every value in this file is better; else they enter with a minus.
        entries: What is stated.
    """

    file: ClassVar[str] = ""  # of one that was loaded, its path

    schema: Literal["s2search.quality/1"]
    name: str = field()  # type: ignore[misc]  # of the file: it has no entry point
    statement: str
    scale: str = ""
    larger_is_better: bool = True
    entries: tuple[Entry, ...]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> QualityFile:
        """Read and check a file.

        Raises:
            QualityError: It is missing, is not JSON of the schema, or contradicts itself.
        """
        found = read_json(path, cls, what=f"quality of schema {SCHEMA}", error=QualityError)
        _refuse_repeated_keys(path)
        object.__setattr__(found, "file", str(path))  # no field: it is not in the file, nor in the digest
        return found

    def __post_init__(self) -> None:
        self._check_texts(name=self.name, statement=self.statement)
        if self.scale:
            self._check_texts(scale=self.scale)
        if not 1 <= len(self.entries) <= _MOST_ENTRIES:
            self._refuse(f"has {len(self.entries)} entries", f"1 to {_MOST_ENTRIES:,}")
        seen: dict[tuple[tuple[str, Any], ...], int] = {}
        for number, entry in enumerate(self.entries, 1):
            sides = tuple(self._checked_sides(number, entry).items())
            if sides in seen:
                self._refuse(f"states the same designs in entries {seen[sides]} and {number}", "each once")
            seen[sides] = number

    def _checked_sides(self, number: int, entry: Entry) -> dict[str, Any]:
        error = entry.error
        if not abs(entry.value) < _LARGEST or not (error is None or 0 <= error < _LARGEST):
            told = "" if error is None else f" +- {error}"
            self._refuse(
                f"has the value {entry.value}{told} in entry {number}", f"sizes below {_LARGEST:g}, errors from 0"
            )
        self._check_texts(source=entry.source)
        if entry.scale is not None:
            self._check_texts(scale=entry.scale)
        try:
            sides = entry.when.sides
            if "video" in sides:
                token_grid(sides["video"])
        except InputError as problem:
            raise QualityError(
                f"{self._where} in entry {number}: {problem.problem}", allowed=problem.allowed, remedy=problem.remedy
            ) from problem
        if len(sides.get("layout", ())) not in (0, sides.get("depth", len(sides.get("layout", ())))):
            self._refuse(f"has a layout of {len(sides['layout'])} layers at depth {sides['depth']} in entry {number}")
        return sides

    def _check_texts(self, **texts: str) -> None:
        for name, text in texts.items():
            if not text.strip() or len(text) > _LONGEST or printable(text) != text or len(text.splitlines()) > 1:
                self._refuse(f"has the {name} {text[:60]!r}", f"one line of up to {_LONGEST} characters")

    def _refuse(self, problem: str, allowed: str = "") -> NoReturn:
        raise QualityError(f"{self._where} {problem}", allowed=allowed, remedy="correct it")

    @property
    def _where(self) -> str:
        return repr(self.file) if self.file else f"the quality {self.name[:60]!r}"

    @property
    def options(self) -> dict[str, Any]:
        """None: the numbers of a file are known by its name and its digest."""
        return {}

    @property
    @override
    def digest(self) -> str:
        stated = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return f"sha256:{hashlib.sha256(msgspec.json.encode(stated, order='sorted')).hexdigest()}"

    @property
    @override
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        return tuple(dict.fromkeys(sides["layout"] for sides, _ in self._stated if "layout" in sides))

    @cached_property
    def _stated(self) -> tuple[tuple[dict[str, Any], Entry], ...]:
        return tuple((entry.when.sides, entry) for entry in self.entries)

    @override
    def judge(self, setting: Setting) -> Judgement | None:
        found = [
            (sides, entry)
            for sides, entry in self._stated
            if all(getattr(setting, name) == value for name, value in sides.items())
        ]
        if not found:
            return None
        closest = [
            (sides, entry) for sides, entry in found if not any(sides.keys() < other.keys() for other, _ in found)
        ]
        _, entry = closest[0]
        for sides, other in closest[1:]:
            if (other.value, other.error, other.scale) != (entry.value, entry.error, entry.scale):
                self._refuse_two(closest[0][0], sides)
        return Judgement(
            value=entry.value if self.larger_is_better else -entry.value,
            error=entry.error,
            scale=entry.scale or self.scale or self.name,
            source=f"{entry.source} ({self.file or self.name})",
            provenance="stated",
        )

    def _refuse_two(self, one: dict[str, Any], other: dict[str, Any]) -> NoReturn:
        told = " and ".join(repr(", ".join(sides)) for sides in (one, other))
        raise QualityError(
            f"{self._where} states two values of one design, by {told}, and neither includes the other",
            remedy="add an entry that states the sides of both",
        )


def _refuse_repeated_keys(path: str | os.PathLike[str]) -> None:
    """Raise where an object of a file has a key twice, of which the first would be lost in silence."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise QualityError(f"{str(path)!r} has the key {name[:60]!r} twice", remedy="keep one of them")
        return dict(pairs)

    json.loads(without_mark(read_regular(path)), object_pairs_hook=once)


def open_quality(name_or_file: str | os.PathLike[str]) -> Quality:
    """Return an installed quality by name, or read one from a JSON file; a path that is no text is a file.

    Raises:
        QualityError: The text means an installed quality, and a file as well.
    """
    quality: Quality = registry.create_or_load("qualities", name_or_file, QualityFile.load, QualityError)
    return quality
