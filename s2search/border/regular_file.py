"""The door to files that others made: what is no regular file is refused, since reading it may never end.

A pipe waits for who writes to it, a device such as /dev/zero has no end, and a link leads to either.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file to read its bytes.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    check_regular(path)
    # It may have become a pipe since: opening one without a writer would wait.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        return file.read()


def read_regular_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file, UTF-8 with or without a byte-order mark, all ends of lines as one newline.

    Raises:
        OSError: It cannot be read, or is no regular file.
        UnicodeDecodeError: It is no such text.
    """
    return read_regular(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def exists(path: Path) -> bool:
    """Whether there is something of this name; a name that no file can have is none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def is_file(path: Path) -> bool:
    """Whether there is a file of this name."""
    return exists(path) and path.is_file()


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise unless a path is that of a regular file, or of a link to one.

    Raises:
        OSError: It is none.
    """
    _check(os.stat(path), path)


def is_regular(path: Path) -> bool:
    """Return whether there is a regular file at a path, and no link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _check(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
