"""Measured layouts: which block stood at every layer, and the latency of the whole, in the order of measuring.

Axes: T measurements in order, L layers.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2search.border.regular_file import read_regular_text
from s2search.document import separator
from s2search.errors import TableError
from s2search.transfer.additive import in_unit_ms, indicators_TF

LEAST_ROWS = 100
_LATENCY = "latency_ms"


@dataclass(frozen=True, kw_only=True)
class MeasuredLayouts:
    """A run of whole layouts on one device.

    Attributes:
        layout_TL: The block of every layer, as a number that means the same within a layer.
        latency_ms_T: Measured latency in ms.
    """

    layout_TL: NDArray[np.int64]
    latency_ms_T: NDArray[np.float64]

    def in_unit(self) -> MeasuredLayouts:
        """Return the rows whose latency the others do not give away to be in another unit."""
        kept_T = np.isfinite(in_unit_ms(indicators_TF(self.layout_TL), self.latency_ms_T))
        return MeasuredLayouts(layout_TL=self.layout_TL[kept_T], latency_ms_T=self.latency_ms_T[kept_T])


def read_layouts(path: Path) -> MeasuredLayouts:
    """Read a CSV with the columns `layer_00`, `layer_01`, ..., `latency_ms`, one measurement per line, in order.

    Raises:
        TableError: The file cannot be read, has other columns, holds a block that is no number from 0 or a latency
            that is not positive, or has too few rows to tell an effect of every block.
    """
    header, *rows = _lines(path)
    depth = len(header) - 1
    wanted = [*(f"layer_{layer:02d}" for layer in range(depth)), _LATENCY]
    if depth < 1 or header != wanted:
        wrong = next((name for name, right in zip(header, wanted, strict=False) if name != right), "")
        raise TableError(
            f"{str(path)!r} has {f'the column {wrong[:60]!r} out of place' if depth > 0 else 'no layers'}",
            allowed=f"layer_00, layer_01, ... in order, then {_LATENCY}",
            remedy="correct the first line",
        )
    found = MeasuredLayouts(
        layout_TL=np.array([_blocks(path, line, row, depth) for line, row in enumerate(rows, start=2)], dtype=np.int64),
        latency_ms_T=np.array([_latency_ms(path, line, row) for line, row in enumerate(rows, start=2)]),
    )
    effects = sum(len(set(blocks)) for blocks in zip(*(row[:-1] for row in rows), strict=True))
    if len(rows) < max(LEAST_ROWS, effects):
        raise TableError(
            f"{str(path)!r} has {len(rows)} rows for {effects} blocks of {depth} layers",
            allowed=f"{max(LEAST_ROWS, effects)} rows or more",
            remedy="measure more layouts",
        )
    return found


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        text = read_regular_text(path)
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=separator(text)) if line]
    except OSError as error:
        raise TableError(
            f"the layouts {str(path)!r} cannot be read: {error.strerror}", remedy="check the path"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{str(path)!r} is not a CSV: {error}", remedy="correct the file, or make it again") from error
    yield from lines or [[]]


def _blocks(path: Path, line: int, row: list[str], depth: int) -> list[int]:
    if len(row) != depth + 1:
        raise TableError(
            f"line {line} of {str(path)!r} has {len(row)} columns, the first line {depth + 1}",
            remedy="correct that line",
        )
    for layer, text in enumerate(row[:-1]):
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise TableError(
                f"line {line} of {str(path)!r} has the block {text[:60]!r} at layer {layer}",
                allowed="whole numbers from 0",
                remedy="correct that line",
            )
    return [int(text) for text in row[:-1]]


def _latency_ms(path: Path, line: int, row: list[str]) -> float:
    try:
        latency_ms = float(row[-1])
    except ValueError:
        latency_ms = math.nan
    if not 1e-9 < latency_ms < 1e12:
        raise TableError(
            f"line {line} of {str(path)!r} has the latency {row[-1][:60]!r}",
            allowed="a positive number of ms",
            remedy="correct or remove that line",
        )
    return latency_ms
