"""Warm-up: how many calls until an item is as fast as it gets, found by calling it.

An item is warm when several calls in a row are no faster than the fastest before them. A first call that compiles, a
cache that fills and a clock that rises all end so; a machine that never settles ends at the cap, and is marked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_PATIENCE = 4  # calls in a row without a gain
_GAIN = 0.02  # relative; below it lies noise


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Attributes: `calls` made; the fastest of them in milliseconds; whether they stopped falling before the cap."""

    calls: int
    least_ms: float
    settled: bool


def warm_up(call_ms: Callable[[], float], most_calls: int) -> WarmUp:
    """Call until the time of calls stops falling.

    >>> times = iter([900.0, 5.0, 4.0, 4.0, 4.1, 4.0, 3.99, 1.0])
    >>> warm_up(lambda: next(times), 50)
    WarmUp(calls=7, least_ms=3.99, settled=True)
    """
    least_ms, reference_ms, waited = float("inf"), float("inf"), 0
    for calls in range(1, most_calls + 1):
        ms = call_ms()
        least_ms = min(least_ms, ms)
        if least_ms < (1 - _GAIN) * reference_ms:
            reference_ms, waited = least_ms, 0
        else:
            waited += 1
        if waited == _PATIENCE:
            return WarmUp(calls=calls, least_ms=least_ms, settled=True)
    return WarmUp(calls=most_calls, least_ms=least_ms, settled=False)
