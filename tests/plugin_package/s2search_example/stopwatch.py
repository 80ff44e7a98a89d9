"""stopwatch: a reader in one file. Lines of `part,run,seconds` as CSV, with a header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s2search.errors import TableError
from s2search.readers.base import Reader, Reading
from s2search.readers.strict import Plain, decode, number, read_csv
from s2search.tables.foreign import ImportedRow

_COLUMNS = ["part", "run", "seconds"]


@dataclass(frozen=True, kw_only=True)
class Stopwatch(Reader):
    """Reads what somebody timed by hand."""

    statement: ClassVar[str] = "timed by hand"

    def parse(self, content: bytes) -> Reading:
        """Return one row per line. See the base class."""
        header, lines = read_csv(decode(content))
        if header != _COLUMNS:
            raise TableError(f"its columns are {', '.join(header)}", allowed=", ".join(_COLUMNS), remedy="correct it")
        rows = [
            ImportedRow(part=part, about=(run,), latency_ms=1000 * number(Plain(seconds), f"seconds in line {line}"))
            for line, (part, run, seconds) in lines
        ]
        return Reading(rows=rows, columns={"run": "which try it was"}, assumptions=["seconds were multiplied by 1000"])
