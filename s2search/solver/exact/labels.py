"""Label-setting over the layers: partial layouts as labels, kept while they can still win.

A label is a partial layout: what it used of every resource, its score, and the stream it ends in. It is dropped if it
cannot be completed within the limits, if a Lagrangian bound says that no completion beats the best layout known, or if
another label that ends in the same stream used no more of anything and scores no lower. Where more than `width` are
left, those with the lowest bounds are cut; the largest bound among them says what the cut could have cost. Of equal
bounds those are kept that spend as the layers behind them should, give or take chance: near copies of one label meet
the same labels of the other end, and where a score is what it costs, all bounds are equal.

Axes:  L layers  C candidates  S streams  R resources  K cases  N labels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from s2search.solver.exact.dual import Dual, Float, cheapest_use
from s2search.solver.exact.graph import Cases, Graph, least_to_go
from s2search.solver.problem import Int

#: No score, no latency: what is known before any layout is.
NOTHING = -(2**62)

_THRESHOLDS, _PER_THRESHOLD = 24, 64
_FEW = 600
_CHANCE = 0.5  # of what a layer may use: how far from the even way labels are spread


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """The best layout known per case: its score (fixed-point) and latency; `NOTHING` where none is."""

    score_K: Int
    latency_K: Int

    @classmethod
    def none(cls, cases: int, *, above: int = NOTHING) -> Best:
        """Return what is known before any layout is, where only those count that score above something."""
        return cls(score_K=np.full(cases, above), latency_K=np.full(cases, NOTHING if above > NOTHING else -NOTHING))


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Partial layouts; `parent_N` indexes the labels of the layer before."""

    used_RN: Int
    score_N: Int
    stream_N: Int
    case_N: Int
    choice_N: Int
    parent_N: Int

    @classmethod
    def at_start(cls, graph: Graph, cases: int) -> Labels:
        """Return one label per case from which all others come: nothing is chosen yet."""
        none_K = np.zeros(cases, np.int64)
        return cls(
            used_RN=np.zeros((len(graph.use_RLC), cases), np.int64),
            score_N=none_K,
            stream_N=none_K + graph.first_stream,
            case_N=np.arange(cases),
            choice_N=none_K,
            parent_N=none_K,
        )

    def keep(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Labels:
        """Return the labels at some indices, in that order."""
        return Labels(**{name: values[..., index] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return self.score_N.size


class Walk:
    """A sweep over the layers from one end: all labels of the layers behind it."""

    def __init__(self, graph: Graph, cases: Cases, dual: Dual, best: Best) -> None:
        self.graph, self.cases, self.dual, self.best = graph, cases, dual, best
        self.cut_K = np.full(len(cases), NOTHING)
        to_go = [least_to_go(graph, allowed_LC) for allowed_LC in cases.allowed_MLC]
        self._to_go_LMRS = np.stack(to_go, axis=1)
        self._tried_from = _FEW * len(cases)
        self._rng = np.random.default_rng(0)
        self._most_RL = np.cumsum(graph.use_RLC.max(axis=2, where=graph.allowed_LC, initial=0), axis=1)
        self.layers = [Labels.at_start(graph, len(cases))]

    @property
    def labels(self) -> Labels:
        """The labels of the last layer walked."""
        return self.layers[-1]

    @property
    def walked(self) -> int:
        """How many layers are behind."""
        return len(self.layers) - 1

    def step(self, width: int) -> None:
        """Extend all labels by one layer, keep those that may win, at most `width` per case."""
        layer = self.walked
        labels = extended(self.graph, self.labels, layer, self.cases)
        labels = self._within_limits(labels, layer + 1)
        bound_N = self._bounds(labels, layer + 1)
        wins_N = self._may_win(labels, bound_N, layer + 1)
        labels, bound_N = labels.keep(wins_N), bound_N[wins_N]
        if len(labels) >= self._tried_from:
            chosen = undominated(labels)
            useful = chosen.size < 0.95 * len(labels)
            self._tried_from = _FEW * len(self.cases) if useful else 2 * len(labels)
            labels, bound_N = labels.keep(chosen), bound_N[chosen]
        if len(labels) > width:
            labels = labels.keep(self._widest(labels, bound_N, width))
        self.layers.append(labels)

    def _to_go_RN(self, labels: Labels, layer: int) -> Int:
        """Return the least that completions of labels use."""
        if self._to_go_LMRS.shape[1] == 1:
            return np.asarray(self._to_go_LMRS[layer, 0][:, labels.stream_N])
        return np.asarray(self._to_go_LMRS[layer, self.cases.mask_K[labels.case_N], :, labels.stream_N].T)

    def _within_limits(self, labels: Labels, layer: int) -> Labels:
        over_RN = labels.used_RN + self._to_go_RN(labels, layer) > self.cases.limit_KR[labels.case_N].T
        fits_N = np.asarray(~over_RN.any(axis=0))
        return labels if fits_N.all() else labels.keep(fits_N)

    def _bounds(self, labels: Labels, layer: int) -> Int:
        left_RN = (self.cases.limit_KR[labels.case_N].T - labels.used_RN).astype(np.float64)
        bound_N = self.dual.bound_N(layer, labels.case_N, labels.stream_N, left_RN)
        return self.graph.floor_N(np.asarray(np.floor(np.maximum(labels.score_N + bound_N, NOTHING)), np.int64))

    def _may_win(self, labels: Labels, bound_N: Int, layer: int) -> NDArray[np.bool_]:
        known_N = self.best.score_K[labels.case_N]
        wins_N = bound_N > known_N
        if (ties := np.flatnonzero(bound_N == known_N)).size:
            tied = labels.keep(ties)
            least_us_N = tied.used_RN[0] + self._to_go_RN(tied, layer)[0]
            wins_N[ties] = least_us_N < self.best.latency_K[tied.case_N]
        return wins_N

    def _widest(self, labels: Labels, bound_N: Int, width: int) -> NDArray[np.intp]:
        """Return the labels with the highest bounds, `width` per case, and remember the best that was cut."""
        case_N = labels.case_N
        count_K = np.bincount(case_N)
        place_N = np.arange(case_N.size) - np.repeat(np.cumsum(count_K) - count_K, count_K)
        order, border = np.lexsort((-bound_N, case_N)), np.flatnonzero(place_N == width)
        if (bound_N[order[border]] == bound_N[order[border - 1]]).any():
            order = np.lexsort((self._strayed(labels), -bound_N, case_N))
        cut = order[border]
        np.maximum.at(self.cut_K, case_N[cut], bound_N[cut])
        return np.sort(order[place_N < width])

    @cached_property
    def _even_KRL(self) -> Float:
        """What is used behind each layer on the even way to all limits: as far at every layer from the thriftiest way.

        With one limit the thriftiest way uses least of it, which is taken off: nothing.
        """
        least_KRL = np.zeros((len(self.cases), *self._most_RL.shape), np.int64)
        if len(self.cases.limited) > 1:
            least_KRL = np.cumsum(cheapest_use(self.graph, self.cases, self.dual.price_KPR[:, -1]), axis=2)
        more_KRL = self._most_RL - least_KRL
        left_KR = self.cases.limit_KR - least_KRL[:, :, -1]
        return np.asarray(least_KRL + more_KRL * (left_KR / np.maximum(more_KRL[:, :, -1], 1))[:, :, None])

    def _strayed(self, labels: Labels) -> Float:
        """Return by how many layers' worth labels are off the even way to all limits, and a little chance.

        Having used less of a resource is to be off only where that costs score.
        """
        even_RN = self._even_KRL[labels.case_N, :, self.walked].T
        off_RN = (labels.used_RN - even_RN) * (self.graph.layers / np.maximum(self._most_RL[:, -1:], 1))
        priced_RN = self.dual.price_KPR[labels.case_N, 0].T > 0
        off_N = np.where(priced_RN, np.abs(off_RN), np.maximum(off_RN, 0)).sum(axis=0)
        return np.asarray(off_N + _CHANCE * self._rng.random(len(labels)))


def trace(layers: Sequence[Labels], n: int) -> list[int]:
    """Return the candidates behind a label of the last layer, those of the latest layer first."""
    choices = []
    for labels in reversed(layers[1:]):
        choices.append(int(labels.choice_N[n]))
        n = int(labels.parent_N[n])
    return choices


def extended(graph: Graph, labels: Labels, layer: int, cases: Cases) -> Labels:
    """Return every label extended by every candidate that its case allows at a layer and that may follow it."""
    allowed_MC = cases.allowed_MLC[:, layer]
    choices = np.flatnonzero(allowed_MC.any(axis=0))
    n, c = np.repeat(np.arange(len(labels)), choices.size), np.tile(choices, len(labels))
    before_N, stream_N = labels.stream_N[n], graph.stream_C[c]
    follows_N = graph.follows_SS[before_N, stream_N]
    if len(allowed_MC) > 1:
        follows_N &= allowed_MC[cases.mask_K[labels.case_N[n]], c]
    if not follows_N.all():
        n, c, before_N, stream_N = n[follows_N], c[follows_N], before_N[follows_N], stream_N[follows_N]
    step_RN = graph.use_RLC[:, layer, c] + graph.step_RSS(layer)[:, before_N, stream_N]
    return Labels(
        used_RN=labels.used_RN[:, n] + step_RN,
        score_N=labels.score_N[n] + graph.score_LC[layer, c] + graph.step_score_SS(layer)[before_N, stream_N],
        stream_N=stream_N,
        case_N=labels.case_N[n],
        choice_N=c,
        parent_N=n,
    )


def undominated(labels: Labels) -> NDArray[np.intp]:
    """Return the indices of labels left after dropping dominated ones, in order; of equal labels the first stays.

    Not all dominated labels are found, which costs time and never an answer: labels are compared where they agree in
    case, stream and all resources but the first two, and there with the best score of all that used less of the first,
    up to some thresholds of the second.
    """
    used_RN = labels.used_RN
    second_N = used_RN[1] if len(used_RN) > 1 else np.zeros(len(labels), np.int64)
    key_N = _key((labels.stream_N, labels.case_N, *used_RN[2:]))
    order = np.lexsort((-labels.score_N, second_N, used_RN[0], key_N))
    key_N, second_N, score_N = key_N[order], second_N[order], labels.score_N[order]
    dominated_N = np.zeros(order.size, np.bool_)
    same_N = (np.diff(key_N) == 0) & (np.diff(used_RN[0][order]) == 0) & (np.diff(second_N) == 0)
    dominated_N[1:] = same_N & (np.diff(score_N) == 0)
    span = int(np.ptp(score_N)) + 2
    if span * (int(key_N[-1]) + 1) < 2**62:
        raised_N = key_N * span + (score_N - score_N.min() + 1)  # groups above one another: one running maximum for all
        for threshold in _thresholds(second_N):
            within_N = np.where(second_N <= threshold, raised_N, key_N * span)
            before_N = np.maximum.accumulate(within_N)[:-1]
            dominated_N[1:] |= (second_N[1:] >= threshold) & (raised_N[1:] <= before_N)
    return np.sort(order[~dominated_N])


def _key(columns: tuple[Int, ...]) -> Int:
    """Return one number per label that is equal where all columns are, counting from 0."""
    key_N = np.zeros(len(columns[0]), np.int64)
    for column_N in columns:
        if column_N.size and (column_N != column_N[0]).any():
            _, inverse_N = np.unique(column_N, return_inverse=True)
            key_N = key_N * (int(inverse_N.max()) + 1) + inverse_N
            _, key_N = np.unique(key_N, return_inverse=True)
    return key_N


def _thresholds(values_N: Int) -> Int:
    """Return some of the values, evenly spread over the labels, the least and the largest among them."""
    ordered = np.sort(values_N)
    count = min(2 + values_N.size // _PER_THRESHOLD, _THRESHOLDS)
    return np.unique(ordered[np.linspace(0, ordered.size - 1, count).astype(np.int64)])
