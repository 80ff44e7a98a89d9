"""What came of checking a measured score: layouts that were trained, and how well each prediction orders them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from s2search import registry
from s2search.block import Stream
from s2search.document import Document, read_json
from s2search.errors import InputError, ScoreError

#: What a score must reach to order a plan's ties.
LEAST_RANK, LEAST_LOW = 0.8, 0.5

ADDITIVE, WITH_PAIRS = "additive", "with pairs"
_HIGH_FIRST = ", high first"
_LEAST_LAYOUTS, _LARGEST = 2, 1e100
#: Of a check: what says how they are ordered resamples them all at once.
MOST_LAYOUTS = 1000


class CheckQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked; the first line of the journal.

    Attributes:
        score: The digest of the score.
        model: Of the model's weights.
        data: Of the clips.
        high: The candidate of the high stream, as people write it.
        low: That of the low stream.
        low_layers: How many layers of each layout are low.
        begins_high: Whether the first layer of all is high, as plans have it wherever they can.
        layouts: How many are drawn.
        seeds: How often each is tuned.
        steps: Of tuning.
        batch: Clips of a step.
        samples: Held out, to compare on.
        lr: Learning rate at its highest.
        shift: Of noise levels.
        seed: Of the layouts.
    """

    score: str
    model: str
    data: str
    high: str
    low: str
    low_layers: int
    begins_high: bool = False
    layouts: int = 16
    seeds: int = 3
    steps: int = 60
    batch: int = 8
    samples: int = 512
    lr: float = 1e-3
    shift: float = 3.0
    seed: int = 0

    def check(self, depth: int) -> None:
        """Raise unless it can be asked of a model of so many layers.

        Raises:
            InputError: A number is out of range, or a candidate runs in the other stream.
        """
        for name, least in {"layouts": 3, "seeds": 1, "steps": 0, "batch": 1, "samples": 2}.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}", allowed=f"{least} or more", remedy="correct it")
        if self.layouts > MOST_LAYOUTS:
            raise InputError(f"layouts is {self.layouts}", allowed=f"up to {MOST_LAYOUTS}", remedy="correct it")
        most = depth - 1 - self.begins_high  # of more there is one layout, or none
        if not 1 <= self.low_layers <= most:
            first = ", the first of them high" if self.begins_high else ""
            raise InputError(f"{self.low_layers} of {depth} layers are low{first}", allowed=f"1 to {most}")
        for label, stream in ((self.high, Stream.HIGH), (self.low, Stream.LOW)):
            if registry.create("blocks", label).stream is not stream:
                raise InputError(
                    f"the candidate {label!r} does not run in the {stream.name.lower()} stream", remedy="name another"
                )


class Predictor(msgspec.Struct, frozen=True, kw_only=True):
    """What orders layouts: its name, Spearman's rank correlation with tuned loss, and its 95 % interval."""

    name: str
    rank: float
    low: float
    high: float

    @property
    def ranked(self) -> str:
        """Its rank correlation, as people write it.

        >>> Predictor(name="additive", rank=0.81, low=0.456, high=0.95).ranked
        '.81 (.46 to .95)'
        """
        return f"{_short(self.rank)} ({_short(self.low)} to {_short(self.high)})"


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A layout: what is predicted that it loses more than the model, and what it does when tuned, mean and spread."""

    layout: tuple[str, ...]
    written: str
    additive: float
    with_pairs: float | None
    assembled: float
    tuned: float
    seeds_std: float


@dataclass(frozen=True, kw_only=True)
class ScoreCheck(Document):
    """How a score orders layouts: the content of check.json.

    Attributes:
        question: What was asked.
        layouts: Each with what is predicted and what came out.
        predictors: `additive`, and `with pairs` where runs of two were measured; the same of layouts that begin high
            where there are a few; and rules of one feature.
    """

    schema: Literal["s2search.score_check/1"] = "s2search.score_check/1"
    question: CheckQuestion
    layouts: tuple[Compared, ...]
    predictors: tuple[Predictor, ...] = field(default_factory=tuple)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ScoreCheck:
        """Read a check.

        Raises:
            ScoreError: The file is missing, or is none.
        """
        return read_json(path, cls, what="check of a score", error=ScoreError)

    def __post_init__(self) -> None:
        asked = self.question
        for one in self.layouts:
            if set(one.layout) - {asked.high, asked.low} or one.layout.count(asked.low) != asked.low_layers:
                self._refuse(f"has the layout {'-'.join(one.layout)[:60]}", f"{asked.low_layers} layers of {asked.low}")
            if len(one.layout) != len(self.layouts[0].layout):
                self._refuse("has layouts of different depths")
            numbers = (one.additive, one.with_pairs or 0.0, one.assembled, one.tuned, one.seeds_std)
            if not all(abs(number) < _LARGEST for number in numbers):
                self._refuse(f"has the number {max(numbers, key=abs):g}", f"sizes below {_LARGEST:g}")
        if len({one.layout for one in self.layouts}) != len(self.layouts) or not (
            _LEAST_LAYOUTS <= len(self.layouts) <= MOST_LAYOUTS
        ):
            self._refuse(f"has {len(self.layouts)} layouts", f"{_LEAST_LAYOUTS} to {MOST_LAYOUTS:,}, each once")
        names = [one.name for one in self.predictors]
        for by in self.predictors:
            if not -1 <= by.rank <= 1 or not -1 <= by.low <= by.high <= 1 or names.count(by.name) > 1:
                self._refuse(
                    f"has the predictor {by.name!r} with {by.ranked[:60]}", "ranks from -1 to 1, each name once"
                )

    def _refuse(self, problem: str, allowed: str = "") -> None:
        raise ScoreError(f"a check of a score {problem}", allowed=allowed, remedy="correct it, or make it again")

    def predictor(self, name: str) -> Predictor | None:
        """Return what orders layouts by this name."""
        return next((one for one in self.predictors if one.name == name), None)

    @property
    def pairs_predict_better(self) -> bool:
        """Whether pairs have the higher rank correlation, and an interval of their own that begins above .5."""
        additive, pairs = self.predictor(ADDITIVE), self.predictor(WITH_PAIRS)
        if additive is None or pairs is None:
            return False
        return pairs.rank > additive.rank and pairs.low > LEAST_LOW

    @property
    def predicted_by(self) -> str:
        """How the score predicts: `with pairs` where they predict better, `additive` otherwise."""
        return WITH_PAIRS if self.pairs_predict_better else ADDITIVE

    @property
    def passed(self) -> bool:
        """Whether the score may order ties."""
        return not self.shortfalls

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """Why the score may not order ties; none where it ranks well, surely, and better than any rule of one feature.

        And where it does not turn round where plans choose, which begin high wherever they can.
        """
        by, high_first = self.predictor(self.predicted_by), self.predictor(high_first_of(self.predicted_by))
        if by is None:
            return ("nothing is predicted",)
        rules = [one for one in self.predictors if not one.name.startswith((ADDITIVE, WITH_PAIRS))]
        found = []
        if round(by.rank, 2) < LEAST_RANK:  # all is compared as it is printed
            found.append(f"its rank is {_short(by.rank)}, and {_short(LEAST_RANK)} is wanted")
        if round(by.low, 2) <= LEAST_LOW:
            found.append(f"its interval begins at {_short(by.low)}, and above {_short(LEAST_LOW)} is wanted")
        if rules and (best := max(rules, key=lambda one: one.rank)) and round(best.rank, 2) >= round(by.rank, 2):
            found.append(f"the rule {best.name!r} has {_short(best.rank)}")
        if high_first is not None and high_first.rank <= 0:
            found.append(f"those that begin high come in the reverse order ({_short(high_first.rank)})")
        return tuple(found)


def high_first_of(name: str) -> str:
    """Return what a prediction is called where only layouts that begin high are ordered."""
    return name + _HIGH_FIRST


def _short(rank: float) -> str:
    return f"{rank:.2f}".replace("0.", ".", 1)
