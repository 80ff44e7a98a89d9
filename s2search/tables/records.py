"""A CSV file as columns of cells, some thousand lines at a time.

A table may have 100,000 rows of thirty cells, so nothing here runs once per cell in Python: lines without quotes are
taken apart as bytes, and only the different cells of a column become texts.

Axes:  N lines  C columns  V different cells  B bytes of the file  W words of 8 bytes
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.document import separator
from s2search.tables.columns import Bool, Column, Int

_LINES = 16_384  # in a block: enough that a block costs nothing, and few enough that its cells take no memory
_LONGEST = 131_072  # characters of a cell that `csv` takes
_WORDS = 32  # of cells that are compared as bytes
_ODD = np.random.default_rng(0).integers(2**63, size=_WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_FIRST = np.array([2 ** (8 * count) - 1 for count in range(9)], np.uint64)  # the first so many bytes of a word


@dataclass(frozen=True, kw_only=True)
class Records:
    """Neighbouring lines of a CSV file: their numbers, and their cells by column.

    `ragged` holds the cells of lines that have too many or too few, by number; they are in no column.
    """

    number_N: Sequence[int]
    cells: dict[str, Column]
    ragged: dict[int, list[str]]

    def line(self, n: int) -> dict[str, str]:
        """Return the cells of one line by column."""
        return {name: column.value_V[column.code_N[n]] for name, column in self.cells.items()}

    def only(self, mask_N: Bool) -> Records:
        """Return the lines of a mask."""
        numbers = list(itertools.compress(self.number_N, mask_N))
        cells = {name: column.take(mask_N).used() for name, column in self.cells.items()}
        return Records(number_N=numbers, cells=cells, ragged={})


def read_records(text: str) -> tuple[list[str], Iterator[Records]]:
    r"""Return the header of a CSV file, and its lines.

    Raises:
        csv.Error: The text is no CSV; while the lines are read as well.

    >>> header, blocks = read_records("part,ms\nlcha,1.5\nssa\n")
    >>> header, [({name: column.cells for name, column in block.cells.items()}, block.ragged) for block in blocks]
    (['part', 'ms'], [({'part': ['lcha'], 'ms': ['1.5']}, {3: ['ssa']})])
    """
    mark = separator(text)
    if any(odd in text for odd in '"\r\0'):
        return _quoted(csv.reader(io.StringIO(text), strict=True, delimiter=mark))
    content = text.encode("utf-8", "surrogatepass") + b"\n" * (not text.endswith("\n"))
    end_N = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n"))
    begin_N = np.concatenate([[0], end_N[:-1] + 1])
    if (end_N == begin_N).any() or (end_N - begin_N).max() > _LONGEST:
        return _quoted(csv.reader(io.StringIO(text), strict=True, delimiter=mark))
    plain = text.isascii()

    def cut(place: slice) -> str:
        return text[place] if plain else content[place].decode("utf-8", "surrogatepass")

    header = cut(slice(0, end_N[0])).split(mark)
    return header, _plain(header, content, cut, begin_N, end_N, mark)


def _plain(
    header: list[str], content: bytes, cut: Callable[[slice], str], begin_N: Int, end_N: Int, mark: str
) -> Iterator[Records]:
    byte_B = np.frombuffer(content, np.uint8)
    word_B = np.ndarray(len(content), "<u8", content + bytes(8 * _WORDS), strides=(1,))  # the 8 bytes from each on
    for first in range(1, len(end_N), _LINES):
        begins, ends = begin_N[first : first + _LINES], end_N[first : first + _LINES]
        block_B = byte_B[begins[0] : ends[-1] + 1]
        stop = begins[0] + np.flatnonzero((block_B == ord(mark)) | (block_B == ord("\n")))
        start = np.concatenate([begins[:1], stop[:-1] + 1])
        line = np.searchsorted(ends, stop)
        whole_N = np.bincount(line) == len(header)
        if not whole_N.all():
            start, stop = start[whole_N[line]], stop[whole_N[line]]
        start_NC, stop_NC = (ends_.reshape(-1, len(header)) for ends_ in (start, stop))
        numbers = first + 1 + np.arange(len(ends))
        ragged = {int(numbers[n]): cut(slice(begins[n], ends[n])).split(mark) for n in np.flatnonzero(~whole_N)}
        cells = {name: _different(cut, word_B, start_NC[:, c], stop_NC[:, c]) for c, name in enumerate(header)}
        yield Records(number_N=numbers[whole_N].tolist(), cells=cells, ragged=ragged)


def _different(cut: Callable[[slice], str], word_B: NDArray[np.uint64], start_N: Int, stop_N: Int) -> Column:
    """Return the cells that begin and end here as a column."""
    length_N = stop_N - start_N
    words = 1 + int(length_N.max(initial=1) - 1) // 8
    if words <= _WORDS:
        left = [np.clip(length_N - 8 * w, 0, 8) for w in range(words)]
        word_WN = [word_B[start_N + np.minimum(8 * w, length_N)] & _FIRST[left_N] for w, left_N in enumerate(left)]
        hash_N = sum(word_N * odd for word_N, odd in zip(word_WN, _ODD, strict=False))
        _, first_V, code_N = np.unique(hash_N, return_index=True, return_inverse=True)
        if all((word_N == word_N[first_V][code_N]).all() for word_N in word_WN):  # no two cells share a hash
            return Column(list(map(cut, map(slice, start_N[first_V].tolist(), stop_N[first_V].tolist()))), code_N)
    return Column.of(list(map(cut, map(slice, start_N, stop_N))))


def _quoted(reader: Iterator[list[str]]) -> tuple[list[str], Iterator[Records]]:
    header = next(reader, [])
    return header, _blocks(header, reader)


def _blocks(header: list[str], reader: Iterator[list[str]]) -> Iterator[Records]:
    numbered = ((reader.line_num, cells) for cells in reader if cells)  # type: ignore[attr-defined]
    while block := list(itertools.islice(numbered, _LINES)):
        whole = [(number, cells) for number, cells in block if len(cells) == len(header)]
        ragged = {number: cells for number, cells in block if len(cells) != len(header)}
        columns = map(Column.of, zip(*(cells for _, cells in whole), strict=True) if whole else [()] * len(header))
        # Of two columns of one name the last counts, as `csv` has it.
        by_column = dict(zip(header, columns, strict=True))
        yield Records(number_N=[number for number, _ in whole], cells=by_column, ragged=ragged)
