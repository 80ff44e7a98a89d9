"""Imported subblocks as a search problem."""

from __future__ import annotations

import dataclasses
import json

import pytest

from s2search import registry
from s2search.errors import InfeasibleError, TableError
from s2search.planner.subblocks import subblock_problem
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive
from s2search.tables.foreign import ImportedTable
from tests.readers.samples import sample

ONE = {"scenario": "0"}


@pytest.fixture(scope="module")
def table() -> ImportedTable:
    return registry.create("readers", "puzzletron").table(sample("puzzletron"), file="subblock_stats.json")


def score(layer: int, part: str, subblock: str) -> float:
    """Made up: the larger the better, early layers more so, and nothing is worst."""
    config = json.loads(subblock)
    size = config.get("num_key_value_heads") or config.get("intermediate_size", 0) / 128
    return float(size or 0) / (1 + layer)


def test_every_layer_has_a_slot_for_attention_and_one_for_feed_forward(table: ImportedTable) -> None:
    made = subblock_problem(table, score, where=ONE)
    assert made.slots == tuple((layer, part) for layer in range(3) for part in ("AttentionConfig", "FFNConfig"))
    assert len(made.subblocks) == 5
    assert made.problem.allowed_LC.sum(axis=1).tolist() == [3, 2] * 3
    assert (made.problem.fixed_us, made.problem.fixed_bytes) == (1500, 128 * 2**20)


def test_without_a_budget_the_best_subblocks_stand_everywhere(table: ImportedTable) -> None:
    made = subblock_problem(table, score, where=ONE)
    solution = Dynamic().solve(made.problem)
    assert set(made.chosen(solution.choice_L).values()) == {
        '{"no_op": false, "num_key_value_heads": 8}',
        '{"intermediate_size": 1024, "no_op": false}',
    }
    assert solution.latency_us == 1500 + 3 * (1000 + 2000)


@pytest.mark.parametrize("budget_ms", [5.0, 6.625, 8.0, 9.75])
def test_budgets_are_kept_and_the_answer_is_that_of_trying_everything(table: ImportedTable, budget_ms: float) -> None:
    made = subblock_problem(table, score, where=ONE, latency_budget_ms=budget_ms, memory_budget_bytes=400 * 2**20)
    quick, sure = (solver.solve(made.problem) for solver in (Dynamic(), Exhaustive()))
    assert quick.score == sure.score
    assert quick.latency_us <= 1000 * budget_ms
    assert quick.memory_bytes <= 400 * 2**20
    by_hand = sum(
        row.latency_ms or 0
        for (layer, part), subblock in made.chosen(quick.choice_L).items()
        for row in table.rows
        if row.part == part
        and {"scenario": "0", "layer": str(layer), "subblock": subblock}.items() <= table.about(row).items()
    )
    assert quick.latency_us == pytest.approx(1000 * (by_hand + 1.5))


def test_a_budget_below_the_fastest_layout_is_refused(table: ImportedTable) -> None:
    with pytest.raises(InfeasibleError):
        Dynamic().solve(subblock_problem(table, score, where=ONE, latency_budget_ms=4.0).problem)


def test_another_scenario_has_other_costs(table: ImportedTable) -> None:
    eight = subblock_problem(table, score, where={"batch_size": "8", "precision": "torch.bfloat16"})
    one = subblock_problem(table, score, where=ONE)
    assert (eight.problem.latency_us_LC == 3 * one.problem.latency_us_LC).all()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "have 2 values of 'batch_size': 1, 8; choose one by where={'batch_size': '1'}"),
        ({"scenario": "2"}, "has a latency of None ms"),
        ({"scenario": "9"}, "has {'scenario': '9'}"),
        ({"scenrio": "0"}, "has no column 'scenrio'; it has: "),
    ],
)
def test_a_scenario_that_is_none_is_refused(table: ImportedTable, where: dict[str, str], message: str) -> None:
    with pytest.raises(TableError) as caught:
        subblock_problem(table, score, where=where)
    assert message in str(caught.value)


def test_a_negative_runtime_is_refused(table: ImportedTable) -> None:
    rows = tuple(dataclasses.replace(row, latency_ms=-0.1 if row.latency_ms else row.latency_ms) for row in table.rows)
    with pytest.raises(TableError, match=r"has a latency of -0\.1 ms"):
        subblock_problem(dataclasses.replace(table, rows=rows), score, where=ONE)


def test_a_subblock_without_a_layer_stands_for_all(table: ImportedTable) -> None:
    content = json.loads(sample("puzzletron"))[:1]
    for subblock in content[0]["subblocks"]:
        if subblock["subblock_config_class"] == "FFNConfig" and subblock["parent_layer_index"] == 0:
            subblock["parent_layer_index"] = None
    content[0]["subblocks"] = [
        one
        for one in content[0]["subblocks"]
        if one["subblock_config_class"] == "AttentionConfig" or one["parent_layer_index"] is None
    ]
    shared = registry.create("readers", "puzzletron").table(json.dumps(content).encode(), file="s.json")
    made, whole = subblock_problem(shared, score), subblock_problem(table, score, where=ONE)
    assert made.slots == whole.slots
    assert Dynamic().solve(made.problem).latency_us == Dynamic().solve(whole.problem).latency_us
