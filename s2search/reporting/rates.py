"""Frames per second as a function of the latency of one forward pass, as the plans of a front tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s2search.planner.plan import Plan


@dataclass(frozen=True, kw_only=True)
class RateLine:
    """A chunk of `frames` pixel frames takes `once_ms` and as many passes as `commit` says.

    >>> RateLine(commit="reuse_last", frames=12, once_ms=84.0, passes=4.0).fps(279.0)
    10.0
    """

    commit: str
    frames: float
    once_ms: float
    passes: float

    def fps(self, latency_ms: float) -> float:
        """Return the pixel frames per second."""
        return 1000 * self.frames / (self.once_ms + self.passes * latency_ms)


def rate_line(plans: Sequence[Plan]) -> RateLine | None:
    """Return the line through the plans' chunks; None where they state no rates, or not over their latency alone."""
    timed = [(plan.latency_ms.predicted, plan.rate) for plan in plans if plan.rate and not plan.confidence]
    if not timed or timed[0][0] == timed[-1][0]:
        return None
    commit, (fast_ms, first), (slow_ms, last) = plans[0].commit, timed[0], timed[-1]
    passes = (last.chunk_ms[commit] - first.chunk_ms[commit]) / (slow_ms - fast_ms)
    return RateLine(
        commit=commit,
        frames=first.frames_per_second[commit] * first.chunk_ms[commit] / 1000,
        once_ms=first.chunk_ms[commit] - passes * fast_ms,
        passes=passes,
    )
