"""A figure, and what it was taken for: how a source that knows some of a design's sides judges designs.

What a figure does not state is no part of its value: its scale names those sides of the design, so that the figure
orders only designs that are alike in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from s2search.quality.base import FIELDS, Judgement, Provenance, Setting, check_number


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What somebody measured, once.

    Attributes:
        when: Sides of the design that it was taken for, by the names of a setting's fields.
        value: Larger is better.
        error: Standard error; None where none is stated.
        metric: What it is of.
        source: Where it stands.

    Raises:
        QualityError: The value or its error is no finite number.
    """

    when: Mapping[str, Any]
    value: float
    error: float | None = None
    metric: str
    source: str

    def __post_init__(self) -> None:
        check_number(self.value, self.error, self.source)

    def fits(self, setting: Setting) -> bool:
        """Whether a design is what the figure was taken for."""
        return all(getattr(setting, name) == value for name, value in self.when.items())

    def judgement(self, setting: Setting, provenance: Provenance, *, free: Iterable[str] = ()) -> Judgement:
        """Return the figure as that of a design which it fits.

        Args:
            setting: The design.
            provenance: Whose figure it is.
            free: Sides that the figure does not state and that designs of one scale may still differ in.
        """
        alike = [name for name in FIELDS if name not in self.when and name not in {*free}]
        told = ", ".join(f"{name} {written(getattr(setting, name))}" for name in alike)
        scale = f"{self.metric}; designs alike in {told}" if alike else self.metric
        return Judgement(value=self.value, error=self.error, scale=scale, source=self.source, provenance=provenance)


def written(value: Any) -> str:
    """Return a side of a design as it stands in a sentence.

    >>> written(("lcha", "ssa", "ssa")), written(4), written(""), written(None)
    ('lcha,ssa*2', '4', 'not named', 'any')
    """
    if isinstance(value, tuple):
        runs = [(label, len(list(run))) for label, run in groupby(value)]
        return ",".join(label if count == 1 else f"{label}*{count}" for label, count in runs)
    return "any" if value is None else str(value) or "not named"
