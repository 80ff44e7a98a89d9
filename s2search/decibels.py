"""How near one array comes to another, as a signal-to-noise ratio in decibels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_DB = 300.0  # what is said of equal arrays: JSON knows no infinity, and float64 tells no more apart


def parity_db(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Return the signal-to-noise ratio, from -300 dB to 300 dB: the first where either has numbers that are not finite.

    >>> round(parity_db(np.array([1.0, 1.0]), np.array([1.0, 1.1])), 2)
    23.01
    >>> parity_db(np.zeros(2), np.zeros(2)), parity_db(np.zeros(2), np.array([0.0, np.nan]))
    (300.0, -300.0)
    >>> parity_db(np.array([1.0, np.nan]), np.ones(2)), parity_db(np.array([1.0, np.inf]), np.ones(2))
    (-300.0, -300.0)
    """
    if expected.shape != got.shape or not (np.isfinite(expected).all() and np.isfinite(got).all()):
        return -MOST_DB
    exact = expected.astype(np.float64)
    noise = float(np.square(exact - got).sum())
    signal = float(np.square(exact).sum())
    if noise == 0:
        return MOST_DB
    return -MOST_DB if signal == 0 else max(-MOST_DB, min(MOST_DB, 10 * math.log10(signal / noise)))


def snr_db(expected: Any, got: Any) -> float:
    """Return the lowest signal-to-noise ratio of corresponding torch tensors, in decibels; infinite if equal.

    >>> import torch
    >>> snr_db(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.1]))
    23.01...
    """
    pairs = zip(_tuple(expected), _tuple(got), strict=True)
    return min(_snr_db(a.double(), b.double()) for a, b in pairs)


def _snr_db(expected: Any, got: Any) -> float:
    noise = (expected - got).square().sum().item()
    return math.inf if noise == 0 else 10 * math.log10(expected.square().sum().item() / noise)


def _tuple(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
