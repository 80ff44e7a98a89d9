"""The contract of a quality: what is known of whole designs, which differ in more than their layout.

A quality is a frozen keyword-only dataclass. `judge` says how good a design is, as far as anyone measured or stated it,
and None where nobody did: a figure of another design is never carried over. Values are larger where designs are better,
so that a loss or a distance enters with a minus, and are comparable within one `scale` only. A figure says nothing of
what it was not taken for: where a source gives one whatever the steps are, its scale names the steps, and orders no two
designs that differ in them.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from s2search.cost import CommitPolicy
from s2search.errors import QualityError
from s2search.registry import Plugin

Provenance = Literal["published", "measured", "stated"]
Order = Literal["better", "worse", "equal", "incomparable"]

#: Standard errors of a difference up to which two designs are said to be equal: 95 % of such differences are chance.
ERRORS_TO_DIFFER = 1.96


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a design is, as far as its quality may depend on it.

    Attributes:
        preset: The model's size that the table was made for, such as `s2dit-1.8b`.
        depth: Layers.
        channels: Width of the model.
        video: Pixels, width x height, such as `512x288`.
        steps: Denoising passes of a chunk; a clean pass is none of them.
        chunk_frames: Latent frames of a chunk.
        window_chunks: Past chunks that softmax attention sees.
        commit: What the streaming state keeps of a finished chunk.
        precision: Of the weights, as the table names it.
        decoder: Its name; empty for the only one that the card has.
        layout: The label of every layer's block; None for any layout.
    """

    preset: str
    depth: int
    channels: int
    video: str
    steps: int
    chunk_frames: int
    window_chunks: int
    commit: CommitPolicy
    precision: str
    decoder: str = ""
    layout: tuple[str, ...] | None = None


#: The fields of a setting, in their order.
FIELDS = tuple(field.name for field in dataclasses.fields(Setting))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How good a design is.

    Attributes:
        value: Larger is better.
        error: Standard error; None where none is stated.
        scale: What the value is of; values are comparable within one scale only.
        source: Where it stands: a paper's table, a file, a run.
        provenance: Whether others published it, it was measured here, or somebody states it.

    Raises:
        QualityError: The value or its error is no finite number.
    """

    value: float
    error: float | None
    scale: str
    source: str
    provenance: Provenance

    def __post_init__(self) -> None:
        check_number(self.value, self.error, self.source)


def check_number(value: float, error: float | None, source: str) -> None:
    """Raise unless a value is a finite number, and so is its error where there is one.

    Raises:
        QualityError: It is not.
    """
    if not math.isfinite(value) or not (error is None or 0 <= error < math.inf):
        told = "" if error is None else f" +- {error}"
        raise QualityError(
            f"the quality by {source} is {value}{told}",
            allowed="finite numbers, errors from 0",
            remedy="correct it",
        )


@dataclass(frozen=True, kw_only=True)
class PublishedPair:
    """What somebody found when one thing of some model changed: shown beside an answer, and no number of ours.

    Attributes:
        axis: The field of a setting that changed, such as `steps`.
        before: Its value, as people write it.
        after: What it became.
        model: Of which model that is.
        metric: What was measured, and whether more of it is better.
        value_before: Of the metric.
        value_after: Of the metric.
        source: The publication and its table or section.
    """

    axis: str
    before: str
    after: str
    model: str
    metric: str
    value_before: float
    value_after: float
    source: str


class Quality(Plugin, ABC):
    """Says how good whole designs are, where that is known."""

    #: One sentence for people: where the figures come from, and what they cannot tell.
    statement: str

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash of the figures, for provenance."""

    @abstractmethod
    def judge(self, setting: Setting) -> Judgement | None:
        """Return how good a design is; None where nothing is known of it.

        The same question has one answer.

        Raises:
            QualityError: What is known of it contradicts itself.
        """

    @property
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        """Layouts that were judged one by one, each the label of every layer's block; none, the default."""
        return ()

    def evidence(self, one: Setting, other: Setting) -> tuple[PublishedPair, ...]:
        """Return what was found of other models where what changed is what these two differ in; none, the default.

        It orders nothing.
        """
        return ()


def compare(one: Judgement | None, other: Judgement | None) -> Order:
    """Return how the first design compares to the other one.

    They are equal where they differ by no more than 1.96 standard errors of the difference, taken for independent. An
    error that is not stated adds nothing to that, so that figures without any are equal only where they are the same:
    then the order is the source's own. Being equal is not passed on: of three designs in a row, neighbours may be equal
    and the ends not.

    >>> def judged(value, error=None, scale="VBench"):
    ...     return Judgement(value=value, error=error, scale=scale, source="a test", provenance="stated")
    >>> compare(judged(3), judged(1)), compare(judged(3, 1.0), judged(1, 0.5))
    ('better', 'equal')
    >>> compare(judged(3), judged(1, scale="FID")), compare(judged(3), None)
    ('incomparable', 'incomparable')
    """
    if one is None or other is None or one.scale != other.scale:
        return "incomparable"
    if abs(one.value - other.value) <= ERRORS_TO_DIFFER * math.hypot(one.error or 0.0, other.error or 0.0):
        return "equal"
    return "better" if one.value > other.value else "worse"
