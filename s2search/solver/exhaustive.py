"""exhaustive: the naive reference, which prices every layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from s2search.errors import ProblemError
from s2search.solver.base import Choice, Solver
from s2search.solver.problem import Int, Problem, Resource


@dataclass(frozen=True, kw_only=True)
class Exhaustive(Solver):
    """Prices every layout; refuses problems of more than `limit` layouts. Among the best it takes the fastest."""

    limit: int = 2_000_000

    @override
    def _choose(self, problem: Problem) -> Choice | None:
        best: tuple[tuple[int, int], tuple[int, ...]] | None = None
        for choice_NL in layouts_NL(problem, limit=self.limit):
            latency_N, score_N, fits_N = _price(problem, choice_NL)
            for n in np.lexsort((latency_N, -score_N, ~fits_N))[: fits_N.sum()]:
                rank, choice_L = (int(score_N[n]), -int(latency_N[n])), tuple(choice_NL[n].tolist())
                if best is not None and rank <= best[0]:
                    break
                if problem.admits(choice_L):
                    best = rank, choice_L
                    break
        if best is None:
            return None
        return Choice(choice_L=best[1], upper_bound=best[0][0])


def layouts_NL(problem: Problem, *, limit: int) -> Iterator[Int]:
    """Yield all allowed layouts in lexicographic order, some thousand at a time.

    Raises:
        ProblemError: There are more than `limit`.
    """
    if problem.layouts > limit:
        raise ProblemError(
            f"the exhaustive solver prices at most {limit:,} layouts, this problem has {problem.layouts:,}",
            remedy="use --solver dynamic",
        )
    choices_L = [np.flatnonzero(allowed_C) for allowed_C in problem.allowed_LC]
    sizes = [len(choices) for choices in choices_L]
    for start in range(0, problem.layouts, 65_536):
        number_N = np.arange(start, min(start + 65_536, problem.layouts))
        digits = np.unravel_index(number_N, sizes)
        yield np.stack([choices[digit] for choices, digit in zip(choices_L, digits, strict=True)], axis=1)


def _price(problem: Problem, choice_NL: Int) -> tuple[Int, Int, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return latency, score (fixed-point) and whether both budgets are kept, of many layouts."""
    layer_L = np.arange(choice_NL.shape[1])
    streams = np.pad(problem.stream_C[choice_NL], ((0, 0), (1, 1)))
    streams[:, 0], streams[:, -1] = problem.first_stream, problem.last_stream
    latency_N = problem.fixed_us + _spent(problem.resources[0], choice_NL, streams)
    fits_N = np.ones(len(choice_NL), np.bool_)
    for resource in problem.resources:
        fits_N &= _spent(resource, choice_NL, streams) <= resource.limit
    score_N = problem.fixed_point_score_LC[layer_L, choice_NL].sum(axis=1)
    return latency_N, score_N + _of_pairs(problem.fixed_point_pair_LCC, choice_NL), fits_N


def _spent(resource: Resource, choice_NL: Int, streams: Int) -> Int:
    layer_L = np.arange(choice_NL.shape[1])
    switches_N = resource.switch_SS[streams[:, :-1], streams[:, 1:]].sum(axis=1)
    peak_N = resource.peak_LC[layer_L, choice_NL].max(axis=1)
    spent_N: Int = resource.use_LC[layer_L, choice_NL].sum(axis=1) + switches_N + peak_N
    return spent_N + _of_pairs(resource.pair_LCC, choice_NL)


def _of_pairs(pair_LCC: Int | None, choice_NL: Int) -> Int:
    """Return what the pairs of neighbours of many layouts add up to: in words of its own, as the reference is."""
    if pair_LCC is None:
        return np.zeros(len(choice_NL), np.int64)
    return np.asarray(pair_LCC[np.arange(1, len(pair_LCC)), choice_NL[:, :-1], choice_NL[:, 1:]].sum(axis=1))
