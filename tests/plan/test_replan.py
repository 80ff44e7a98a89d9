"""A plan asks its own question again: the same tables and budgets, and its own counts."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

import s2search
from s2search.errors import InputError, TableError
from s2search.planner.find import find
from s2search.planner.plan import Plan
from s2search.planner.replan import asked_again, tables_behind
from s2search.score.file import open_score
from s2search.solver.dynamic import Dynamic
from s2search.tables.table import LatencyTable, open_table

PHONE, EPYC = "iphone-16-pro-max.coreml.w4a8", "amd-epyc.torch-cpu.float32"
H100 = "h100.torch-cuda-graphs-compiled.bfloat16"


@pytest.mark.parametrize(
    "asked",
    [
        {"table": PHONE, "budget": "260ms"},
        {"table": PHONE, "budget": ["10fps", "1.5GB"], "commit": "clean_pass", "steps": 3},
        {"table": PHONE, "budget": "10.1fps", "first": "L2", "max_switches": 6, "candidates": "lcha,kv_compressed,ssa"},
        {"table": PHONE, "budget": "300ms", "group_size": 2, "count": "ssa=10..20"},
        {"table": PHONE, "scenario": "clip", "budget": "535ms"},
        {"table": EPYC, "budget": "30s", "video": "512x288", "confidence": 0.9},
        {"table": [(PHONE, "260ms"), (H100, ["16ms", "4GB"])], "video": "512x288"},
    ],
    ids=lambda asked: ", ".join(map(str, asked.values())),
)
def test_a_plan_asked_again_by_its_own_score_is_the_same_layout(asked: dict[str, Any]) -> None:
    plan = s2search.plan(**asked)
    again = find(asked_again(plan, tables_behind(plan), open_score("published")), Dynamic())
    assert (again.score, again.counts, again.written) == (plan.score, plan.counts, plan.written)
    for before, after in zip(plan.every_device, again.every_device, strict=True):
        assert after.latency_ms == before.latency_ms
        assert after.memory_bytes == before.memory_bytes
        assert after.rate == before.rate
    kept = dataclasses.replace(again.constraints, counts=plan.constraints.counts)
    assert kept == plan.constraints
    assert (again.confidence is None) == (plan.confidence is None)


@pytest.fixture
def plan() -> Plan:
    return s2search.plan(PHONE, depth=6, budget="62ms")


@pytest.fixture
def own(tmp_path: Path) -> LatencyTable:
    """A table that is not installed, and differs from the one that is."""
    table = open_table(PHONE)
    rows = [dataclasses.replace(row, latency_ms=row.latency_ms * 1.5) for row in table.rows]
    folder = tmp_path / "mine"
    dataclasses.replace(table, name="mine", rows=rows).save(folder)
    return open_table(folder)


def test_a_table_that_is_not_installed_is_given(own: LatencyTable) -> None:
    plan = s2search.plan(own, depth=6, budget="90ms")
    with pytest.raises(TableError, match="from the table 'mine', which is not installed; name its folder"):
        tables_behind(plan)
    assert tables_behind(plan, [own]) == (own,)


def test_another_table_than_the_plan_was_made_from_is_refused(plan: Plan, own: LatencyTable) -> None:
    with pytest.raises(TableError, match=r"the table 'mine' is sha256:\w+, and the plan was made from iphone"):
        tables_behind(plan, [own])
    origin = dataclasses.replace(plan.provenance, table_digest=own.digest)
    with pytest.raises(TableError, match=r"from the table 'iphone[^']*' sha256:\w+, and the one here is sha256"):
        tables_behind(dataclasses.replace(plan, provenance=origin))


def test_a_plan_whose_costs_are_no_longer_those_is_refused(plan: Plan) -> None:
    other = dataclasses.replace(plan, latency_ms=dataclasses.replace(plan.latency_ms, predicted=61.0))
    with pytest.raises(InputError, match=r"takes 60504 us and .* and the plan says 61000 us"):
        asked_again(other, tables_behind(plan), open_score("published"))


def test_a_plan_that_does_not_fit_is_refused() -> None:
    plan = s2search.price("L4S2", PHONE, depth=6, budget="62ms")
    with pytest.raises(InputError, match="L4S2 does not keep its own budgets"):
        asked_again(plan, tables_behind(plan), open_score("published"))


def test_a_table_of_that_name_in_the_folder_here_is_not_mistaken(
    plan: Plan, own: LatencyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tmp_path / "mine", tmp_path / PHONE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TableError, match="is a folder here, and also the installed table"):
        tables_behind(plan)
