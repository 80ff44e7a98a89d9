"""A journal: results on disk as they come, one JSON object per line, appended and synced line by line.

Its first line, the heading, says which work it belongs to; the others are results in the order in which they came. A
process that dies leaves at most one torn line at the end, which the next one drops: what is on disk is always the
beginning of the whole file, so the same command goes on where the last one stopped. Two processes cannot write to one
journal, and a file that is none, or is that of other work, is refused as it stands.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from s2search.border.large_numbers import large_number
from s2search.border.regular_file import check_regular, read_regular
from s2search.dates import newer_schema
from s2search.errors import InputError

_Heading = TypeVar("_Heading")
_Line = TypeVar("_Line")


class Journal(Generic[_Line]):
    """What a journal holds so far, and its end, where lines are appended; `heading` is its first line as plain JSON."""

    def __init__(self, path: Path, file: FileIO, heading: Any, lines: list[_Line]) -> None:
        self.path, self._file, self.heading, self.lines = path, file, heading, lines

    def append(self, line: _Line) -> None:
        """Write one line and sync it to the disk.

        Raises:
            InputError: The disk does not take it; all earlier lines are safe.
        """
        _write(self._file, self.path, msgspec.json.encode(line) + b"\n")
        self.lines.append(line)

    @property
    def digest(self) -> str:
        """A hash of the file."""
        return f"sha256:{hashlib.sha256(read_regular(self.path)).hexdigest()}"


@contextmanager
def open_journal(path: Path, heading: _Heading, kind: Any, *, of: str) -> Iterator[Journal[Any]]:
    """Make a journal, or go on with it; no other process can open it meanwhile.

    Args:
        path: The file.
        heading: What all processes that share the journal must have in common: what JSON can say.
        kind: The type of the other lines.
        of: What such work is called, for the errors: "campaign".

    Raises:
        InputError: The file is the journal of other work, is in use, or has a line that is none of such a journal.
    """
    with _appendable(path) as file:
        lock(file, path)
        file.seek(0)
        content, first = file.readall() or b"", msgspec.json.encode(heading) + b"\n"
        whole = _whole(content)
        if not whole and not first.startswith(content):
            raise InputError(f"{str(path)!r} is no journal of a {of}", remedy="choose another place")
        found = _lines(whole, path, type(heading), kind, of)
        if found and (difference := first_difference(plain(found[0]), plain(heading))):
            raise InputError(
                f"{str(path)!r} belongs to another {of}: {difference}",
                remedy="repeat the command that started it, or choose another place",
                difference=difference,
            )
        torn = content[len(whole) :].strip(b"\0")  # a power cut may leave zeros
        if not b'{"'.startswith(torn[:2]):
            raise InputError(f"{str(path)!r} ends in what is no line of a {of}", remedy="move it away")
        file.truncate(len(whole))
        if not found:
            _write(file, path, first)
        yield Journal(path, file, plain(heading), found[1:])


def read_journal(
    path: Path, heading: type[_Heading], kind: Any, *, of: str, remedy: str = "check the path"
) -> tuple[_Heading, Journal[Any]]:
    """Read a journal and change nothing; nothing can be appended to it.

    Args:
        path: The file.
        heading: The type of its first line.
        kind: The type of the other lines.
        of: What such work is called, for the errors.
        remedy: What to do where there is no such file.

    Raises:
        InputError: There is no such file, or it is no such journal.
    """
    try:
        check_regular(path)
        with FileIO(path, "r") as file:
            content = file.readall() or b""
    except OSError as error:
        problem = f"{str(path)!r} cannot be read: {error.strerror}"
        raise InputError(problem, remedy=remedy) from error
    found = _lines(_whole(content), path, heading, kind, of)
    if not found:
        raise InputError(f"{str(path)!r} is empty", remedy="restore the file")
    return found[0], Journal(path, file, msgspec.json.decode(content.partition(b"\n")[0]), found[1:])


def _appendable(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_regular(path)
        return FileIO(path, "a+")
    except OSError as error:
        problem = f"{str(path)!r} cannot be written: {error.strerror}"
        raise InputError(problem, remedy="choose another place") from error


def lock(file: FileIO, path: Path) -> None:
    """Keep other processes from a file until it is closed.

    Raises:
        InputError: One of them has it; `path` is what the error names.
    """
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        problem = f"another process is writing to {str(path)!r}"
        raise InputError(problem, remedy="let it finish, or stop it") from None


def _write(file: FileIO, path: Path, left: bytes) -> None:
    try:
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written: {error.strerror}",
            remedy="make room; the same command then goes on where it stopped",
            path=path,
        ) from error


def _whole(content: bytes) -> bytes:
    """Return the content without a torn last line."""
    return content[: content.rfind(b"\n") + 1]


def _lines(whole: bytes, path: Path, heading: Any, kind: Any, of: str) -> list[Any]:
    lines: list[Any] = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            line.decode()  # what is unknown is skipped unread
            lines.append(msgspec.json.decode(line, type=kind if lines else heading))
            if large := large_number(line):
                raise msgspec.ValidationError(f"{large[:60]} is no integer of 64 bits")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not lines and (newer := _newer_schema(line, heading)):
                raise InputError(
                    f"{str(path)!r} was made by a newer s2search: its schema is {newer[:60]!r}",
                    remedy="install that version, or choose another place",
                ) from error
            raise InputError(
                f"line {number} of {str(path)!r} is not a line of a {of}: {error}",
                remedy="restore the file, or choose another place",
            ) from error
    return lines


def _newer_schema(line: bytes, heading: Any) -> str:
    """Return the schema of a first line that a later version wrote; empty where it is none."""
    fields = msgspec.structs.fields(heading) if issubclass(heading, msgspec.Struct) else ()
    stated = next((one.default for one in fields if one.name == "schema"), "")
    return newer_schema(line, stated) if isinstance(stated, str) else ""


def plain(heading: Any) -> Any:
    """Return a value as what JSON makes of it."""
    return msgspec.json.decode(msgspec.json.encode(heading))


def first_difference(there: Any, here: Any, name: str = "") -> str:
    """Return the first field in which two JSON values differ, with both values; empty if they are equal.

    >>> first_difference({"seed": 0, "protocol": {"rounds": 30}}, {"seed": 0, "protocol": {"rounds": 10}})
    'protocol.rounds is 30 there and 10 here'
    """
    if isinstance(there, list) and isinstance(here, list):
        there, here = ({str(i): value for i, value in enumerate(values)} for values in (there, here))
    if isinstance(there, dict) and isinstance(here, dict):
        for key in there | here:
            inner = f"{name}.{key}" if name else key
            if difference := first_difference(there.get(key), here.get(key), inner):
                return difference
        return ""
    return "" if there == here else f"{name} is {_brief(there)} there and {_brief(here)} here"


def _brief(value: Any) -> str:
    if value is None:
        return "absent"
    return repr(value["key"] if isinstance(value, dict) and "key" in value else value)
