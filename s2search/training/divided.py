"""Work in pieces that processes divide: each keeps a journal of its own, and all read those of all.

What was done by any number of processes is gone on with by any other number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from s2search.border.regular_file import read_regular
from s2search.errors import InputError
from s2search.journal import first_difference, open_journal, plain, read_journal
from s2search.training.parallel import Processes

_Line = TypeVar("_Line")
_Piece = TypeVar("_Piece")


class Divided(Generic[_Line]):
    """What all processes have done, and where this one writes what it does.

    Attributes:
        lines: Of all, as they were when the work began.
    """

    def __init__(self, path: Path, where: Processes, journal: Any, heading: Any, kind: Any, of: str) -> None:
        self._path, self._where, self._journal = path, where, journal
        self._heading, self._kind, self._of = heading, kind, of
        self.lines: list[_Line] = self._read()
        where.wait()  # nobody writes before all have read the same

    def mine(self, pieces: Sequence[_Piece]) -> Sequence[_Piece]:
        """Return this process's share of the pieces that are left, which all state alike."""
        return pieces[self._where.rank :: self._where.count]

    def append(self, line: _Line) -> None:
        """Write one line and sync it to the disk."""
        self._journal.append(line)

    def whole(self) -> list[_Line]:
        """Return the lines of all processes, once all have come here."""
        self._where.wait()
        return self._read()

    def _read(self) -> list[_Line]:
        """Return the lines of every process's journal; there may have been more of them before."""
        found: list[_Line] = []
        for path in (self._path, *sorted(self._path.parent.glob(f"{self._path.stem}.*{self._path.suffix}"))):
            if b"\n" not in read_regular(path):  # its process ended before its first line was whole
                continue
            heading, journal = read_journal(path, type(self._heading), self._kind, of=self._of)
            if difference := first_difference(plain(heading), plain(self._heading)):
                raise InputError(
                    f"{str(path)!r} belongs to another {self._of}: {difference}",
                    remedy="repeat the command that started it, or choose another place",
                )
            found += journal.lines
        return found


@contextmanager
def divided(path: Path, heading: Any, kind: Any, where: Processes, *, of: str) -> Iterator[Divided[Any]]:
    """Begin work, or go on with it.

    Args:
        path: The first process's journal, `layers.jsonl`; the others' are `layers.1.jsonl` and so on.
        heading: What all that was done must have in common.
        kind: The type of the lines.
        where: The processes.
        of: What such work is called, for the errors.

    Raises:
        InputError: A journal is of other work, or is in use.
    """
    own = path if where.first else path.with_suffix(f".{where.rank}{path.suffix}")
    with open_journal(own, heading, kind, of=of) as journal:
        where.wait()  # all are there, with their headings
        yield Divided(path, where, journal, heading, kind, of)
