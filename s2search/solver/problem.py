"""Problem: costs, scores, budgets and constraints as integer arrays. Whatever solves it needs to know nothing else.

Axes:  L layers  C candidates  S streams
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from s2search.block import Stream
from s2search.errors import ProblemError
from s2search.solver.problem_checks import (
    LARGEST_SUM,
    check_arrays,
    check_counts,
    check_devices,
    check_groups,
    check_limits,
    check_reference,
)

Int = NDArray[np.int64]
_T = TypeVar("_T", bound=np.generic)

#: Scores inside the solvers are integers, this many to one: sums do not depend on their order, and ties are ties.
FIXED_POINT = 10**9
#: A budget that nothing exceeds.
UNLIMITED = 2**62


@dataclass(frozen=True, kw_only=True, eq=False)
class Resource:
    """Something that every layer uses up, and how much of it there is.

    A layout keeps within it if the use of all layers, plus what its stream changes and its pairs of neighbours use,
    plus the *largest* peak among its layers, is at most `limit`. Latency, memory and every further constraint of a
    `Problem` are resources. What every layout uses (`fixed`) has been taken off the limit; `unit` is "us", "bytes", or
    "" for plain numbers. `pair_LCC` is what a layer's candidate (column) uses behind that of the layer before (row);
    None where neighbours do not matter.
    """

    name: str
    use_LC: Int
    switch_SS: Int
    peak_LC: Int
    limit: int
    fixed: int = 0
    unit: str = ""
    pair_LCC: Int | None = None

    @classmethod
    def of(cls, name: str, use_LC: NDArray[Any], limit: int, *, streams: int = len(Stream)) -> Resource:
        """Return a resource that only layers use: without peaks, and with stream changes for free."""
        return cls(
            name=name,
            use_LC=use_LC,
            switch_SS=np.zeros((streams, streams), np.int64),
            peak_LC=np.zeros(np.shape(use_LC), np.int64),
            limit=limit,
        )

    @property
    def most(self) -> int:
        """More than any layout uses, or just as much."""
        layers = len(self.use_LC)
        pairs = 0 if self.pair_LCC is None else int(self.pair_LCC.max()) * layers
        switches = int(self.switch_SS.max()) * (layers + 1)
        return int(self.use_LC.max()) * layers + switches + pairs + int(self.peak_LC.max())

    def by_group(self, size: int, stream_C: Int) -> Resource:
        """Return what groups of layers use: the sum of their layers and of the steps between them, the largest peak."""
        shape = (-1, size, len(stream_C))
        inside_C = np.diag(self.switch_SS)[stream_C] * (size - 1)
        use_GC = self.use_LC.reshape(shape).sum(axis=1) + inside_C
        pair_GCC = None
        if self.pair_LCC is not None:
            inside_GC, pair_GCC = _pairs_by_group(self.pair_LCC, size)
            use_GC += inside_GC
        peak_GC = self.peak_LC.reshape(shape).max(axis=1)
        return dataclasses.replace(self, use_LC=use_GC, pair_LCC=pair_GCC, peak_LC=peak_GC)

    def spent(self, problem: Problem, choice_L: Sequence[int]) -> int:
        """Return what a layout uses, largest peak included, by the plain loop of the definition."""
        streams = [problem.first_stream, *(int(problem.stream_C[c]) for c in choice_L), problem.last_stream]
        use = sum(int(self.use_LC[layer, c]) for layer, c in enumerate(choice_L))
        switches = sum(int(self.switch_SS[before, after]) for before, after in pairwise(streams))
        if self.pair_LCC is not None:
            use += sum(int(self.pair_LCC[i, choice_L[i - 1], choice_L[i]]) for i in range(1, len(choice_L)))
        return use + switches + max(int(self.peak_LC[layer, c]) for layer, c in enumerate(choice_L))


@dataclass(frozen=True, kw_only=True, eq=False)
class FurtherDevice:
    """What the same candidates cost on a further device, and its own budgets; see `Problem` for the fields."""

    name: str
    latency_us_LC: Int
    memory_bytes_LC: Int
    peak_bytes_LC: Int
    switch_us_SS: Int
    fixed_us: int = 0
    fixed_bytes: int = 0
    latency_budget_us: int = UNLIMITED
    memory_budget_bytes: int = UNLIMITED


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Choose one candidate per layer, maximising the summed score within a latency and a memory budget.

    Feasible: latency of all layers + switches (from `first_stream`, between layers, to `last_stream`) + `fixed_us` is
    at most `latency_budget_us`, and memory of all layers + `fixed_bytes` + the *largest* peak is at most
    `memory_budget_bytes`. Layers come in groups of `group_size` that take the same candidate.

    Args:
        score_LC: Score of each candidate at each layer; larger is better.
        pair_score_LCC: What a layer's candidate (column) scores on top behind that of the layer before (row); nothing
            at the first layer. None where neighbours do not matter.
        latency_us_LC: Latency, microseconds.
        memory_bytes_LC: Weights and streaming state, bytes.
        peak_bytes_LC: Activation peak while this layer runs, bytes.
        allowed_LC: Which candidates may stand at which layer.
        stream_C: The stream each candidate runs in.
        switch_us_SS: Latency of going from one stream (row) to another (column), microseconds.
        fixed_us: Latency of what every layout has, microseconds.
        fixed_bytes: Memory of what every layout has, bytes.
        latency_budget_us: Limit on latency; `UNLIMITED` for none.
        memory_budget_bytes: Limit on memory; `UNLIMITED` for none.
        first_stream: The stream that the stem feeds.
        last_stream: The stream that the head reads.
        group_size: Layers per group.
        counts: How many layers a candidate takes: exactly so many, or (at least, at most).
        max_switches: The most stream changes, those from the stem and to the head included; None for any number.
        reference_L: A layout that the answer must resemble.
        max_changes: The most layers in which it may differ from the reference; None for any number.
        devices: Further devices, whose budgets must hold as well.
        limits: Further resources that must not be exceeded.
        label_C: What messages call the candidates; without it they are numbered. It changes no answer.

    Raises:
        ProblemError: The arrays contradict each other, or a value is negative, not finite or too large.
    """

    score_LC: NDArray[np.float64]
    pair_score_LCC: NDArray[np.float64] | None = None
    latency_us_LC: Int
    memory_bytes_LC: Int
    peak_bytes_LC: Int
    allowed_LC: NDArray[np.bool_]
    stream_C: Int
    switch_us_SS: Int
    fixed_us: int = 0
    fixed_bytes: int = 0
    latency_budget_us: int = UNLIMITED
    memory_budget_bytes: int = UNLIMITED
    first_stream: int = Stream.HIGH
    last_stream: int = Stream.HIGH
    group_size: int = 1
    counts: Mapping[int, int | tuple[int, int]] = field(default_factory=dict)
    max_switches: int | None = None
    reference_L: tuple[int, ...] | None = None
    max_changes: int | None = None
    devices: tuple[FurtherDevice, ...] = ()
    limits: tuple[Resource, ...] = ()
    label_C: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        check_arrays(self)
        self._check_scores()
        check_groups(self)
        check_counts(self)
        check_reference(self)
        check_devices(self)
        check_limits(self)

    def _check_scores(self) -> None:
        score_LC = np.asarray(self.score_LC, np.float64)
        if not np.isfinite(score_LC).all():
            raise ProblemError(f"score_LC holds {score_LC[~np.isfinite(score_LC)][0]}", allowed="finite numbers")
        largest = float(np.abs(score_LC).max())
        if self.pair_score_LCC is not None:
            largest += float(np.abs(self.pair_score_LCC).max())
        if largest * len(score_LC) * FIXED_POINT > LARGEST_SUM:
            raise ProblemError(
                f"scores are as large as {largest:g} a layer, whose sum is not exact", remedy="use a larger unit"
            )
        if ((np.ptp(score_LC, axis=1) > 0) & (np.ptp(self.fixed_point_score_LC, axis=1) == 0)).any():
            raise ProblemError(
                f"score_LC differs by less than {1 / FIXED_POINT:g}", remedy="multiply the scores by a factor"
            )
        pair_LCC = self.fixed_point_pair_LCC
        if pair_LCC is not None and np.any(self.pair_score_LCC) and not pair_LCC.any():
            raise ProblemError(
                f"pair_score_LCC is less than {1 / FIXED_POINT:g}", remedy="multiply the scores by a factor"
            )

    def label(self, c: int) -> str:
        """Return what a candidate is called."""
        return self.label_C[c] if self.label_C else f"candidate {c}"

    def count_range(self, c: int) -> tuple[int, int]:
        """Return the least and the most layers that a candidate may take."""
        asked = self.counts.get(c, (0, len(self.score_LC)))
        return asked if isinstance(asked, tuple) else (asked, asked)

    @cached_property
    def resources(self) -> tuple[Resource, ...]:
        """Everything that limits a layout: latency, memory, then each further constraint as a sum with a limit.

        A count of at least n is written as at most depth - n layers of other candidates.
        """
        layers, candidates = self.score_LC.shape
        found = [*_latency_and_memory(self, "")]
        for device in self.devices:
            found += _latency_and_memory(device, f" of {device.name}")
        if self.max_switches is not None:
            free = self._sum("switches", np.zeros((layers, candidates)), self.max_switches)
            changes_SS = 1 - np.eye(len(self.switch_us_SS), dtype=np.int64)
            found.append(dataclasses.replace(free, switch_SS=changes_SS))
        if self.reference_L is not None and self.max_changes is not None:
            differs_LC = np.arange(candidates) != np.array(self.reference_L)[:, None]
            found.append(self._sum("changes", differs_LC, self.max_changes))
        for c in sorted(self.counts):
            low, high = self.count_range(c)
            here_LC = np.broadcast_to(np.arange(candidates) == c, (layers, candidates))
            if high < layers:
                found.append(self._sum(f"layers of {self.label(c)}", here_LC, high))
            if low > 0:
                found.append(self._sum(f"layers other than {self.label(c)}", ~here_LC, layers - low))
        return (*found, *self.limits)

    def _sum(self, name: str, use_LC: NDArray[Any], limit: int) -> Resource:
        return Resource.of(name, use_LC.astype(np.int64), limit, streams=len(self.switch_us_SS))

    @cached_property
    def fixed_point_score_LC(self) -> Int:
        """Scores as integers, `FIXED_POINT` to one, rounded to nearest."""
        return np.rint(self.score_LC * FIXED_POINT).astype(np.int64)

    @cached_property
    def fixed_point_pair_LCC(self) -> Int | None:
        """Scores of pairs as integers; None where neighbours do not matter."""
        return None if self.pair_score_LCC is None else np.rint(self.pair_score_LCC * FIXED_POINT).astype(np.int64)

    def score_lost(self, *, least_score: int | None = None) -> Resource:
        """Return as a resource how much less layers score than the best that is allowed there, and pairs than any.

        A layout within its limit scores at least `least_score` (fixed-point); None is no limit.
        """
        score_LC, pair_LCC = self.fixed_point_score_LC, self.fixed_point_pair_LCC
        worst = score_LC.min() - 1
        best_L = score_LC.max(axis=1, where=self.allowed_LC, initial=worst)
        most = int(best_L.sum())
        lost_LC = np.where(self.allowed_LC, best_L[:, None] - score_LC, 0)
        lost = Resource.of("score lost", lost_LC, UNLIMITED, streams=len(self.switch_us_SS))
        if pair_LCC is not None:
            best_L11 = pair_LCC.max(axis=(1, 2), keepdims=True)
            most += int(best_L11.sum())
            lost = dataclasses.replace(lost, pair_LCC=best_L11 - pair_LCC)
        return lost if least_score is None else dataclasses.replace(lost, limit=most - least_score)

    @property
    def layouts(self) -> int:
        """How many layouts the layers and groups allow, whatever they cost."""
        return math.prod(np.all(self._grouped(self.allowed_LC), axis=1).sum(axis=1).tolist())

    def by_group(self) -> Problem:
        """Return the same problem with one layer per group: costs and scores summed, peaks the largest.

        Constraints other than the two budgets become `limits`.
        """
        if self.group_size == 1:
            return self
        latency, memory, *others = (r.by_group(self.group_size, self.stream_C) for r in self.resources)
        score_GC, pair_GCC = self._grouped(self.fixed_point_score_LC).sum(axis=1), None
        if self.fixed_point_pair_LCC is not None:
            inside_GC, pair_GCC = _pairs_by_group(self.fixed_point_pair_LCC, self.group_size)
            score_GC += inside_GC
        return dataclasses.replace(
            self,
            score_LC=score_GC / FIXED_POINT,
            pair_score_LCC=None if pair_GCC is None else pair_GCC / FIXED_POINT,
            latency_us_LC=latency.use_LC,
            memory_bytes_LC=memory.use_LC,
            peak_bytes_LC=memory.peak_LC,
            allowed_LC=np.all(self._grouped(self.allowed_LC), axis=1),
            group_size=1,
            **{**NO_CONSTRAINTS, "limits": tuple(others)},
        )

    def _grouped(self, values_LC: NDArray[_T]) -> NDArray[_T]:
        """Return values by group, member and candidate."""
        return values_LC.reshape(-1, self.group_size, len(self.stream_C))

    def price(self, choice_L: Sequence[int]) -> Price:
        """Recompute what a layout costs and scores, from the arrays alone.

        This is deliberately the plain loop of the definition: every solver's answer is checked against it.
        """
        latency_us, memory_bytes, peak_bytes, score = self.fixed_us, self.fixed_bytes, 0, 0
        stream = self.first_stream
        for layer, c in enumerate(choice_L):
            latency_us += int(self.switch_us_SS[stream, self.stream_C[c]]) + int(self.latency_us_LC[layer, c])
            memory_bytes += int(self.memory_bytes_LC[layer, c])
            peak_bytes = max(peak_bytes, int(self.peak_bytes_LC[layer, c]))
            score += int(self.fixed_point_score_LC[layer, c])
            if layer and self.fixed_point_pair_LCC is not None:
                score += int(self.fixed_point_pair_LCC[layer, choice_L[layer - 1], c])
            stream = int(self.stream_C[c])
        latency_us += int(self.switch_us_SS[stream, self.last_stream])
        return Price(latency_us=latency_us, memory_bytes=memory_bytes, peak_bytes=peak_bytes, fixed_point_score=score)

    def admits(self, choice_L: Sequence[int]) -> bool:
        """Tell whether a layout is allowed, whole in its groups, within all budgets, and keeps every constraint."""
        if not all(self.allowed_LC[layer, c] for layer, c in enumerate(choice_L)):
            return False
        if any(choice_L[i] != choice_L[i - i % self.group_size] for i in range(len(choice_L))):
            return False
        price = self.price(choice_L)
        if price.latency_us > self.latency_budget_us or price.total_bytes > self.memory_budget_bytes:
            return False
        return self._keeps_constraints(tuple(choice_L))

    def _keeps_constraints(self, choice_L: tuple[int, ...]) -> bool:
        """Tell whether a layout keeps the constraints beyond the two budgets, each by its own definition."""
        for c in self.counts:
            low, high = self.count_range(c)
            if not low <= choice_L.count(c) <= high:
                return False
        streams = [self.first_stream, *(int(self.stream_C[c]) for c in choice_L), self.last_stream]
        if self.max_switches is not None and sum(a != b for a, b in pairwise(streams)) > self.max_switches:
            return False
        changes = sum(a != b for a, b in zip(choice_L, self.reference_L or choice_L, strict=True))
        if self.max_changes is not None and changes > self.max_changes:
            return False
        return all(self.on_device(device).admits(choice_L) for device in self.devices) and all(
            resource.spent(self, choice_L) <= resource.limit for resource in self.limits
        )

    def on_device(self, device: FurtherDevice) -> Problem:
        """Return the search on one further device alone: its costs and budgets, without other constraints.

        Raises:
            ProblemError: The device's arrays do not fit the problem's; the message names the device.
        """
        costs = {name: value for name, value in vars(device).items() if name != "name"}
        try:
            return dataclasses.replace(self, **costs, **NO_CONSTRAINTS)
        except ProblemError as error:
            raise ProblemError(
                f"of the device {device.name!r}, {error.problem}", allowed=error.allowed, remedy=error.remedy
            ) from None


#: A problem's constraints beyond its two budgets, all of them lifted.
NO_CONSTRAINTS: dict[str, Any] = {
    "counts": {},
    "max_switches": None,
    "reference_L": None,
    "max_changes": None,
    "devices": (),
    "limits": (),
}


def _latency_and_memory(costs: Problem | FurtherDevice, of: str) -> tuple[Resource, Resource]:
    latency = Resource(
        name=f"latency{of}",
        use_LC=costs.latency_us_LC,
        switch_SS=costs.switch_us_SS,
        peak_LC=np.zeros_like(costs.peak_bytes_LC),
        limit=_left(costs.latency_budget_us, costs.fixed_us),
        fixed=costs.fixed_us,
        unit="us",
    )
    memory = Resource(
        name=f"memory{of}",
        use_LC=costs.memory_bytes_LC,
        switch_SS=np.zeros_like(costs.switch_us_SS),
        peak_LC=costs.peak_bytes_LC,
        limit=_left(costs.memory_budget_bytes, costs.fixed_bytes),
        fixed=costs.fixed_bytes,
        unit="bytes",
    )
    return latency, memory


def _pairs_by_group(pair_LCC: Int, size: int) -> tuple[Int, Int]:
    """Return what groups have by the pairs inside them, all of one candidate, and what pairs of groups have."""
    inside_LC = np.diagonal(pair_LCC, axis1=1, axis2=2).copy()
    inside_LC[::size] = 0
    return inside_LC.reshape(-1, size, inside_LC.shape[1]).sum(axis=1), pair_LCC[::size]


def _left(budget: int, fixed: int) -> int:
    return UNLIMITED if budget >= UNLIMITED else budget - fixed


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one layout costs and scores: microseconds, bytes, and score as an integer, `FIXED_POINT` to one."""

    latency_us: int
    memory_bytes: int
    peak_bytes: int
    fixed_point_score: int

    @property
    def score(self) -> float:
        """The score in its own unit."""
        return self.fixed_point_score / FIXED_POINT

    @property
    def total_bytes(self) -> int:
        """What must fit in memory at once."""
        return self.memory_bytes + self.peak_bytes
