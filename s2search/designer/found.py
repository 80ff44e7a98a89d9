"""Found designs: a layout of one combination, with the figures by which designs are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from s2search.designer.axes import AXES
from s2search.designer.combination import Combination, Surroundings
from s2search.designer.document import JudgedQuality, Possible
from s2search.designer.program import DesignProgram
from s2search.latency.base import Estimate
from s2search.quality.base import Judgement, Quality, Setting
from s2search.solver.frontier import FrontPoint
from s2search.tables.card import ProvenanceKind


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundDesign:
    """A layout of one combination."""

    around: Surroundings
    program: DesignProgram
    point: FrontPoint
    proven: bool
    quality: Quality

    @property
    def combination(self) -> Combination:
        """A value of every axis."""
        return self.around.combination

    @property
    def key(self) -> tuple[Combination, tuple[int, ...]]:
        """What makes it the same design."""
        return self.combination, self.point.choice_L

    @cached_property
    def rate_fps(self) -> float:
        """Pixel frames per second."""
        return self.around.rate_fps(self.point.latency_us)

    @cached_property
    def first_us(self) -> int:
        """From the prompt to the first frames."""
        return self.around.first_us(self.point.latency_us)

    @cached_property
    def memory_bytes(self) -> int:
        """The whole application, at its largest."""
        return max(
            self.point.memory_bytes + self.around.held_bytes, self.around.waiting_bytes(self.program.state_bytes)
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Its layout, by the labels of its blocks."""
        return tuple(self.program.labels[c] for c in self.point.choice_L)

    @cached_property
    def layout_is_judged(self) -> bool:
        """Whether the quality has judged this very layout, so that no other that ties stands for it."""
        return self.labels in self.quality.layouts

    @cached_property
    def judgement(self) -> Judgement | None:
        """What the quality says of it."""
        return self.quality.judge(setting_of(self.combination, self.program.table.card.preset, self.labels))

    @cached_property
    def parts(self) -> Mapping[str, tuple[int, Estimate]]:
        """What a forward pass is made of: how often each part runs, and what it is foretold."""
        return self.program.used(self.point.choice_L)

    @cached_property
    def std_us(self) -> float | None:
        """How far the latency of a forward pass may be off: a row errs alike in all layers, rows by themselves.

        None where a row states nothing.
        """
        deviations = [None if e.latency_std_us is None else n * e.latency_std_us for n, e in self.parts.values()]
        return None if None in deviations else math.hypot(*(d for d in deviations if d is not None))

    @property
    def provenance(self) -> tuple[ProvenanceKind, ...]:
        """The kinds of evidence behind its latency."""
        return tuple(sorted({e.provenance for _, e in self.parts.values() if e.cost.latency_us > 0}))

    def described(self) -> Possible:
        """Return it as the document has it."""
        counts = {label: self.labels.count(label) for label in self.program.labels}
        judged = self.judgement
        return Possible(
            settings={axis: self.combination.of(axis) for axis in AXES},
            written=self.program.space.write_layout(self.point.choice_L),
            counts=counts,
            latency_ms=self.point.latency_us / 1000,
            latency_std_ms=None if self.std_us is None else round(self.std_us / 1000, 6),
            latency_provenance=self.provenance,
            frames_per_second=round(self.rate_fps, 3),
            first_ms=self.first_us / 1000,
            memory_bytes=self.memory_bytes,
            transformer_bytes=self.point.memory_bytes,
            score=self.point.score,
            proven=self.proven,
            quality=None if judged is None else described_quality(judged),
            uncounted=self.around.unknown,
        )


def described_quality(judged: Judgement) -> JudgedQuality:
    """Return a judgement as the document has it."""
    return JudgedQuality(
        value=judged.value,
        error=judged.error,
        scale=judged.scale,
        source=judged.source,
        provenance=judged.provenance,
    )


def setting_of(combination: Combination, preset: str, layout: tuple[str, ...] | None) -> Setting:
    """Return what a quality is asked about."""
    return Setting(
        preset=preset,
        depth=combination.depth,
        channels=combination.width,
        video=combination.video,
        steps=combination.steps,
        chunk_frames=combination.chunk,
        window_chunks=combination.window,
        commit=combination.commit,
        precision=combination.precision,
        decoder=combination.decoder,
        layout=layout,
    )
