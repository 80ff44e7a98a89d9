"""Preference: which of several designs is the best of a cell, and which designs no other dominates.

A preference is an order of wishes, the most important first: the largest video, then the best quality, then the most
steps, and so on. It makes no number of what nobody measured; `--prefer` changes it. A front has no preference: it keeps
whatever no other design has more of everything than.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from s2search.designer.axes import AXES, ORDERED, AxisName, amount
from s2search.designer.found import FoundDesign
from s2search.errors import InputError, UnknownNameError
from s2search.quality.base import ERRORS_TO_DIFFER, Order, compare

DEFAULT: tuple[str, ...] = ("video", "quality", "steps", "width", "depth", "window", "precision", "score")
#: What settles the rest: the faster, then the smaller.
_LAST: tuple[Callable[[FoundDesign], float], ...] = (lambda found: found.rate_fps, lambda found: -found.memory_bytes)
#: Axes without a direction that change what is seen; residency does not.
_UNORDERED: tuple[AxisName, ...] = tuple(axis for axis in AXES if axis not in (*ORDERED, "residency", "text_encoder"))


def parse_preference(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """Read an order of wishes; what is not named follows in the usual order.

    Raises:
        InputError: A wish is unknown, or named twice.

    >>> parse_preference("score,video")
    ('score', 'video', 'quality', 'steps', 'width', 'depth', 'window', 'precision')
    """
    words = text.split(",") if isinstance(text, str) else list(text or ())
    named = [word.strip() for word in words if word.strip()]
    for word in named:
        if word not in DEFAULT:
            raise UnknownNameError("wish", word, DEFAULT, listed_as="wishes")
        if named.count(word) > 1:
            raise InputError(f"the wish {word!r} is named twice", remedy="name it once")
    return (*named, *(word for word in DEFAULT if word not in named))


def best_of(several: Sequence[FoundDesign], prefer: Sequence[str]) -> FoundDesign | None:
    """Return the best of several designs; None of none.

    Where a quality has judged all that are left, on one scale, and calls them equal, its word on their axes stands:
    more steps, say, are then no wish any more, and the score is next.
    """
    left, judged = list(several), False
    for wish in prefer:
        if len(left) < 2 or (judged and wish not in ("video", "score")):
            continue
        if wish == "quality":
            left = _best_quality(left)
            scales = {found.judgement.scale if found.judgement else "" for found in left}
            judged = len(scales) == 1 and "" not in scales
        else:
            left = _most(left, lambda found, w=wish: _figure(found, w))  # type: ignore[misc]
    for last in _LAST:
        left = _most(left, last)
    return left[0] if left else None


def _figure(found: FoundDesign, wish: str) -> float:
    if wish == "score":
        return found.point.score
    axis: AxisName = wish  # type: ignore[assignment]  # the other wishes are axes
    return amount(axis, found.combination.of(axis))


def _most(several: Sequence[FoundDesign], figure: Callable[[FoundDesign], float]) -> list[FoundDesign]:
    figures = [figure(found) for found in several]
    most = max(figures, default=0.0)
    return [found for found, one in zip(several, figures, strict=True) if one == most]


def _best_quality(several: Sequence[FoundDesign]) -> list[FoundDesign]:
    """Leave out what is worse than the best on its own scale; of what is on no scale nobody can say."""
    best: dict[str, FoundDesign] = {}
    for found in several:
        judged = found.judgement
        if judged is not None and (judged.scale not in best or judged.value > _value(best[judged.scale])):
            best[judged.scale] = found
    return [
        found
        for found in several
        if found.judgement is None or compare(found.judgement, best[found.judgement.scale].judgement) != "worse"
    ]


def _value(found: FoundDesign) -> float:
    return found.judgement.value if found.judgement else -np.inf


def equal_to(answer: FoundDesign, others: Sequence[FoundDesign]) -> list[FoundDesign]:
    """Return the designs that the quality cannot tell from an answer: judged on the same scale, within error."""
    said: Order = "equal"
    return [other for other in others if other.key != answer.key and compare(other.judgement, answer.judgement) == said]


def undominated(several: Sequence[FoundDesign]) -> list[int]:
    """Return the places of those designs that no other is as good as in everything and better in something.

    Everything is: rate, video, score (of one width and depth), memory, first frame, and every axis with a direction;
    axes without one must be equal. Where both are judged on one scale, that stands in the place of all axes but video.

    Axes: N designs  F figures
    """
    if not several:
        return []
    common_NF = np.array([_common(found) for found in several], np.float64)
    ordered_NF = np.array([[_figure(found, axis) for axis in ORDERED] for found in several], np.float64)
    class_N = _numbered([tuple(found.combination.of(axis) for axis in _UNORDERED) for found in several])
    model_N = _numbered([(found.combination.width, found.combination.depth) for found in several])
    score_N = np.array([found.point.score for found in several])
    judged = _Judged.of(several)
    kept = []
    for n in range(len(several)):
        no_worse_N = (common_NF >= common_NF[n]).all(axis=1)
        better_N = (common_NF > common_NF[n]).any(axis=1)
        same_model_N = model_N == model_N[n]
        no_worse_N &= ~same_model_N | (score_N >= score_N[n])
        better_N |= same_model_N & (score_N > score_N[n])
        axes_no_worse_N = (ordered_NF >= ordered_NF[n]).all(axis=1) & (class_N == class_N[n]) & same_model_N
        axes_better_N = (ordered_NF > ordered_NF[n]).any(axis=1)
        on_scale_N = judged.on_scale_of(n)
        no_worse_N &= np.where(on_scale_N, judged.no_worse_than(n), axes_no_worse_N)
        better_N |= np.where(on_scale_N, judged.better_than(n), axes_better_N)
        if not (no_worse_N & better_N).any():
            kept.append(n)
    return kept


def _common(found: FoundDesign) -> tuple[float, ...]:
    return (found.rate_fps, _figure(found, "video"), -found.memory_bytes, -found.first_us)


def _numbered(keys: Sequence[object]) -> NDArray[np.int64]:
    places: dict[object, int] = {}
    return np.array([places.setdefault(key, len(places)) for key in keys], np.int64)


class _Judged:
    """What a quality says of several designs, as arrays; -1 is no scale."""

    def __init__(self, scale_N: NDArray[np.int64], value_N: NDArray[np.float64], error_N: NDArray[np.float64]) -> None:
        self._scale_N, self._value_N, self._error_N = scale_N, value_N, error_N

    @classmethod
    def of(cls, several: Sequence[FoundDesign]) -> _Judged:
        judgements = [found.judgement for found in several]
        scales = _numbered([None if one is None else one.scale for one in judgements])
        nothing_N = np.array([one is None for one in judgements])
        return cls(
            scale_N=np.where(nothing_N, -1, scales),
            value_N=np.array([0.0 if one is None else one.value for one in judgements]),
            error_N=np.array([0.0 if one is None or one.error is None else one.error for one in judgements]),
        )

    def on_scale_of(self, n: int) -> NDArray[np.bool_]:
        """Tell which are judged on the scale of one."""
        same_N: NDArray[np.bool_] = (self._scale_N == self._scale_N[n]) & (self._scale_N >= 0)
        return same_N

    def no_worse_than(self, n: int) -> NDArray[np.bool_]:
        """Tell which are not worse than one, beyond error."""
        within_N: NDArray[np.bool_] = self._value_N - self._value_N[n] >= -self._margin_N(n)
        return within_N

    def better_than(self, n: int) -> NDArray[np.bool_]:
        """Tell which are better than one, beyond error."""
        beyond_N: NDArray[np.bool_] = self._value_N - self._value_N[n] > self._margin_N(n)
        return beyond_N

    def _margin_N(self, n: int) -> NDArray[np.float64]:
        margin_N: NDArray[np.float64] = ERRORS_TO_DIFFER * np.hypot(self._error_N, self._error_N[n])
        return margin_N
