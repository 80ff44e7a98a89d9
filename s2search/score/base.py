"""The contract of a score.

A score is a frozen keyword-only dataclass. `score_LC` gives one number per layer and candidate; the search maximises
their sum over layers, so larger is better and a loss enters with a minus. The sum of a layout that uses one candidate
everywhere is that candidate's whole-model quality. Scores know nothing of costs. A candidate that a score cannot rank
raises `ScoreError`: a missing value is never taken for zero. NaN forbids a candidate at a layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from s2search.registry import Plugin
from s2search.space import Space


class Score(Plugin, ABC):
    """Ranks candidates, layer by layer."""

    #: One sentence for people: where the numbers come from, and what they cannot tell.
    statement: str

    @property
    def where(self) -> str:
        """Where the numbers stand, for messages."""
        return f"the score {self.name!r}"

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash of the numbers, for provenance."""

    @abstractmethod
    def score_LC(self, space: Space) -> NDArray[np.float64]:
        """Return the score of each candidate at each layer, shape (depth, candidates); NaN where it may not stand.

        Raises:
            ScoreError: A candidate has no score.
        """

    def error_LC(self, space: Space) -> NDArray[np.float64] | None:
        """Return the standard error of each score, of the same shape; None, the default, where it has none."""
        return None
