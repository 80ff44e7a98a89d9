"""The slots of a joint search: stem, layers, head, switches and text, with what may stand there and what it costs.

Axes:  N slots  L layers  C candidates of the base  J joint candidates
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2search.block import Stream
from s2search.cost import Cost
from s2search.latency.base import Estimate
from s2search.planner.evidence import Evidence
from s2search.precision.noise import Noise
from s2search.solver.problem import Int, Problem, Resource
from s2search.space import Space

SWITCHES = ("down", "up")


@dataclass(frozen=True, kw_only=True)
class Option:
    """What may stand in a slot: a block at a layer, or the part of the slot's own name, in a precision."""

    name: str
    precision: str

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.name} {self.precision}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """Slots and candidates of a joint search, and what each costs where."""

    base: Problem
    space: Space
    evidence_of: Mapping[str, Evidence]
    noise: Noise | None

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The part of every slot; text where a sweep has it, switches where a block is in low resolution."""
        first = next(iter(self.evidence_of.values()))
        layers = [f"layers.{layer}" for layer in range(self.space.depth)]
        switches = SWITCHES if first.down is not None else ()
        text = ["text"] if self.noise is not None and self.noise.knows_part("text") else []
        return ("stem", *layers, "head", *switches, *text)

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """Every candidate: each block, and each other part, in each precision."""
        others = [part for part in self.parts if not part.startswith("layers.")]
        names = [*(block.label for block in self.space.candidates), *others]
        return tuple(Option(name=name, precision=label) for name in names for label in self.evidence_of)

    @cached_property
    def block_J(self) -> Int:
        """Which candidate of the base each is at a layer; -1 for none."""
        labels = [block.label for block in self.space.candidates]
        return np.array([labels.index(o.name) if o.name in labels else -1 for o in self.options], np.int64)

    @cached_property
    def at_layer_N(self) -> NDArray[np.bool_]:
        """Which slots are layers."""
        return np.array([part.startswith("layers.") for part in self.parts])

    @property
    def asked(self) -> list[tuple[str, str, str]]:
        """Return what noise is needed of: part, block and precision."""
        allowed_NJ = self.allowed_NJ
        return [
            (part, option.name if self.at_layer_N[n] else "", option.precision)
            for n, part in enumerate(self.parts)
            for j, option in enumerate(self.options)
            if allowed_NJ[n, j]
        ]

    @cached_property
    def allowed_NJ(self) -> NDArray[np.bool_]:
        """Which candidate may stand in which slot."""
        names_J = np.array([option.name for option in self.options])
        allowed_NJ: NDArray[np.bool_] = names_J == np.array(self.parts)[:, None]
        allowed_NJ[self.at_layer_N] = self.over_layers(self.base.allowed_LC, other=False)
        return allowed_NJ

    def over_layers(self, values_LC: NDArray[Any], *, other: float) -> NDArray[Any]:
        """Return what candidates of the base have at every layer, for each precision; `other` for other parts."""
        spread_LJ: NDArray[Any] = np.where(self.block_J >= 0, values_LC[:, self.block_J], other)
        return spread_LJ

    def problem(self) -> Problem:
        """Return the search as integer arrays, noise apart."""
        latency_J, memory_J, peak_J = self._costs()
        shape, base = self.allowed_NJ.shape, self.base
        score_NJ, pair_NJJ = np.zeros(shape), None
        score_NJ[self.at_layer_N] = self.over_layers(base.score_LC, other=0.0)
        if base.pair_score_LCC is not None:
            pair_NJJ = self._pairs(base.pair_score_LCC)
        return Problem(
            score_LC=score_NJ,
            pair_score_LCC=pair_NJJ,
            latency_us_LC=np.tile(latency_J, (shape[0], 1)),
            memory_bytes_LC=np.tile(memory_J, (shape[0], 1)),
            peak_bytes_LC=np.tile(peak_J, (shape[0], 1)),
            allowed_LC=self.allowed_NJ,
            stream_C=np.where(self.block_J >= 0, base.stream_C[self.block_J], int(Stream.HIGH)),
            switch_us_SS=base.switch_us_SS,
            fixed_us=sum(one.cost.latency_us for one in self._fixed()),
            fixed_bytes=sum(one.cost.memory_bytes for one in self._fixed()),
            latency_budget_us=base.latency_budget_us,
            memory_budget_bytes=base.memory_budget_bytes,
            max_switches=base.max_switches,
            limits=self._limits(),
            label_C=tuple(option.label for option in self.options),
        )

    def _costs(self) -> tuple[Int, Int, Int]:
        """Return microseconds, bytes and peak of every candidate; a peak is at least that of what always runs."""
        floor = max((one.cost.peak_bytes for one in self._fixed()), default=0)
        cost_J = [self._cost(option) for option in self.options]
        return (
            np.array([cost.latency_us for cost in cost_J], np.int64),
            np.array([cost.memory_bytes for cost in cost_J], np.int64),
            np.array([max(floor, cost.peak_bytes) for cost in cost_J], np.int64),
        )

    def _cost(self, option: Option) -> Cost:
        """Return what a candidate costs where it stands.

        The rows of layers hold the projections of text, which have a slot of their own here. What passing a switch
        takes is no cost of a slot: it counts as often as it is passed.
        """
        text = self._text_bytes(option.precision)
        if option.name == "text":
            return Cost(memory_bytes=text)
        cost = self.evidence_of[option.precision].parts(self.space)[option.name].cost
        if option.name in SWITCHES:
            return dataclasses.replace(cost, latency_us=0)
        if option.name in ("stem", "head"):
            return cost
        return dataclasses.replace(cost, memory_bytes=max(cost.memory_bytes - text // self.space.depth, 0))

    def _text_bytes(self, precision: str) -> int:
        """Return the bytes of all projections of text, a multiple of the depth."""
        if self.noise is None or "text" not in self.parts:
            return 0
        depth = self.space.depth
        return self.noise.choice("text", "", precision).bytes // depth * depth

    def _fixed(self) -> list[Estimate]:
        """Return what every layout has that has no precision of its own here."""
        first = next(iter(self.evidence_of.values()))
        return [one for part, one in zip(first.fixed_parts, first.fixed, strict=True) if part not in ("stem", "head")]

    def _pairs(self, pair_LCC: NDArray[Any]) -> NDArray[np.float64]:
        """Return what blocks score behind one another, at layers behind layers."""
        size = len(self.options)
        pair_NJJ, both_JJ = np.zeros((len(self.parts), size, size)), (self.block_J >= 0) & (self.block_J >= 0)[:, None]
        first = int(np.argmax(self.at_layer_N))
        pair_NJJ[first : first + self.space.depth] = np.where(
            both_JJ, pair_LCC[:, self.block_J[:, None], self.block_J], 0.0
        )
        return pair_NJJ

    def _limits(self) -> tuple[Resource, ...]:
        """Return the base's constraints on blocks, and its groups, as sums with a limit."""
        found = [self._over(resource) for resource in self._constraints()]
        return (*found, *([self._groups()] if self.base.group_size > 1 else []))

    def _constraints(self) -> list[Resource]:
        """Return all that limits blocks beside budgets and stream changes."""
        base = dataclasses.replace(self.base, group_size=1, max_switches=None)
        return list(base.resources[2:])

    def _over(self, resource: Resource) -> Resource:
        shape = self.allowed_NJ.shape
        use_NJ, peak_NJ = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        use_NJ[self.at_layer_N] = self.over_layers(resource.use_LC, other=0)
        peak_NJ[self.at_layer_N] = self.over_layers(resource.peak_LC, other=0)
        pair_NJJ = None if resource.pair_LCC is None else self._pairs(resource.pair_LCC).astype(np.int64)
        return dataclasses.replace(resource, use_LC=use_NJ, peak_LC=peak_NJ, pair_LCC=pair_NJJ)

    def _groups(self) -> Resource:
        """Return as a resource of which there is none: another block behind a layer of the same group."""
        differs_CC = 1 - np.eye(len(self.space.candidates), dtype=np.int64)
        within_L = np.arange(self.space.depth) % self.base.group_size > 0
        differs_LCC = within_L[:, None, None] * differs_CC
        free = Resource.of("blocks that differ inside a group", np.zeros(self.allowed_NJ.shape, np.int64), 0)
        return dataclasses.replace(free, pair_LCC=self._pairs(differs_LCC).astype(np.int64))

    def noise_NJ(self, allowed_NJ: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the noise of every candidate that may be chosen."""
        assert self.noise is not None
        found_NJ = np.zeros(allowed_NJ.shape)
        for n, j in np.argwhere(allowed_NJ):
            option, block = self.options[j], self.options[j].name if self.at_layer_N[n] else ""
            found_NJ[n, j] = self.noise.choice(self.parts[n], block, option.precision).noise
        return found_NJ
