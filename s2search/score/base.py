"""The contract of a score.

A score is a frozen keyword-only dataclass. `score_LC` gives one number per layer and candidate; the search maximises
their sum over layers, so larger is better and a loss enters with a minus. The sum of a layout that uses one candidate
everywhere is that candidate's whole-model quality. Scores know nothing of costs. A candidate that a score cannot rank
raises `ScoreError`: a missing value is never taken for zero. NaN forbids a candidate at a layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

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

    def errors(self, space: Space) -> ScoreErrors | None:
        """Return how the scores err; None, the default, where it is not known."""
        return None


@dataclass(frozen=True, kw_only=True)
class ScoreErrors:
    """How scores err that were read off measured values: each value by itself, and with it all layers that it is in.

    Axes: K measured values of each candidate  L layers  C candidates

    Attributes:
        error_KC: Standard errors of the values.
        share_LK: How much of each value a layer's score has.
    """

    error_KC: NDArray[np.float64]
    share_LK: NDArray[np.float64]

    def drawn_LC(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw how far the scores may be off."""
        return self.share_LK @ (rng.standard_normal(self.error_KC.shape) * self.error_KC)

    def of(self, choice_L: Sequence[int]) -> float:
        """Return the standard error of a layout's score.

        >>> errors = ScoreErrors(error_KC=np.array([[3.0, 0.0], [4.0, 0.0]]), share_LK=np.eye(2))
        >>> errors.of([0, 0]), errors.of([0, 1])
        (5.0, 3.0)
        """
        taken_LC = np.eye(self.error_KC.shape[1])[list(choice_L)]
        return float(np.linalg.norm((self.share_LK.T @ taken_LC) * self.error_KC))
