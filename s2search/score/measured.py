"""Scores that were measured layer by layer, with their errors: what `s2search score measure` writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search.block import Stream
from s2search.document import Document
from s2search.errors import ScoreError
from s2search.score.base import ScoreErrors
from s2search.score.written import WrittenScore
from s2search.space import Space

SCHEMA = "s2search.score/2"
_LARGEST = 1e100


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one candidate is worth at one layer, or a run of it at several.

    Attributes:
        value: Minus what the model's loss rises by where it stands in for the model's own.
        error: Standard error of that, from the same samples with and without it.
        earlier: The value when it had been trained for the shorter time; null where it was not trained.
    """

    value: float
    error: float
    earlier: float | None = None

    @property
    def settled(self) -> bool:
        """Whether the rest of its training moved it by no more than two of its errors, or a tenth of what is left."""
        moved = 0.0 if self.earlier is None else abs(self.value - self.earlier)
        return moved <= max(2 * self.error, 0.1 * abs(self.value))


class RunValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of one candidate over several layers, trained as one: its first layer, how many, and what it is worth."""

    candidate: str
    first: int
    layers: int
    value: Value


@dataclass(frozen=True, kw_only=True)
class MeasuredScore(WrittenScore, Document):
    """Values per layer and candidate, in the order of layers.

    At another depth than the measured one, values are read off between layers by their place from the first (0) to the
    last (1), which keeps both ends, and are multiplied by the ratio of the depths, so that a whole model of one
    candidate is worth about the same. A value that is off is so in all layers that were read off it.

    Attributes:
        statement: What was measured, in a sentence.
        depth: Layers of the model that was measured.
        channels: Its width.
        values: Of each candidate, a value per layer.
        runs: Runs of low candidates that were trained jointly.
        samples: Each value's, held out.
        steps: Of training a candidate: the shorter time and the longer one.
        inherited: Weights that a candidate took over from the model, by its name.
        provenance: Digests and settings: of the model, its config, the data; seed and versions.
    """

    document: ClassVar[str] = SCHEMA

    schema: Literal["s2search.score/2"] = "s2search.score/2"
    name: str = field()  # type: ignore[misc]  # of the file: it has no entry point
    statement: str
    depth: int
    channels: int
    values: dict[str, list[Value]]
    runs: list[RunValue] = field(default_factory=list)
    samples: int
    steps: tuple[int, int]
    inherited: dict[str, list[str]] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ScoreError(f"the score {self.name!r} has a depth of {self.depth}", allowed="at least 1")
        for label, values in self.values.items():
            if len(values) != self.depth:
                raise ScoreError(
                    f"the score {self.name!r} gives {len(values)} layers for {label!r}, and its depth is {self.depth}",
                    remedy="correct it, or measure it again",
                )
        places = [(run.candidate, run.first, run.layers) for run in self.runs]
        for run, place in zip(self.runs, places, strict=True):
            fits = run.candidate in self.values and run.layers >= 2 and 0 <= run.first <= self.depth - run.layers
            if not fits or places.count(place) > 1:
                raise ScoreError(
                    f"the score {self.name!r} has a run of {run.layers} layers of {run.candidate!r} from {run.first}",
                    allowed=f"runs of 2 or more of {self.depth} layers, each once, of its candidates",
                    remedy="correct it, or measure it again",
                )
        single = [value for values in self.values.values() for value in values]
        for value in (*single, *(run.value for run in self.runs)):
            if not abs(value.value) < _LARGEST or not 0 <= value.error < _LARGEST:
                raise ScoreError(
                    f"the score {self.name!r} has the value {value.value} +- {value.error}",
                    allowed=f"numbers of a size below {_LARGEST:g}, errors from 0",
                    remedy="correct it",
                )

    def runs_of_two(self, label: str) -> list[Value]:
        """Return what runs of two layers of a candidate are worth, by the first of them.

        Raises:
            ScoreError: Not all of them were measured.
        """
        runs = {run.first: run.value for run in self.runs if run.layers == 2 and run.candidate == label}
        if runs.keys() != set(range(self.depth - 1)):
            raise ScoreError(
                f"{self.where} has {len(runs)} runs of two layers of {label!r}",
                allowed=f"all {self.depth - 1}",
                remedy="measure it with --runs 2",
            )
        return [runs[first] for first in range(self.depth - 1)]

    def low_of(self, space: Space) -> list[int]:
        """Return the candidate of the low stream, whose runs may be measured, or nothing where there is none.

        Raises:
            ScoreError: There are several, and what one is worth behind another was not measured.
        """
        low = [c for c, block in enumerate(space.candidates) if block.stream is Stream.LOW]
        if len(low) > 1:
            labels = " and ".join(repr(space.candidates[c].label) for c in low)
            raise ScoreError(
                f"{self.where} counts pairs of layers, and pairs of {labels} were not measured",
                allowed="one candidate of the low stream",
                remedy="leave out one of them, or the check",
            )
        return low

    def pairs_LCC(self, space: Space) -> NDArray[np.float64]:
        """Return what runs of two low layers are worth beyond the two, at the second of them; see `Score`.

        At another depth, by their place from the first pair (0) to the last (1), as layers are.

        Raises:
            ScoreError: Not all of them were measured.
        """
        pair_LCC = np.zeros((space.depth, len(space.candidates), len(space.candidates)))
        for c in self.low_of(space):
            label = space.candidates[c].label
            self.check_has(label, self.values)
            single_K = np.array([value.value for value in self.values[label]])
            run_J = np.array([run.value for run in self.runs_of_two(label)])
            beyond_J = run_J - single_K[:-1] - single_K[1:]
            if beyond_J.size and space.depth > 1:
                pair_LCC[1:, c, c] = resampled(beyond_J[:, None], space.depth - 1)[:, 0]
        return pair_LCC

    @override
    def score_LC(self, space: Space) -> NDArray[np.float64]:
        return resampled(self._of_each(space, lambda value: value.value), space.depth)

    @override
    def errors(self, space: Space) -> ScoreErrors:
        error_KC = self._of_each(space, lambda value: value.error)
        return ScoreErrors(error_KC=error_KC, share_LK=resampled(np.eye(self.depth), space.depth))

    def _of_each(self, space: Space, of: Callable[[Value], float]) -> NDArray[np.float64]:
        """Return a number of every measured value of the candidates, by layer of the model that was measured."""
        for block in space.candidates:
            self.check_has(block.label, self.values)
        return np.array([[of(value) for value in self.values[block.label]] for block in space.candidates]).T


def resampled(measured_KC: NDArray[np.float64], depth: int) -> NDArray[np.float64]:
    """Return values of another depth: the ends stay the ends, and twice the layers are worth half each.

    >>> resampled(np.array([[3.0], [1.0], [3.0]]), 5).round(2).T
    array([[1.8, 1.2, 0.6, 1.2, 1.8]])
    """
    if len(measured_KC) == depth:
        return measured_KC
    there, here = np.linspace(0, 1, len(measured_KC)), np.linspace(0, 1, depth)
    columns = [np.interp(here, there, measured_K) for measured_K in measured_KC.T]
    return np.stack(columns, axis=1) * (len(measured_KC) / depth)
