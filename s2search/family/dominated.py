"""Large tables: what another alternative of the same slot and stream beats in everything is left out of the search.

Nothing better is lost: in any model it can give way to what beats it. But models that tie are, so ties are not counted
then. Where counts or groups speak of single alternatives, they cannot give way, and all stay.

Axes:  L slots  C alternatives  N alternatives of one slot and stream  D scores and uses, where less is better
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from s2search.family.pose import Posed
from s2search.family.use import nearest
from s2search.solver.problem import Int

#: Pairs of slots and alternatives that are searched as they are, ties counted.
FEW_CELLS = 20_000


def without_dominated(posed: Posed, *, few_cells: int = FEW_CELLS) -> Posed:
    """Return the same search without what cannot be missed, where it is large."""
    if posed.allowed_LC.size <= few_cells or posed.family.counts or posed.family.group_size > 1:
        return posed
    stream_C = np.array([one.stream for one in posed.alternatives])
    kept_LC = np.zeros_like(posed.allowed_LC)
    cost_DLC = _costs(posed)
    for layer, allowed_C in enumerate(posed.allowed_LC):
        for stream in np.unique(stream_C[allowed_C]):
            at_N = np.flatnonzero(allowed_C & (stream_C == stream))
            kept_LC[layer, at_N[_undominated(cost_DLC[:, layer, at_N].T)]] = True
    kept = np.flatnonzero(kept_LC.any(axis=0))
    return replace(
        posed,
        alternatives=tuple(posed.alternatives[c] for c in kept),
        allowed_LC=kept_LC[:, kept],
        score_LC=posed.score_LC[:, kept],
        uses=tuple(replace(use, cost_LC=use.cost_LC[:, kept], peak_LC=use.peak_LC[:, kept]) for use in posed.uses),
    )


def _costs(posed: Posed) -> Int:
    """Return what the search sees of every alternative: its score, less being better, and its uses that are limited.

    The first resource, which chooses among models that tie, comes with them.
    """
    score_LC = -posed.sign * nearest(posed.score_LC, posed.score_step, posed.allowed_LC)
    costs = [score_LC]
    for number, use in enumerate(posed.uses):
        if number == 0 or use.budget is not None:
            resource = use.resource(posed.allowed_LC)
            costs += [resource.use_LC, resource.peak_LC]
    return np.stack(costs)


def _undominated(cost_ND: Int) -> NDArray[np.intp]:
    """Return which points no other is at most as large as in everything; of equal ones the first.

    >>> _undominated(np.array([[1, 5], [2, 2], [2, 6], [1, 5], [5, 1]])).tolist()
    [0, 1, 4]
    """
    left_N = np.lexsort((np.arange(len(cost_ND)), cost_ND.sum(axis=1)))  # none is beaten by a later one
    at = 0
    while at < len(left_N):
        pivot_D = cost_ND[left_N[at]]
        stays_N = (cost_ND[left_N] < pivot_D).any(axis=1)
        stays_N[at] = True
        at = int(stays_N[: at + 1].sum())
        left_N = left_N[stays_N]
    return np.sort(left_N)
