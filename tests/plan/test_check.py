"""Whether a plan's promise holds: its budgets on other tables, the rows that broke it, the best layout near it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import s2search
from s2search.cost import Pipeline
from s2search.errors import InputError, MissingRowError, ScoreError, TableError
from s2search.planner.check import check_plan
from s2search.planner.nearby import _fewest
from s2search.planner.plan import Plan
from s2search.planner.promise import PlanCheck, Replan
from s2search.planner.replan import asked_on, candidates_of, model_of_plan, targets_on
from s2search.reporting.origin import mark_lines
from s2search.reporting.plan_check import plan_check_junit, plan_check_markdown
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, open_table
from tests.conftest import Outcome
from tests.pages import blocks

Run = Callable[..., Outcome]
PHONE, EPYC = "iphone-16-pro-max.coreml.w4a8", "amd-epyc.torch-cpu.float32"
H100 = "h100.torch-cuda-graphs-compiled.bfloat16"
ASKED: list[dict[str, Any]] = [
    {"table": PHONE, "budget": "260ms"},
    {"table": PHONE, "budget": ["10fps", "1.5GB"], "commit": "clean_pass", "steps": 3},
    {"table": PHONE, "budget": ["10.1fps", "240ms"], "first": "L2", "candidates": "lcha,kv_compressed,ssa"},
    {"table": PHONE, "budget": "300ms", "group_size": 2, "count": "ssa=10..20"},
    {"table": PHONE, "scenario": "clip", "budget": "535ms"},
    {"table": EPYC, "budget": ["30s", "2GB"], "video": "512x288", "confidence": 0.9},
    {"table": [(PHONE, "260ms"), (H100, ["16ms", "4GB"])], "video": "512x288"},
    {"table": H100, "video": "512x288", "budget": "100fps", "steps": 2, "text_ms": 4, "decode_ms": 80},
]


def changed(table: LatencyTable, change: Callable[[Row], Row | None], **card: Any) -> LatencyTable:
    """Return a table with other rows, and other words on its card."""
    rows = [row for row in map(change, table.rows) if row is not None]
    return dataclasses.replace(table, rows=rows, card=dataclasses.replace(table.card, **card))


def timed(row: Row, latency_ms: float) -> Row:
    """Return a row of another latency, without the percentiles that go with the old one."""
    return dataclasses.replace(row, latency_ms=latency_ms, latency_p10_ms=None, latency_p90_ms=None)


def slower(part: str, factor: float, table: str | LatencyTable = PHONE) -> LatencyTable:
    """Return a table on which one part takes longer."""
    before = open_table(table) if isinstance(table, str) else table
    return changed(before, lambda row: timed(row, row.latency_ms * factor) if row.label == part else row)


def sums(found: PlanCheck, kind: str) -> list[tuple[int, int]]:
    """Return what the rows of each device come to, then and now, as whole microseconds or bytes."""
    scale, own = 1000 if kind == "latency" else 1, [[r for r in d.rows if r.kind == kind] for d in found.devices]
    return [(sum(round(scale * r.then) for r in rows), sum(round(scale * r.now) for r in rows)) for rows in own]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: ", ".join(map(str, asked.values())))
def test_a_plan_holds_on_its_own_table_and_nothing_moved(asked: dict[str, Any]) -> None:
    plan = s2search.plan(**asked)
    found = s2search.plan_check(plan, tolerance="0%")
    assert found.holds
    assert (found.replan, found.no_replan, found.written) == (None, "", plan.written)
    assert [row.moved for device in found.devices for row in device.rows if row.moved] == []
    for device, then in zip(found.devices, plan.every_device, strict=True):
        assert device.same_table
        latency, memory = device.promises
        assert (latency.now, memory.now) == (then.latency_ms.predicted, then.memory_bytes.predicted)
        assert (latency.moved, memory.moved) == (0, 0)
        for budget in device.budgets:
            if budget.then is not None:
                assert budget.now == pytest.approx(budget.then, abs=0.001)
            if budget.kind == "latency" and found.confidence is None:
                assert budget.slack == then.latency_ms.slack
    kinds = [["latency", "memory", "rate"].index(budget.kind) for budget in found.devices[0].budgets]
    texts = asked["table"][0][1] if isinstance(asked["table"], list) else asked["budget"]
    assert len(kinds) == (1 if isinstance(texts, str) else len(texts))
    for kind in ("latency", "memory"):
        whole = [
            round(1000 * then.latency_ms.predicted) if kind == "latency" else then.memory_bytes.predicted
            for then in plan.every_device
        ]
        assert sums(found, kind) == [(one, one) for one in whole]


@given(
    factors=st.fixed_dictionaries({part: st.floats(0.5, 2) for part in ("lcha", "ssa", "down", "stem")}),
    added=st.integers(-(2**20), 2**24),
)
def test_rows_add_up_to_what_a_fresh_price_says(factors: dict[str, float], added: int) -> None:
    plan, table = s2search.plan(EPYC, video="512x288", depth=6, budget=["500ms", "600MB"]), open_table(EPYC)

    def change(row: Row) -> Row:
        more = max(row.weight_bytes + added, 0) if row.label == "ssa" else row.weight_bytes
        return dataclasses.replace(timed(row, row.latency_ms * factors.get(row.label, 1)), weight_bytes=more)

    there = changed(table, change)
    found = s2search.plan_check(plan, there, changes=0)
    price = s2search.price(plan.written, there, video="512x288", depth=6, budget=["500ms", "600MB"])
    latency, memory = found.devices[0].promises
    assert (latency.then, latency.now) == (plan.latency_ms.predicted, price.latency_ms.predicted)
    assert (memory.then, memory.now) == (plan.memory_bytes.predicted, price.memory_bytes.predicted)
    assert sums(found, "latency") == [(round(1000 * latency.then), round(1000 * latency.now))]
    assert sums(found, "memory") == [(memory.then, memory.now)]
    assert found.holds == price.fits
    moves = [row.moved for row in found.devices[0].rows if row.kind == "latency"]
    assert moves == sorted(moves, reverse=True)


@given(part=st.sampled_from(["lcha", "ssa"]), factor=st.floats(1.01, 3))
def test_a_slower_block_comes_first_and_moves_by_its_count_times_the_difference(part: str, factor: float) -> None:
    plan, there = s2search.plan(PHONE, depth=8, budget="75ms"), slower(part, factor)
    found = s2search.plan_check(plan, there, changes=0)
    first = found.devices[0].rows[0]
    each_us = [round(1000 * table.rows.labelled(part)[0].latency_ms) for table in (open_table(PHONE), there)]
    assert (first.name, first.kind, first.count) == (part, "latency", plan.counts[part])
    assert round(1000 * first.moved) == plan.counts[part] * (each_us[1] - each_us[0])
    assert found.devices[0].promises[0].moved == first.moved
    assert found.holds == (first.moved <= plan.latency_ms.slack)


def brute_force(plan: Plan, table: LatencyTable, changes: int) -> dict[int, tuple[float, int]]:
    """Return the best score and its least number of changes, by how many layers may change, up to `changes`."""
    constraints = dataclasses.replace(plan.constraints, like=plan.layout, max_changes=plan.depth)
    request = asked_on(
        plan,
        targets_on(plan, [table]),
        candidates_of(plan),
        constraints,
        model=model_of_plan(plan),
        score=Published(),
    )
    labels, best = [block.label for block in request.space.candidates], {}
    for choice_L in itertools.product(range(len(labels)), repeat=plan.depth):
        if request.admits(choice_L):
            n = len(constraints.changes([labels[c] for c in choice_L]))
            for k in range(n, changes + 1):
                score = request.problem.price(choice_L).score
                best[k] = max(best.get(k, (-1e9, 0)), (score, -n))
    return {k: (score, -n) for k, (score, n) in best.items()}


@given(
    factors=st.fixed_dictionaries({part: st.floats(0.6, 2.5) for part in ("lcha", "ssa", "full")}),
    changes=st.integers(1, 5),
    asked=st.sampled_from([{}, {"first": "lcha"}, {"max_switches": 2}, {"group_size": 5}, {"count": "ssa=1..4"}]),
)
def test_the_replan_is_the_best_of_all_layouts_within_so_many_changes(
    factors: dict[str, float], changes: int, asked: dict[str, Any]
) -> None:
    words = {"depth": 5, "candidates": "lcha,full,ssa", "budget": ["1.2s", "400MB"]} | asked
    plan, there = s2search.plan(EPYC, video="512x288", **words), open_table(EPYC)
    for part, factor in factors.items():
        there = slower(part, factor, there)
    found, best = s2search.plan_check(plan, there, changes=changes), brute_force(plan, there, plan.depth)
    assert found.holds == (best.get(0) is not None)
    if found.holds:
        assert found.replan is None
    elif not best:
        assert found.replan is None
        assert found.no_replan.startswith("no layout")
    else:
        assert found.replan is not None
        allowed = max(changes, min(best))
        assert (found.replan.score, found.replan.changes) == best[min(allowed, plan.depth)]
        assert (found.replan.changes > changes) == (min(best) > changes)
        price = s2search.plan(there, layout=found.replan.written, video="512x288", **words)
        assert price.fits
        assert found.replan.devices[0].latency_ms == price.latency_ms.predicted


def test_as_many_layers_change_as_make_it_better_and_no_more_than_may() -> None:
    asked: dict[str, Any] = {"depth": 8, "budget": "75ms", "candidates": "lcha,kv_compressed,ssa"}
    plan, there = s2search.plan(PHONE, **asked), slower("lcha", 1.2)
    found = [replan_of(s2search.plan_check(plan, there, changes=changes)) for changes in (1, 2, 3, 4)]
    assert [replan.changes for replan in found] == [1, 2, 3, 3]
    scores = [replan.score for replan in found]
    assert scores[0] < scores[1] < scores[2] == scores[3]
    assert scores == [s2search.plan(there, like=plan, max_changes=most, **asked).score for most in (1, 2, 3, 4)]


def test_with_a_confidence_the_fewest_changes_are_found_too() -> None:
    plan = s2search.plan(EPYC, video="512x288", depth=8, budget="1100ms", confidence=0.9)
    there = slower("lcha", 1.4, EPYC)
    found = s2search.plan_check(plan, there, changes=1)
    budget = found.devices[0].budgets[0]
    assert plan.confidence is not None
    assert budget.then == plan.confidence.latency_ms
    priced = s2search.plan(there, video="512x288", depth=8, budget="1100ms", confidence=0.9, layout=plan.written)
    assert priced.confidence is not None
    assert budget.now == priced.confidence.latency_ms
    assert not found.holds
    replan = replan_of(found)
    assert replan.changes > 1
    assert replan.devices[0].latency_ms <= 1100
    again = s2search.plan(there, video="512x288", depth=8, budget="1100ms", confidence=0.9, layout=replan.written)
    assert again.confidence is not None
    assert replan.devices[0].latency_ms == again.confidence.latency_ms > again.latency_ms.predicted
    asked = {"video": "512x288", "depth": 8, "budget": "1100ms", "confidence": 0.9, "like": plan}
    with pytest.raises(s2search.InfeasibleError):
        s2search.plan(there, max_changes=replan.changes - 1, **asked)  # type: ignore[arg-type]
    assert s2search.plan(there, max_changes=replan.changes, **asked).score == replan.score  # type: ignore[arg-type]


def test_a_replan_keeps_the_counts_that_were_asked_for() -> None:
    asked: dict[str, Any] = {"depth": 8, "budget": "75ms"}
    there = slower("lcha", 1.2)
    free = replan_of(s2search.plan_check(s2search.plan(PHONE, **asked), there, changes=8))
    held = s2search.plan_check(s2search.plan(PHONE, count="ssa=0..5", **asked), there, changes=8)
    assert free.layout.count("ssa") == 6
    assert held.replan is None
    assert "at most 5 layers of ssa" in held.no_replan


def test_a_confidence_is_of_the_first_device_alone() -> None:
    other = dataclasses.replace(open_table(EPYC), name="other")
    asked: Any = [(EPYC, "1100ms"), (other, "1100ms")]
    plan = s2search.plan(asked, video="512x288", depth=8, confidence=0.9)
    first, second = s2search.plan_check(plan, [open_table(EPYC), other]).devices
    assert plan.confidence is not None
    assert first.budgets[0].now == plan.confidence.latency_ms > plan.latency_ms.predicted
    assert second.budgets[0].now == plan.every_device[1].latency_ms.predicted


def test_of_all_numbers_of_changes_the_fewest_that_will_do_is_found() -> None:
    def changing(layers: int) -> Any:
        return SimpleNamespace(layout=layers, constraints=SimpleNamespace(changes=range))

    for low, most in itertools.combinations(range(1, 12), 2):
        for fewest in range(low, most + 1):

            def within(changes: int, fewest: int = fewest) -> Any:
                if changes < fewest:
                    raise s2search.InfeasibleError("none")
                return changing(changes)

            assert _fewest(within, changing(most), low).layout == fewest


def replan_of(found: PlanCheck) -> Replan:
    assert found.replan is not None
    return found.replan


@pytest.fixture
def plan() -> Plan:
    return s2search.plan(PHONE, depth=8, budget=["75ms", "600MB"])


def test_each_part_of_the_layout_has_a_row_that_says_how_often_it_is_there(plan: Plan) -> None:
    rows = s2search.plan_check(plan).devices[0].rows
    assert plan.switches > 1
    blocks = {label: count for label, count in plan.counts.items() if count}
    assert {row.name: row.count for row in rows if row.kind == "latency"} == blocks | {
        "switches": plan.switches,
        "stem and head": 1,
    }
    assert {row.name: row.count for row in rows if row.kind == "memory"} == blocks | {
        "stem, head, switches": 1,
        "activation peak": 1,
    }


@pytest.mark.parametrize(("over_us", "holds"), [(0, True), (1, False)])
def test_a_budget_is_kept_to_the_microsecond(plan: Plan, over_us: int, holds: bool) -> None:
    assert plan.latency_ms.slack is not None
    spare_ms = plan.latency_ms.slack + over_us / 1000

    def change(row: Row) -> Row:
        return timed(row, row.latency_ms + spare_ms) if row.label == "stem" else row

    assert s2search.plan_check(plan, changed(open_table(PHONE), change)).holds is holds


@pytest.mark.parametrize(("over_us", "holds"), [(0, True), (1, False)])
def test_a_rate_is_kept_to_the_microsecond_that_it_leaves(over_us: int, holds: bool) -> None:
    plan = s2search.plan(PHONE, depth=8, budget="10fps")
    assert plan.latency_ms.slack is not None
    spare_ms = plan.latency_ms.slack + over_us / 1000

    def change(row: Row) -> Row:
        return timed(row, row.latency_ms + spare_ms) if row.label == "stem" else row

    found = s2search.plan_check(plan, changed(open_table(PHONE), change), changes=0)
    assert [(budget.kind, budget.kept) for budget in found.devices[0].budgets] == [("rate", holds)]


@pytest.mark.parametrize(("over", "holds"), [(0, True), (1, False)])
def test_memory_is_kept_to_the_byte(plan: Plan, over: int, holds: bool) -> None:
    assert plan.memory_bytes.slack is not None
    more = plan.memory_bytes.slack + over

    def change(row: Row) -> Row:
        return dataclasses.replace(row, weight_bytes=row.weight_bytes + more) if row.label == "stem" else row

    found = s2search.plan_check(plan, changed(open_table(PHONE), change))
    assert found.holds is holds
    assert f"{over} B over" in str(found) or holds


@pytest.mark.parametrize(("tolerance", "holds"), [(None, True), ("5%", False), ("5.1 %", True)])
def test_a_tolerance_holds_a_plan_to_what_it_promised(tolerance: str | None, holds: bool) -> None:
    loose = s2search.plan(PHONE, depth=8, budget="90ms", layout="L4S4")
    found = s2search.plan_check(loose, slower("lcha", 1.065), tolerance=tolerance)
    assert found.devices[0].promises[0].moved_relative == pytest.approx(0.0501, abs=0.0005)
    assert found.holds is holds
    assert all(budget.kept for budget in found.devices[0].budgets)
    assert found.replan is None
    assert s2search.plan_check(loose, slower("lcha", 0.5), tolerance="0%").holds


def test_a_rate_follows_the_pipeline_of_the_new_table() -> None:
    plan, table = s2search.plan(PHONE, depth=28, budget="10fps"), open_table(PHONE)
    held = table.card.pipeline
    assert held is not None
    for decoder_ms, kept in ((60.0, True), (400.0, False), (5000.0, False)):
        pipeline = dataclasses.replace(held, decoder_ms=decoder_ms)
        found = s2search.plan_check(plan, changed(table, lambda row: row, pipeline=pipeline))
        (budget,) = found.devices[0].budgets
        assert (budget.kind, budget.limit, budget.kept, found.holds) == ("rate", 10, kept, kept)
        assert budget.now == Pipeline.frames_per_second(pipeline, round(1000 * plan.latency_ms.predicted), plan.commit)
        assert (budget.arithmetic is None) == (decoder_ms == 5000)
        assert "a forward pass was left" in str(found)
    assert found.replan is None
    assert found.no_replan


def test_a_tighter_latency_beside_a_rate_stays_a_budget() -> None:
    plan = s2search.plan(PHONE, budget=["9fps", "200ms"])
    found = s2search.plan_check(plan, slower("lcha", 1.3))
    assert {budget.kind: budget.kept for budget in found.devices[0].budgets} == {"latency": False, "rate": True}
    assert found.devices[0].budgets[0].limit == 200


def test_a_table_that_changed_under_its_name_is_said_to_have(plan: Plan, tmp_path: Path) -> None:
    slower("ssa", 1.1).save(tmp_path / PHONE)
    found = s2search.plan_check(plan, tmp_path / PHONE)
    device = found.devices[0]
    assert (device.table, device.table_then, device.same_table) == (PHONE, PHONE, False)
    assert device.table_digest_then == plan.provenance.table_digest
    assert "as it was then" in str(found)


def test_rows_that_a_table_lacks_are_named_in_one_line(plan: Plan) -> None:
    lacks = changed(open_table(PHONE), lambda row: None if row.label in ("ssa", "up") else row)
    with pytest.raises(MissingRowError, match=r"no row for ssa \(5 layers\), up at .*needs; measure what is missing"):
        s2search.plan_check(plan, lacks)


def test_a_candidate_that_the_layout_does_not_use_may_be_lacking() -> None:
    plan = s2search.plan(PHONE, depth=8, budget="75ms", candidates="lcha,kv_compressed,ssa", count="kv_compressed=0")
    lacks = changed(slower("ssa", 1.5), lambda row: None if row.label == "kv_compressed" else row)
    found = s2search.plan_check(plan, lacks)
    assert found.not_offered == ("kv_compressed",)
    assert "kv_compressed" not in replan_of(found).layout
    assert "no row for kv_compressed" in str(found)


def test_several_devices_take_a_table_each() -> None:
    plan = s2search.plan([(PHONE, "260ms"), (H100, ["16ms", "4GB"])], video="512x288")
    with pytest.raises(InputError, match=r"made from are 2 \('iphone.*', 'h100.*'\), and those given are 1"):
        s2search.plan_check(plan, PHONE)
    found = s2search.plan_check(plan, [PHONE, slower("ssa", 2, H100)])
    assert [[budget.kept for budget in device.budgets] for device in found.devices] == [[True], [False, True]]
    assert found.devices[1].rows[0].name == "ssa"
    assert len(replan_of(found).devices) == 2
    assert f"latency on {H100}" in str(found).replace("\n", " ")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("blocks", "lcha", "latency_ms"), 1.0, "a latency of .* us on .*, and its parts come to"),
        (("latency_ms", "predicted"), 1.0, "a latency of 1,000 us on"),
        (("memory_bytes", "blocks"), 1, None),
        (("memory_bytes", "fixed"), 1, "a memory of"),
        (("latency_ms", "budget"), 500.0, "a latency budget of 500,000 us"),
        (("memory_bytes", "budget"), 5, "a memory budget of 5 bytes"),
        (("counts", "lcha"), 9, "the plan's counts"),
        (("written",), "S8", "written 'S8', and its blocks are "),
        (("provenance", "latency_model"), "lokup", "no latency model is called 'lokup'"),
        (("blocks", "lcha", "stream"), "middle", "is not a plan"),
        (("frames",), 7, "latent frames 7, and the table"),
        (("precision",), "float8", "float8"),
    ],
)
def test_a_tampered_plan_is_refused(plan: Plan, tmp_path: Path, path: tuple[str, ...], value: Any, said: str) -> None:
    content = json.loads(plan.to_json())
    *way, last = path
    place = content
    for step in way:
        place = place[step]
    place[last] = value
    (tmp_path / "plan.json").write_text(json.dumps(content))
    if said is None:  # a sum that nothing is read from
        assert s2search.plan_check(tmp_path / "plan.json").holds
        return
    with pytest.raises(InputError, match=said):
        s2search.plan_check(tmp_path / "plan.json")


def test_what_could_not_fail_is_refused(plan: Plan) -> None:
    free = s2search.plan(PHONE, depth=8)
    with pytest.raises(InputError, match=r"within no budget.*give --tolerance 5%"):
        s2search.plan_check(free)
    assert s2search.plan_check(free, tolerance="5%").holds
    with pytest.raises(InputError, match=r"for preset '.*', and the table .* for 'other'"):
        s2search.plan_check(plan, changed(open_table(PHONE), lambda row: row, preset="other"))
    with pytest.raises(TableError, match="no rows with precision 'w4a8'; it has: float32; name a table of"):
        s2search.plan_check(plan, EPYC)
    rate = s2search.plan(PHONE, depth=8, budget="30fps")
    with pytest.raises(TableError, match=r"no pipeline part .*; name a table of"):
        s2search.plan_check(rate, changed(open_table(PHONE), lambda row: row, pipeline=None))
    for wrong in ("5", "-5%", "five", "5%%", "1e3%"):
        with pytest.raises(InputError, match="is not a share"):
            s2search.plan_check(plan, tolerance=wrong)
    with pytest.raises(InputError, match="may change -1 layers"):
        s2search.plan_check(plan, changes=-1)
    with pytest.raises(TableError, match="no table folder"):
        s2search.plan_check(plan, Path("nowhere"))


def test_another_score_is_named_or_none_is_looked_by(tmp_path: Path) -> None:
    scores = {"schema": "s2search.score/1", "name": "mine", "statement": "s", "scores": {"lcha": 1.0, "ssa": 0.5}}
    (tmp_path / "mine.json").write_text(json.dumps(scores))
    plan, there = s2search.plan(PHONE, depth=8, budget="75ms", score=tmp_path / "mine.json"), slower("ssa", 1.5)
    with pytest.raises(ScoreError, match=r"made by the score 'mine' sha256:\w+, which is not installed; name one"):
        s2search.plan_check(plan, there)
    assert s2search.plan_check(plan, there, changes=0).no_replan == ""
    found = s2search.plan_check(plan, there, score=tmp_path / "mine.json")
    assert (found.score, found.score_digest) == ("mine", plan.provenance.score_digest)
    assert replan_of(found).score_now == plan.score
    origin = dataclasses.replace(plan.provenance, score="published", score_digest="sha256:0")
    with pytest.raises(ScoreError, match="which is sha256:"):
        s2search.plan_check(dataclasses.replace(plan, provenance=origin), there)


def test_a_score_that_forbids_the_plans_own_layout_gives_it_none(plan: Plan, tmp_path: Path) -> None:
    mine = {"schema": "s2search.score/1", "name": "mine", "statement": "s", "scores": {"lcha": None, "ssa": 1.0}}
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    found = s2search.plan_check(plan, slower("lcha", 1.5), score=tmp_path / "mine.json", changes=8)
    assert {*replan_of(found).layout} == {"ssa"}
    assert replan_of(found).score_now is None
    assert "which forbids the plan's own" in " ".join(str(found).split())


def test_the_plan_that_it_was_to_be_near_does_not_bind_the_next_one(plan: Plan) -> None:
    near = s2search.plan(PHONE, depth=8, budget="65ms", like=plan, max_changes=2)
    assert near.layout != plan.layout
    replan = replan_of(s2search.plan_check(near, slower("lcha", 1.3), changes=2))
    assert replan.changes == sum(old != new for old, new in zip(near.layout, replan.layout, strict=True)) == 1


@pytest.mark.parametrize(("factor", "tolerance"), [(1.0, None), (1.0, "0%"), (1.5, None), (1.5, "1%"), (0.5, "1%")])
def test_junit_and_markdown_say_what_the_document_says(plan: Plan, factor: float, tolerance: str | None) -> None:
    found = s2search.plan_check(plan, slower("lcha", factor), tolerance=tolerance)
    suites = ET.fromstring(plan_check_junit(found))
    cases = list(suites.iter("testcase"))
    assert [case.get("name") for case in cases] == ["latency 75.0 ms", "memory 600.0 MB", "promise"]
    failed = [case.find("failure") is not None for case in cases]
    (device,) = found.devices
    missed = any(promise.kept is False for promise in device.promises)
    assert failed == [*(not budget.kept for budget in device.budgets), missed]
    assert any(failed) == (not found.holds)
    for element in (suites, suites[0]):
        counted = {name: int(element.get(name, "")) for name in ("tests", "failures", "errors", "skipped")}
        assert counted == {"tests": 3, "failures": sum(failed), "errors": 0, "skipped": int(tolerance is None)}
    page = plan_check_markdown(found)
    assert ("the promise does NOT hold" in page) == ("NOT hold" in str(found)) == (not found.holds)
    assert ("**re-plan**" in page) == (found.replan is not None)
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} <= {6}


def test_what_strangers_wrote_stays_text_in_every_form(plan: Plan) -> None:
    name = "a|b](x)<script>\x1b[2J\x00&"
    table = dataclasses.replace(slower("lcha", 1.5), name=name)
    found = s2search.plan_check(plan, table)
    assert "\x1b" not in str(found) + plan_check_markdown(found)
    assert "<script>" not in plan_check_markdown(found)
    assert r"on a\|b\](x)&lt;script&gt;" in plan_check_markdown(found)
    cases = ET.fromstring(plan_check_junit(found)).iter("testcase")
    assert "<script>" in (next(cases).get("classname") or "")
    both = s2search.plan([(PHONE, "260ms"), (H100, ["16ms", "4GB"])], video="512x288")
    strange = dataclasses.replace(slower("ssa", 2, H100), name=name)
    cases = ET.fromstring(plan_check_junit(s2search.plan_check(both, [PHONE, strange], tolerance="0%"))).iter("failure")
    said = {case.get("type"): case.get("message") or "" for case in cases}
    assert said.keys() == {"budget", "promise"}
    assert all("on a|b](x)<script>" in line for line in said.values())


def test_every_form_says_what_else_there_is_to_know(plan: Plan) -> None:
    found = s2search.plan_check(plan, slower("lcha", 1.5))
    known = dataclasses.replace(
        found,
        planned_with="0.0.7",
        replan=dataclasses.replace(replan_of(found), optimal=False),
        devices=tuple(dataclasses.replace(device, table_marks=("busy",)) for device in found.devices),
    )
    for said in ("planned with 0.0.7", "not proven to be the best", *mark_lines(["busy"])):
        for form in (str, plan_check_markdown):
            assert said not in " ".join(form(found).split())
            assert said in " ".join(form(known).split())


def test_the_command_exits_with_0_1_and_2(s2search: Run, tmp_path: Path) -> None:
    assert s2search("plan", "--depth", "8", "--budget", "75ms", "--out", "plan.json").code == 0
    slower("lcha", 1.5).save(tmp_path / "new")
    assert s2search("plan", "check", "plan.json").code == 0
    words = ("plan", "check", "plan.json", "--table", "new", "--junit", "j.xml", "--markdown", "m.md")
    done = s2search(*words)
    assert (done.code, done.err) == (1, "")
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert len(ET.parse(tmp_path / "j.xml").findall(".//failure")) == 1
    assert (tmp_path / "m.md").read_text().startswith("### ")
    found = json.loads(s2search(*words, "--json").out)
    assert (found["schema"], found["holds"]) == ("s2search.plan_check/1", False)
    for bad, said in {
        ("nowhere.json",): "cannot be read",
        ("plan.json", "--table", "nowhere"): "no table is called 'nowhere'",
        ("plan.json", "--tolerance", "5"): "is not a share",
        ("plan.json", "--changes", "few"): "'few'",
        ("plan.json", "--junit", "no/j.xml"): "cannot be written",
        ("plan.json", "--junit", "a", "--markdown", "a"): "two outputs",
        ("new/card.json",): "is not a plan",
    }.items():
        refused = s2search("plan", "check", *bad)
        assert refused.code == 2, bad
        assert said in refused.err
        assert len(refused.err.splitlines()) == 1
    assert s2search("plan", "--budget", "9ms", "check", "plan.json").code == 2


def test_the_workflow_on_the_page_runs(s2search: Run, plan: Plan, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs/plan.md"
    (block,) = (block for block in blocks(page) if block.language == "yaml")
    steps = yaml.safe_load(block.text)["jobs"]["check"]["steps"]
    (words,) = (shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("s2search"))
    plan.save(tmp_path / "plan.json")
    slower("lcha", 1.5).save(tmp_path / "new-system")
    assert s2search(*words[1:]).code == 1
    after = [step for step in steps if "!cancelled()" in str(step.get("if"))]
    assert [file for file in ("plan.md", "plan.xml") if file in str(after) and (tmp_path / file).exists()] == [
        "plan.md",
        "plan.xml",
    ]


def test_planning_and_checking_load_neither_torch_nor_scipy() -> None:
    program = (
        "import sys, s2search\nplan = s2search.plan(budget='75ms', depth=8)\nassert s2search.plan_check(plan).holds\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_a_check_asks_for_no_solver_where_it_holds(plan: Plan) -> None:
    class Unused(Dynamic):
        def solve(self, problem: Any) -> Any:
            raise AssertionError(problem)

    assert check_plan(plan, [], Unused(), score=Published(), changes=3).holds
