"""A CSV file as columns of cells, some thousand lines at a time.

A table may have 100,000 rows of thirty cells, so nothing here runs once per cell in Python: lines without quotes are
split all at once, and what reads a block reads each of its columns.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from s2search.document import separator

_LINES = 4096  # in a block: enough that a block costs nothing, and few enough that its cells fit a cache
_LONGEST = 131_072  # characters of a cell that `csv` takes


@dataclass(frozen=True, kw_only=True)
class Records:
    """Neighbouring lines of a CSV file: their numbers, and their cells by column.

    `ragged` holds the cells of lines that have too many or too few, by number; they are in no column.
    """

    number_N: Sequence[int]
    cells: dict[str, Sequence[str]]
    ragged: dict[int, list[str]]

    def line(self, n: int) -> dict[str, str]:
        """Return the cells of one line by column."""
        return {column: cells[n] for column, cells in self.cells.items()}


def read_records(text: str) -> tuple[list[str], Iterator[Records]]:
    r"""Return the header of a CSV file, and its lines.

    Raises:
        csv.Error: The text is no CSV; while the lines are read as well.

    >>> header, blocks = read_records("part,ms\nlcha,1.5\nssa\n")
    >>> header, [(block.cells, block.ragged) for block in blocks]
    (['part', 'ms'], [({'part': ['lcha'], 'ms': ['1.5']}, {3: ['ssa']})])
    """
    mark = separator(text)
    if '"' in text or "\r" in text:
        return _quoted(csv.reader(io.StringIO(text), strict=True, delimiter=mark))
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    if not all(lines) or max(map(len, lines)) > _LONGEST:
        return _quoted(csv.reader(lines, strict=True, delimiter=mark))
    header = lines[0].split(mark)
    return header, _plain(header, lines, mark)


def _plain(header: list[str], lines: list[str], mark: str) -> Iterator[Records]:
    width = len(header)
    for first in range(1, len(lines), _LINES):
        block = lines[first : first + _LINES]
        numbers: Sequence[int] = range(first + 1, first + 1 + len(block))
        ragged = {
            number: line.split(mark)
            for number, line in zip(numbers, block, strict=True)
            if line.count(mark) != width - 1
        }
        if ragged:
            block = [line for number, line in zip(numbers, block, strict=True) if number not in ragged]
            numbers = [number for number in numbers if number not in ragged]
        flat = mark.join(block).split(mark) if block else []
        cells: dict[str, Sequence[str]] = {column: flat[n::width] for n, column in enumerate(header)}
        yield Records(number_N=numbers, cells=cells, ragged=ragged)


def _quoted(reader: Iterator[list[str]]) -> tuple[list[str], Iterator[Records]]:
    header = next(reader, [])
    return header, _blocks(header, reader)


def _blocks(header: list[str], reader: Iterator[list[str]]) -> Iterator[Records]:
    numbered = ((reader.line_num, cells) for cells in reader if cells)  # type: ignore[attr-defined]
    while block := list(itertools.islice(numbered, _LINES)):
        whole = [(number, cells) for number, cells in block if len(cells) == len(header)]
        ragged = {number: cells for number, cells in block if len(cells) != len(header)}
        columns = zip(*(cells for _, cells in whole), strict=True) if whole else [()] * len(header)
        # Of two columns of one name the last counts, as `csv` has it.
        by_column: dict[str, Sequence[str]] = dict(zip(header, columns, strict=True))
        yield Records(number_N=[number for number, _ in whole], cells=by_column, ragged=ragged)
