"""Combination: one value of every axis, and what its application leaves to the transformer, in time and in memory."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from s2search.cost import Budget, CommitPolicy, Pipeline
from s2search.designer.axes import OF_NETWORK, AxisName, DesignAxis, Offer, Value
from s2search.errors import InputError, QuantityError, TableError
from s2search.preset import PIXEL_FRAMES, token_grid
from s2search.solver.problem import UNLIMITED
from s2search.tables.application import Component, Residency

#: Some minutes of one core, and a document of some 10 MB.
_MOST_COMBINATIONS = 10_000
_NOTHING = Component(name="none", ms=0.0, weight_bytes=0, state_bytes=0, peak_bytes=0, source="")


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One value of every axis."""

    video: str
    steps: int
    width: int
    depth: int
    window: int
    precision: str
    chunk: int
    decoder: str
    text_encoder: str
    commit: CommitPolicy
    residency: Residency

    def of(self, axis: AxisName) -> Value:
        """Return its value of an axis."""
        found: Value = getattr(self, axis)
        return found

    @property
    def network(self) -> tuple[Value, ...]:
        """Its values of the axes that give the costs of every block."""
        return tuple(self.of(axis) for axis in OF_NETWORK)

    def with_value(self, axis: AxisName, value: Value) -> Combination:
        """Return the same one with another value of one axis."""
        changed: dict[str, Any] = {axis: value}
        return dataclasses.replace(self, **changed)


def combinations(axes: Sequence[DesignAxis]) -> tuple[Combination, ...]:
    """Return every combination of the values of all axes.

    Raises:
        InputError: There are more than can be searched and compared in minutes.
    """
    count = math.prod(len(axis.values) for axis in axes)
    if count > _MOST_COMBINATIONS:
        several = " x ".join(f"{len(axis.values)} {axis.name}" for axis in axes if axis.chosen)
        raise InputError(
            f"{several} are {count:,} combinations",
            allowed=f"at most {_MOST_COMBINATIONS:,}",
            remedy="choose among fewer values, or ask in parts with --fix",
        )
    names: list[str] = [axis.name for axis in axes]
    found: list[dict[str, Any]] = [
        dict(zip(names, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))
    ]
    return tuple(Combination(**values) for values in found)


@dataclass(frozen=True, kw_only=True)
class ApplicationSetting:
    """Where combinations run: what the table's card says of everything beside the transformer.

    Attributes:
        offer: What the table offers.
        told: Whether the pipeline, or part of it, was told and is not of the card.
    """

    offer: Offer

    def component(self, axis: AxisName, name: str) -> Component:
        """Return the decoder or the text encoder of a name; without a name the one that the pipeline implies."""
        listed = self.offer.application.decoders if axis == "decoder" else self.offer.application.text_encoders
        for component in listed:
            if component.name == name:
                return component
        pipeline = self.offer.pipeline
        if pipeline is None:
            return _NOTHING
        ms = pipeline.decoder_ms if axis == "decoder" else pipeline.text_ms
        return Component(name=axis, ms=ms, source="the card's pipeline")

    def around(self, combination: Combination) -> Surroundings:
        """Return what the application of a combination takes beside the transformer.

        Raises:
            TableError: Its networks cannot take turns, since nobody says what loading them takes.
        """
        return Surroundings(
            combination=combination,
            decoder=self.component("decoder", combination.decoder),
            text=self.component("text_encoder", combination.text_encoder),
            load_ms=self._load_ms(combination),
            decoder_growth=self._growth(combination),
            priced=self.offer.pipeline is not None or bool(self.offer.application.decoders),
        )

    def _load_ms(self, combination: Combination) -> float:
        """Return what loading the transformer takes per chunk."""
        if combination.residency == "together":
            return 0.0
        parts = {
            "the transformer": self.offer.application.load_ms,
            f"the decoder {combination.decoder!r}": self.component("decoder", combination.decoder).load_ms,
            f"the text encoder {combination.text_encoder!r}": self.component(
                "text_encoder", combination.text_encoder
            ).load_ms,
        }
        if silent := [what for what, load_ms in parts.items() if load_ms is None]:
            raise TableError(
                f"networks that take turns are loaded each time, and the card of {self.offer.table.name!r} does not "
                f"say what that takes of {' and '.join(silent)}",
                remedy="write load_ms into the application of the card, or leave out residency=in_turn",
            )
        return self.offer.application.load_ms or 0.0

    def _growth(self, combination: Combination) -> float:
        """Return how many pixels a chunk has, as a multiple of what its decoder was timed with."""
        decoder, pipeline = self.component("decoder", combination.decoder), self.offer.pipeline
        timed_frames = pipeline.chunk_frames if pipeline else PIXEL_FRAMES * self.offer.forms[0].shape.frames
        first = self.offer.forms[0].shape
        height, width = token_grid(decoder.video) if decoder.video else (first.height, first.width)
        rows, columns = token_grid(combination.video)
        return rows * columns * PIXEL_FRAMES * combination.chunk / (height * width * timed_frames)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What runs beside the transformer of one combination, per chunk, and what it holds in memory.

    `decoder_growth` is the number of pixels of its chunk, as a multiple of that which the decoder was timed with: its
    time, state and activations grow in proportion. `priced` is false where nobody says what runs beside it.
    """

    combination: Combination
    decoder: Component
    text: Component
    load_ms: float
    decoder_growth: float
    priced: bool

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline of one chunk; loading what takes turns counts as decoding."""
        loads = (self.load_ms + (self.decoder.load_ms or 0.0)) if self.takes_turns else 0.0
        return Pipeline(
            chunk_frames=PIXEL_FRAMES * self.combination.chunk,
            steps=self.combination.steps,
            text_ms=self.text.ms,
            decoder_ms=round(self.decoder.ms * self.decoder_growth + loads, 6),
        )

    @property
    def takes_turns(self) -> bool:
        """Whether its networks take turns in memory."""
        return self.combination.residency == "in_turn"

    @property
    def decoder_std_us(self) -> float:
        """How far the decoder's time may be off, where it is foretold from another size: if it did not grow at all."""
        return abs(self.decoder_growth - 1) * 1000 * self.decoder.ms

    @property
    def text_load_us(self) -> int:
        """Loading the text encoder before the first frames, where networks take turns."""
        return round(1000 * (self.text.load_ms or 0.0)) if self.takes_turns else 0

    @property
    def held_bytes(self) -> int:
        """What stays in memory beside the transformer while that runs."""
        decoder_state = round((self.decoder.state_bytes or 0) * self.decoder_growth)
        if self.takes_turns:
            return decoder_state
        return (self.decoder.weight_bytes or 0) + decoder_state + self.text.held_bytes

    @property
    def peak_bytes(self) -> int:
        """The largest activations of what runs while the transformer stays in memory and waits."""
        if self.takes_turns:
            return 0
        return max(round((self.decoder.peak_bytes or 0) * self.decoder_growth), self.text.peak_bytes or 0)

    def waiting_bytes(self, state_bytes: int) -> int:
        """Return what is in memory while another network has its turn and the transformer left its state there."""
        if not self.takes_turns:
            return 0
        growth = self.decoder_growth
        decoder = (self.decoder.weight_bytes or 0) + round(
            ((self.decoder.state_bytes or 0) + (self.decoder.peak_bytes or 0)) * growth
        )
        return max(decoder + state_bytes, self.text.held_bytes + (self.text.peak_bytes or 0))

    def waiting_too_many(self, state_bytes: int, budgets: Sequence[Budget]) -> int:
        """Return how many bytes that is above what memory budgets allow; 0 where it is within them."""
        asked = [int(budget.amount) for budget in budgets if budget.kind == "memory"]
        return max(self.waiting_bytes(state_bytes) - min(asked), 0) if asked else 0

    @property
    def unknown(self) -> tuple[str, ...]:
        """What of its memory nobody says, so that it is not counted."""
        named = {"decoder": self.decoder, "text encoder": self.text}
        return tuple(f"{what} {', '.join(one.unknown)}" for what, one in named.items() if one.unknown)

    def rate_fps(self, forward_us: int) -> float:
        """Return pixel frames per second, given the time of one forward pass."""
        return self.pipeline.frames_per_second(forward_us, self.combination.commit)

    def first_us(self, forward_us: int) -> int:
        """Return the time from the prompt to the first frames, given that of one forward pass."""
        return self.pipeline.first_frames_us(forward_us, self.combination.commit) + self.text_load_us

    def forward_us(self, budgets: Sequence[Budget]) -> int | None:
        """Return what budgets leave for one forward pass, microseconds; None where they leave nothing."""
        left = UNLIMITED
        for budget in budgets:
            try:
                if budget.kind == "latency":
                    left = min(left, int(budget.amount))
                elif budget.kind == "rate":
                    left = min(left, self.pipeline.forward_budget_us(budget.amount, self.combination.commit))
                elif budget.kind == "first":
                    first_us = budget.amount - self.text_load_us
                    left = min(left, self.pipeline.first_budget_us(first_us, self.combination.commit))
            except QuantityError:
                return None
        return left

    def transformer_bytes(self, budgets: Sequence[Budget]) -> int:
        """Return what memory budgets leave for the transformer, its activations included; below 0 for nothing."""
        asked = [int(budget.amount) for budget in budgets if budget.kind == "memory"]
        return min(asked) - self.held_bytes if asked else UNLIMITED


def written(combination: Combination, axes: Sequence[AxisName]) -> Mapping[AxisName, Value]:
    """Return its values of some axes."""
    return {axis: combination.of(axis) for axis in axes}
