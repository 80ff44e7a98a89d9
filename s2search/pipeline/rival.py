"""What the score promised of the plan against another layout, what training measured, and the score corrected by that.

A value of a score is minus the rise of the held-out loss where a block stands in for a layer of the teacher. Their sum
over the layers that differ is the promise; the difference of the two trained models' losses, at the same samples, is
what came. A factor on all values is estimated from the two: it has a normal prior of mean 1 and standard deviation 1,
so that a measurement that is no better known than that hardly moves it. A factor moves no layout before another; it
moves what a plan says of its lead, beside other scores and in `--near`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from scipy.optimize import linear_sum_assignment

from s2search.document import Document
from s2search.errors import InputError
from s2search.score.measured import MeasuredScore, Value


@dataclass(frozen=True, kw_only=True)
class RivalResult(Document):
    """Plan and rival: what was promised, and what was measured; losses are held-out flow losses.

    Attributes:
        score: The digest of the score that promised.
        planned: The plan's layout, in short.
        rival: The other one.
        chosen: Why that one.
        promised: By how much less the plan loses, by the score.
        promised_error: Standard error of that, from those of the values of the layers that differ.
        measured: By how much less it lost when both were trained.
        measured_error: Standard error of that, paired by sample and by seed.
        seeds: A run for each and either layout.
        steps: Of a run.
        samples: Held out.
    """

    schema: Literal["s2search.rival/1"] = "s2search.rival/1"
    score: str
    planned: str
    rival: str
    chosen: str
    promised: float
    promised_error: float
    measured: float
    measured_error: float
    seeds: tuple[int, ...]
    steps: int
    samples: int

    @property
    def factor(self) -> float:
        """By what the score's values are to be multiplied: the mean of its posterior."""
        return 1 + self.promised * (self.measured - self.promised) / (self.promised**2 + self._variance)

    @property
    def factor_error(self) -> float:
        """The standard deviation of its posterior; 1 where nothing was learnt."""
        return math.sqrt(self._variance / (self.promised**2 + self._variance)) if self._variance else 0.0

    @property
    def agrees(self) -> bool:
        """Whether promise and measurement are within two standard errors of their difference."""
        return abs(self.measured - self.promised) <= 2 * math.sqrt(self._variance)

    @property
    def _variance(self) -> float:
        return self.promised_error**2 + self.measured_error**2


@dataclass(frozen=True, kw_only=True)
class ScoreRecalibration(Document):
    """A score that was multiplied by what training measured.

    Attributes:
        score: The new file.
        digest: Its own.
        old_digest: That of the score it was made from.
        factor: By which values and errors were multiplied.
        factor_error: Its standard deviation, in which all values are off together; the errors of values do not hold it.
        rival: What says so.
    """

    schema: Literal["s2search.score_recalibration/1"] = "s2search.score_recalibration/1"
    score: str
    digest: str
    old_digest: str
    factor: float
    factor_error: float
    rival: RivalResult


def promised(score: MeasuredScore, planned: Sequence[str], rival: Sequence[str]) -> tuple[float, float]:
    """Return by how much less a layout loses than another one by a score of their depth, and the standard error."""
    differ = [layer for layer, (one, other) in enumerate(zip(planned, rival, strict=True)) if one != other]
    ours, theirs = ([score.values[layout[layer]][layer] for layer in differ] for layout in (planned, rival))
    lead = math.fsum(value.value for value in ours) - math.fsum(value.value for value in theirs)
    return lead, math.sqrt(math.fsum(value.error**2 for value in (*ours, *theirs)))


def most_different(score: MeasuredScore, layout: Sequence[str]) -> tuple[str, ...]:
    """Return the order of a layout's blocks that differs in most layers; of several, the one that scores least.

    Raises:
        InputError: All layers have the same block.
    """
    if len({*layout}) < 2:
        raise InputError(
            f"all layers of the plan are {layout[0]!r}, and no layout of the same counts differs",
            remedy="change plan.budget, or name a layout: plan.rival",
        )
    same_LK = np.array([[block == here for block in layout] for here in layout], dtype=np.float64)
    value_LK = np.array([[score.values[block][layer].value for block in layout] for layer in range(len(layout))])
    # One layer more that differs outweighs all that values can say.
    weight = 2 * len(layout) * (np.ptp(value_LK) + 1e-9)
    _, taken_L = linear_sum_assignment(weight * same_LK + value_LK)
    return tuple(layout[int(k)] for k in taken_L)


def corrected(score: MeasuredScore, result: RivalResult) -> MeasuredScore:
    """Return a score whose values and errors are multiplied by what training measured.

    Args:
        score: As it was measured.
        result: Of the rival; of this score.

    Raises:
        InputError: It is of another score, or speaks for the opposite of what the score says.
    """
    if result.score != score.digest:
        raise InputError(
            f"the rival's result is of the score {result.score[:19]}, and this is {score.digest[:19]}",
            remedy="run the stage 'rival' again",
        )
    factor = result.factor
    if factor <= 0:
        raise InputError(
            f"training measured the opposite of what the score promised: {_pair(result)}, a factor of {factor:.2f}",
            remedy="measure the score with more steps and samples: no factor mends it",
        )
    said = f"{_pair(result)}; factor {factor:.4f} +- {result.factor_error:.4f}"
    runs = [msgspec.structs.replace(run, value=_scaled(run.value, factor)) for run in score.runs]
    return dataclasses.replace(
        score,
        name=f"{score.name}-recalibrated",
        statement=f"{score.statement}; multiplied by {factor:.4f}, after training {result.planned} and {result.rival}",
        values={label: [_scaled(value, factor) for value in values] for label, values in score.values.items()},
        runs=runs,
        provenance={**score.provenance, "recalibrated_from": score.digest, "recalibrated_by": said},
    )


def _pair(result: RivalResult) -> str:
    return (
        f"{result.planned} before {result.rival} by {result.promised:+.4f} +- {result.promised_error:.4f} promised, "
        f"{result.measured:+.4f} +- {result.measured_error:.4f} measured"
    )


def _scaled(value: Value, factor: float) -> Value:
    earlier = None if value.earlier is None else factor * value.earlier
    return Value(value=factor * value.value, error=factor * value.error, earlier=earlier)
