"""What a sensitivity sweep found, and the precisions that were chosen by it, as JSON."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import msgspec

from s2search.document import Document, read_json
from s2search.errors import InputError
from s2search.precision.part import PartPrecision

Palette = Literal["kmeans", "uniform"]


def noise_db(noise: float) -> float:
    """Return a noise power relative to the signal as a signal-to-noise ratio in decibels.

    >>> noise_db(0.01)
    20.0
    """
    return math.inf if noise == 0 else -10 * math.log10(noise)


@dataclass(frozen=True, kw_only=True)
class PrecisionChoice:
    """One precision of one part: bytes of its matrices, and the noise power of the velocity relative to the signal."""

    precision: str
    bytes: int
    noise: float

    def __post_init__(self) -> None:
        PartPrecision.parse(self.precision)
        if not (math.isfinite(self.noise) and self.noise >= 0 and self.bytes >= 0):
            raise InputError(
                f"the choice {self.precision!r} has {self.bytes} bytes and the noise {self.noise}",
                allowed="finite numbers, at least 0",
                remedy="correct the file, or make it again",
            )


@dataclass(frozen=True, kw_only=True)
class PartChoices:
    """What is on offer for one part; `block` is the block of a layer."""

    part: str
    block: str = ""
    choices: tuple[PrecisionChoice, ...]

    def __post_init__(self) -> None:
        labels = [choice.precision for choice in self.choices]
        if not labels or len({*labels}) < len(labels):
            raise InputError(
                f"the part {self.part!r} offers {', '.join(labels) or 'no precision'}",
                allowed="at least one precision, each once",
                remedy="correct the file, or make it again",
            )

    def choice(self, precision: str) -> PrecisionChoice:
        """Return the choice of a precision that is on offer."""
        return next(choice for choice in self.choices if choice.precision == precision)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A drawn assignment, by which the law is tested that noise powers of parts add up: its sum, and what it was."""

    parts: dict[str, str]
    predicted_db: float
    measured_db: float


@dataclass(frozen=True, kw_only=True)
class Sensitivity(Document):
    """What quantising each part alone costs; the content of a sensitivity.json.

    Attributes:
        schema: Of the file.
        model_digest: Whose sensitivity.
        plan_digest: The plan that the model was realized from, if any.
        weights_digest: Of its weights.
        grid: Token rows and columns.
        chunks: Of the streams that were compared, teacher-forced.
        seed: Of their inputs.
        palette: How tables were found.
        rest_bytes: Bytes of all that stays float16.
        parts: Every part with its choices.
        mixtures: Tests of the law.
    """

    json_indent: ClassVar[int] = 1

    schema: Literal["s2search.sensitivity/1"] = "s2search.sensitivity/1"
    model_digest: str
    plan_digest: str | None
    weights_digest: str
    grid: tuple[int, int]
    chunks: int
    seed: int
    palette: Palette
    rest_bytes: int
    parts: tuple[PartChoices, ...]
    mixtures: tuple[Mixture, ...] = ()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a sensitivity.json.

        Raises:
            InputError: It cannot be read, or is none.
        """
        return read_json(path, cls, what="sensitivity")

    @property
    def digest(self) -> str:
        """A hash of everything here."""
        return f"sha256:{hashlib.sha256(msgspec.json.encode(self, order='sorted')).hexdigest()}"

    @property
    def law_error_db(self) -> float:
        """The largest difference of a mixture's figure from the sum of its parts; 0 without mixtures."""
        return max((abs(mixture.predicted_db - mixture.measured_db) for mixture in self.mixtures), default=0.0)

    def predicted_db(self, parts: dict[str, str]) -> float:
        """Return what an assignment comes to if noise powers add up."""
        return noise_db(sum(offer.choice(parts[offer.part]).noise for offer in self.parts))


@dataclass(frozen=True, kw_only=True)
class PrecisionPlan(Document):
    """The precision of every part of one model, as chosen; the content of a precision.json, which `export` takes.

    Attributes:
        schema: Of the file.
        model_digest: Whose.
        weights_digest: Of its weights.
        sensitivity_digest: What it was chosen by.
        asked: What was asked for, as people write it.
        palette: How tables are found.
        rest_bytes: Bytes of all that stays float16.
        parts: Every part with its precision.
        weight_bytes: Of all, predicted.
        predicted_db: Signal-to-noise ratio of the velocity if noise powers add up.
        optimal: Whether it is proven that nothing better was offered.
    """

    json_indent: ClassVar[int] = 1

    schema: Literal["s2search.precision/1"] = "s2search.precision/1"
    model_digest: str
    weights_digest: str
    sensitivity_digest: str
    asked: str
    palette: Palette
    rest_bytes: int
    parts: dict[str, PrecisionChoice]
    weight_bytes: int
    predicted_db: float
    optimal: bool

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a precision.json.

        Raises:
            InputError: It cannot be read, or is none.
        """
        return read_json(path, cls, what="precision plan")
