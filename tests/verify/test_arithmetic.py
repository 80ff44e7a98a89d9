"""Frames per second of a plan: both commit policies and the codec, each number with its origin."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from s2search.cost import Budget, ToldPipeline
from s2search.latency.lookup import Lookup
from s2search.network.config import CausalForm
from s2search.planner.find import find
from s2search.planner.plan import Plan
from s2search.planner.request import Request
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space
from s2search.tables.table import DEFAULT_TABLE, LatencyTable, installed_tables
from s2search.verification.check import results
from s2search.verification.checks.arithmetic import ArithmeticCheck
from s2search.verification.opened import Options

PHONE = LatencyTable.load(installed_tables()[DEFAULT_TABLE])


def planned(budget: str = "10fps", **choices: object) -> Plan:
    request = Request(
        table=PHONE,
        scope=PHONE.scope("stream", video=(18, 32)),
        space=Space.parse("lcha,ssa", depth=28),
        latency_model=Lookup(),
        budgets=(Budget.parse(budget),),
        score=Published(),
        **choices,  # type: ignore[arg-type]
    )
    return find(request, Dynamic())


def arithmetic(
    plan: Plan | None, table: str | None = None, form: CausalForm | None = None, **thresholds: float
) -> tuple:
    config = SimpleNamespace(causal=form)
    source = SimpleNamespace(plan=plan, config=config)
    package = SimpleNamespace(manifest=SimpleNamespace(precision=plan.precision if plan else "float32"))
    opened = SimpleNamespace(package=package, source=source, options=Options(thresholds=thresholds, table=table))
    return results(ArithmeticCheck(), opened)  # type: ignore[arg-type]


def test_both_policies_are_priced_and_the_one_asked_for_is_held_to_the_rate():
    plan = planned()
    reuse, clean = arithmetic(plan)
    chunk_ms = 4 * plan.latency_ms.predicted + 4 + 80
    assert reuse.value == pytest.approx(12_000 / chunk_ms)
    assert clean.value == pytest.approx(12_000 / (chunk_ms + plan.latency_ms.predicted))
    assert (reuse.status, reuse.threshold) == ("passed", 10.0)
    assert (clean.status, clean.threshold) == ("passed", None)
    assert clean.value < 10 < reuse.value


def test_a_rate_that_the_numbers_do_not_give_fails():
    assert arithmetic(planned(), **{"arithmetic.reuse_last": 11.0})[0].status == "failed"


def test_every_number_says_where_it_comes_from():
    for one in arithmetic(planned()):
        assert "ms (derived) + text 4 ms (derived) + decoder 80 ms (" in one.why
        assert "for 12 frames (" in one.why
        assert "what committing takes is not in the table" in one.why


def test_committing_counts_where_the_table_says_what_it_takes():
    plan = planned()
    told = dataclasses.replace(plan, latency_ms=dataclasses.replace(plan.latency_ms, commit=30.0))
    before, after = arithmetic(plan)[0], arithmetic(told)[0]
    assert 12_000 / after.value - 12_000 / before.value == pytest.approx(30.0)
    assert "+ committing 30.0 ms (derived)" in after.why
    assert "not in the table" not in after.why


def test_a_table_that_is_no_longer_what_it_was_prices_nothing():
    plan = planned()
    origin = dataclasses.replace(plan.provenance, table_digest="sha256:" + "0" * 64)
    (found,) = arithmetic(dataclasses.replace(plan, provenance=origin))
    assert (found.status, found.required) == ("not_run", False)
    assert "plan again" in found.why


def test_a_table_that_is_not_installed_is_named(tmp_path):
    PHONE.save(tmp_path / "mine")
    plan = planned()
    elsewhere = dataclasses.replace(plan, provenance=dataclasses.replace(plan.provenance, table="mine"))
    (missing,) = arithmetic(elsewhere)
    assert "name it with --table" in missing.why
    assert [one.status for one in arithmetic(elsewhere, str(tmp_path / "mine"))] == ["passed", "passed"]


def test_without_a_plan_there_is_nothing_to_price():
    (found,) = arithmetic(None)
    assert found.status == "not_run"


@pytest.mark.parametrize(
    ("form", "passes", "said"),
    [
        (CausalForm(commit="reuse_last", level=0.8, schedule=(1.0, 0.8)), 2, "trained for 2 steps, reuse_last"),
        (CausalForm(commit="clean_pass", level=0.0, schedule=(1.0,)), 2, "trained for 1 step, clean_pass"),
        (CausalForm(commit="reuse_last", level=0.625), 51, "trained to follow the flow, reuse_last"),
        (CausalForm(commit="clean_pass", level=0.0), 51, "trained to follow the flow, clean_pass"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_trained_weights_are_priced_as_they_stream_and_held_to_the_rate(form, passes, said):
    plan = planned()
    (found,) = arithmetic(plan, form=form)
    assert found.name == f"arithmetic.{form.commit}"
    assert found.value == pytest.approx(12_000 / (passes * plan.latency_ms.predicted + 4 + 80))
    assert found.threshold == 10.0
    assert found.status == ("passed" if found.value >= 10 else "failed")
    assert f"{said}, and the plan counts 4 steps, reuse_last" in found.why


def test_what_was_told_with_the_plan_is_no_contradiction_where_the_weights_say_the_same():
    plan = planned(told=ToldPipeline(steps=2))
    (found,) = arithmetic(plan, form=CausalForm(commit="reuse_last", level=0.8, schedule=(1.0, 0.8)))
    assert "trained for 2 steps, reuse_last" in found.why
    assert "the plan counts" not in found.why
