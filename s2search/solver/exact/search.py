"""Search: exact answers for one graph under one or many sets of limits, by sweeps that reach further until they prove.

A first sweep keeps few labels and finds some layout. The next ones look for layouts that score more than the upper
bound less a reach: whatever is found there is the best of all, and where nothing is, the bound falls and the reach is
doubled. Activation peaks are searched in spans: the relaxation of a whole span (peaks up to its highest level, the
limit less its lowest) is swept first, and the span is halved only where that does not settle it.

Axes:  L layers  C candidates  R resources  K cases  G groups of resources with the same peaks

Why: docs/decisions/solver.md, "`dynamic` meets in the middle, and reaches further instead of wider".
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.errors import CheckError
from s2search.solver.exact.dual import Dual, at_prices, lagrangian_dual
from s2search.solver.exact.graph import BOUNDLESS, Cases, Graph
from s2search.solver.exact.joining import Found, join
from s2search.solver.exact.labels import NOTHING, Best, Walk
from s2search.solver.problem import Int

#: How many labels a layer may keep: before another solver is quicker, and before memory runs out.
MOST_LABELS, ALL_LABELS = 65_536, 262_144
#: How many labels all sweeps together may keep before another solver is quicker.
MOST_IN_ALL = 2_000_000
#: How many the question may keep whether anything fits at all, where another solver answers it otherwise.
MOST_TO_FIT = 100_000
_FEW_TO_FIT = 1_000  # where somebody else can be asked

_FIRST_WIDTH, _WIDTH, _WIDER = 64, 1024, 8
_TIED_WIDTH = 256  # the second, where the bounds of the first did not tell labels apart
_SWEEPS_ANYWAY = 8  # however short the time is
_AMONG_MANY = 16  # the first width where many cases find layouts for one another
_FEW_LIMITS = 2  # whose best prices are drawn near enough
_FEW_LEVELS = 8  # of peaks, that are searched one by one
_FEW_KEPT = 64  # labels per layer
_FIRST_REACH, _FURTHER, _MUCH_FURTHER = (
    1 / 32,
    2,
    6,
)  # of the distance between the bound and the best layout of the first sweep


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best layout found under one set of limits, None where there is none, and what no layout scores above.

    `settled` is false where the labels ran out before the bound was proven to be within the slack of the score; `tied`
    is true where labels were cut that may lead to an equal score in less time.
    """

    layout: tuple[int, ...] | None
    score: int
    latency: int
    bound: int
    settled: bool
    tied: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Span:
    """Part of case k: levels of peaks, from and to, per group; how its next sweep is to be.

    The sweep may keep `width` labels per layer, and looks for layouts that score within `reach` of `root`, which no
    layout of the span scores above; None for any layout.
    """

    k: int
    levels: tuple[tuple[int, int], ...]
    width: int
    reach: int | None = None
    root: int = -NOTHING
    bounds: tuple[Dual, Dual] | None = None

    @property
    def aim(self) -> int:
        """The score that the next sweep looks for."""
        return self.root if self.reach is None else self.root - self.reach

    def floor(self, root: int) -> int:
        """Return what a layout must score to be looked for, given a bound on all of them."""
        return NOTHING if self.reach is None else max(root - self.reach, NOTHING)

    @property
    def one_level(self) -> bool:
        """Whether nothing is relaxed."""
        return all(low == high for low, high in self.levels)

    def halves(self) -> list[_Span]:
        """Return the span in two, split where it has most levels."""
        r = max(range(len(self.levels)), key=lambda r: self.levels[r][1] - self.levels[r][0])
        low, high = self.levels[r]
        middle = (low + high) // 2
        parts = ((low, middle), (middle + 1, high))
        return [
            dataclasses.replace(self, levels=(*self.levels[:r], part, *self.levels[r + 1 :]), bounds=None)
            for part in parts
        ]


def search(
    graph: Graph,
    limit_KR: Int,
    *,
    most_labels: int = MOST_LABELS,
    most_in_all: int | None = None,
    slack: float = 0.0,
    above: int = NOTHING,
    feasible: bool = False,
    fits: Callable[[], bool] | None = None,
    deadline: float = math.inf,
) -> list[Answer]:
    """Return the best layout under each set of limits.

    Args:
        graph: Scores and uses.
        limit_KR: The limits, `BOUNDLESS` for none.
        most_labels: How many partial layouts may be kept per layer and case.
        most_in_all: After how many, over all sweeps, none may keep more; by default as many as one sweep can keep.
        slack: Stop where the bound is within this fraction of the score; 0 for the optimum.
        above: Only layouts that score more are looked for.
        feasible: Whether some layout is known to fit, so that it need not be asked.
        fits: Whether some layout may keep the only limits, asked where few labels do not tell.
        deadline: When to stop (`time.monotonic`), settled or not; some layout is looked for in any case.
    """
    most_in_all = most_in_all or most_labels * graph.layers * len(limit_KR)
    return _Search(
        graph.ordered(),
        limit_KR,
        most_labels,
        most_in_all,
        slack,
        above=above,
        feasible=feasible,
        fits=fits,
        deadline=deadline,
    ).run()


def least_use(
    graph: Graph, limit_R: Int, r: int, *, most_labels: int = ALL_LABELS, most_in_all: int | None = None
) -> tuple[int, tuple[int, ...]] | None:
    """Return the least that any layout uses of a resource, peaks included, within all other limits, and that layout.

    None where no layout keeps the other limits.

    Raises:
        CheckError: The labels ran out before the least was proven.
    """
    graph, (limit_R,), least_R = graph.reduced(limit_R[None])
    best: tuple[int, tuple[int, ...]] | None = None
    for level in np.unique(graph.peak_RLC[r][graph.allowed_LC]):
        allowed_LC = graph.allowed_LC & (graph.peak_RLC[r] <= level)
        limit_now_R = limit_R.copy()
        limit_now_R[r] = BOUNDLESS if best is None else best[0] - level - 1
        if not allowed_LC.any(axis=1).all():
            continue
        (answer,) = search(
            graph.minimizing(r, allowed_LC),
            limit_now_R[None],
            most_labels=most_labels,
            most_in_all=most_in_all,
            feasible=True,
        )
        if not answer.settled:
            raise CheckError("the least use of a resource could not be proven", remedy="relax the other limits")
        if answer.layout is not None:
            best = int(level) - answer.score, answer.layout
    return None if best is None else (best[0] + int(least_R[r]), best[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """What one pass found, per case.

    `found_K` holds layouts that beat the best known. `cut_K` is the largest bound (fixed-point score) among labels that
    were cut: no layout that was not looked at scores above it; `NOTHING` where nothing was cut. `kept` counts labels.
    """

    found_K: list[Found]
    cut_K: Int
    kept: int


def sweep(
    graph: Graph,
    cases: Cases,
    dual: Dual,
    backward_dual: Dual,
    *,
    width: int,
    best: Best,
    deadline: float = math.inf,
) -> Sweep | None:
    """Walk from both ends until the walks meet, and join their labels; look for layouts that beat the best known.

    None where the deadline came before they met.
    """
    walks = forward, backward = (
        Walk(graph, cases, dual, best),
        Walk(graph.backwards, cases.backwards, backward_dual, best),
    )
    while forward.walked + backward.walked < graph.layers and all(len(walk.labels) for walk in walks):
        if time.monotonic() > deadline:
            return None
        min(walks, key=lambda walk: (len(walk.labels), walk.walked)).step(width)
    kept = sum(len(labels) for walk in walks for labels in walk.layers)
    return Sweep(found_K=join(forward, backward), cut_K=np.maximum(forward.cut_K, backward.cut_K), kept=kept)


class _Search:
    def __init__(
        self,
        graph: Graph,
        limit_KR: Int,
        most_labels: int,
        most_in_all: int,
        slack: float,
        *,
        above: int,
        feasible: bool,
        fits: Callable[[], bool] | None,
        deadline: float,
    ) -> None:
        self.graph, self.limit_KR, self.least_R = graph.reduced(limit_KR)
        self.most_labels, self.most_in_all, self.slack = most_labels, most_in_all, slack
        self.feasible, self.fits, self.deadline = feasible, fits, deadline
        self.kept = self.sweeps = 0
        self.exact_prices = False
        self.tied_K = np.zeros(len(limit_KR), np.bool_)
        self.may_fit_K: dict[int, bool] = {}
        self.layout_K: list[tuple[int, ...] | None] = [None] * len(limit_KR)
        self.best = Best.none(len(limit_KR), above=above)
        self.bound_K = np.full(len(limit_KR), NOTHING)
        self.settled_K = np.ones(len(limit_KR), np.bool_)
        self.peak_GLC, group_R = np.unique(self.graph.peak_RLC, axis=0, return_inverse=True)
        self.group_R = group_R.ravel()  # numpy 2.0 gives it more axes
        self.levels_G = [np.unique(peak_LC[graph.allowed_LC]) for peak_LC in self.peak_GLC]

    def run(self) -> list[Answer]:
        """Return the answers."""
        spans = [span for k in range(len(self.limit_KR)) for span in self._spans(k)]
        if len(self.limit_KR) == 1:
            spans = [] if self._best_of_all_fits() else self._bounded(spans)
        while spans:
            if self._is_late():
                spans = [left for span in spans for left in self._unsettled(span)]
                continue
            if len(self.limit_KR) > 1:
                spans = self._after(spans)
                continue
            spans.sort(key=lambda span: span.aim)  # what the most promising span finds spares the others work
            spans += self._after([spans.pop()])
        bound_K = np.maximum(self.bound_K, self.best.score_K)
        return [
            Answer(layout=layout, score=score, latency=latency, bound=bound, settled=settled, tied=tied)
            for layout, score, latency, bound, settled, tied in zip(
                self.layout_K,
                self.best.score_K.tolist(),
                (self.best.latency_K + self.least_R[0]).tolist(),
                bound_K.tolist(),
                self.settled_K.tolist(),
                self.tied_K.tolist(),
                strict=True,
            )
        ]

    def _is_late(self) -> bool:
        """Tell whether to stop: the first, narrow sweeps take no time, and what they find is better than nothing."""
        return time.monotonic() > self.deadline and (self.layout_K[0] is not None or self.sweeps >= _SWEEPS_ANYWAY)

    def _best_of_all_fits(self) -> bool:
        """Tell whether the only case's limits let in what is best without them, which then is the answer."""
        if not self.graph.allowed_LC.any(axis=1).all():
            return False
        layout = self.graph.without_limits()
        score, latency = self.graph.scored(layout), int(self.graph.spent_R(layout)[0])
        return score > -BOUNDLESS and self._improve(0, Found(layout=layout, score=score, latency=latency))

    def _spans(self, k: int) -> list[_Span]:
        """Return the levels of peaks that fit the limits: one by one where they are few, otherwise all at once."""
        most_G = [
            int(np.searchsorted(levels, self.limit_KR[k, self.group_R == g].min(), "right"))
            for g, levels in enumerate(self.levels_G)
        ]
        if len(self.limit_KR) > 1 or math.prod(most_G) > _FEW_LEVELS:
            width = min(_FIRST_WIDTH if len(self.limit_KR) == 1 else _AMONG_MANY, self.most_labels)
            return [_Span(k=k, levels=tuple((0, most - 1) for most in most_G), width=width)] if min(most_G) else []
        width = min(_FIRST_WIDTH, self.most_labels)
        each = itertools.product(*(range(most) for most in most_G))
        return [_Span(k=k, levels=tuple((at, at) for at in levels), width=width) for levels in each]

    def _bounded(self, spans: list[_Span]) -> list[_Span]:
        """Return the spans in which every layer has a candidate, with the bound on their layouts."""
        spans, cases = self._relaxed(spans)
        if not spans:
            return []
        dual, backward_dual = self._duals(spans, cases)
        root_K = np.minimum(np.floor(dual.bound_K), 2.0**61).astype(np.int64)
        return [
            dataclasses.replace(span, root=int(root), bounds=(dual.take([i]), backward_dual.take([i])))
            for i, (span, root) in enumerate(zip(spans, root_K, strict=True))
        ]

    def _after(self, spans: list[_Span]) -> list[_Span]:
        """Sweep some spans, and return what is left to do about them."""
        left: list[_Span] = []
        for width in sorted({span.width for span in spans}):
            left += self._swept([span for span in spans if span.width == width], width)
        return left

    def _swept(self, spans: list[_Span], width: int) -> list[_Span]:
        spans, cases = self._relaxed(spans)
        if not spans:
            return []
        dual, backward_dual = self._duals(spans, cases)
        of_K = np.array([span.k for span in spans])
        root_K = np.minimum(np.floor(dual.bound_K), [float(span.root) for span in spans]).astype(np.int64)
        root_K = self.graph.floor_N(root_K)
        worth_K, latency_K = self._worth_beating_K()[of_K], self.best.latency_K[of_K]
        matters_K = (root_K > worth_K) | ((root_K == worth_K) & (latency_K > NOTHING))
        open_K = np.flatnonzero(matters_K & (root_K >= self.graph.least_score))
        np.maximum.at(self.bound_K, of_K[root_K < worth_K], root_K[root_K < worth_K])
        if not open_K.size:
            return []
        spans, cases, root_K, worth_K = [spans[i] for i in open_K], cases.take(open_K), root_K[open_K], worth_K[open_K]
        dual, backward_dual = dual.take(open_K), backward_dual.take(open_K)
        floor_K = np.array([s.floor(int(root)) for s, root in zip(spans, root_K, strict=True)])
        known = Best(
            score_K=np.maximum(worth_K, floor_K),
            latency_K=np.where(floor_K > worth_K, -NOTHING, latency_K[open_K]),
        )
        deadline = math.inf if width <= _FIRST_WIDTH else self.deadline
        found = sweep(self.graph, cases, dual, backward_dual, width=width, best=known, deadline=deadline)
        self.sweeps += 1
        if found is None:
            known_roots = zip(spans, root_K.tolist(), strict=True)
            return [
                left for span, root in known_roots for left in self._unsettled(dataclasses.replace(span, root=root))
            ]
        self.kept += found.kept
        admitted = [self._improve(span.k, layout) for span, layout in zip(spans, found.found_K, strict=True)]
        left: list[_Span] = []
        for i, span in enumerate(spans):
            looked_at = max(int(known.score_K[i]), found.found_K[i].score, int(found.cut_K[i]))
            span = dataclasses.replace(
                span, root=min(int(root_K[i]), looked_at), bounds=(dual.take([i]), backward_dual.take([i]))
            )
            if not admitted[i] or span.root > self._worth_beating_K()[span.k]:
                left += self._go_on(
                    span,
                    looked=int(root_K[i]),
                    admitted=admitted[i],
                    cut=int(found.cut_K[i]) > NOTHING,
                    few=found.kept < _FEW_KEPT * self.graph.layers * len(spans),
                )
            else:
                self.bound_K[span.k] = max(self.bound_K[span.k], span.root)
                cut_ties = bool(found.cut_K[i] >= self.best.score_K[span.k])
                self.tied_K[span.k] |= cut_ties and self._may_be_faster(span.k, dual.take([i]), cases.limit_KR[i, 0])
        return left

    def _may_be_faster(self, k: int, dual: Dual, limit: int) -> bool:
        """Tell whether a bound on a case leaves room for a faster layout of the best score."""
        unused = int(limit) - int(self.best.latency_K[k]) + 1
        return bool(dual.price_KPR[0, 0, 0] * unused <= dual.bound_K[0] - self.best.score_K[k])

    def _go_on(self, span: _Span, *, looked: int, admitted: bool, cut: bool, few: bool) -> list[_Span]:
        """Return what to sweep next where a sweep did not settle a span.

        Args:
            span: The span, with what is known now.
            looked: The bound from which the sweep looked down.
            admitted: Whether the layout that it found, if any, keeps the limits.
            cut: Whether it had to cut labels.
            few: Whether it kept so few labels that it could have looked much further.
        """
        if self.layout_K[span.k] is None and not self.feasible and admitted and not self._anything_fits(span.k):
            return []  # without a layout no bound drops a label: more labels would only cost time
        if self.kept > self.most_in_all:
            return self._unsettled(span)
        if not admitted and not span.one_level:
            return span.halves()
        if span.reach is None:
            known = self.best.score_K[span.k]
            distance = span.root - known if known > NOTHING else int(np.ptp(self.graph.score_LC, axis=1).max())
            reach = max(int(distance * _FIRST_REACH), looked - span.root, 1)
            width = _WIDTH if span.root < looked else _TIED_WIDTH
            self.exact_prices = len(self.limit_KR) == 1 and int((self.limit_KR < BOUNDLESS).sum()) > _FEW_LIMITS
            bounds = None if self.exact_prices else span.bounds
            return [dataclasses.replace(span, width=min(width, self.most_labels), reach=reach, bounds=bounds)]
        if not cut:
            return [dataclasses.replace(span, reach=self._further(span, few=few))]
        if not span.one_level:
            return span.halves()
        if span.width >= self.most_labels:
            return self._unsettled(span)
        reach = max(span.root - (looked - span.reach), 1)  # no further down than before
        return [dataclasses.replace(span, width=min(span.width * _WIDER, self.most_labels), reach=reach)]

    def _unsettled(self, span: _Span) -> list[_Span]:
        self.bound_K[span.k] = max(self.bound_K[span.k], span.root)
        self.settled_K[span.k] = False
        return []

    def _further(self, span: _Span, *, few: bool) -> int:
        """Return how far below the bound to look next: some times as far, or to the best layout if that is near."""
        reach = (_MUCH_FURTHER if few else _FURTHER) * (span.reach or 0)
        distance = span.root - int(self._worth_beating_K()[span.k])
        return distance if reach < distance < 1.5 * reach else reach

    def _relaxed(self, spans: list[_Span]) -> tuple[list[_Span], Cases]:
        """Return the spans in which every layer has a candidate, as cases whose peaks may be forgotten."""
        masks: dict[tuple[int, ...], int] = {}
        allowed: list[NDArray[np.bool_]] = []
        kept, mask, limits = [], [], []
        for span in spans:
            highest = tuple(high for _, high in span.levels)
            if highest not in masks:
                allowed_LC = self.graph.allowed_LC.copy()
                for levels, high, peak_LC in zip(self.levels_G, highest, self.peak_GLC, strict=True):
                    allowed_LC &= peak_LC <= levels[high]
                masks[highest] = len(allowed)
                allowed.append(allowed_LC)
            if allowed[masks[highest]].any(axis=1).all():
                kept.append(span)
                mask.append(masks[highest])
                least_G = np.array([levels[low] for levels, (low, _) in zip(self.levels_G, span.levels, strict=True)])
                limit_R = self.limit_KR[span.k]
                limits.append(np.where(limit_R >= BOUNDLESS, BOUNDLESS, limit_R - least_G[self.group_R]))
        return kept, Cases(
            limit_KR=np.array(limits, np.int64), mask_K=np.array(mask, np.int64), allowed_MLC=np.array(allowed)
        )

    def _duals(self, spans: list[_Span], cases: Cases) -> tuple[Dual, Dual]:
        """Return the bounds from both ends, those of earlier sweeps where there are some."""
        if all(span.bounds for span in spans):
            both = [Dual.joined([span.bounds[end] for span in spans if span.bounds]) for end in range(2)]
            return both[0], both[1]
        dual = lagrangian_dual(self.graph, cases, exact=self.exact_prices and len(spans) == 1)
        return dual, at_prices(self.graph.backwards, cases.backwards, dual.price_KPR)

    def _worth_beating_K(self) -> Int:
        """Return the score that a layout must beat to matter: the best known and the slack above it."""
        slack_K = np.where(self.best.score_K > NOTHING, np.abs(self.best.score_K), 0) * self.slack
        return self.best.score_K + np.floor(slack_K).astype(np.int64)

    def _improve(self, k: int, found: Found) -> bool:
        """Take a better layout over; False where a relaxation found one that is over a limit."""
        if found.layout is None:
            return True
        graph, layout = self.graph, found.layout
        used_R = graph.spent_R(layout) + graph.peak_RLC[:, np.arange(graph.layers), list(layout)].max(axis=1)
        for other in np.flatnonzero((used_R <= self.limit_KR).all(axis=1)):
            rank = (found.score, -found.latency)
            if rank > (self.best.score_K[other], -self.best.latency_K[other]):
                self.best.score_K[other], self.best.latency_K[other] = found.score, found.latency
                self.layout_K[other] = layout
        return bool((used_R <= self.limit_KR[k]).all())

    def _anything_fits(self, k: int) -> bool:
        """Tell whether a layout may keep a case's limits, by looking for a fast one, which is known from then."""
        if k not in self.may_fit_K:
            (answer,) = search(
                dataclasses.replace(
                    self.graph, score_LC=-self.graph.use_RLC[0], step_score_FSS=-self.graph.step_RFSS[0]
                ),
                self.limit_KR[[k]],
                most_labels=ALL_LABELS,
                most_in_all=MOST_TO_FIT if self.fits is None else _FEW_TO_FIT,
                slack=1.0,
                feasible=True,
                deadline=self.deadline,
            )
            if answer.layout is not None:
                score, latency = self.graph.scored(answer.layout), int(self.graph.spent_R(answer.layout)[0])
                self._improve(k, Found(layout=answer.layout, score=score, latency=latency))
            known = answer.layout is not None or answer.settled
            self.may_fit_K[k] = answer.layout is not None if known else self.fits is None or self.fits()
        return self.may_fit_K[k]
