"""Documents that training wrote, read by the few fields that count; what else is in them is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from s2search.border.regular_file import open_regular, read_regular
from s2search.document import without_mark
from s2search.errors import QualityError

_T = TypeVar("_T")
_LONGEST_LINE = 1 << 20


def read_document(path: Path, cls: type[_T], *, what: str) -> _T:
    """Return a document of a JSON file.

    Raises:
        QualityError: It cannot be read, or is no such document.
    """
    try:
        return _decoded(read_regular(path), path, cls, what)
    except OSError as problem:
        raise QualityError(f"{str(path)!r} cannot be read: {problem.strerror}", remedy="check the path") from problem


def read_first_line(path: Path, cls: type[_T], *, what: str) -> _T:
    """Return the document in the first line of a journal, which may be long.

    Raises:
        QualityError: It cannot be read, or is no such document.
    """
    try:
        with open_regular(path) as file:
            return _decoded(file.readline(_LONGEST_LINE), path, cls, what)
    except OSError as problem:
        raise QualityError(f"{str(path)!r} cannot be read: {problem.strerror}", remedy="check the path") from problem


def _decoded(content: bytes, path: Path, cls: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(without_mark(content), type=cls)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise QualityError(f"{str(path)!r} is not a {what}: {problem}", remedy="make it again") from problem
