"""Which of equally good layouts is shown, whatever the solver came upon first.

Near a given layout, those that change the fewest of its layers; where another score is to choose, those that score
most by it; by the rule `fewest-switches`, those that change the stream least often. Of these the fastest; of these such
as end in high resolution, then such as begin there; and of these the most even, whose squared lengths of runs in one
stream add up to the least (the paper's interleaving, as far as the rest allows). Why the ends come first:
docs/decisions/solver.md, "The fastest of all that tie, with high ends".

Each step keeps the layouts that are best by it, and proves that there are no better ones. Nothing depends on the order
in which candidates are given or states are looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

import numpy as np

from s2search.errors import CheckError, InfeasibleError, ProblemError, UnknownNameError
from s2search.solver.base import Solution
from s2search.solver.exact.graph import Graph, limited_resources
from s2search.solver.exact.search import MOST_LABELS, least_use
from s2search.solver.problem import Problem, Resource
from s2search.solver.questions.ties import find_ties, most_even_tie
from s2search.space import Space

#: By what rule a layout is chosen among those that tie.
TieRule = Literal["fastest", "fewest-switches"]

TIE_RULES: tuple[TieRule, ...] = get_args(TieRule)

_FEW = 512  # layouts that are looked at one by one, where a condition is no sum


def check_tie_rule(name: str) -> None:
    """Raise unless there is such a rule.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in TIE_RULES:
        raise UnknownNameError("rule for ties", name, TIE_RULES)


def preferred(
    found: Solution,
    problem: Problem,
    space: Space,
    *,
    rule: TieRule = "fastest",
    by: Problem | None = None,
    keeps: Callable[[Sequence[int]], bool] | None = None,
    search: Callable[[Problem], Solution] | None = None,
) -> Solution:
    """Return the layout to show, of all that the problem admits and that score as much as one that was found.

    Args:
        found: The best layout, proven.
        problem: What a layout must keep.
        space: What its candidates are called.
        rule: Whether the fastest or those with the fewest changes of stream come first.
        by: The same problem under another score, which chooses before that.
        keeps: A condition that is no sum, such as a confidence, which a layout must meet as well.
        search: How to find the best layout of a narrower problem under that condition.
    """
    tied = _Tied(problem=problem, choice_L=found.choice_L, keeps=keeps, search=search)
    if problem.max_changes is not None and problem.reference_L is not None:
        tied = tied.least("changes", np.arange(len(problem.stream_C)) != np.array(problem.reference_L)[:, None])
    if by is not None:
        tied = tied.least_of(dataclasses.replace(by.score_lost(), name="other score of ties"))
    if rule == "fewest-switches":
        tied = tied.least("switches", np.zeros_like(problem.latency_us_LC), 1 - np.eye(len(problem.switch_us_SS)))
    tied = tied.least("latency", problem.latency_us_LC, problem.switch_us_SS)
    tied = dataclasses.replace(tied, choice_L=next(_even_orders(tied, space), tied.choice_L))  # often the answer
    tied = tied.with_stream(slice(-problem.group_size, None), problem.last_stream)
    tied = tied.with_stream(slice(problem.group_size), problem.first_stream)
    return _with_layout(found, problem, _most_even(tied, space))


def even_order(found: Solution, problem: Problem, space: Space, admits: Callable[[Sequence[int]], bool]) -> Solution:
    """Prefer the most even order of the same blocks that is as good and no slower; nothing is proven of the rest."""
    tied = _Tied(problem=problem, choice_L=found.choice_L).least_known()
    orders = (order for order in _even_orders(tied, space) if admits(order))
    return _with_layout(found, problem, next(orders, found.choice_L))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tied:
    """The layouts that the problem admits, that score as much as one of them, and that keep a condition."""

    problem: Problem
    choice_L: tuple[int, ...]
    keeps: Callable[[Sequence[int]], bool] | None = None
    search: Callable[[Problem], Solution] | None = None

    @property
    def score(self) -> int:
        return self.problem.price(self.choice_L).fixed_point_score

    def holds(self, choice_L: Sequence[int]) -> bool:
        """Tell whether a layout is one of them."""
        as_good = self.problem.price(choice_L).fixed_point_score == self.score and self.problem.admits(choice_L)
        return as_good and (self.keeps is None or self.keeps(choice_L))

    def unevenness(self, choice_L: Sequence[int]) -> int:
        """Return the sum of the squared lengths, in groups, of a layout's runs in one stream."""
        streams = self.problem.stream_C[list(choice_L[:: self.problem.group_size])].tolist()
        return sum(len(list(run)) ** 2 for _, run in groupby(streams))

    def least_known(self) -> _Tied:
        """Keep those that are no slower than the known one."""
        return self._within(self._resource("latency", self.problem.latency_us_LC, self.problem.switch_us_SS))

    def least(self, name: str, use_LC: object, switch_SS: object = None) -> _Tied:
        """Keep those whose layers and changes of stream add up to the least."""
        return self.least_of(self._resource(name, use_LC, switch_SS))

    def least_of(self, resource: Resource) -> _Tied:
        """Keep those that use least of a resource, whatever its limit."""
        resource = dataclasses.replace(resource, limit=resource.spent(self.problem, self.choice_L))
        tied = self._within(resource)
        try:
            least, choice_L = _least_use(tied.problem, self.score) or (resource.limit, self.choice_L)
        except (CheckError, ProblemError):  # not proven, or its sums are not exact: what is known stays
            return tied
        if self.keeps is None or self.keeps(choice_L):
            return dataclasses.replace(tied, choice_L=choice_L)._within(dataclasses.replace(resource, limit=least))
        return self._bisected(resource, too_little=least)

    def _bisected(self, resource: Resource, *, too_little: int) -> _Tied:
        """Keep those that use least under a condition; with this much, or less, no layout that keeps it was seen."""
        tied = self._within(resource)
        too_little -= 1  # one layout that uses so much breaks the condition, another one may keep it
        while (most := resource.spent(tied.problem, tied.choice_L)) - too_little > 1:
            middle = (too_little + most) // 2
            choice_L = self._within(dataclasses.replace(resource, limit=middle))._any()
            if choice_L is None:
                too_little = middle
            else:
                tied = dataclasses.replace(tied, choice_L=choice_L)
        return tied._within(dataclasses.replace(resource, limit=most))

    def with_stream(self, layers: slice, stream: int) -> _Tied:
        """Keep those whose layers run in a stream, or all where there are none."""
        allowed_LC = self.problem.allowed_LC.copy()
        allowed_LC[layers] &= self.problem.stream_C == stream
        try:
            tied = dataclasses.replace(self, problem=dataclasses.replace(self.problem, allowed_LC=allowed_LC))
        except ProblemError:  # none of the candidates that may stand there does
            return self
        choice_L = self.choice_L if tied.problem.admits(self.choice_L) else tied._any()
        return self if choice_L is None else dataclasses.replace(tied, choice_L=choice_L)

    def _any(self) -> tuple[int, ...] | None:
        """Return one of them, though the known one may be none of them any more."""
        if self.search is None:
            try:
                found = _least_use(self.problem, self.score)
            except (CheckError, ProblemError):
                return None
            return found[1] if found is not None and found[0] <= self.problem.limits[-1].limit else None
        try:
            solution = self.search(self.problem)
        except InfeasibleError:
            return None
        return solution.choice_L if self.problem.price(solution.choice_L).fixed_point_score == self.score else None

    def _resource(self, name: str, use_LC: object, switch_SS: object = None) -> Resource:
        streams = len(self.problem.switch_us_SS)
        resource = Resource.of(f"{name} of ties", np.asarray(use_LC).astype(np.int64), 0, streams=streams)
        if switch_SS is not None:
            resource = dataclasses.replace(resource, switch_SS=np.asarray(switch_SS).astype(np.int64))
        return dataclasses.replace(resource, limit=resource.spent(self.problem, self.choice_L))

    def _within(self, resource: Resource) -> _Tied:
        """Keep those within a limit, the last of all that the problem has."""
        others = tuple(limit for limit in self.problem.limits if limit.name != resource.name)
        return dataclasses.replace(self, problem=dataclasses.replace(self.problem, limits=(*others, resource)))


def _least_use(problem: Problem, fixed_point_score: int) -> tuple[int, tuple[int, ...]] | None:
    """Return the least that a layout of this score uses of the problem's last limit, and that layout.

    Raises:
        CheckError: The labels ran out before the least was proven.
    """
    lost = problem.score_lost(least_score=fixed_point_score)
    whole = dataclasses.replace(problem, limits=(lost, *problem.limits)).by_group()
    graph, limit_R = Graph.of(whole)
    found = least_use(graph, limit_R, len(limited_resources(whole)) - 1, most_labels=MOST_LABELS)
    return None if found is None else (found[0], _ungrouped(found[1], problem.group_size))


def _most_even(tied: _Tied, space: Space) -> tuple[int, ...]:
    """Return the most even one; where there are too many different ones, the most even order of the known one's."""
    best_L = tied.choice_L
    if tied.keeps is None:
        even_L = most_even_tie(tied.problem, tied.score, order_C=space.by_label_C)
        if even_L is not None:
            best_L = even_L
    else:
        ties = find_ties(tied.problem, tied.score, examples=_FEW, order_C=space.by_label_C)
        best_L = min(filter(tied.holds, ties.examples), key=tied.unevenness, default=best_L)
    tied = dataclasses.replace(tied, choice_L=best_L)
    orders = (order_L for order_L in _even_orders(tied, space) if tied.unevenness(order_L) <= tied.unevenness(best_L))
    return next(orders, best_L)


def _even_orders(tied: _Tied, space: Space) -> Iterator[tuple[int, ...]]:
    """Yield the interleavings of the known one's blocks that tie with it, from many runs to few.

    Where the first or last layers are fixed, also those of what is between them.
    """
    by_label_C = space.by_label_C
    by_label = dataclasses.replace(space, candidates=tuple(space.candidates[c] for c in by_label_C))
    for start, end in dict.fromkeys([(0, space.depth), _free_layers(tied.problem)]):
        free_L = tied.choice_L[start:end]
        counts_C = [free_L.count(c) for c in by_label_C]
        for runs in range(max(len(free_L) // space.group_size, 1), 0, -1):
            between_L = tuple(by_label_C[i] for i in by_label.interleave(counts_C, runs=runs))
            order_L = (*tied.choice_L[:start], *between_L, *tied.choice_L[end:])
            if tied.holds(order_L):
                yield order_L


def _free_layers(problem: Problem) -> tuple[int, int]:
    """Return where the groups begin and end that have a choice."""
    size, candidates = problem.group_size, len(problem.stream_C)
    open_G = problem.allowed_LC.reshape(-1, size, candidates).min(axis=1).sum(axis=1) > 1
    free = [int(group) for group in open_G.nonzero()[0]] or [0, -1]
    return size * free[0], size * (free[-1] + 1)


def _with_layout(solution: Solution, problem: Problem, choice_L: Sequence[int]) -> Solution:
    """Return the same answer with another layout that is as good."""
    price = problem.price(choice_L)
    return dataclasses.replace(
        solution,
        choice_L=tuple(choice_L),
        latency_us=price.latency_us,
        memory_bytes=price.memory_bytes,
        peak_bytes=price.peak_bytes,
    )


def _ungrouped(choice_G: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple(int(c) for c in choice_G for _ in range(size))
