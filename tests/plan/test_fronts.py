"""Fronts with a confidence, on several tables, and as files with their provenance."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

import s2search
from s2search.errors import InfeasibleError, InputError, S2SearchError
from s2search.planner.frontier import Frontier
from s2search.tables.table import open_table
from tests.conftest import Outcome

Run = Callable[..., Outcome]
H100 = open_table("h100")
SURE = dataclasses.replace(H100, card=dataclasses.replace(H100.card, common_std_relative=0.01))


@pytest.fixture(scope="module")
def sure() -> Frontier:
    return s2search.frontier(SURE, depth=6, video="512x288", confidence=0.95, points=7)


def test_every_plan_of_a_confident_front_is_the_one_that_plan_gives_at_its_budget(sure: Frontier) -> None:
    for plan in (sure[0], sure[len(sure) // 2], sure[-1]):
        alone = s2search.plan(
            SURE,
            depth=6,
            video="512x288",
            confidence=0.95,
            budget=f"{1000 * plan.latency_ms.budget:.0f}us",  # type: ignore[operator]
        )
        assert (alone.score, alone.layout) == (plan.score, plan.layout)
        assert plan.optimal
        assert plan.latency_ms.predicted < plan.kept_ms <= plan.latency_ms.budget  # type: ignore[operator]


def test_a_confident_front_rises_from_the_surest_layout_to_the_best(sure: Frontier) -> None:
    kept = [plan.kept_ms for plan in sure]
    assert kept == sorted(kept)
    assert [plan.score for plan in sure] == sorted({plan.score for plan in sure})
    plain = s2search.frontier(SURE, depth=6, video="512x288")
    assert sure[-1].score == plain[-1].score
    with pytest.raises(InfeasibleError):
        s2search.plan(SURE, depth=6, video="512x288", confidence=0.95, budget=f"{1000 * kept[0] - 2:.0f}us")
    assert sure.at(f"{1000 * kept[1] + 1:.0f}us") == sure[1]


def test_a_confident_front_says_what_it_keeps_and_keeps_what_it_says(sure: Frontier, tmp_path: Path) -> None:
    assert "95 % sure" in str(sure)
    sure.save(tmp_path / "front.csv")
    line = next(csv.DictReader((tmp_path / "front.csv").read_text().splitlines()))
    assert (float(line["confidence"]), float(line["confident_latency_ms"])) == (0.95, sure[0].kept_ms)
    assert {name: plan.confidence.asked for name, plan in sure.references.items() if plan.confidence}.keys() == set(
        sure.references
    )


def test_a_table_without_timings_has_no_confident_front() -> None:
    with pytest.raises(S2SearchError, match="no spread of timings"):
        s2search.frontier(depth=4, confidence=0.9)
    with pytest.raises(InputError, match=r"1\.5"):
        s2search.frontier(SURE, depth=4, video="512x288", confidence=1.5)


def test_a_front_over_several_tables_is_that_of_plan_at_each_of_its_latencies(tmp_path: Path) -> None:
    tables = ["iphone-16-pro-max", "h100:4ms"]
    front = s2search.frontier(tables, depth=8)
    free = s2search.frontier("iphone-16-pro-max", depth=8)
    assert max(plan.devices[1].latency_ms.predicted for plan in front) <= 4.0
    assert front[-1].score < free[-1].score
    for plan in front[1:3]:
        budget = f"iphone-16-pro-max:{1000 * plan.latency_ms.predicted:.0f}us"
        assert s2search.plan([budget, tables[1]], depth=8).score == plan.score
    front.save(tmp_path / "front.csv")
    line = next(csv.DictReader((tmp_path / "front.csv").read_text().splitlines()))
    assert float(line[f"latency_ms on {H100.name}"]) == front[0].devices[1].latency_ms.predicted
    assert line["latency_provenance"] == "derived+measured"
    assert line["tables"] == f"iphone-16-pro-max.coreml.w4a8; {H100.name}"
    said = str(front)
    assert "on h100" in said
    assert "also on h100.torch-cuda-graphs-compiled.bfloat16" in said


def test_the_first_of_several_tables_must_leave_latency_to_the_front() -> None:
    with pytest.raises(InputError, match="goes over all latencies"):
        s2search.frontier(["iphone-16-pro-max:200ms", "h100"], depth=4)


def test_a_front_prints_its_json_and_needs_no_file(s2search: Run, tmp_path: Path) -> None:
    done = s2search("frontier", "--depth", "4", "--table", "iphone-16-pro-max", "--table", "h100:3ms", "--json")
    assert done.code == 0
    assert done.out.startswith('{\n "schema": "s2search.frontier/1"')
    assert list(tmp_path.iterdir()) == []


def test_the_csv_says_where_every_plan_comes_from(tmp_path: Path) -> None:
    front = s2search.frontier(depth=4)
    front.save(tmp_path / "front.csv")
    (line, *_) = csv.DictReader((tmp_path / "front.csv").read_text().splitlines())
    assert line["table_digests"] == open_table("iphone-16-pro-max").digest
    assert (line["latency_provenance"], line["bytes_provenance"], line["table_marks"]) == ("derived", "derived", "")
    assert (line["score_name"], line["latency_model"], line["solver"]) == ("published", "lookup", "dynamic")


def test_each_compared_table_has_the_front_that_it_has_alone(tmp_path: Path) -> None:
    asked = {"depth": 6, "video": "512x288", "candidates": "lcha,ssa", "budget": "3GB"}
    front = s2search.frontier("iphone-16-pro-max", compare=["h100", "amd-epyc"], **asked)  # type: ignore[arg-type]
    assert [name.partition(".")[0] for name in front.beside] == ["h100", "amd-epyc"]
    for name, beside in front.beside.items():
        assert beside == s2search.frontier(name, **asked)  # type: ignore[arg-type]
        assert name in str(front)
    (tmp_path / "front.json").write_text(front.to_json())
    assert Frontier.load(tmp_path / "front.json") == front
    front.save(tmp_path / "front.csv")
    tables = [line["tables"] for line in csv.DictReader((tmp_path / "front.csv").read_text().splitlines())]
    assert tables == [plan.provenance.table for one in (front, *front.beside.values()) for plan in one]


def test_a_compared_table_is_asked_for_the_video_of_the_first_one() -> None:
    front = s2search.frontier(depth=4, compare="amd-epyc")  # which holds two sizes
    assert {plan.video for one in (front, *front.beside.values()) for plan in one} == {"512x288"}
    alone = s2search.frontier(
        "iphone-16-pro-max", depth=4, precision="w4a8", compute_unit="neural_engine", compare="h100"
    )
    assert {plan.compute_unit for one in alone.beside.values() for plan in one} == {"gpu"}


@pytest.mark.parametrize("compare", [["h100", "h100"], ["iphone-16-pro-max"]])
def test_a_table_is_compared_with_others_and_with_each_once(compare: list[str]) -> None:
    with pytest.raises(InputError, match="compare"):
        s2search.frontier("iphone-16-pro-max", depth=4, compare=compare)
