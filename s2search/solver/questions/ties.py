"""Ties: how many layouts share the best score or come near it, and the first few of them by name order.

Partial layouts are counted together, layer by layer, where they end in one stream and leave equally much of everything
that is limited; the score that must be reached is one limit more. A resource that can no longer run out is set to one
value for all, so that such layouts coincide as well. What cannot be completed within a limit is dropped, and so is
what the Lagrangian bounds of `dual` say falls short of the score. Nothing is dropped for being dominated, as a search
may: a dominated layout can tie.

Scores, uses and counts are integers, and candidates are compared in an order that the caller gives. So the count and
the examples depend on neither the platform nor the version of a library, as long as no state was cut.

Axes:  L layers  C candidates  S streams  R resources  N states  A arcs (a state and a candidate that follows)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from s2search.solver.exact.dual import Dual, lagrangian_dual
from s2search.solver.exact.graph import BOUNDLESS, Cases, Graph, least_to_go, limited_resources
from s2search.solver.problem import Int, Problem, Resource

_Counts: TypeAlias = NDArray[np.int64] | NDArray[np.object_]

_MOST_COUNTED = 2**63 - 1
_FEW = 256  # states that are not worth the bounds
_MOST_ARCS = 400_000  # in all layers together: some 0.2 s
_MOST_EVEN_STATES = 2_000
_MOST_RUNS = 5_000_000  # states of a layer, by the length of the run that they are in, in all layers together


@dataclass(frozen=True, kw_only=True)
class Ties:
    """How many layouts score as asked, and the first of them; a lower bound and some of them where not `exact`."""

    count: int
    exact: bool
    examples: tuple[tuple[int, ...], ...]

    @property
    def in_a_file(self) -> Ties:
        """The same, with a count that a file may have: an integer of 64 bits, a lower bound where there are more."""
        if self.count <= _MOST_COUNTED:
            return self
        return dataclasses.replace(self, count=_MOST_COUNTED, exact=False)


def find_ties(
    problem: Problem,
    fixed_point_score: int,
    *,
    gap: int = 0,
    least_gap: int = 0,
    most_states: int = 10_000,
    examples: int = 3,
    order_C: Sequence[int] | None = None,
) -> Ties:
    """Count the layouts that a problem admits and that score at most `gap` below a score.

    With the best score and no gap those are the optimal layouts.

    Args:
        problem: What a layout must keep.
        fixed_point_score: The score, as an integer, `FIXED_POINT` to one.
        gap: How far below it a layout may score, in the same unit.
        least_gap: How far below it a layout must score: 1 leaves out what ties. 0 is no condition.
        most_states: How many different partial layouts are kept per layer, fewer where layers and candidates are many.
            Beyond it those with the best bounds are kept, and the count is a lower bound.
        examples: How many layouts to return.
        order_C: The candidates in the order by which layouts are compared, layer by layer; by index if None.
    """
    whole = problem.by_group()
    layers, candidates = whole.allowed_LC.shape
    counting = _Counting(
        problem=whole,
        least_score=fixed_point_score - gap,
        most_score=fixed_point_score - least_gap if least_gap else None,
        most_states=max(1, min(most_states, _MOST_ARCS // (layers * candidates))),
        order_C=tuple(range(candidates) if order_C is None else order_C),
    )
    count, exact, found = counting.run(examples)
    size = problem.group_size
    return Ties(count=count, exact=exact, examples=tuple(tuple(np.repeat(x, size).tolist()) for x in found))


def most_even_tie(
    problem: Problem, fixed_point_score: int, *, order_C: Sequence[int] | None = None
) -> tuple[int, ...] | None:
    """Return the layout that scores at least so much, and whose squared lengths of runs in one stream sum to the least.

    Of several the first by name. None where there are too many different partial layouts to be sure, or no layout.
    """
    whole = problem.by_group()
    layers, candidates = whole.allowed_LC.shape
    counting = _Counting(
        problem=whole,
        least_score=fixed_point_score,
        most_score=None,
        most_states=max(1, min(_MOST_EVEN_STATES, _MOST_ARCS // (layers * candidates), _MOST_RUNS // layers**2)),
        order_C=tuple(range(candidates) if order_C is None else order_C),
    )
    arcs_L, states, exact = counting.walk()
    if not exact or not len(states):
        return None
    return tuple(np.repeat(_most_even(_leading(arcs_L, len(states)), whole), problem.group_size).tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class _States:
    """Partial layouts that are the same to all that may follow; `layouts_N` says how many each stands for."""

    used_RN: Int
    peak_RN: Int
    stream_N: Int
    layouts_N: _Counts

    def __len__(self) -> int:
        return self.stream_N.size


@dataclass(frozen=True, kw_only=True, eq=False)
class _Arcs:
    """Which candidate leads from which state of one layer into which of the next; by state, then in the order asked."""

    parent_A: Int
    choice_A: Int
    into_A: Int

    def keep(self, index_A: NDArray[np.bool_]) -> _Arcs:
        return _Arcs(**{name: values[index_A] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counting:
    problem: Problem
    least_score: int
    most_score: int | None
    most_states: int
    order_C: tuple[int, ...]

    def run(self, examples: int) -> tuple[int, bool, list[tuple[int, ...]]]:
        """Return the count, whether nothing was cut, and the first layouts."""
        arcs_L, states, exact = self.walk()
        return int(states.layouts_N.sum()), exact, _first(_leading(arcs_L, len(states)), examples)

    def walk(self) -> tuple[list[_Arcs], _States, bool]:
        """Return the arcs of every layer, the states at the end, and whether nothing was cut."""
        graph, exact = self.graph, True
        states = _States(
            used_RN=np.zeros((len(self.limit_R), 1), np.int64),
            peak_RN=self.lowest_R[:, None],
            stream_N=np.array([graph.first_stream]),
            layouts_N=np.ones(1, np.int64),
        )
        arcs_L = []
        for layer in range(graph.layers):
            arcs, states, cut = self._step(states, layer)
            arcs_L.append(arcs)
            exact &= not cut
        return arcs_L, states, exact

    @cached_property
    def resources(self) -> list[Resource]:
        """What is limited; the first of all is the score, of which layouts must not use too little."""
        found = [self._score(-1, -self.least_score)]
        if self.most_score is not None:
            found.append(self._score(1, self.most_score))
        return found + limited_resources(self.problem)

    def _score(self, sign: int, limit: int) -> Resource:
        problem = self.problem
        score_LC, pair_LCC = problem.fixed_point_score_LC, problem.fixed_point_pair_LCC
        resource = Resource.of("score", sign * score_LC, limit, streams=len(problem.switch_us_SS))
        return resource if pair_LCC is None else dataclasses.replace(resource, pair_LCC=sign * pair_LCC)

    @cached_property
    def graph(self) -> Graph:
        return Graph.of_resources(self.problem, self.resources)

    @cached_property
    def limit_R(self) -> Int:
        return np.array([min(r.limit, BOUNDLESS) for r in self.resources], np.int64)

    @cached_property
    def lowest_R(self) -> Int:
        """The peak that no layout is below: every layer has one."""
        largest = np.iinfo(np.int64).max
        peak_RLC = np.where(self.graph.allowed_LC, self.graph.peak_RLC, largest)
        return np.asarray(peak_RLC.min(axis=2).max(axis=1))

    @cached_property
    def highest_R(self) -> Int:
        return np.asarray(np.where(self.graph.allowed_LC, self.graph.peak_RLC, 0).max(axis=(1, 2)))

    @cached_property
    def to_go_LRS(self) -> Int:
        return least_to_go(self.graph, self.graph.allowed_LC)

    @cached_property
    def most_to_go_LRS(self) -> Int:
        graph = self.graph
        opposite = dataclasses.replace(graph, use_RLC=-graph.use_RLC, step_RFSS=-graph.step_RFSS)
        return -least_to_go(opposite, graph.allowed_LC)

    @cached_property
    def dual(self) -> Dual:
        """Bounds on what completions score, within all limits but that of the score."""
        graph, limit_R = Graph.of(self.problem)
        lowest_R = self.lowest_R[len(self.limit_R) - len(limit_R) :]
        cases = Cases(
            limit_KR=(limit_R - lowest_R)[None], mask_K=np.zeros(1, np.int64), allowed_MLC=graph.allowed_LC[None]
        )
        return lagrangian_dual(graph, cases)

    def _step(self, states: _States, layer: int) -> tuple[_Arcs, _States, bool]:
        """Return what follows by one more layer, and whether states were cut."""
        graph, limit_R1 = self.graph, self.limit_R[:, None]
        choices = np.array([c for c in self.order_C if graph.allowed_LC[layer, c]], np.int64)
        n, c = np.repeat(np.arange(len(states)), choices.size), np.tile(choices, len(states))
        stream_A = graph.stream_C[c]
        step_RSS = graph.step_RSS(layer)
        used_RA = states.used_RN[:, n] + graph.use_RLC[:, layer, c] + step_RSS[:, states.stream_N[n], stream_A]
        peak_RA = np.maximum(states.peak_RN[:, n], graph.peak_RLC[:, layer, c])
        may_A = (used_RA + peak_RA + self.to_go_LRS[layer + 1][:, stream_A] <= limit_R1).all(axis=0)
        bound_A = np.zeros(0)
        if np.count_nonzero(may_A) > min(_FEW, self.most_states):
            index = np.flatnonzero(may_A)
            bound_A = np.full(n.size, -np.inf)
            bound_A[index] = self._bounds(layer + 1, used_RA[:, index], peak_RA[:, index], stream_A[index])
            may_A &= bound_A >= self.least_score
            bound_A = bound_A[may_A]
        stream_A = stream_A[may_A]
        used_RA, peak_RA = self._forget(layer + 1, used_RA[:, may_A], peak_RA[:, may_A], stream_A)
        first_N, into_A = _merged((stream_A, *used_RA, *peak_RA))
        arcs = _Arcs(parent_A=n[may_A], choice_A=c[may_A], into_A=into_A)
        if cut := first_N.size > self.most_states:
            kept_N = np.sort(np.argsort(-bound_A[first_N], kind="stable")[: self.most_states])
            place_N = np.full(first_N.size, -1)
            place_N[kept_N] = np.arange(kept_N.size)
            first_N = first_N[kept_N]
            arcs = dataclasses.replace(arcs, into_A=place_N[into_A]).keep(place_N[into_A] >= 0)
        layouts_A = _exact(states.layouts_N, choices.size)[arcs.parent_A]
        layouts_N: _Counts = np.zeros(first_N.size, layouts_A.dtype)  # type: ignore[assignment]
        np.add.at(layouts_N, arcs.into_A, layouts_A)
        longer = _States(
            used_RN=used_RA[:, first_N],
            peak_RN=peak_RA[:, first_N],
            stream_N=stream_A[first_N],
            layouts_N=layouts_N,
        )
        return arcs, longer, cut

    def _bounds(self, layer: int, used_RA: Int, peak_RA: Int, stream_A: Int) -> NDArray[np.float64]:
        """Return what each partial layout can score at most when complete."""
        limited = slice(len(self.limit_R) - self.dual.price_KPR.shape[2], None)
        left_RA = (self.limit_R[:, None] - used_RA - peak_RA)[limited].astype(np.float64)
        return np.asarray(self.dual.bound_N(layer, np.zeros_like(stream_A), stream_A, left_RA) - used_RA[0])

    def _forget(self, layer: int, used_RA: Int, peak_RA: Int, stream_A: Int) -> tuple[Int, Int]:
        """Set what can no longer run out to one value, at which it cannot run out either."""
        safe_RS = (self.limit_R - self.highest_R)[:, None] - self.most_to_go_LRS[layer]
        safe_RA = safe_RS[:, stream_A]
        free_RA = used_RA <= safe_RA
        return np.where(free_RA, safe_RA, used_RA), np.where(free_RA, self.lowest_R[:, None], peak_RA)


def _merged(columns: Sequence[Int]) -> tuple[Int, Int]:
    """Return the first index of every different row, and for every row which of those it equals."""
    key_A, keys = np.zeros(columns[0].size, np.int64), 1
    for column_A in columns if columns[0].size else ():
        least, width = int(column_A.min()), int(column_A.max()) - int(column_A.min()) + 1
        if width == 1:
            continue
        if keys * width >= 2**62:
            _, key_A = np.unique(key_A, return_inverse=True)
            _, column_A = np.unique(column_A, return_inverse=True)
            least, width, keys = 0, int(column_A.max()) + 1, int(key_A.max()) + 1
        key_A, keys = key_A * width + (column_A - least), keys * width
    _, first_N, into_A = np.unique(key_A, return_index=True, return_inverse=True)
    return first_N, into_A


def _exact(layouts_N: _Counts, factor: int) -> _Counts:
    """Return the same counts as Python integers where their sum, multiplied, does not fit in 64 bits."""
    return layouts_N.astype(object) if float(layouts_N.sum(dtype=np.float64)) * factor > 2**62 else layouts_N


def _leading(arcs_L: list[_Arcs], ends: int) -> list[_Arcs]:
    """Return the arcs from which an end can be reached."""
    leads_N, kept_L = np.ones(ends, np.bool_), list(arcs_L)
    for layer in reversed(range(len(arcs_L))):
        kept_L[layer] = kept_L[layer].keep(leads_N[kept_L[layer].into_A])
        states = 1 if layer == 0 else int(arcs_L[layer - 1].into_A.max(initial=-1)) + 1
        leads_N = np.zeros(states, np.bool_)
        leads_N[kept_L[layer].parent_A] = True
    return kept_L


def _first(arcs_L: list[_Arcs], most: int) -> list[tuple[int, ...]]:
    """Return the first layouts from the stem to an end, of arcs that all lead there."""
    found: list[tuple[int, ...]] = []
    unfinished: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while unfinished and len(found) < most:
        n, layout = unfinished.pop()
        if len(layout) == len(arcs_L):
            found.append(layout)
            continue
        arcs = arcs_L[len(layout)]
        start, end = np.searchsorted(arcs.parent_A, [n, n + 1])
        unfinished += [(int(arcs.into_A[a]), (*layout, int(arcs.choice_A[a]))) for a in reversed(range(start, end))]
    return found


def _most_even(arcs_L: list[_Arcs], problem: Problem) -> list[int]:
    """Return the most even layout, by the least that every state has yet to add with the run that it is in.

    A run that grows from n to n + 1 layers adds 2 n + 1 to the sum of squares. All arcs must lead to an end.
    """
    layers, stream_C = len(arcs_L), problem.stream_C
    length_R = np.arange(layers + 1)
    ends = int(arcs_L[-1].into_A.max()) + 1
    after_NR = np.zeros((ends, layers + 1), np.int64)
    cost_LAR: list[Int] = []
    for layer in reversed(range(layers)):
        arcs = arcs_L[layer]
        longer_AR = np.roll(after_NR, -1, axis=1)[arcs.into_A] + 2 * length_R + 1
        cost_AR = np.broadcast_to(after_NR[arcs.into_A, 1][:, None] + 1, longer_AR.shape)
        if layer:
            before = arcs_L[layer - 1]
            stream_N = np.zeros(int(before.into_A.max()) + 1, np.int64)
            stream_N[before.into_A] = stream_C[before.choice_A]
            same_A = stream_N[arcs.parent_A] == stream_C[arcs.choice_A]
            cost_AR = np.where(same_A[:, None], longer_AR, cost_AR)
            after_NR = np.full((stream_N.size, layers + 1), np.iinfo(np.int64).max // 2)
            np.minimum.at(after_NR, arcs.parent_A, cost_AR)
        cost_LAR.insert(0, cost_AR)
    layout: list[int] = []
    n = run = 0
    for arcs, cost_AR in zip(arcs_L, cost_LAR, strict=True):
        start, end = np.searchsorted(arcs.parent_A, [n, n + 1])
        a = start + int(cost_AR[start:end, run].argmin())
        c = int(arcs.choice_A[a])
        run = run + 1 if layout and stream_C[c] == stream_C[layout[-1]] else 1
        layout.append(c)
        n = int(arcs.into_A[a])
    return layout
