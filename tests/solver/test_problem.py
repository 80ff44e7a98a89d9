from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from s2search.errors import ProblemError
from s2search.solver.problem import UNLIMITED, FurtherDevice, Problem, Resource
from s2search.testing.problems import random_problem

PROBLEM = random_problem(np.random.default_rng(3), layers=4, candidates=2)

SHAPE, STREAMS = (4, 2), (2, 2)


def device(**changes: Any) -> tuple[FurtherDevice]:
    costs = {name: getattr(PROBLEM, name) for name in vars(PROBLEM) if name in FurtherDevice.__dataclass_fields__}
    return (FurtherDevice(name="phone", **costs | changes),)


def limit(**changes: Any) -> tuple[Resource]:
    return (dataclasses.replace(Resource.of("energy", np.ones(SHAPE, np.int64), 3), **changes),)


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
        ({"fixed_us": 2**80}, "fixed_us is 1208925819614629174706176; an integer from 0 to"),
        ({"latency_budget_us": 1.5}, "latency_budget_us is 1.5; an integer of 0 or more"),
        ({"memory_budget_bytes": float("nan")}, "memory_budget_bytes is nan; an integer"),
        ({"latency_us_LC": np.full(SHAPE, 2**80)}, "latency_us_LC holds object; integers"),
        ({"peak_bytes_LC": np.ones(SHAPE, np.uint8)}, r"peak_bytes_LC holds uint8; integers \(int64\)"),
        ({"switch_us_SS": np.array([[0, -1], [0, 0]])}, "switch_us_SS holds -1"),
        ({"switch_us_SS": np.array([[0, 2**49], [0, 0]])}, "latency may add up to 2.8.*, whose sum is not exact"),
        ({"stream_C": np.array([0.0, 1.0])}, "stream_C holds float64"),
        ({"group_size": 0}, "4 layers do not divide into groups of 0"),
        ({"group_size": 3}, "do not divide into groups of 3"),
        ({"counts": {2: 1}}, "counts name candidate 2; 0 to 1"),
        ({"counts": {-1: 1}}, "counts name candidate -1; 0 to 1"),
        ({"counts": {0: -1}}, "candidate 0 is to take -1 to -1 layers; 0 or more"),
        ({"counts": {0: (3, 1)}}, "candidate 0 is to take 3 to 1 layers; 0 or more, the smaller number first"),
        ({"counts": {1: -1}, "label_C": ("lcha", "ssa")}, "ssa is to take -1 to -1 layers; 0 or more"),
        ({"label_C": ("lcha",)}, "label_C names 1 candidates; 2, or none of them"),
        ({"counts": {0: 3, 1: 2}}, "the counts ask for at least 5 layers, and there are 4; make the counts add up"),
        ({"counts": {0: (0, 2), 1: (0, 1)}}, "the counts ask for at most 3 layers, and there are 4"),
        ({"counts": {0: 2**80}}, "the counts ask for at least 1208925819614629174706176 layers"),
        ({"max_switches": -1}, "max_switches is -1"),
        ({"max_changes": 2}, "max_changes is given without reference_L; give the layout to resemble"),
        ({"max_changes": -2, "reference_L": (0, 0, 0, 0)}, "max_changes is -2"),
        ({"reference_L": (0, 0, 1)}, r"reference_L has 3 layers of \[0, 1\]; 4 layers of 0 to 1"),
        ({"reference_L": (0, 0, 1, 2)}, r"reference_L has 4 layers of \[0, 1, 2\]"),
        (
            {"devices": device(latency_us_LC=np.ones((3, 2), np.int64))},
            r"'phone', latency_us_LC has the shape \(3, 2\)",
        ),
        ({"devices": device(peak_bytes_LC=np.full(SHAPE, -1))}, "of the device 'phone', peak_bytes_LC holds -1"),
        (
            {"devices": device(switch_us_SS=np.zeros((3, 3), np.int64))},
            r"device 'phone' has the shape \(3, 3\); \(2, 2\)",
        ),
        ({"devices": device(latency_budget_us=-1)}, "of the device 'phone', latency_budget_us is -1"),
        ({"devices": device() * 2}, "2 devices are called 'phone'"),
        ({"limits": limit(use_LC=np.ones((4, 3), np.int64))}, r"use_LC of the limit 'energy' has the shape \(4, 3\)"),
        ({"limits": limit(use_LC=np.ones(SHAPE))}, "use_LC of the limit 'energy' holds float64; integers"),
        ({"limits": limit(peak_LC=np.full(SHAPE, -1))}, "peak_LC of the limit 'energy' holds -1; 0 or more"),
        ({"limits": (Resource.of("heat", np.ones(SHAPE, np.int64), 3, streams=3),)}, r"'heat' has the shape \(3, 3\)"),
        ({"limits": limit(limit=2.5)}, "the limit 'energy' is 2.5; an integer"),
        ({"limits": limit(limit=-(2**80))}, "the limit 'energy' is -12089"),
        ({"limits": limit(use_LC=np.full(SHAPE, 2**49))}, "energy may add up to .*, whose sum is not exact"),
    ],
)
def test_a_problem_that_contradicts_itself_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ProblemError, match=complaint) as raised:
        dataclasses.replace(PROBLEM, **change)
    assert len(str(raised.value).splitlines()) == 1


def test_folding_groups_keeps_every_price() -> None:
    problem = dataclasses.replace(PROBLEM, group_size=2, switch_us_SS=np.array([[1, 5], [7, 2]]))
    folded: Problem = problem.by_group()
    for group in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        assert folded.price(group) == problem.price([c for c in group for _ in range(2)])


def test_the_largest_numbers_that_a_problem_takes_still_fold_into_groups() -> None:
    """Four layers and five stream changes of 2**46 and 2**47 stay below 2**50; a larger switch cost would not."""
    problem = dataclasses.replace(
        PROBLEM,
        latency_us_LC=np.full(SHAPE, 2**46),
        switch_us_SS=np.full(STREAMS, 2**47),
        group_size=2,
        fixed_bytes=2**50,
        memory_budget_bytes=2**62,
    )
    assert problem.by_group().price((0, 0)) == problem.price((0, 0, 0, 0))
    assert problem.price((0, 0, 0, 0)).latency_us == 4 * 2**46 + 5 * 2**47 + problem.fixed_us


def test_without_a_budget_nothing_is_limited_whatever_every_layout_has() -> None:
    problem = dataclasses.replace(PROBLEM, fixed_us=5, latency_budget_us=UNLIMITED)
    assert [resource.limit for resource in problem.resources] == [UNLIMITED, PROBLEM.memory_budget_bytes - 1000]


def test_a_count_that_allows_any_number_limits_nothing() -> None:
    assert len(dataclasses.replace(PROBLEM, counts={0: (0, 4), 1: (0, 2**80)}).resources) == 2


def test_a_further_device_alone_has_its_own_costs_and_no_constraints() -> None:
    problem = dataclasses.replace(PROBLEM, counts={0: 4}, devices=device(fixed_us=9, latency_budget_us=10**6))
    alone = problem.on_device(problem.devices[0])
    assert alone.price((1, 1, 1, 1)).latency_us == PROBLEM.price((1, 1, 1, 1)).latency_us - PROBLEM.fixed_us + 9
    assert (alone.counts, alone.devices, alone.latency_budget_us) == ({}, (), 10**6)
