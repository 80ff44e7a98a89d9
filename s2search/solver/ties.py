"""How many layouts share the best score within the budgets."""

from __future__ import annotations

from collections import Counter

import numpy as np

from s2search.problem import Problem
from s2search.solver.graph import Graph, least_to_go

# Stream, latency, memory, peak, the sum and the peak of every further resource, score.
_State = tuple[int, int, int, int, tuple[tuple[int, int], ...], int]


def count_ties(problem: Problem, fixed_point_score: int, *, most_states: int = 10_000) -> int | None:
    """Return how many layouts that the problem admits have exactly this score.

    Partial layouts are counted together where stream, score and what they use of every resource coincide. Where more
    than `most_states` of them differ in one layer the count is given up: None, not a guess.
    """
    problem = problem.by_group()
    score_LC = np.where(problem.allowed_LC, problem.fixed_point_score_LC, np.iinfo(np.int64).min // 2**12)
    still_to_come_L = np.append(score_LC.max(axis=1)[::-1].cumsum()[::-1], 0)
    to_go_LRS = least_to_go(Graph.of_resources(problem, problem.resources[:2]), problem.allowed_LC)
    further = problem.resources[2:]
    nothing = ((0, 0),) * len(further)
    states: Counter[_State] = Counter({(problem.first_stream, problem.fixed_us, problem.fixed_bytes, 0, nothing, 0): 1})
    for layer in range(len(score_LC)):
        states = _extend(problem, states, layer)
        for state in list(states):
            stream, latency_us, memory_bytes, peak_bytes, spent, score = state
            if (
                score + still_to_come_L[layer + 1] < fixed_point_score
                or latency_us + to_go_LRS[layer + 1, 0, stream] > problem.latency_budget_us
                or memory_bytes + to_go_LRS[layer + 1, 1, stream] + peak_bytes > problem.memory_budget_bytes
                or any(use + peak > r.limit for (use, peak), r in zip(spent, further, strict=True))
            ):
                del states[state]
        if len(states) > most_states:
            return None
    return sum(
        count
        for (stream, *_, spent, score), count in states.items()
        if score == fixed_point_score
        and all(
            use + int(r.switch_SS[stream, problem.last_stream]) + peak <= r.limit
            for (use, peak), r in zip(spent, further, strict=True)
        )
    )


def _extend(problem: Problem, states: Counter[_State], layer: int) -> Counter[_State]:
    longer: Counter[_State] = Counter()
    further = problem.resources[2:]
    choices = [
        (
            int(problem.stream_C[c]),
            int(problem.latency_us_LC[layer, c]),
            int(problem.memory_bytes_LC[layer, c]),
            int(problem.peak_bytes_LC[layer, c]),
            int(problem.fixed_point_score_LC[layer, c]),
            [(r.switch_SS[:, problem.stream_C[c]] + r.use_LC[layer, c]).tolist() for r in further],
            [int(r.peak_LC[layer, c]) for r in further],
        )
        for c in np.flatnonzero(problem.allowed_LC[layer])
    ]
    switch_us = problem.switch_us_SS.tolist()
    for (stream, latency_us, memory_bytes, peak_bytes, spent, score), count in states.items():
        for to, block_us, block_bytes, block_peak, block_score, uses, peaks in choices:
            state = (
                to,
                latency_us + switch_us[stream][to] + block_us,
                memory_bytes + block_bytes,
                max(peak_bytes, block_peak),
                tuple(
                    (before + use[stream], max(highest, peak))
                    for (before, highest), use, peak in zip(spent, uses, peaks, strict=True)
                ),
                score + block_score,
            )
            longer[state] += count
    return longer
