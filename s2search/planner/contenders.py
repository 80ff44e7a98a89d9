"""The layouts that compete where models are trained alike: what searches find, what the paper has, and chance.

The counts of what `published` finds are those of one low run, of the most even order and of the random ones: among
these the order alone makes the difference.

Source: S2DiT, table 3, for the hourglass (KV-compressed attention around SSA) and the models of one block type.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search.errors import InputError, MissingRowError
from s2search.planner.constraints import Constraints
from s2search.planner.find import find
from s2search.planner.request import Request
from s2search.score.base import Score
from s2search.solver.base import Solver
from s2search.solver.problem import Problem
from s2search.space import Space, parse_blocks

PUBLISHED, HOURGLASS, ONE_LOW_RUN, MOST_EVEN = "published", "hourglass", "one low run", "most even"
_ENDS, _MIDDLE = "kv_compressed", "ssa"  # of the hourglass
_ALONE = ("lcha", "ssa")
_DRAWS = 20_000  # of random orders, before those that are over the budget count too


@dataclass(frozen=True, kw_only=True)
class LayoutCost:
    """What a layout costs by a table, and whether all budgets admit it."""

    latency_us: int
    memory_bytes: int
    fits: bool


@dataclass(frozen=True, kw_only=True)
class _Unscored(Score):
    """Nothing for anything: a price needs no score."""

    statement = "nothing"

    @property
    @override
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(b'').hexdigest()}"

    @override
    def score_LC(self, space: Space) -> NDArray[np.float64]:
        return np.zeros((space.depth, len(space.candidates)))


@dataclass(frozen=True, kw_only=True)
class _Taken(Score):
    """A score whose numbers are taken as they are: nobody asks here how often its errors change a layout."""

    of: Score
    statement = "as it is"

    @property
    @override
    def digest(self) -> str:
        return self.of.digest

    @override
    def score_LC(self, space: Space) -> NDArray[np.float64]:
        return self.of.score_LC(space)

    @override
    def pair_score_LCC(self, space: Space) -> NDArray[np.float64] | None:
        return self.of.pair_score_LCC(space)


def contending_layouts(
    request: Request, solver: Solver, *, measured: Mapping[str, Score], randoms: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """Return the layouts by name, each as one label per layer. Two names may have the same one.

    Args:
        request: By the published score.
        solver: Finds what scores most.
        measured: Further scores to search by, by name.
        randoms: How many random orders of the counts that `published` has, none of them the layout of another name;
            those that fit come first.
        seed: Of these.

    Raises:
        InfeasibleError: No layout fits.
        InputError: There are not so many other orders.
    """
    space, problem = request.space, request.problem
    labels = [block.label for block in space.candidates]
    searched = {
        name: find(dataclasses.replace(request, score=_Taken(of=score)), solver)
        for name, score in {**measured, PUBLISHED: request.score}.items()
    }
    chosen = {name: tuple(labels.index(label) for label in plan.layout) for name, plan in searched.items()}
    counts_C = [chosen[PUBLISHED].count(c) for c in range(len(labels))]
    chosen[ONE_LOW_RUN] = space.interleave(counts_C, runs=1)
    chosen[MOST_EVEN] = space.interleave(counts_C)
    named = {name: tuple(labels[c] for c in choice_L) for name, choice_L in chosen.items()}
    named |= {name: layout for name, layout in _of_the_paper(request).items() if layout is not None}
    taken = {tuple(labels.index(label) for label in layout) for layout in named.values() if {*layout} <= {*labels}}
    orders = _random_orders(problem, chosen[PUBLISHED], taken, randoms, seed)
    return named | {f"random {n}": tuple(labels[c] for c in order) for n, order in enumerate(orders, start=1)}


def layout_cost(request: Request, layout: Sequence[str]) -> LayoutCost | None:
    """Return what a layout costs on the request's device; None where its table has no row for one of its blocks.

    Raises:
        InputError: It has another depth.
    """
    if len(layout) != request.space.depth:
        raise InputError(
            f"the layout has {len(layout)} layers, and the others {request.space.depth}", remedy="make them equal"
        )
    unscored = _unscored(request, layout)
    labels = [block.label for block in unscored.space.candidates]
    choice_L = [labels.index(label) for label in layout]
    try:
        price, fits = unscored.problem.price(choice_L), unscored.problem.admits(choice_L)
    except MissingRowError:
        return None
    return LayoutCost(latency_us=price.latency_us, memory_bytes=price.total_bytes, fits=fits)


def _unscored(request: Request, layout: Sequence[str]) -> Request:
    """Return a request that prices further blocks beside its candidates."""
    known = [block.label for block in request.space.candidates]
    further = parse_blocks(",".join(label for label in dict.fromkeys(layout) if label not in known))
    space = dataclasses.replace(request.space, candidates=(*request.space.candidates, *further))
    return dataclasses.replace(request, space=space, score=_Unscored(), constraints=Constraints())


def _of_the_paper(request: Request) -> dict[str, tuple[str, ...] | None]:
    """Return the hourglass and the models of one block; None where the table does not price them."""
    depth = request.space.depth
    alone = {f"{label} only": (label,) * depth for label in _ALONE}
    priced = {name: layout if layout_cost(request, layout) else None for name, layout in alone.items()}
    return {HOURGLASS: _hourglass(request), **priced}


def _hourglass(request: Request) -> tuple[str, ...] | None:
    """Return the hourglass with the most high layers that fits, its ends as equal as can be.

    Where none fits it is the one with the fewest.
    """
    depth, priced = request.space.depth, _unscored(request, (_ENDS, _MIDDLE))
    labels = [block.label for block in priced.space.candidates]
    ends, middle = labels.index(_ENDS), labels.index(_MIDDLE)
    try:
        problem = priced.problem
    except MissingRowError:
        return None

    def rank(choice_L: tuple[int, ...]) -> tuple[bool, int, int, int]:
        fits, high, first = problem.admits(choice_L), choice_L.count(ends), choice_L.index(middle)
        return fits, high if fits else -high, -abs(high - 2 * first), first

    splits = [
        (ends,) * first + (middle,) * (depth - first - last) + (ends,) * last
        for first in range(1, depth - 1)
        for last in range(1, depth - first)
    ]
    return tuple(labels[c] for c in max(splits, key=rank)) if splits else None


def _random_orders(
    problem: Problem, choice_L: tuple[int, ...], taken: set[tuple[int, ...]], randoms: int, seed: int
) -> list[tuple[int, ...]]:
    """Return so many orders of a layout's layers; those that fit come first, in the order of their draws."""
    rng, layers = random.Random(seed), list(choice_L)
    fitting: dict[tuple[int, ...], None] = {}
    over: dict[tuple[int, ...], None] = {}
    for _ in range(_DRAWS if randoms else 0):
        if len(fitting) == randoms:
            break
        rng.shuffle(layers)
        drawn = tuple(layers)
        if drawn not in taken and drawn not in fitting and drawn not in over:
            (fitting if problem.admits(drawn) else over)[drawn] = None
    found = [*fitting, *over][:randoms]
    if len(found) < randoms:
        raise InputError(
            f"{randoms} random layouts are asked for, and {len(found)} other orders of the same blocks are found",
            remedy=f"set layouts.random to {len(found)}, or change the budget",
        )
    return found
