"""What a bench is: it turns layouts into something whole that can be timed, with the runtime of a table's rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from s2search.measurement.base import Prepared, Profiler
from s2search.preset import Preset


class Bench(ABC):
    """Makes layouts ready to denoise one chunk.

    Attributes:
        profiler: What the table was measured with.
    """

    profiler: Profiler

    @abstractmethod
    def write(self, layout: Sequence[str], preset: Preset, grid: tuple[int, int], folder: Path, *, seed: int) -> None:
        """Write what `prepare` loads, unless all of it is there."""

    @abstractmethod
    def prepare(self, folder: Path, grid: tuple[int, int]) -> Prepared:
        """Load what was written, ready to denoise one chunk at this grid of tokens."""
