"""prefer_early: a score in one file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.score.base import Score
from s2search.space import Space


@dataclass(frozen=True, kw_only=True)
class PreferEarly(Score):
    """Likes the first candidate early."""

    statement = "made up: the first candidate, the earlier the better"
    digest = "sha256:none"

    def score_LC(self, space: Space) -> NDArray[np.float64]:
        """See the base class."""
        score_LC = np.zeros((space.depth, len(space.candidates)))
        score_LC[:, 0] = np.linspace(1.0, 0.1, space.depth)
        return score_LC
