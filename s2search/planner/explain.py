"""Explanation: why each block stands where it does, what the budgets are worth, and which numbers decide the plan.

Everything but the swaps comes from solving the same search again with one number changed, so it is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from s2search.errors import InfeasibleError, InputError
from s2search.latency.base import Estimate
from s2search.planner.request import Request
from s2search.solver.base import Solution, Solver
from s2search.solver.problem import Problem
from s2search.solver.questions.sensitivity import sensitivity
from s2search.solver.questions.shadow_price import ShadowPrice, shadow_prices
from s2search.solver.questions.swap import Swap, best_swaps
from s2search.solver.questions.threshold import proven
from s2search.space import Space

KERNEL_SPEEDUP = 0.1


@dataclass(frozen=True, kw_only=True)
class OverAnswer:
    """A limit that a swap would exceed, and by how much: in `unit`, ms or bytes, or empty for a plain number."""

    limit: str
    amount: float
    unit: Literal["ms", "bytes", ""]


@dataclass(frozen=True, kw_only=True)
class SwapAnswer:
    """What would change if the layers `first` to `last` (one group) took another block; see `solver.swap`."""

    first: int
    last: int
    block: str
    instead: str
    score_gain: float
    latency_ms: float
    memory_bytes: int
    fits: bool
    over: tuple[OverAnswer, ...]


@dataclass(frozen=True, kw_only=True)
class NextAnswer:
    """The least to add to a budget, in its unit, for any better score; the gain, and the best layout then."""

    extra: float
    score_gain: float
    written: str


@dataclass(frozen=True, kw_only=True)
class PriceAnswer:
    """What one budget is worth, all others as they are; its `unit` is ms or MB (a million bytes).

    `next` is null where no amount buys anything. `score_gain` is what one unit more buys, `score_loss` what one unit
    less costs (null: no layout fits any more), and `multiplier` the Lagrangian price of a unit.
    """

    budget: str
    unit: Literal["ms", "MB"]
    next: NextAnswer | None
    score_gain: float
    score_loss: float | None
    multiplier: float


@dataclass(frozen=True, kw_only=True)
class KernelAnswer:
    """What the best score gains if one block's latency falls by a tenth, and the best layout then."""

    table: str
    block: str
    score_gain: float
    written: str


@dataclass(frozen=True, kw_only=True)
class RowAnswer:
    """How wrong one latency of a table may be before the best layout is another one.

    `faster_percent`: so much less, and a better layout fits. `slower_percent`: so much more, and the layout does not
    fit. Null where no change up to half of the latency does that. `std_percent` is the row's own deviation.
    """

    table: str
    part: str
    latency_ms: float
    std_percent: float | None
    faster_percent: float | None
    slower_percent: float | None

    @property
    def nearest_percent(self) -> float | None:
        """The smaller of both changes; None where neither decides anything."""
        return min(
            (change for change in (self.faster_percent, self.slower_percent) if change is not None), default=None
        )

    @property
    def deviations(self) -> float | None:
        """How many of its own deviations the nearer of both changes is away; None where either is not known."""
        nearest = self.nearest_percent
        return nearest / self.std_percent if nearest is not None and self.std_percent else None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a plan is as it is. `best` is the layout that all but the swaps speak of; null where none fits."""

    swaps: tuple[SwapAnswer, ...]
    best: str | None
    prices: tuple[PriceAnswer, ...]
    kernels: tuple[KernelAnswer, ...]
    rows: tuple[RowAnswer, ...]


def explain(request: Request, layout: Sequence[str], solver: Solver) -> Explanation:
    """Return why a layout, given by its blocks' labels, is as it is; it was found for the request, or written by hand.

    Raises:
        InputError: The request asks for a confidence or a 95th percentile, whose condition is no sum.
        ProblemError: The solver does not prove its answers.
    """
    if request.condition_text:
        raise InputError(
            f"a plan with {request.condition_text} cannot be explained: its latency condition is not a sum",
            remedy="leave out --explain, or " + ("that budget" if request.confidence is None else "--confidence"),
        )
    problem, space = request.problem, request.space
    labels = [block.label for block in space.candidates]
    choice_L = tuple(labels.index(label) for label in layout)
    swaps = tuple(_swap(swap, request, labels[choice_L[swap.first]]) for swap in best_swaps(problem, choice_L) if swap)
    try:
        best = proven(solver, problem)
    except InfeasibleError:
        return Explanation(swaps=swaps, best=None, prices=(), kernels=(), rows=())
    if problem.admits(choice_L) and problem.price(choice_L).score == best.score:
        best = dataclasses.replace(best, choice_L=choice_L)
    return Explanation(
        swaps=swaps,
        best=space.write_layout(best.choice_L),
        prices=tuple(_price(price, space) for price in shadow_prices(problem, best, solver)),
        kernels=tuple(sorted(_kernels(request, best, solver), key=lambda kernel: -kernel.score_gain)),
        rows=tuple(sorted(_rows(request, best, solver), key=_decisive)),
    )


def _swap(swap: Swap, request: Request, block: str) -> SwapAnswer:
    return SwapAnswer(
        first=swap.first,
        last=swap.last,
        block=block,
        instead=request.space.candidates[swap.candidate].label,
        score_gain=swap.gain,
        latency_ms=swap.latency_us / 1000,
        memory_bytes=swap.memory_bytes,
        fits=swap.fits,
        over=tuple(
            _over(resource.name, swap.over[resource.name], resource.unit)
            for resource in request.problem.resources
            if resource.name in swap.over
        ),
    )


def _over(limit: str, amount: int, unit: str) -> OverAnswer:
    if unit == "us":
        return OverAnswer(limit=limit, amount=amount / 1000, unit="ms")
    return OverAnswer(limit=limit, amount=amount, unit="bytes" if unit else "")


def _price(price: ShadowPrice, space: Space) -> PriceAnswer:
    per_unit = 1000 if price.unit == "us" else 1_000_000
    following = None
    if price.next is not None:
        following = NextAnswer(
            extra=price.next.extra / per_unit,
            score_gain=price.next.gain,
            written=space.write_layout(price.next.choice_L),
        )
    return PriceAnswer(
        budget=price.name,
        unit="ms" if price.unit == "us" else "MB",
        next=following,
        score_gain=price.gain,
        score_loss=price.loss,
        multiplier=price.multiplier,
    )


def _kernels(request: Request, best: Solution, solver: Solver) -> Iterator[KernelAnswer]:
    for device, part, estimate in _latencies(request):
        if part in [block.label for block in request.space.candidates]:
            faster_us = round(estimate.cost.latency_us * (1 - KERNEL_SPEEDUP))
            found = proven(solver, _retimed(request, device, part, faster_us))
            yield KernelAnswer(
                table=request.targets[device].table.name,
                block=part,
                score_gain=round(found.score - best.score, 9),
                written=request.space.write_layout(found.choice_L),
            )


def _rows(request: Request, best: Solution, solver: Solver) -> Iterator[RowAnswer]:
    for device, part, estimate in _latencies(request):
        latency_us, std_us = estimate.cost.latency_us, estimate.latency_std_us

        def pose(changed_us: int, device: int = device, part: str = part) -> Problem:
            return _retimed(request, device, part, changed_us)

        found = sensitivity(pose, latency_us, best, solver)
        faster, slower, std = (
            None if change_us is None else round(100 * change_us / latency_us, 6)
            for change_us in (found.faster_us, found.slower_us, std_us)
        )
        yield RowAnswer(
            table=request.targets[device].table.name,
            part=part,
            latency_ms=latency_us / 1000,
            std_percent=std,
            faster_percent=faster,
            slower_percent=slower,
        )


def _decisive(row: RowAnswer) -> tuple[bool, float, float]:
    """Return what orders rows: the nearest in deviations first, those that decide nothing last."""
    away, nearest = row.deviations, row.nearest_percent
    return away is None, away or 0.0, 100.0 if nearest is None else nearest


def _latencies(request: Request) -> Iterator[tuple[int, str, Estimate]]:
    """Yield the parts that take time, by device; only devices with a latency budget, on which time matters."""
    for device, (target, evidence) in enumerate(zip(request.targets, request.evidences, strict=True)):
        if target.latency_budget_us is not None:
            for part, estimate in evidence.parts(request.space).items():
                if estimate.cost.latency_us > 0:
                    yield device, part, estimate


def _retimed(request: Request, device: int, part: str, latency_us: int) -> Problem:
    """Return the search if one part took another time on one device."""
    evidences = list(request.evidences)
    evidences[device] = evidences[device].with_latency(part, latency_us, request.space)
    return request.pose(evidences)
