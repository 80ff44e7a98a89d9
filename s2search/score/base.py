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

    def pair_score_LCC(self, space: Space) -> NDArray[np.float64] | None:
        """Return what a layer's candidate (column) scores on top behind that of the layer before (row).

        Nothing at the first layer; None, the default, where neighbours do not matter.
        """
        return None

    def errors(self, space: Space) -> ScoreErrors | None:
        """Return how the scores err; None, the default, where it is not known."""
        return None


@dataclass(frozen=True, kw_only=True)
class ScoreErrors:
    """How scores err that were read off measured values: each value by itself, and with it all layers that it is in.

    Where pairs count, a pair's score is what a run of two was worth less its two layers, and errs with all three.

    Axes: K measured values of each candidate  J measured runs of two  L layers  P pairs of layers  C candidates

    Attributes:
        error_KC: Standard errors of the values.
        share_LK: How much of each value a layer's score has.
        low_C: The candidates whose pairs count.
        run_error_JC: Standard errors of their runs of two.
        run_share_PJ: How much of each measured pair a pair's score has.
    """

    error_KC: NDArray[np.float64]
    share_LK: NDArray[np.float64]
    low_C: tuple[int, ...] = ()
    run_error_JC: NDArray[np.float64] | None = None
    run_share_PJ: NDArray[np.float64] | None = None

    def drawn(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Draw how far the scores of layers, and those of pairs, may be off."""
        off_KC = rng.standard_normal(self.error_KC.shape) * self.error_KC
        off_LC = self.share_LK @ off_KC
        if self.run_error_JC is None or self.run_share_PJ is None:
            return off_LC, None
        off_JC = rng.standard_normal(self.run_error_JC.shape) * self.run_error_JC - off_KC[:-1] - off_KC[1:]
        (layers, candidates), low = off_LC.shape, list(self.low_C)
        off_LCC = np.zeros((layers, candidates, candidates))
        off_LCC[1:, low, low] = (self.run_share_PJ @ off_JC)[:, low]
        return off_LC, off_LCC

    def of(self, choice_L: Sequence[int]) -> float:
        """Return the standard error of a layout's score.

        >>> errors = ScoreErrors(error_KC=np.array([[3.0, 0.0], [4.0, 0.0]]), share_LK=np.eye(2))
        >>> errors.of([0, 0]), errors.of([0, 1])
        (5.0, 3.0)
        """
        taken_LC = np.eye(self.error_KC.shape[1])[list(choice_L)]
        of_KC = self.share_LK.T @ taken_LC
        if self.run_error_JC is None or self.run_share_PJ is None:
            return float(np.linalg.norm(of_KC * self.error_KC))
        counted_C = np.isin(np.arange(taken_LC.shape[1]), self.low_C)
        of_JC = self.run_share_PJ.T @ (taken_LC[:-1] * taken_LC[1:] * counted_C)
        of_KC[:-1] -= of_JC
        of_KC[1:] -= of_JC
        return float(np.hypot(np.linalg.norm(of_KC * self.error_KC), np.linalg.norm(of_JC * self.run_error_JC)))
