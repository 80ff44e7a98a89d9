"""marks: a quality in one file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from s2search.quality.base import Judgement, Quality, Setting


@dataclass(frozen=True, kw_only=True)
class Marks(Quality):
    """Marks from 0 to 10 that somebody gave to clips, by the number of steps alone.

    Attributes:
        error: Standard error of a mark.
    """

    error: float = 0.5

    statement = "made up: a few clips, looked at once"

    @property
    def digest(self) -> str:
        """See the base class."""
        return f"sha256:{hashlib.sha256(repr(self).encode()).hexdigest()}"

    def judge(self, setting: Setting) -> Judgement | None:
        """See the base class."""
        marks = {1: 4.0, 2: 7.0, 4: 7.5}
        if setting.steps not in marks:
            return None
        value, scale = marks[setting.steps], "marks from 0 to 10"
        return Judgement(value=value, error=self.error, scale=scale, source="made up", provenance="stated")
