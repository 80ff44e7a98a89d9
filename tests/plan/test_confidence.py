from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.cost import Budget
from s2search.errors import InfeasibleError, InputError, TableError
from s2search.latency.interpolate import Interpolate
from s2search.latency.lookup import Lookup
from s2search.planner.find import find, price
from s2search.planner.plan import Plan
from s2search.planner.request import Request
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space
from s2search.tables.table import LatencyTable, open_table
from tests.conftest import Outcome

CPU, IPHONE = open_table("amd-epyc"), open_table("iphone-16-pro-max")
STDS = {row.label: row.latency_std_ms for row in CPU.rows if row.scenario == "stream" and row.height == 18}


def with_common(relative: float) -> LatencyTable:
    return dataclasses.replace(CPU, card=dataclasses.replace(CPU.card, common_std_relative=relative))


def ask(budget: str = "2900ms", confidence: float | None = 0.95, table: LatencyTable = CPU, **other: object) -> Request:
    return Request(
        table=table,
        scope=table.scope("stream", video=(18, 32)),
        space=Space.parse("lcha,ssa", depth=28),
        score=Published(),
        budgets=tuple(Budget.parse(text) for text in budget.split()),
        confidence=confidence,
        **{"latency_model": Lookup(), **other},  # type: ignore[arg-type]
    )


def test_a_measured_table_answers_with_its_own_spreads() -> None:
    plan = find(ask("2820ms"), Dynamic())
    plain = find(ask("2820ms", None), Dynamic())
    assert plan.confidence is not None
    assert plan.optimal
    assert plan.counts["lcha"] < plain.counts["lcha"]
    assert plan.confidence.price == pytest.approx(plain.score - plan.score)
    assert plan.confidence.score_without == plain.score
    assert plan.confidence.latency_ms <= 2820
    assert plan.confidence.common_std_ms is None
    assert plan.upper_bound == plan.score
    assert plan.ties is None
    assert plain.confidence is None


def test_the_deviation_is_that_of_every_layer_switch_and_fixed_part() -> None:
    request = ask()
    plan = price(request, request.space.parse_layout("L4S8L4S8L4"), Dynamic())
    used = ["lcha"] * 12 + ["ssa"] * 16 + ["down", "up"] * 2 + ["stem", "head"]
    deviation = math.hypot(*(STDS[part] or 0.0 for part in used))
    assert plan.confidence is not None
    assert plan.confidence.independent_std_ms == pytest.approx(deviation, abs=1e-6)
    assert plan.confidence.latency_ms == pytest.approx(plan.latency_ms.predicted + 1.644854 * deviation, abs=1e-4)
    assert plan.confidence.price is None


def test_a_common_factor_counts_in_full() -> None:
    independent, common = find(ask(), Dynamic()), find(ask(table=with_common(0.05)), Dynamic())
    assert independent.confidence is not None
    assert common.confidence is not None
    assert common.confidence.common_std_ms == pytest.approx(0.05 * common.latency_ms.predicted)
    assert common.score < independent.score
    assert common.confidence.latency_ms <= 2900


def test_the_interleaved_layout_keeps_the_condition_too() -> None:
    for milliseconds in range(2840, 2960, 10):
        plan = find(ask(f"{milliseconds}ms"), Dynamic())
        assert plan.confidence is not None
        assert plan.fits
        assert plan.confidence.latency_ms <= milliseconds


def test_a_hand_written_layout_fits_only_if_it_keeps_the_condition() -> None:
    plain = find(ask("2900ms", None), Dynamic())
    exact = f"{plain.latency_ms.predicted}ms"
    for confidence, fits in ((None, True), (0.95, False)):
        request = ask(exact, confidence)
        assert price(request, request.space.parse_layout(plain.written), Dynamic()).fits == fits


def test_a_memory_budget_holds_beside_the_condition() -> None:
    request = ask("2900ms 600MB")
    assert not price(request, request.space.parse_layout("S28"), Dynamic()).fits
    assert find(ask("2900ms 640MB"), Dynamic()).memory_bytes.predicted <= 640e6


def test_the_least_budget_with_confidence_is_named() -> None:
    with pytest.raises(InfeasibleError, match=r"no layout keeps 1616 ms with confidence 0\.95: the surest of"):
        find(ask("1616ms"), Dynamic())


def test_a_table_without_spreads_of_timings_is_refused_with_the_remedy() -> None:
    bare = tuple(dataclasses.replace(row, latency_std_ms=None) if row.part == "up" else row for row in CPU.rows)
    with pytest.raises(TableError, match=r"no spread of timings for a switch: it states none; measure it") as refused:
        find(ask(table=dataclasses.replace(CPU, rows=bare)), Dynamic())
    assert "'amd-epyc.torch-cpu.float32'" in str(refused.value)
    with pytest.raises(TableError, match=r"no spread of timings for 'lcha': its latency is derived; measure it"):
        find(ask("260ms", table=IPHONE), Dynamic())
    request = ask(latency_model=Interpolate())
    between = dataclasses.replace(request, scope=CPU.scope("stream", video=(14, 24)))
    with pytest.raises(TableError, match="its latency is estimated"):
        find(between, Dynamic())


def test_a_confidence_needs_a_latency_budget_and_a_probability() -> None:
    with pytest.raises(InputError, match=r"no latency budget to keep with confidence 0\.95; give one"):
        ask("2GB")
    with pytest.raises(InputError, match=r"the confidence is 1\.5"):
        ask(confidence=1.5)


def test_a_plan_with_confidence_reads_back(tmp_path: Path) -> None:
    plan = find(ask(), Dynamic())
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_the_command_prints_what_the_confidence_costs(s2search: Callable[..., Outcome]) -> None:
    words = ["plan", "--table", "amd-epyc", "--video", "512x288", "--budget", "2820ms", "--confidence", "0.95"]
    outcome = s2search(*words)
    assert (outcome.code, outcome.err) == (0, "")
    text = " ".join(outcome.out.split())
    assert "with a probability of 95 %" in text
    assert "no common factor in the table" in text
    assert "price in score 0.000357: without confidence" in text
    assert "ties were not counted" not in text
    assert json.loads(s2search(*words, "--json").out)["confidence"]["asked"] == 0.95


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--budget", "260ms", "--confidence", "0.95"], "no spread of timings for 'lcha'"),
        (["--budget", "260ms", "--confidence", "0.5"], "the confidence is 0.5"),
        (["--budget", "260ms", "--confidence", "nan"], "the confidence is nan"),
        (["--budget", "260ms", "--confidence", "95%"], "'95%'"),
        (["--budget", "1.1GB", "--confidence", "0.95"], "no latency budget"),
    ],
)
def test_a_bad_confidence_gets_one_line(s2search: Callable[..., Outcome], words: list[str], named: str) -> None:
    outcome = s2search("plan", *words)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert named in outcome.err
