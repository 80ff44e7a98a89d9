from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from s2search.cost import Budget
from s2search.errors import InfeasibleError, InputError, ProblemError
from s2search.planner.explain import Explanation, explain
from s2search.planner.find import find
from s2search.planner.infeasible import infeasible
from s2search.planner.plan import Plan
from s2search.planner.request import Request, Target
from s2search.solver.allocation import Allocation
from s2search.solver.dynamic import Dynamic
from s2search.tables.table import LatencyTable, open_table
from tests.plan.test_plan import CPU, IPHONE, ask

EXACT = Dynamic()
H100 = open_table("h100")


def explained(request: Request) -> tuple[Plan, Explanation]:
    plan = find(request, EXACT)
    return plan, explain(request, plan.layout, EXACT)


def moved(request: Request, part: str, change_us: int) -> Request:
    """Ask the same of a table in which one latency is another one."""
    latency_us = request.evidence.parts(request.space)[part].cost.latency_us
    in_scope = request.table.in_scope(request.scope)
    rows = tuple(
        dataclasses.replace(row, latency_ms=(latency_us + change_us) / 1000, latency_p10_ms=None, latency_p90_ms=None)
        if row.label == part and row in in_scope
        else row
        for row in request.table.rows
    )
    return dataclasses.replace(request, table=dataclasses.replace(request.table, rows=rows))


def change_us(latency_ms: float, percent: float) -> int:
    return round(latency_ms * 1000 * percent / 100)


@pytest.mark.parametrize("request_", [ask("260ms"), ask("1100ms", table=CPU, depth=12)], ids=["derived", "measured"])
def test_a_row_that_moves_as_far_as_stated_changes_the_plan_and_a_microsecond_less_does_not(request_: Request) -> None:
    plan, explanation = explained(request_)
    choice_L = request_.space.parse_layout(plan.written)
    assert len(explanation.rows) == (2 if request_.table is IPHONE else 6)
    for row in explanation.rows:
        half_us = int(row.latency_ms * 1000 * 0.5)
        by_us = half_us if row.faster_percent is None else change_us(row.latency_ms, row.faster_percent)
        assert find(moved(request_, row.part, 1 - by_us), EXACT).score == plan.score
        if row.faster_percent is None:
            assert find(moved(request_, row.part, -by_us), EXACT).score == plan.score
        else:
            assert find(moved(request_, row.part, -by_us), EXACT).score > plan.score
        by_us = half_us if row.slower_percent is None else change_us(row.latency_ms, row.slower_percent)
        assert moved(request_, row.part, by_us - 1).admits(choice_L)
        assert moved(request_, row.part, by_us).admits(choice_L) == (row.slower_percent is None)


@pytest.mark.parametrize("request_", [ask("260ms"), ask("2500ms", table=CPU)], ids=["derived", "measured"])
def test_a_faster_kernel_gains_what_a_table_with_that_latency_gives(request_: Request) -> None:
    plan, explanation = explained(request_)
    gains = [kernel.score_gain for kernel in explanation.kernels]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0
    for kernel in explanation.kernels:
        latency_us = request_.evidence.parts(request_.space)[kernel.block].cost.latency_us
        found = find(moved(request_, kernel.block, round(latency_us * 0.9) - latency_us), EXACT)
        assert kernel.score_gain == pytest.approx(found.score - plan.score, abs=1e-12)


@pytest.mark.parametrize("table", [H100, CPU], ids=lambda table: table.name)
def test_retimed_evidence_poses_the_problem_of_a_table_with_that_row(table: LatencyTable) -> None:
    scope = table.scope("stream", video=(18, 32))
    request = dataclasses.replace(ask("100ms", depth=4), table=table, scope=scope)
    assert set(request.evidence.parts(request.space)) >= {"lcha", "ssa", "stem", "head", "down", "up"}
    for part, estimate in request.evidence.parts(request.space).items():
        changed = request.evidence.with_latency(part, estimate.cost.latency_us + 5, request.space)
        posed, expected = request.pose([changed]), moved(request, part, 5).problem
        for name in ("latency_us_LC", "memory_bytes_LC", "peak_bytes_LC", "switch_us_SS", "fixed_us", "fixed_bytes"):
            assert np.array_equal(getattr(posed, name), getattr(expected, name)), (part, name)


def test_the_next_point_of_the_main_job_is_one_more_high_resolution_layer() -> None:
    _, explanation = explained(ask("260ms", "1.5GB"))
    latency, memory = explanation.prices
    assert latency.next is not None
    assert (latency.budget, latency.unit, latency.next.extra, latency.next.written) == (
        "latency",
        "ms",
        11.17,
        "L13S15",
    )
    assert find(ask("271.17ms", "1.5GB"), EXACT).written.count("L") == 13
    assert find(ask("271.169ms", "1.5GB"), EXACT).written.count("L") == 12
    assert (latency.score_gain, latency.score_loss) == (0.0, latency.next.score_gain)
    assert (memory.budget, memory.unit, memory.next, memory.score_gain) == ("memory", "MB", None, 0.0)


def test_rows_are_ordered_by_their_own_deviations() -> None:
    _, explanation = explained(ask("1100ms", table=CPU, depth=12))
    away = [row.deviations for row in explanation.rows]
    known = [one for one in away if one is not None]
    assert known == sorted(known)
    assert away[: len(known)] == known
    first = explanation.rows[0]
    assert first.std_percent is not None
    std_us = CPU.in_scope(CPU.scope("stream", video=(18, 32)))
    stated = next(row.latency_std_ms for row in std_us if row.label == first.part)
    assert stated is not None
    assert first.std_percent == pytest.approx(100 * stated / first.latency_ms, abs=1e-3)


def test_without_a_latency_budget_no_latency_decides() -> None:
    _, explanation = explained(ask("1.2GB"))
    assert explanation.kernels == explanation.rows == ()
    assert [price.budget for price in explanation.prices] == ["memory"]


def test_a_layout_that_is_not_the_best_is_told_which_one_is() -> None:
    request = ask("260ms")
    best = find(request, EXACT)
    assert explain(request, best.layout, EXACT).best == best.written
    worse = explain(request, ["ssa"] * 28, EXACT)
    assert worse.best == "L12S16"
    assert worse.prices == explain(request, best.layout, EXACT).prices
    assert all(swap.fits and swap.score_gain > 0 for swap in worse.swaps)
    over = explain(request, ["lcha"] * 28, EXACT)
    assert over.swaps[0].over[0].amount == pytest.approx(27 * 15.675 + 4.493 - 260)


def test_where_nothing_fits_only_swaps_are_left() -> None:
    found = explain(ask("100ms"), ["ssa"] * 28, EXACT)
    assert (found.best, found.prices, found.kernels, found.rows) == (None, (), (), ())
    assert len(found.swaps) == 28


def test_broken_counts_name_the_block() -> None:
    words = {"counts": ["ssa=16..20"]}
    request = ask("300ms", depth=28)
    constraints = type(request.constraints).parse(request.space, **words)  # type: ignore[arg-type]
    request = dataclasses.replace(request, constraints=constraints)
    plan, explanation = explained(request)
    assert plan.counts["ssa"] == 16
    swap = next(swap for swap in explanation.swaps if swap.block == "ssa")
    assert [(over.limit, over.amount, over.unit) for over in swap.over] == [("layers other than ssa", 1, "")]


def test_each_device_has_its_own_prices_kernels_and_rows() -> None:
    target = Target(table=H100, scope=H100.scope("stream", video=(18, 32)), budgets=(Budget.parse("6ms"),))
    request = ask("115ms", depth=12, further=(target,))
    _, explanation = explained(request)
    assert [price.budget for price in explanation.prices] == ["latency", f"latency of {H100.name}"]
    assert {row.table for row in explanation.rows} == {H100.name, IPHONE.name}
    assert {(kernel.table, kernel.block) for kernel in explanation.kernels} == {
        (table, block) for table in (H100.name, IPHONE.name) for block in ("lcha", "ssa")
    }
    for row in explanation.rows:
        binding = row.table == H100.name and row.part in ("lcha", "ssa")
        assert (row.nearest_percent is not None) == binding, row
    for kernel in explanation.kernels:
        assert (kernel.score_gain > 0) == (kernel.table == H100.name and kernel.block == "lcha")
    unlimited = dataclasses.replace(request, further=(dataclasses.replace(target, budgets=()),))
    assert {row.table for row in explained(unlimited)[1].rows} == {IPHONE.name}


def test_what_cannot_be_exact_is_refused() -> None:
    with pytest.raises(InputError, match=r"confidence 0\.95 cannot be explained.*leave out"):
        explain(ask("2500ms", table=CPU, confidence=0.95), ["ssa"] * 28, EXACT)
    with pytest.raises(ProblemError, match="allocation does not prove"):
        explain(ask("260ms"), ["ssa"] * 28, Allocation())


def test_a_plan_file_keeps_its_explanation_and_older_files_have_none(tmp_path: Path) -> None:
    plan, explanation = explained(ask("260ms"))
    dataclasses.replace(plan, explanation=explanation).save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").explanation == explanation
    older = json.loads(plan.to_json())
    del older["explanation"]
    (tmp_path / "older.json").write_text(json.dumps(older))
    assert Plan.load(tmp_path / "older.json") == plan


def test_limits_are_listed_with_their_blocks_and_what_would_do() -> None:
    request = ask("150ms", "1.189GB", group_size=4)
    request = dataclasses.replace(
        request, constraints=type(request.constraints).parse(request.space, counts=["lcha=8..12"])
    )
    with pytest.raises(InfeasibleError) as refused:
        find(request, EXACT)
    found = infeasible(request, refused.value)
    assert found.message == str(refused.value)
    asked = {limit.name: limit.asked for limit in found.limits}
    assert asked == {
        "latency": 150_000,
        "memory": 1_189_000_000,
        "layers of lcha": 12,
        "layers other than lcha": 20,
    }
    assert [(limit.name, limit.would_do) for limit in found.limits if limit.would_do is not None] == [
        ("layers other than lcha", 28)
    ]
    assert found.nearest is not None
    assert found.nearest.written == "S28"
    assert (found.least_latency_us, found.least_memory_bytes) == (28 * 4493, 1188483200)
    assert find(ask("150ms", "1.189GB", group_size=4), EXACT).counts["ssa"] == 28


def test_where_no_single_limit_is_enough_there_is_no_nearest_layout() -> None:
    with pytest.raises(InfeasibleError) as refused:
        find(ask("100ms", "1GB"), EXACT)
    found = infeasible(ask("100ms", "1GB"), refused.value)
    assert [limit.would_do for limit in found.limits] == [None, None]
    assert found.nearest is None


def test_the_nearest_layout_costs_what_would_do() -> None:
    with pytest.raises(InfeasibleError) as refused:
        find(ask("100ms"), EXACT)
    found = infeasible(ask("100ms"), refused.value)
    (limit,) = found.limits
    assert found.nearest is not None
    assert (limit.name, limit.unit, limit.would_do) == ("latency", "us", found.nearest.latency_us)
    assert found.nearest.layout == ("ssa",) * 28
    assert limit.would_do is not None
    assert find(ask(f"{limit.would_do / 1000}ms"), EXACT).fits
    with pytest.raises(InfeasibleError):
        find(ask(f"{(limit.would_do - 1) / 1000}ms"), EXACT)


def test_an_unkeepable_confidence_says_which_latency_would_do() -> None:
    request = ask("1616ms", table=CPU, confidence=0.95)
    with pytest.raises(InfeasibleError) as refused:
        find(request, EXACT)
    found = infeasible(request, refused.value)
    assert found.confidence == 0.95
    assert [limit.would_do for limit in found.limits] == [refused.value.fields["least_quantile_us"]]
