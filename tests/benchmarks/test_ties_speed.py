"""Counting layouts with nearly the same score ends in time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from s2search.solver.questions.ties import find_ties
from s2search.testing.problems import random_problem

pytestmark = pytest.mark.benchmark


def test_counting_takes_no_longer_than_a_third_of_a_second_however_much_there_is_to_count() -> None:
    problem = random_problem(np.random.default_rng(3), layers=48, candidates=6, costs="noisy", tightness=0.7)
    score = int(problem.fixed_point_score_LC.max(axis=1).sum())
    times = []
    for gap in (score // 10, score // 10, score // 4, score // 4):
        start = time.process_time()
        find_ties(problem, score, gap=gap)
        times.append(time.process_time() - start)
    assert max(min(times[:2]), min(times[2:])) < 1 / 3
