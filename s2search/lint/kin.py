"""What rows of one part at several shapes say against each other. A table may hold 100,000 of them.

Axes:  N rows  P pairs  F features: the sizes that differ, then the latency and its deviation in milliseconds
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from s2search.lint.base import DEVIATIONS, NOISE, UNITS_APART
from s2search.tables.row import Row

_SIZES = ("frames", "height", "width", "context_frames", "channels", "feed_forward", "text_tokens")
_FEW = 24  # rows of which all pairs are looked at sooner than they are put into boxes

NumberedRow = tuple[int, Row]


def slower_than_less_work(group: Sequence[NumberedRow]) -> Iterator[tuple[NumberedRow, NumberedRow]]:
    """Yield rows that take less time than one with less work, and the first such one."""
    latencies = [row.latency_ms for _, row in group]
    if max(latencies) * (1 - NOISE) <= min(latencies):
        return
    if len(group) > _FEW:
        from s2search.lint.relations import first_slower

        first = first_slower([row for _, row in group], _SIZES, _slower)
        yield from ((group[n], group[other]) for n, other in enumerate(first) if other >= 0)
        return
    for one in group:
        other = next((other for other in group if _slower(one[1], other[1])), None)
        if other is not None:
            yield one, other


def worlds_apart_from_most(group: Sequence[NumberedRow]) -> Iterator[tuple[NumberedRow, NumberedRow]]:
    """Yield rows whose latency is further from most others' than sizes explain, and the first such other one."""
    latencies = [row.latency_ms for _, row in group]
    if not group or max(latencies) < (1 - 1e-9) * UNITS_APART * min(latencies):
        return
    if len(group) > _FEW:
        from s2search.lint.relations import first_apart_from_most

        first = first_apart_from_most([row for _, row in group], UNITS_APART, _worlds_apart)
        yield from ((group[n], group[other]) for n, other in enumerate(first) if other >= 0)
        return
    for n, one in enumerate(group):
        odd = [other for m, other in enumerate(group) if m != n and _worlds_apart(one[1], other[1])]
        # Of just two rows either may be wrong; the later one is named.
        if 2 * len(odd) > len(group) - 1 and (len(group) > 2 or n == 1):
            yield one, odd[0]


_sizes: Callable[[Row], tuple[int, ...]] = attrgetter(*_SIZES)


def _slower(row: Row, other: Row) -> bool:
    """Whether another row, of less work in one size and of more in none, takes longer than chance explains."""
    if not 0 < row.latency_ms < other.latency_ms or other.latency_ms - row.latency_ms <= _noise_ms(row, other):
        return False
    mine, its = _sizes(row), _sizes(other)
    return mine != its and all(a >= b for a, b in zip(mine, its, strict=True))


def _noise_ms(row: Row, other: Row) -> float:
    """Return the milliseconds by which two rows may differ by chance."""
    spread = [one.latency_std_ms or 0.0 for one in (row, other)]
    return max(NOISE * other.latency_ms, DEVIATIONS * math.hypot(*spread))


def _worlds_apart(row: Row, other: Row) -> bool:
    """Whether two latencies differ by more than 100 times what lies between no growth and quadratic growth."""
    small, large = sorted((row, other), key=_tokens)
    growth = float(_tokens(large)) * (large.frames + large.context_frames)
    growth /= _tokens(small) * (small.frames + small.context_frames)
    growth *= max(1.0, large.height * large.width / (small.height * small.width))
    return not 1 / UNITS_APART < large.latency_ms / small.latency_ms < UNITS_APART * max(growth, 1.0)


def _tokens(row: Row) -> int:
    return row.frames * row.height * row.width
