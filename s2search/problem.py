"""Problem: space, latency model, score and budgets as integer arrays. Whatever solves it needs to know nothing else.

Axes:  L layers  C candidates  S streams
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from s2search.block import Stream
from s2search.errors import MissingRowError, ProblemError
from s2search.latency.base import Estimate, LatencyModel
from s2search.score.base import Score
from s2search.space import Space
from s2search.table import LatencyTable, Scope

Int = NDArray[np.int64]
_T = TypeVar("_T", bound=np.generic)

#: Scores inside the solvers are integers, this many to one: sums do not depend on their order, and ties are ties.
FIXED_POINT = 10**9
#: A budget that nothing exceeds.
UNLIMITED = 2**62

_LARGEST_SUM = 2**50  # exact in a float64 too, which the MILP solver computes in


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Choose one candidate per layer, maximising the summed score within a latency and a memory budget.

    Feasible: latency of all layers + switches (from `first_stream`, between layers, to `last_stream`) + `fixed_us` is
    at most `latency_budget_us`, and memory of all layers + `fixed_bytes` + the *largest* peak is at most
    `memory_budget_bytes`. Layers come in groups of `group_size` that take the same candidate.

    Args:
        score_LC: Score of each candidate at each layer; larger is better.
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

    Raises:
        ProblemError: The arrays contradict each other, or a value is negative, not finite or too large.
    """

    score_LC: NDArray[np.float64]
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

    def __post_init__(self) -> None:
        shape = np.shape(self.score_LC)
        if len(shape) != 2 or 0 in shape:
            raise ProblemError(f"score_LC has the shape {shape}", allowed="(layers, candidates), neither of them 0")
        for name in ("latency_us_LC", "memory_bytes_LC", "peak_bytes_LC", "allowed_LC"):
            if np.shape(getattr(self, name)) != shape:
                raise ProblemError(
                    f"{name} has the shape {np.shape(getattr(self, name))}", allowed=f"{shape} as score_LC"
                )
        if np.shape(self.stream_C) != shape[1:]:
            raise ProblemError(f"stream_C has the shape {np.shape(self.stream_C)}", allowed=f"{shape[1:]}")
        for name in ("score_LC", "latency_us_LC", "memory_bytes_LC", "peak_bytes_LC", "switch_us_SS"):
            self._check_sum(name)
        for name in ("fixed_us", "fixed_bytes", "latency_budget_us", "memory_budget_bytes"):
            if getattr(self, name) < 0:
                raise ProblemError(f"{name} is {getattr(self, name)}", allowed="0 or more")
        self._check_layers()
        self._check_streams()

    def _check_sum(self, name: str) -> None:
        values = np.asarray(getattr(self, name))
        scores = name == "score_LC"
        if not np.isfinite(values).all():
            raise ProblemError(f"{name} holds {values[~np.isfinite(values)][0]}", allowed="finite numbers")
        if not scores and not np.issubdtype(values.dtype, np.integer):
            raise ProblemError(f"{name} holds {values.dtype}", allowed="integers", remedy="round to us and bytes")
        if not scores and (values < 0).any():
            raise ProblemError(f"{name} holds {values.min()}", allowed="0 or more")
        total = float(np.abs(values).astype(np.float64).max()) * len(self.score_LC) * (FIXED_POINT if scores else 1)
        if total > _LARGEST_SUM:
            raise ProblemError(
                f"{name} holds {np.abs(values).max():g}, whose sum is not exact", remedy="use a larger unit"
            )
        if scores and ((np.ptp(values, axis=1) > 0) & (np.ptp(self.fixed_point_score_LC, axis=1) == 0)).any():
            raise ProblemError(
                f"score_LC differs by less than {1 / FIXED_POINT:g}", remedy="multiply the scores by a factor"
            )

    def _check_layers(self) -> None:
        layers = len(self.score_LC)
        if self.group_size < 1 or layers % self.group_size:
            raise ProblemError(f"{layers} layers do not divide into groups of {self.group_size}")
        possible_G = np.any(self._grouped(self.allowed_LC).min(axis=1), axis=1)
        if not possible_G.all():
            raise ProblemError(f"no candidate is allowed at layer {int(np.argmin(possible_G)) * self.group_size}")

    def _check_streams(self) -> None:
        streams = len(self.switch_us_SS)
        if np.shape(self.switch_us_SS) != (streams, streams):
            raise ProblemError(f"switch_us_SS has the shape {np.shape(self.switch_us_SS)}", allowed="square")
        for name, stream in (
            ("stream_C", self.stream_C),
            ("first_stream", self.first_stream),
            ("last_stream", self.last_stream),
        ):
            if np.min(stream) < 0 or np.max(stream) >= streams:
                raise ProblemError(f"{name} is {stream}", allowed=f"0 to {streams - 1}, as switch_us_SS has")

    @cached_property
    def fixed_point_score_LC(self) -> Int:
        """Scores as integers, `FIXED_POINT` to one, rounded to nearest."""
        return np.rint(self.score_LC * FIXED_POINT).astype(np.int64)

    @property
    def layouts(self) -> int:
        """How many layouts the layers and groups allow, whatever they cost."""
        count = 1
        for allowed in self.by_group().allowed_LC.sum(axis=1):
            count *= int(allowed)
        return count

    def by_group(self) -> Problem:
        """Return the same problem with one layer per group: costs and scores summed, peaks the largest."""
        if self.group_size == 1:
            return self
        inside = np.diag(self.switch_us_SS)[self.stream_C] * (self.group_size - 1)
        return dataclasses.replace(
            self,
            score_LC=self._grouped(self.fixed_point_score_LC).sum(axis=1) / FIXED_POINT,
            latency_us_LC=self._grouped(self.latency_us_LC).sum(axis=1) + inside,
            memory_bytes_LC=self._grouped(self.memory_bytes_LC).sum(axis=1),
            peak_bytes_LC=self._grouped(self.peak_bytes_LC).max(axis=1),
            allowed_LC=self._grouped(self.allowed_LC).min(axis=1),
            group_size=1,
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
            stream = int(self.stream_C[c])
        latency_us += int(self.switch_us_SS[stream, self.last_stream])
        return Price(latency_us=latency_us, memory_bytes=memory_bytes, peak_bytes=peak_bytes, fixed_point_score=score)

    def admits(self, choice_L: Sequence[int]) -> bool:
        """Tell whether a layout is allowed, whole in its groups, and within both budgets."""
        if not all(self.allowed_LC[layer, c] for layer, c in enumerate(choice_L)):
            return False
        if any(choice_L[i] != choice_L[i - i % self.group_size] for i in range(len(choice_L))):
            return False
        price = self.price(choice_L)
        return price.latency_us <= self.latency_budget_us and price.total_bytes <= self.memory_budget_bytes


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


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a latency model predicts for everything that a layout can contain.

    `fixed` are the parts that every layout pays once (stem, head, buffers). `down` and `up` are the switches between
    the streams; None where no candidate runs in the low-resolution stream.
    """

    block_C: tuple[Estimate, ...]
    fixed: tuple[Estimate, ...]
    down: Estimate | None
    up: Estimate | None

    @classmethod
    def gather(cls, table: LatencyTable, scope: Scope, space: Space, model: LatencyModel) -> Evidence:
        """Ask a latency model for every part of a space.

        Raises:
            MissingRowError: The table has no grounds for one of them.
        """
        fixed = dict.fromkeys(row.part for row in table.in_scope(scope, any_grid=True) if row.role == "fixed")
        for part in ("stem", "head"):
            if part not in fixed:
                raise MissingRowError(
                    f"the table {table.name!r} has no fixed row for the {part} at {scope}",
                    remedy="measure it: every layout pays for it",
                )
        switches = any(block.stream != Stream.HIGH for block in space.candidates)
        return cls(
            block_C=tuple(model.predict(table, scope, b.name, b.options_text) for b in space.candidates),
            fixed=tuple(model.predict(table, scope, part) for part in fixed),
            down=model.predict(table, scope, "down") if switches else None,
            up=model.predict(table, scope, "up") if switches else None,
        )

    @property
    def shared(self) -> tuple[Estimate, ...]:
        """Everything that is in memory whatever the layout: the fixed parts and the two switches."""
        return self.fixed + tuple(switch for switch in (self.down, self.up) if switch is not None)

    def pose(self, space: Space, score: Score, *, latency_budget_us: int, memory_budget_bytes: int) -> Problem:
        """Return the search problem: the same costs at every layer, the score's own values.

        One `down` and one `up` serve all switches of a layout, so their weights are fixed bytes. The peaks of fixed
        parts and switches are a floor under every layer's peak.
        """
        cost_C = [estimate.cost for estimate in self.block_C]
        floor_bytes = max(estimate.cost.peak_bytes for estimate in self.shared)
        switch_us_SS = np.zeros((len(Stream), len(Stream)), np.int64)
        if self.down and self.up:
            switch_us_SS[Stream.HIGH, Stream.LOW] = self.down.cost.latency_us
            switch_us_SS[Stream.LOW, Stream.HIGH] = self.up.cost.latency_us
        return Problem(
            score_LC=score.score_LC(space),
            latency_us_LC=_every_layer([cost.latency_us for cost in cost_C], space.depth),
            memory_bytes_LC=_every_layer([cost.memory_bytes for cost in cost_C], space.depth),
            peak_bytes_LC=_every_layer([max(cost.peak_bytes, floor_bytes) for cost in cost_C], space.depth),
            allowed_LC=np.ones((space.depth, len(cost_C)), np.bool_),
            stream_C=np.array([int(block.stream) for block in space.candidates], np.int64),
            switch_us_SS=switch_us_SS,
            fixed_us=sum(estimate.cost.latency_us for estimate in self.fixed),
            fixed_bytes=sum(estimate.cost.memory_bytes for estimate in self.shared),
            latency_budget_us=latency_budget_us,
            memory_budget_bytes=memory_budget_bytes,
            group_size=space.group_size,
        )

    def latency_std_us(self, problem: Problem, choice_L: Sequence[int]) -> float | None:
        """Return the standard deviation of a layout's latency if all rows err together: the sum of their own.

        None where a row that the layout uses states no spread.
        """
        streams = [problem.first_stream, *(int(problem.stream_C[c]) for c in choice_L), problem.last_stream]
        used = [*self.fixed, *(self.block_C[c] for c in choice_L)]
        for before, after in pairwise(streams):
            switch = self.down if before < after else self.up if before > after else None
            used += [switch] if switch is not None else []
        spreads = [estimate.latency_std_us for estimate in used]
        return None if None in spreads else float(sum(spread for spread in spreads if spread is not None))


def _every_layer(values_C: list[int], depth: int) -> Int:
    return np.tile(np.array(values_C, np.int64), (depth, 1))
