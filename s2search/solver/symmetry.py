"""Identical layers: any order of the same blocks scores the same, so one order of each is enough."""

from __future__ import annotations

import dataclasses

import numpy as np

from s2search.problem import Problem

#: A switch that no layout would take, microseconds (12 days); small enough for exact sums.
_OUT_OF_ORDER_US = 2**40


def break_symmetry(problem: Problem) -> Problem:
    """Return an equivalent problem in which equal blocks stand together; the problem itself where layers differ.

    If all layers cost and score the same and staying in a stream costs nothing, some best layout has all blocks of the
    first stream first and every candidate in one run: it has the fewest switches of all orders. Each candidate becomes
    a stream of its own, from which only later candidates can be reached. Layouts mean the same in both problems; in
    this one, layouts out of order are slower.
    """
    if not _symmetric(problem):
        return problem
    candidates = len(problem.stream_C)
    start, end = candidates, candidates + 1
    order = np.lexsort((np.arange(candidates), problem.stream_C != problem.first_stream))
    rank_C = np.argsort(order)
    switch_us_SS = np.full((candidates + 2, candidates + 2), _OUT_OF_ORDER_US, np.int64)
    in_order = rank_C[:, None] <= rank_C[None, :]
    between = problem.switch_us_SS[problem.stream_C[:, None], problem.stream_C[None, :]]
    switch_us_SS[:candidates, :candidates] = np.where(in_order, between, _OUT_OF_ORDER_US)
    switch_us_SS[start, :candidates] = problem.switch_us_SS[problem.first_stream, problem.stream_C]
    switch_us_SS[:candidates, end] = problem.switch_us_SS[problem.stream_C, problem.last_stream]
    return dataclasses.replace(
        problem, stream_C=np.arange(candidates), switch_us_SS=switch_us_SS, first_stream=start, last_stream=end
    )


def _symmetric(problem: Problem) -> bool:
    fields = ("fixed_point_score_LC", "latency_us_LC", "memory_bytes_LC", "peak_bytes_LC", "allowed_LC")
    identical = all((getattr(problem, name) == getattr(problem, name)[0]).all() for name in fields)
    return identical and not np.diag(problem.switch_us_SS).any() and len(problem.switch_us_SS) <= 2
