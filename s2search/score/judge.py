"""How well a measured score orders layouts that were trained, of its own model or of another one.

Axes: L layers  N layouts
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from s2search.errors import ScoreError
from s2search.score.check import ADDITIVE, WITH_PAIRS, CheckQuestion, Compared, Predictor, ScoreCheck, high_first_of
from s2search.score.measured import MeasuredScore
from s2search.space import Space

_FEW = 4  # layouts, of which a rank correlation says something
_RESAMPLED = 2000


def judged(score: MeasuredScore, check: ScoreCheck) -> ScoreCheck:
    """Hold a score against the layouts of a check, which may be another model's: only predictions change.

    Raises:
        ScoreError: The score lacks one of the candidates.
    """
    layouts = tuple(
        msgspec.structs.replace(one, additive=additive(score, one.layout), with_pairs=with_pairs(score, one.layout))
        for one in check.layouts
    )
    question = msgspec.structs.replace(check.question, score=score.digest)
    return dataclasses.replace(
        check, question=question, layouts=layouts, predictors=tuple(predictors(layouts, question))
    )


def additive(score: MeasuredScore, layout: Sequence[str]) -> float:
    """Return how much more a layout is predicted to lose: the sum over its layers."""
    space, choice_L = _space_of(layout)
    return -float(score.score_LC(space)[np.arange(space.depth), choice_L].sum())


def with_pairs(score: MeasuredScore, layout: Sequence[str]) -> float | None:
    """Return the same with what runs of two lose beyond their layers; None where they were not measured."""
    space, choice_L = _space_of(layout)
    try:
        pair_LCC = score.pairs_LCC(space)
    except ScoreError:
        return None
    return additive(score, layout) - float(pair_LCC[np.arange(1, space.depth), choice_L[:-1], choice_L[1:]].sum())


def _space_of(layout: Sequence[str]) -> tuple[Space, NDArray[np.intp]]:
    labels = sorted(set(layout))
    space = Space.parse(",".join(labels), depth=len(layout))
    return space, np.array([labels.index(label) for label in layout])


def predictors(layouts: Sequence[Compared], question: CheckQuestion) -> list[Predictor]:
    """Return how well sums, sums with pairs, and rules of one feature order layouts."""

    def low_L(layout: Sequence[str]) -> list[bool]:
        return [label == question.low for label in layout]

    rules: dict[str, Callable[[Sequence[str]], float]] = {
        "begins low": lambda layout: low_L(layout)[0],
        "ends low": lambda layout: low_L(layout)[-1],
        "early low": lambda layout: float(np.mean([-layer for layer, low in enumerate(low_L(layout)) if low])),
        "switches": lambda layout: sum(a != b for a, b in pairwise([False, *low_L(layout), False])),
        "longest low run": lambda layout: max(sum(run) for _, run in groupby(low_L(layout))),
    }
    predicted: dict[str, list[Any]] = {ADDITIVE: [one.additive for one in layouts]}
    if all(one.with_pairs is not None for one in layouts):
        predicted[WITH_PAIRS] = [one.with_pairs for one in layouts]
    tuned_N = np.array([one.tuned for one in layouts])
    high = [n for n, one in enumerate(layouts) if one.layout[0] == question.high]
    found = []
    for name, column in predicted.items():
        column_N = np.array(column)
        found.append(_predictor(name, column_N, tuned_N))
        if _FEW <= len(high) < len(layouts):
            found.append(_predictor(high_first_of(name), column_N[high], tuned_N[high]))
    by_rule = {name: np.array([float(rule(one.layout)) for one in layouts]) for name, rule in rules.items()}
    return [*found, *(_predictor(name, column_N, tuned_N) for name, column_N in by_rule.items())]


def _predictor(name: str, predicted_N: NDArray[np.float64], tuned_N: NDArray[np.float64]) -> Predictor:
    again = np.random.default_rng(0).integers(len(tuned_N), size=(_RESAMPLED, len(tuned_N)))
    low, high = np.quantile(spearman(predicted_N[again], tuned_N[again]), [0.025, 0.975])
    return Predictor(name=name, rank=float(spearman(predicted_N, tuned_N)), low=float(low), high=float(high))


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank correlation along the last axis, ties at their mean rank; 0 where all on one side are the same.

    >>> float(spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])))
    0.5
    """
    one, other = (rankdata(column, axis=-1) - (column.shape[-1] + 1) / 2 for column in (one, other))
    scale = np.sqrt((one * one).sum(-1) * (other * other).sum(-1))
    found: NDArray[np.float64] = np.divide((one * other).sum(-1), scale, out=np.zeros_like(scale), where=scale > 0)
    return found
