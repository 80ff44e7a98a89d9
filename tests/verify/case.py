"""What a case of an operation is, and the numbers that cases share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


X = normal(2, 3, 5, 7)
Y = normal(3, 1, 7)  # broadcast
P = np.abs(X) + 0.1
U = np.clip(X / 4, -0.95, 0.95)
M = normal(3, 5)
N = rng.integers(-9, 9, size=(2, 3, 5)).astype(np.int32)
J = np.where(rng.integers(0, 2, size=(3, 1)) == 0, -3, 4).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Case:
    """An operation's type, a function of coremltools' builder and the inputs, the inputs, and the same in numpy."""

    type: str
    build: Any
    inputs: tuple[np.ndarray, ...]
    expected: Any
    note: str = ""

    @property
    def label(self) -> str:
        return f"{self.type} {self.note}".strip()
