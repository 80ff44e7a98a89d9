from __future__ import annotations

import dataclasses
import json
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.cost import Budget
from s2search.latency.lookup import Lookup
from s2search.latency.transfer import Transfer
from s2search.planner.diff import Difference, difference
from s2search.planner.find import find, price
from s2search.planner.plan import Plan
from s2search.planner.request import Request, Target
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space
from s2search.tables.table import LatencyTable, open_table

EXACT = Dynamic()
IPHONE = open_table("iphone-16-pro-max")


def changed(name: str = IPHONE.name, **latency_ms: float) -> LatencyTable:
    rows = tuple(dataclasses.replace(r, latency_ms=latency_ms.get(r.label, r.latency_ms)) for r in IPHONE.rows)
    return dataclasses.replace(IPHONE, name=name, rows=rows)


def ask(*budgets: str, table: LatencyTable = IPHONE, depth: int = 8, further: tuple[Target, ...] = ()) -> Request:
    return Request(
        table=table,
        scope=table.scope("stream"),
        space=Space.parse("lcha,ssa", depth=depth),
        latency_model=Lookup(),
        score=Published(),
        budgets=tuple(map(Budget.parse, budgets)),
        further=further,
    )


def written(layout: str, *budgets: str, **other: object) -> Plan:
    request = ask(*budgets, depth=len(layout), **other)  # type: ignore[arg-type]
    return price(request, request.space.parse_layout(layout), EXACT)


def moved(found: Difference) -> dict[str, tuple[float | None, float | None]]:
    return {row.name: (row.before, row.after) for row in found.devices[0].rows}


def test_a_plan_and_itself_differ_in_nothing() -> None:
    further = (Target(table=changed("b"), scope=IPHONE.scope("stream"), budgets=(Budget.parse("80ms"),)),)
    for plan in (find(ask("75ms"), EXACT), find(ask("75ms", further=further), EXACT)):
        found = difference(plan, plan)
        assert found.empty
        assert found.before == found.after


@given(st.text("LS", min_size=1, max_size=9), st.text("LS", min_size=1, max_size=9))
def test_the_changed_runs_turn_one_layout_into_the_other(old: str, new: str) -> None:
    before, after = written(old), written(new)
    found = difference(before, after)
    rebuilt: list[str | None] = list(before.layout) + [None] * max(0, len(new) - len(old))
    for run in found.layers:
        assert rebuilt[run.first : run.last + 1] == [run.before] * (run.last + 1 - run.first)
        rebuilt[run.first : run.last + 1] = [run.after] * (run.last + 1 - run.first)
    assert tuple(label for label in rebuilt if label) == after.layout
    assert found.changed_layers == sum(a != b for a, b in zip_longest(old, new))
    for run, following in zip(found.layers, found.layers[1:], strict=False):
        adjacent = run.last + 1 == following.first
        assert not adjacent or (run.before, run.after) != (following.before, following.after)


def test_a_row_that_moved_is_named_with_what_the_old_layout_would_now_take() -> None:
    table = changed(lcha=17.0, stem=1.0, down=2.0, up=1.0)
    before, after = written("LLSSLSSL", "75ms"), written("LLSSSSSL", "75ms", table=table)
    found = difference(before, after)
    rows = moved(found)
    assert rows["lcha latency"] == (15.675, 17.0)
    assert rows["stem and head latency"] == (0.0, 1.0)
    assert rows["down and up latency"] == (0.0, 3.0)
    assert "ssa latency" not in rows
    (device,) = found.devices
    relaid = written("LLSSLSSL", "75ms", table=table)
    assert device.old_layout_ms == relaid.latency_ms.predicted
    assert device.over_ms == pytest.approx(relaid.latency_ms.predicted - 75)
    assert [one.name for one in found.inputs] == ["table"]


def test_what_the_old_layout_would_take_is_unknown_where_the_new_plan_never_switches() -> None:
    before = written("LLSSLSSL")
    (device,) = difference(before, written("LLLLLLLL", table=changed(down=2.0))).devices
    assert device.old_layout_ms is None
    (device,) = difference(written("LLLLLLLL"), before).devices
    assert device.old_layout_ms == pytest.approx(8 * 15.675)


def test_bytes_that_moved_are_named_too() -> None:
    rows = tuple(
        dataclasses.replace(row, weight_bytes=row.weight_bytes + 5, peak_bytes=row.peak_bytes + 7)
        if row.label == "ssa"
        else row
        for row in IPHONE.rows
    )
    rows_moved = moved(difference(written("LS"), written("LS", table=dataclasses.replace(IPHONE, rows=rows))))
    assert {name: after - before for name, (before, after) in rows_moved.items()} == {  # type: ignore[operator]
        "ssa memory": 5,
        "ssa peak": 7,
    }


def test_budgets_and_what_was_asked_are_compared() -> None:
    found = difference(find(ask("75ms"), EXACT), find(ask("80ms", "1GB", depth=7), EXACT))
    budgets = {one.name: (one.before, one.after) for one in found.devices[0].budgets}
    assert budgets == {"latency": (75.0, 80.0), "memory": (None, 1e9)}
    assert [(one.name, one.before, one.after) for one in found.inputs] == [("depth", "8", "7")]


def test_options_of_what_made_a_plan_are_compared_too() -> None:
    own, other = (
        dataclasses.replace(ask("75ms"), latency_model=Transfer(known=known)) for known in ("h100", "h100+amd-epyc")
    )
    before = find(own, EXACT)
    (model,) = difference(before, find(other, EXACT)).inputs
    assert (model.name, model.before, model.after) == (
        "latency model",
        "transfer[known=h100]",
        "transfer[known=h100+amd-epyc]",
    )
    (solver,) = difference(before, find(own, dataclasses.replace(EXACT, hand_over_s=60.0))).inputs
    assert (solver.name, solver.before, solver.after) == ("solver", "dynamic", "dynamic[hand_over_s=60.0]")
    assert (before.provenance.latency_model, before.provenance.solver_options) == ("transfer", "")
    assert before.digest != find(other, EXACT).digest


def test_a_plan_of_before_options_were_recorded_loads_and_keeps_its_digest(tmp_path: Path) -> None:
    plan = find(ask("75ms"), EXACT)
    content = json.loads(plan.to_json())
    for name in ("latency_model_options", "score_options", "solver_options"):
        assert content["provenance"].pop(name) == ""
    (tmp_path / "old.json").write_text(json.dumps(content))
    old = Plan.load(tmp_path / "old.json")
    assert (old, old.digest) == (plan, plan.digest)
    now = find(ask("75ms"), dataclasses.replace(EXACT, hand_over_s=60.0))
    assert [one.after for one in difference(old, now).inputs] == ["dynamic[hand_over_s=60.0]"]


def test_further_devices_are_compared_by_their_tables_name() -> None:
    def plan(**latency_ms: float) -> Plan:
        table = changed("b", **latency_ms)
        target = Target(table=table, scope=table.scope("stream"), budgets=(Budget.parse("80ms"),))
        return find(ask("75ms", further=(target,)), EXACT)

    found = difference(plan(), plan(ssa=4.0))
    first, second = found.devices
    assert first.rows == ()
    assert [(row.name, row.after) for row in second.rows] == [("ssa latency", 4.0)]
    assert [one.name for one in found.inputs] == ["further tables"]
