"""Would the layout stay, had the score been measured again? Its errors are drawn, and each draw is searched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.solver.base import Solver
from s2search.solver.problem import Problem

DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class Stability:
    """In how many draws from a score's errors no layout is better than this one, or the best has each layer's block.

    Attributes:
        draws: How many were made.
        layout: In how many the whole layout stayed.
        layers: The same of each layer.
    """

    draws: int
    layout: int
    layers: tuple[int, ...]


def stability(
    problem: Problem,
    choice_L: Sequence[int],
    drawn: Callable[[np.random.Generator], tuple[NDArray[np.float64], NDArray[np.float64] | None]],
    solver: Solver,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Stability:
    """Search again with scores that are off by what is drawn.

    Args:
        problem: The search.
        choice_L: Its answer.
        drawn: Draws how far `problem.score_LC` may be off, and `problem.pair_score_LCC` where pairs count.
        solver: Searches.
        draws: How often.
        seed: Of the draws.
    """
    rng, chosen_L = np.random.default_rng(seed), np.asarray(choice_L)
    layout, layers_L = 0, np.zeros(len(chosen_L), dtype=np.int64)
    for _ in range(draws):
        off_LC, off_LCC = drawn(rng)
        pair_LCC = problem.pair_score_LCC
        if pair_LCC is not None and off_LCC is not None:
            pair_LCC = pair_LCC + off_LCC
        again = dataclasses.replace(problem, score_LC=problem.score_LC + off_LC, pair_score_LCC=pair_LCC)
        found = solver.solve(again)
        as_good = again.price(choice_L).fixed_point_score >= again.price(found.choice_L).fixed_point_score
        same_L = (np.asarray(found.choice_L) == chosen_L) | as_good
        layout += bool(same_L.all())
        layers_L += same_L
    return Stability(draws=draws, layout=layout, layers=tuple(int(count) for count in layers_L))
