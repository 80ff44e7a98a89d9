"""Swaps: why this block stands here. What another candidate in one group of layers would gain and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from s2search.solver.problem import FIXED_POINT, Problem


@dataclass(frozen=True, kw_only=True)
class Swap:
    """One group that takes another candidate: what changes, and which limits that would break.

    `first` and `last` are the group's layers. `gain` is in the score's unit, latency in microseconds, memory (largest
    peak included) in bytes; a faster or smaller layout has negative ones. `over` says by how much each broken limit is
    exceeded, by its name in `Problem.resources`.
    """

    first: int
    last: int
    candidate: int
    gain: float
    latency_us: int
    memory_bytes: int
    over: dict[str, int]

    @property
    def fits(self) -> bool:
        """Whether no limit would be broken."""
        return not self.over


def best_swaps(problem: Problem, choice_L: Sequence[int]) -> tuple[Swap | None, ...]:
    """Return for every group the swap that speaks most clearly; None where no other candidate may stand.

    It is the one of the largest gain that fits; if none gains, the one of the largest gain that does not fit; if no
    swap gains at all, the one that loses least.
    """
    size = problem.group_size
    found = (list(_swaps(problem, tuple(choice_L), g)) for g in range(len(choice_L) // size))
    return tuple(max(swaps, key=_rank) if swaps else None for swaps in found)


def _rank(swap: Swap) -> tuple[bool, float, bool, int]:
    return swap.fits and swap.gain > 0, swap.gain, swap.fits, -swap.latency_us


def _swaps(problem: Problem, choice_L: tuple[int, ...], group: int) -> Iterator[Swap]:
    size = problem.group_size
    first, end = group * size, (group + 1) * size
    before = problem.price(choice_L)
    for candidate in range(len(problem.stream_C)):
        if candidate == choice_L[first] or not problem.allowed_LC[first:end, candidate].all():
            continue
        swapped_L = (*choice_L[:first], *[candidate] * size, *choice_L[end:])
        after = problem.price(swapped_L)
        spare = {r.name: r.limit - r.spent(problem, swapped_L) for r in problem.resources}
        yield Swap(
            first=first,
            last=end - 1,
            candidate=candidate,
            gain=(after.fixed_point_score - before.fixed_point_score) / FIXED_POINT,
            latency_us=after.latency_us - before.latency_us,
            memory_bytes=after.total_bytes - before.total_bytes,
            over={name: -left for name, left in spare.items() if left < 0},
        )
