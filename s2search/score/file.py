"""Scores from a file: measured ones, that may depend on the position."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search import registry
from s2search.border.regular_file import read_regular
from s2search.document import without_mark
from s2search.errors import ScoreError
from s2search.score.base import Score
from s2search.score.measured import SCHEMA as MEASURED
from s2search.score.measured import MeasuredScore
from s2search.score.written import WrittenScore
from s2search.space import Space

SCHEMA = "s2search.score/1"


class _Stated(msgspec.Struct):
    schema: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreFile(WrittenScore):
    """Scores as JSON: per candidate one number per layer, or a single number that holds at every layer.

    The file: `{"schema": "s2search.score/1", "name": ..., "statement": ..., "scores": {"lcha": [...], "ssa": 0.1}}`.
    A list states the depth that it was measured at and is refused at any other. `null` in place of a number forbids the
    candidate at that layer.
    """

    document: ClassVar[str] = SCHEMA

    schema: Literal["s2search.score/1"]
    name: str = field()  # type: ignore[misc]  # of the file: it has no entry point
    statement: str
    scores: dict[str, float | list[float | None] | None]

    def __post_init__(self) -> None:
        for label, values in self.scores.items():
            for value in values if isinstance(values, list) else [values]:
                if value is not None and not math.isfinite(value):
                    raise ScoreError(
                        f"the score of {label!r} is {value}", allowed="finite numbers", remedy="correct it"
                    )

    @override
    def score_LC(self, space: Space) -> NDArray[np.float64]:
        return np.stack([self._score_L(block.label, space.depth) for block in space.candidates], axis=1)

    def _score_L(self, label: str, depth: int) -> NDArray[np.float64]:
        self.check_has(label, self.scores)
        values = self.scores[label]
        if isinstance(values, list) and len(values) != depth:
            raise ScoreError(
                f"the score {self.name!r} gives {len(values)} layers for {label!r}, the plan has {depth}",
                remedy=f"give --depth {len(values)}, or a score measured at depth {depth}",
            )
        return np.broadcast_to(np.asarray(values, dtype=np.float64), depth)


def _load(path: str | os.PathLike[str]) -> Score:
    """Read a score file of either schema."""
    try:
        stated = msgspec.json.decode(without_mark(read_regular(path)), type=_Stated).schema
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        stated = ""  # whose reader says what is wrong
    return MeasuredScore.load(path) if stated == MEASURED else ScoreFile.load(path)


def open_score(name_or_file: str | os.PathLike[str]) -> Score:
    """Return an installed score by name, or read one from a JSON file; a path that is no text is a file.

    Raises:
        ScoreError: The text means an installed score, and a file as well.
    """
    score: Score = registry.create_or_load("scores", name_or_file, _load, ScoreError)
    return score
