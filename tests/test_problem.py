from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from s2search.errors import ProblemError
from s2search.problem import Problem
from s2search.testing.problems import random_problem

PROBLEM = random_problem(np.random.default_rng(3), layers=4, candidates=2)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"score_LC": np.zeros((0, 2))}, r"score_LC has the shape \(0, 2\)"),
        ({"score_LC": np.full((4, 2), np.nan)}, "score_LC holds nan"),
        ({"score_LC": np.full((4, 2), np.inf)}, "score_LC holds inf"),
        ({"score_LC": np.full((4, 2), 1e12)}, "whose sum is not exact"),
        ({"latency_us_LC": np.full((4, 2), -1)}, "latency_us_LC holds -1"),
        ({"latency_us_LC": np.full((4, 2), 2**60)}, "whose sum is not exact"),
        ({"latency_us_LC": np.full((4, 2), 1.5)}, "holds float64; integers"),
        ({"latency_us_LC": np.zeros((4, 3), np.int64)}, r"has the shape \(4, 3\)"),
        ({"allowed_LC": np.array([[1, 1], [0, 0], [1, 1], [1, 1]], np.bool_)}, "no candidate is allowed at layer 1"),
        ({"allowed_LC": np.array([[1, 0], [0, 1], [1, 1], [1, 1]], np.bool_), "group_size": 2}, "allowed at layer 0"),
        ({"stream_C": np.array([0, 2])}, "0 to 1"),
        ({"stream_C": np.array([0])}, r"stream_C has the shape \(1,\)"),
        ({"first_stream": 5}, "first_stream is 5"),
        ({"switch_us_SS": np.zeros((2, 3), np.int64)}, r"has the shape \(2, 3\)"),
        ({"latency_budget_us": -1}, "latency_budget_us is -1"),
        ({"fixed_bytes": -1}, "fixed_bytes is -1"),
        ({"group_size": 3}, "do not divide into groups of 3"),
    ],
)
def test_a_problem_that_contradicts_itself_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ProblemError, match=complaint):
        dataclasses.replace(PROBLEM, **change)


def test_folding_groups_keeps_every_price() -> None:
    problem = dataclasses.replace(PROBLEM, group_size=2, switch_us_SS=np.array([[1, 5], [7, 2]]))
    folded: Problem = problem.by_group()
    for group in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        assert folded.price(group) == problem.price([c for c in group for _ in range(2)])
