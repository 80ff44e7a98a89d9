"""One tensor of a package's file, and what readers of such files share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFIX = "model."  # of the names of weights in packages


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        file: Path inside the package.
        name: In the file.
        values: As numbers, however they are stored.
        step: Distance of neighbouring values where they were quantised; 0 where every number of its type can be stored.
        tables_GV: The values on offer, a table for each equal group of rows; None where there are none.
    """

    file: str
    name: str
    values: NDArray[Any]
    step: float = 0.0
    tables_GV: NDArray[Any] | None = None


def digest_of(floats: NDArray[Any]) -> str:
    """Return the name of a tensor that has none, by its numbers: ExecuTorch names segments so."""
    return hashlib.sha256(np.ascontiguousarray(floats, "<f4").tobytes()).hexdigest()
