"""A measured score with its check: pairs of layers count where the check shows that layouts are ordered better so."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search.errors import ScoreError
from s2search.score.base import Score, ScoreErrors
from s2search.score.check import ADDITIVE, WITH_PAIRS, ScoreCheck
from s2search.score.measured import MeasuredScore, resampled
from s2search.space import Space


@dataclass(frozen=True, kw_only=True)
class CheckedScore(Score):
    """What a measured score says, and how far that was right of layouts that were trained.

    Raises:
        ScoreError: The check is of another score.
    """

    measured: MeasuredScore
    check: ScoreCheck

    def __post_init__(self) -> None:
        if self.check.question.score != self.measured.digest:
            raise ScoreError(
                f"the check is of the score {self.check.question.score[:19]}, and {self.measured.where} is "
                f"{self.measured.digest[:19]}",
                remedy="name the check.json that `score check` wrote beside this score",
            )

    @property
    def name(self) -> str:  # type: ignore[override]  # of the file: it has no entry point
        """That of the measured score, and whether pairs count."""
        return f"{self.measured.name} with pairs" if self.check.pairs_predict_better else self.measured.name

    @property
    def options(self) -> dict[str, Any]:
        """None: the numbers of a file are known by its name and its digest."""
        return {}

    @property
    def statement(self) -> str:  # type: ignore[override]  # of what was measured and checked
        """What was measured, and how it ordered layouts that were trained."""
        check = self.check
        by, other = (check.predictor(name) for name in (check.predicted_by, ADDITIVE))
        layouts = f"{len(check.layouts)} layouts that were trained"
        if check.question.model != self.measured.provenance.get("model", check.question.model):
            layouts = f"{len(check.layouts)} layouts of another model that were trained"
        if by is None or other is None:
            return self.measured.statement
        if by is other:
            pairs = check.predictor(WITH_PAIRS)
            why = f"; pairs of layers do not count: {pairs.ranked} with them" if pairs else ""
            return f"{self.measured.statement}; it orders {layouts} with {by.ranked}{why}"
        with_them = f"with pairs of layers it orders {layouts} with {by.ranked}"
        return f"{self.measured.statement}; {with_them}, without them with {other.ranked}"

    @property
    @override
    def where(self) -> str:
        return self.measured.where

    @property
    @override
    def digest(self) -> str:
        if not self.check.pairs_predict_better:
            return self.measured.digest
        return f"sha256:{hashlib.sha256(msgspec.json.encode([self.measured.digest, WITH_PAIRS])).hexdigest()}"

    @override
    def score_LC(self, space: Space) -> NDArray[np.float64]:
        return self.measured.score_LC(space)

    @override
    def pair_score_LCC(self, space: Space) -> NDArray[np.float64] | None:
        return self.measured.pairs_LCC(space) if self._pairs_count(space) else None

    @override
    def errors(self, space: Space) -> ScoreErrors:
        errors = self.measured.errors(space)
        if not self._pairs_count(space):
            return errors
        error_JC = np.zeros((self.measured.depth - 1, len(space.candidates)))
        low = self.measured.low_of(space)
        for c in low:
            runs = self.measured.runs_of_two(space.candidates[c].label)
            error_JC[:, c] = [run.error for run in runs]
        share_PJ = resampled(np.eye(self.measured.depth - 1), space.depth - 1)
        return dataclasses.replace(errors, run_error_JC=error_JC, run_share_PJ=share_PJ, low_C=tuple(low))

    def _pairs_count(self, space: Space) -> bool:
        if not self.check.pairs_predict_better or space.depth == 1 or self.measured.depth == 1:
            return False
        low, of = [space.candidates[c].label for c in self.measured.low_of(space)], self.check.question.low
        if low and low != [of]:
            raise ScoreError(
                f"the check is of pairs of {of!r}, and the low candidate is {low[0]!r}",
                remedy="leave out the check, or check the score with this candidate",
            )
        return bool(low)
