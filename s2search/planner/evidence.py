"""Evidence: what a latency model predicts for every part of a space, and the search problem that follows from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from s2search.block import Stream
from s2search.errors import MissingRowError, ScoreError, TableError
from s2search.latency.base import Estimate, LatencyModel
from s2search.score.base import Score
from s2search.solver.problem import FIXED_POINT, Int, Problem
from s2search.solver.problem_checks import LARGEST_SUM
from s2search.solver.spread import Spread
from s2search.space import Space
from s2search.tables.card import ProvenanceKind
from s2search.tables.table import LatencyTable, Scope


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a latency model predicts for everything that a layout can contain.

    `fixed` are the parts that every layout pays once (stem, head, buffers). `down` and `up` are the switches between
    the streams; None where no candidate runs in the low-resolution stream. `fixed_parts` names the fixed ones.
    """

    block_C: tuple[Estimate, ...]
    fixed: tuple[Estimate, ...]
    down: Estimate | None
    up: Estimate | None
    fixed_parts: tuple[str, ...] = ()

    @classmethod
    def gather(cls, table: LatencyTable, scope: Scope, space: Space, model: LatencyModel) -> Evidence:
        """Ask a latency model for every part of a space.

        Raises:
            MissingRowError: The table has no grounds for one of them.
        """
        fixed = table.in_scope(scope, any_grid=True).having(role="fixed").different("part")
        fixed = fixed or table.like_scope(scope).having(role="fixed").different("part")  # of a model of other sizes
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
            fixed_parts=tuple(fixed),
        )

    def parts(self, space: Space) -> dict[str, Estimate]:
        """Return every estimate by the name of its part: the candidates' labels, the fixed parts, the switches."""
        named = {block.label: estimate for block, estimate in zip(space.candidates, self.block_C, strict=True)}
        named |= dict(zip(self.fixed_parts, self.fixed, strict=True))
        return named | {name: one for name, one in (("down", self.down), ("up", self.up)) if one is not None}

    def with_latency(self, part: str, latency_us: int, space: Space) -> Evidence:
        """Return the same evidence with another latency of one part, named as in `parts`."""
        changed = {
            name: _retimed(estimate, latency_us) if name == part else estimate
            for name, estimate in self.parts(space).items()
        }
        return dataclasses.replace(
            self,
            block_C=tuple(changed[block.label] for block in space.candidates),
            fixed=tuple(changed[name] for name in self.fixed_parts),
            down=changed.get("down"),
            up=changed.get("up"),
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
        score_LC, allowed_LC = scored(space, score)
        return Problem(
            score_LC=score_LC,
            pair_score_LCC=score.pair_score_LCC(space),
            latency_us_LC=_every_layer([cost.latency_us for cost in cost_C], space.depth),
            memory_bytes_LC=_every_layer([cost.memory_bytes for cost in cost_C], space.depth),
            peak_bytes_LC=_every_layer([max(cost.peak_bytes, floor_bytes) for cost in cost_C], space.depth),
            allowed_LC=allowed_LC,
            stream_C=np.array([int(block.stream) for block in space.candidates], np.int64),
            switch_us_SS=switch_us_SS,
            fixed_us=sum(estimate.cost.latency_us for estimate in self.fixed),
            fixed_bytes=sum(estimate.cost.memory_bytes for estimate in self.shared),
            latency_budget_us=latency_budget_us,
            memory_budget_bytes=memory_budget_bytes,
            group_size=space.group_size,
            label_C=tuple(block.label for block in space.candidates),
        )

    def latency_std_us(self, problem: Problem, choice_L: Sequence[int]) -> float | None:
        """Return the standard deviation of a layout's latency if all rows err together: the sum of their own.

        None where a row that the layout uses states no spread.
        """
        spreads = [estimate.latency_std_us for estimate in self._used(problem, choice_L)]
        return None if None in spreads else float(sum(spread for spread in spreads if spread is not None))

    def latency_provenance(self, problem: Problem, choice_L: Sequence[int]) -> tuple[ProvenanceKind, ...]:
        """Return the kinds of evidence behind a layout's latency, by name; what takes no time has no say."""
        used = self._used(problem, choice_L)
        return tuple(sorted({estimate.provenance for estimate in used if estimate.cost.latency_us > 0}))

    def run(self, problem: Problem, label_C: Sequence[str], choice_L: Sequence[int]) -> tuple[str, ...]:
        """Return the names of what a forward pass of a layout is made of, each part as often as it runs."""
        streams = [problem.first_stream, *(int(problem.stream_C[c]) for c in choice_L), problem.last_stream]
        switches = ["down" if before < after else "up" for before, after in pairwise(streams) if before != after]
        return (*self.fixed_parts, *(label_C[c] for c in choice_L), *switches)

    def _used(self, problem: Problem, choice_L: Sequence[int]) -> list[Estimate]:
        """Return what a forward pass of a layout is made of, each part as often as it runs."""
        streams = [problem.first_stream, *(int(problem.stream_C[c]) for c in choice_L), problem.last_stream]
        used = [*self.fixed, *(self.block_C[c] for c in choice_L)]
        for before, after in pairwise(streams):
            switch = self.down if before < after else self.up if before > after else None
            used += [switch] if switch is not None else []
        return used

    def spread(self, table: LatencyTable, space: Space) -> Spread:
        """Return how the latencies of a problem vary: timings' own deviations, and the common factor of the table.

        Raises:
            TableError: A latency has no spread of timings behind it: none is stated, or it was derived or estimated,
                and what is stated is the error of that arithmetic, which repetitions do not average out.
        """
        for label, estimate in self._labelled(space):
            derived = estimate.provenance in ("derived", "estimated") and estimate.cost.latency_us > 0
            if derived or estimate.latency_std_us is None:
                why = f"its latency is {estimate.provenance}" if derived else "it states none"
                raise TableError(
                    f"the table {table.name!r} has no spread of timings for {label}: {why}",
                    remedy="measure it on the device (s2search measure), name a table that was, or leave the "
                    "confidence out",
                )
        switch_std_us_SS = np.zeros((len(Stream), len(Stream)))
        switch_std_us_SS[Stream.HIGH, Stream.LOW] = _std_us(self.down)
        switch_std_us_SS[Stream.LOW, Stream.HIGH] = _std_us(self.up)
        return Spread(
            std_us_LC=np.tile([_std_us(estimate) for estimate in self.block_C], (space.depth, 1)),
            switch_std_us_SS=switch_std_us_SS,
            fixed_std_us=math.hypot(*(_std_us(estimate) for estimate in self.fixed)),
            common_relative=table.card.common_std_relative or 0.0,
        )

    def _labelled(self, space: Space) -> list[tuple[str, Estimate]]:
        named = [(repr(block.label), e) for block, e in zip(space.candidates, self.block_C, strict=True)]
        named += [("a fixed part", estimate) for estimate in self.fixed]
        return named + [("a switch", estimate) for estimate in (self.down, self.up) if estimate is not None]


def scored(space: Space, score: Score) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the score of each candidate at each layer, and where it may stand; both of shape (depth, candidates).

    Where a candidate is forbidden it gets the least score that the layer has, which no layout counts.

    Raises:
        ScoreError: A score is too large for exact sums, or a layer has no candidate.
    """
    score_LC = score.score_LC(space)
    allowed_LC = ~np.isnan(score_LC)
    most = LARGEST_SUM / FIXED_POINT / space.depth
    for layer, c in np.argwhere(allowed_LC & ~(np.abs(score_LC) <= most)):
        raise ScoreError(
            f"{score.where} gives {space.candidates[c].label!r} at layer {layer} the score {score_LC[layer, c]:g}",
            allowed=f"numbers up to {math.floor(most):,} at {space.depth} layers, so that their sum is exact",
            remedy="give null to forbid the block there, or a larger unit to all",
        )
    grouped_GC: NDArray[np.bool_] = np.all(allowed_LC.reshape(space.groups, space.group_size, -1), axis=1)
    for group, open_C in enumerate(grouped_GC):
        if open_C.any():
            continue
        first = group * space.group_size
        layers = f"layer {first}" if space.group_size == 1 else f"layers {first} to {first + space.group_size - 1}"
        raise ScoreError(
            f"{score.where} forbids every block at {layers}",
            allowed="a number for at least one of them",
            remedy="correct the file, or offer more --candidates",
        )
    least_L = np.where(allowed_LC, score_LC, np.inf).min(axis=1, keepdims=True)
    return np.where(allowed_LC, score_LC, least_L), allowed_LC


def _retimed(estimate: Estimate, latency_us: int) -> Estimate:
    return dataclasses.replace(estimate, cost=dataclasses.replace(estimate.cost, latency_us=latency_us))


def _std_us(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None else estimate.latency_std_us or 0.0


def _every_layer(values_C: list[int], depth: int) -> Int:
    return np.tile(np.array(values_C, np.int64), (depth, 1))
