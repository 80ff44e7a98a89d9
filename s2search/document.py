"""JSON files with a schema: written from their dataclass, and read into it and nothing else."""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from s2search.border.large_numbers import large_number
from s2search.border.regular_file import read_regular, read_regular_text
from s2search.dates import is_newer
from s2search.errors import InputError, UnknownNameError

_T = TypeVar("_T")


class Document:
    """A dataclass that has a file form: indented JSON of its fields."""

    json_indent: ClassVar[int] = 2

    def to_json(self) -> str:
        """Return the content of the file."""
        return as_json(self, indent=self.json_indent)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, all or nothing.

        Raises:
            InputError: It cannot be written there.
        """
        write_text(Path(path), self.to_json())


def as_json(value: Any, *, indent: int = 2) -> str:
    """Return a value as indented JSON that ends its last line.

    >>> print(as_json({"depth": 28}), end="")
    {
      "depth": 28
    }
    """
    return msgspec.json.format(msgspec.json.encode(value), indent=indent).decode() + "\n"


def read_json(path: str | os.PathLike[str], cls: type[_T], *, what: str, error: type[InputError] = InputError) -> _T:
    """Read a JSON file as a dataclass: types and ranges checked, unknown keys refused.

    Args:
        path: The file.
        cls: A dataclass with a field `schema`, whose default names the file's schema.
        what: What such a file is called, for the error; its last word is the schema where the class has no default.
        error: What to raise.

    Raises:
        InputError: The file cannot be read, is no such document, or has a key that would be lost in silence.
    """
    try:
        content = without_mark(read_regular(path))
        if not content.strip():
            raise error(f"{str(path)!r} is not a {what}: it is empty", remedy="make it again")
        found: Any = msgspec.json.decode(content)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        known = {field.name for field in fields}
        schema = next((field.default for field in fields if field.name == "schema"), None)
        other = found.get("schema") if isinstance(found, dict) else None
        stated = schema if isinstance(schema, str) else what.rpartition(" ")[2]
        if isinstance(other, str) and is_newer(other, stated):
            raise error(
                f"{str(path)!r} is not a {what}: it was made by a newer s2search, its schema is {other[:60]!r}",
                remedy="install that version, or make the file again with this one",
            )
        if isinstance(schema, str) and isinstance(other, str) and other != schema:
            raise error(f"{str(path)!r} is not a {what}: its schema is {other[:60]!r}", remedy="name another file")
        for key in found if isinstance(found, dict) else ():
            if key not in known:
                raise UnknownNameError(f"key of the {what} {str(path)!r}", key, known, listed_as="its keys")
        if large := large_number(content):
            raise error(
                f"{str(path)!r} is not a {what}: it has the number {large[:60]}",
                allowed="integers of 64 bits",
                remedy="correct the file, or make it again",
            )
        return msgspec.json.decode(content, type=cls)
    except OSError as problem:
        raise error(
            f"the {what} {str(path)!r} cannot be read: {problem.strerror}", remedy="check the path"
        ) from problem
    except RecursionError as problem:
        raise error(f"{str(path)!r} is nested too deeply to be a {what}", remedy="correct the file") from problem
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise error(
            f"{str(path)!r} is not a {what}: {problem}", remedy="correct the file, or make it again"
        ) from problem


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file whose schema others keep.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    try:
        found = json.loads(read_regular_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} cannot be read as JSON: {error}", remedy="correct the file") from error
    if not isinstance(found, dict):
        raise InputError(f"{str(path)!r} holds no JSON object", remedy="correct the file")
    return found


def without_mark(content: bytes) -> bytes:
    """Return the content of a file of text without the byte-order mark that some editors put before it."""
    return content.removeprefix(codecs.BOM_UTF8)


def separator(text: str) -> str:
    """Return what separates the cells of a CSV file, as its first line tells: a comma, or else a semicolon or a tab.

    >>> separator("part;latency_ms"), separator("part,latency_ms;note")
    (';', ',')
    """
    first = text.partition("\n")[0]
    return next((mark for mark in ",;\t" if mark in first), ",")


def write_text(path: Path, text: str) -> None:
    """Write a file, all or nothing.

    Raises:
        InputError: It cannot be written there.
    """
    check_writable(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}", remedy="choose another path") from error


def check_writable(path: Path) -> None:
    """Raise if a file cannot be written there: its folder takes none, or something that is no plain file is there.

    Raises:
        InputError: It names the path.
    """
    problem = ""
    try:
        if not path.name:
            problem = "no file name"
        elif path.name == "-":
            problem = "it is no file, and nothing is written to the terminal in its place"
        elif not path.parent.is_dir():
            problem = "No such file or directory"
        elif path.is_symlink() or (path.exists() and not path.is_file()):
            problem = "it is not a regular file"
        else:
            path.with_name(f".{path.name}.partial").exists()  # its name may be too long
            _write_a_byte(path.parent)
    except OSError as error:
        problem = str(error.strerror)
    if problem:
        raise InputError(f"{str(path)!r} cannot be written: {problem}", remedy="choose another path")


def check_folder(folder: Path) -> None:
    """Raise if nothing can be written in a folder, which may still have to be made.

    Raises:
        InputError: It names the folder.
    """
    try:
        there = next(one for one in (folder, *folder.absolute().parents) if one.is_symlink() or one.exists())
        problem = "" if there.is_dir() else f"{str(there)!r} is not a folder"
        if folder.name == "-":
            problem = "nothing is written to the terminal in its place"
        if not problem:
            _write_a_byte(there)
    except OSError as error:
        problem = str(error.strerror)
    if problem:
        raise InputError(f"the folder {str(folder)!r} cannot be written: {problem}", remedy="choose another folder")


def _write_a_byte(folder: Path) -> None:
    # Permissions do not tell: a disk may be full, mounted for reading only, or no disk at all, as /proc.
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"x")
