"""Program: one network's costs, which many combinations share, and the best layouts within all that they leave for it.

Combinations that differ in steps, decoder, commit policy or residency, and all rates, ask the same arrays for the best
layout within other pairs of limits. So a program is searched once, for all pairs side by side.

Axes:  K pairs of limits
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from s2search.block import Block, Precision, Shape
from s2search.designer.axes import Offer
from s2search.designer.combination import Combination
from s2search.errors import InputError
from s2search.latency.base import Estimate, LatencyModel
from s2search.planner.constraints import Constraints
from s2search.planner.evidence import Evidence
from s2search.preset import token_grid
from s2search.score.base import Score
from s2search.solver.base import unconstrained_bound
from s2search.solver.frontier import FrontPoint, Within, best_within
from s2search.solver.problem import FIXED_POINT, UNLIMITED, Problem
from s2search.solver.questions.infeasible import smallest_relaxations
from s2search.space import Space
from s2search.tables.table import LatencyTable, Scope

#: Microseconds and bytes that a layout may take.
Limits = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class LayoutWish:
    """What a layout is chosen from and by, whatever its program.

    `constraints` are read for each depth, so they are kept as they are written.
    """

    candidates: tuple[Block, ...]
    group_size: int
    score: Score
    latency_model: LatencyModel
    counts: tuple[str, ...] = ()
    first: str | None = None
    last: str | None = None
    max_switches: int | None = None

    def space(self, depth: int) -> Space:
        """Return the layouts of a depth."""
        return Space(candidates=self.candidates, depth=depth, group_size=self.group_size)

    def constraints(self, space: Space) -> Constraints:
        """Return what layouts of a space must be.

        Raises:
            InputError: No layout of its depth can be that.
        """
        try:
            constraints = Constraints.parse(
                space, counts=self.counts, first=self.first, last=self.last, max_switches=self.max_switches
            )
            constraints.check(space)
        except InputError as error:  # which of several depths it is about
            said = f"of {space.depth} layers: {error.problem}"
            raise InputError(said, allowed=error.allowed, remedy=error.remedy) from error
        return constraints


@dataclass(frozen=True, kw_only=True, eq=False)
class DesignProgram:
    """One network on one table: the scope of its rows, what they are foretold to take, and the search."""

    table: LatencyTable
    scope: Scope
    space: Space
    constraints: Constraints
    evidence: Evidence
    problem: Problem

    @classmethod
    def of(cls, offer: Offer, combination: Combination, wish: LayoutWish) -> DesignProgram:
        """Return the program of a combination, without limits.

        Raises:
            InputError: Its sizes do not go together.
            MissingRowError: The latency model has no grounds for one of its parts.
        """
        offer = offer.in_precision(combination.precision)
        scope, space = scope_of(offer, combination), wish.space(combination.depth)
        evidence = Evidence.gather(offer.table, scope, space, wish.latency_model)
        constraints = wish.constraints(space)
        problem = evidence.pose(space, wish.score, latency_budget_us=UNLIMITED, memory_budget_bytes=UNLIMITED)
        return cls(
            table=offer.table,
            scope=scope,
            space=space,
            constraints=constraints,
            evidence=evidence,
            problem=constraints.put_on(problem, space),
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What its candidates are called."""
        return tuple(block.label for block in self.space.candidates)

    @cached_property
    def parts(self) -> dict[str, Estimate]:
        """What is foretold of every part, by its name."""
        return self.evidence.parts(self.space)

    def above(self, peak_bytes: int) -> Problem:
        """Return the search where activations of other networks are a floor under those of every layer."""
        if peak_bytes <= int(self.problem.peak_bytes_LC.min()):
            return self.problem
        return dataclasses.replace(self.problem, peak_bytes_LC=np.maximum(self.problem.peak_bytes_LC, peak_bytes))

    @cached_property
    def score_bound(self) -> float:
        """What no layout scores above."""
        return unconstrained_bound(self.problem) / FIXED_POINT

    @cached_property
    def least(self) -> Limits:
        """Microseconds and bytes that no layout goes below."""
        problem = self.problem
        latency_us = np.where(problem.allowed_LC, problem.latency_us_LC, UNLIMITED // 1000).min(axis=1).sum()
        held_bytes = np.where(problem.allowed_LC, problem.memory_bytes_LC, UNLIMITED // 1000).min(axis=1).sum()
        peak_bytes = np.where(problem.allowed_LC, problem.peak_bytes_LC, UNLIMITED // 1000).min()
        return int(latency_us) + problem.fixed_us, int(held_bytes + peak_bytes) + problem.fixed_bytes

    def fastest(self, memory_bytes: int, peak_bytes: int) -> FrontPoint | None:
        """Return the layout of the least latency within a memory limit; None where none is within it."""
        problem = dataclasses.replace(self.above(peak_bytes), memory_budget_bytes=memory_bytes, latency_budget_us=0)
        found = smallest_relaxations(problem).found.get("latency")
        return None if found is None else _point(problem, found.choice_L)

    def smallest(self, latency_us: int, peak_bytes: int) -> FrontPoint | None:
        """Return the layout of the least memory within a latency; None where none is within it."""
        problem = dataclasses.replace(self.above(peak_bytes), latency_budget_us=latency_us, memory_budget_bytes=0)
        found = smallest_relaxations(problem).found.get("memory")
        return None if found is None else _point(problem, found.choice_L)

    def best(self, limits: Collection[Limits], peak_bytes: int) -> dict[Limits, Within]:
        """Return the best layout within each pair of limits."""
        asked = sorted(limits)
        return dict(zip(asked, best_within(self.above(peak_bytes), asked), strict=True))

    def priced(self, layouts: Sequence[tuple[str, ...]], limits: Limits, peak_bytes: int) -> list[FrontPoint]:
        """Return those of some layouts, by labels, that are of this space and within limits."""
        key = (tuple(layouts), peak_bytes)
        if key not in self._priced:
            problem = self.above(peak_bytes)
            own = [x for x in layouts if len(x) == self.space.depth and set(x) <= set(self.labels)]
            choices = [tuple(map(self.labels.index, layout)) for layout in own]
            self._priced[key] = [_point(problem, choice_L) for choice_L in choices if problem.admits(choice_L)]
        return [p for p in self._priced[key] if p.latency_us <= limits[0] and p.memory_bytes <= limits[1]]

    @cached_property
    def _priced(self) -> dict[tuple[tuple[tuple[str, ...], ...], int], list[FrontPoint]]:
        return {}

    @cached_property
    def layers_alike(self) -> bool:
        """Whether every layer scores and costs the same, so that layouts of the same blocks tie."""
        problem = self.problem
        arrays = (problem.score_LC, problem.latency_us_LC, problem.memory_bytes_LC, problem.allowed_LC)
        return problem.pair_score_LCC is None and all((array == array[0]).all() for array in arrays)

    @cached_property
    def state_bytes(self) -> int:
        """More than the streaming state of any layout, or just as much."""
        stored = Precision.named(self.scope.precision)
        return self.space.depth * max(block.state_bytes(self.scope.shape, stored) for block in self.space.candidates)

    def used(self, choice_L: Sequence[int]) -> dict[str, tuple[int, Estimate]]:
        """Return what a forward pass of a layout is made of: how often each part runs, and what it is foretold."""
        counts = Counter(self.evidence.run(self.problem, self.labels, choice_L))
        return {name: (count, self.parts[name]) for name, count in counts.items()}


def _point(problem: Problem, choice_L: Sequence[int]) -> FrontPoint:
    price = problem.price(choice_L)
    return FrontPoint(
        latency_us=price.latency_us, memory_bytes=price.total_bytes, score=price.score, choice_L=tuple(choice_L)
    )


def scope_of(offer: Offer, combination: Combination) -> Scope:
    """Return the rows that a combination's network would have: those of the table, or such as nobody measured.

    Heads and the feed-forward keep their sizes relative to the width of the rows that there are.

    Raises:
        InputError: The width is not made of whole heads.
    """
    rows = offer.forms.having(precision=combination.precision)
    first = rows[0] if rows else offer.forms[0]
    known = [row for row in offer.forms.having(channels=combination.width) if row.precision == first.precision]
    shape = known[0].shape if known else _widened(first.shape, combination.width)
    height, width = token_grid(combination.video)
    return Scope(
        scenario="stream",
        shape=dataclasses.replace(
            shape,
            frames=combination.chunk,
            height=height,
            width=width,
            context_frames=combination.window * combination.chunk,
        ),
        precision=combination.precision,
        compute_unit=first.compute_unit,
    )


def _widened(shape: Shape, channels: int) -> Shape:
    heads, left = divmod(channels, shape.head_channels)
    if left or not heads:
        raise InputError(
            f"the width is {channels}, and the table's heads have {shape.head_channels} channels",
            allowed=f"multiples of {shape.head_channels}",
            remedy="choose one of them",
        )
    return dataclasses.replace(
        shape,
        channels=channels,
        heads=heads,
        feed_forward=max(1, shape.feed_forward * channels // shape.channels),
    )
