"""Budgets of first frames, of a 95th percentile and under sustained load."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import s2search
from s2search.cost import Budget, CommitPolicy, Pipeline
from s2search.errors import InfeasibleError, InputError, QuantityError, TableError
from s2search.measurement.samples import Entry, Ready, Sample
from s2search.planner.condition import Percentile
from s2search.planner.plan import Plan
from s2search.planner.request import Request
from s2search.reporting.command import plan_command
from s2search.reporting.terminal import facts
from s2search.score.file import ScoreFile
from s2search.tables.samples import pass_times
from s2search.tables.table import LatencyTable, installed_folder, installed_tables, open_table

CPU, PHONE = open_table("amd-epyc"), open_table("iphone-16-pro-max")
CPU_FOLDER = installed_tables()[CPU.name]
LABELS = ("lcha", "ssa", "kv_compressed")
DEPTH = 5
FORMS = "first:TIME, p95:TIME, or a quantity alone"


def scores(seed: int) -> ScoreFile:
    drawn = np.random.default_rng(seed).integers(0, 50, (len(LABELS), DEPTH)) / 10
    named = {label: row.tolist() for label, row in zip(LABELS, drawn, strict=True)}
    return ScoreFile(schema="s2search.score/1", name="drawn", statement="drawn", scores=named)


def every_layout() -> list[tuple[int, ...]]:
    return list(itertools.product(range(len(LABELS)), repeat=DEPTH))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("p99:300ms", FORMS),
        ("second:300ms", FORMS),
        ("first:10fps", "limits 'first' by 10fps; " + FORMS),
        ("p95:1GB", FORMS),
        ("first:", "not a finite number"),
        ("first:300", "has no unit"),
        ("first:-3ms", "not a positive quantity"),
        ("first:1ms:2ms", "not a finite number"),
        ("10fps@hot", "@sustained, or nothing"),
        ("10fps@", "@sustained, or nothing"),
        ("1GB@sustained", "does not depend on the load"),
    ],
)
def test_a_budget_that_says_nothing_is_refused_in_one_line_with_the_forms_there_are(text: str, complaint: str) -> None:
    with pytest.raises(QuantityError) as caught:
        Budget.parse(text)
    assert complaint in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_budget_of_a_name_keeps_its_number_and_its_text() -> None:
    budget = Budget.parse(" P95 : 0.3 s @ Sustained ")
    assert (budget.kind, int(budget.amount), budget.sustained) == ("p95", 300_000, True)
    assert budget.text == "P95 : 0.3 s @ Sustained"
    assert not Budget.parse("first:800ms").sustained


@given(
    steps=st.integers(1, 8),
    text_us=st.integers(0, 10**6),
    decoder_us=st.integers(0, 10**6),
    first_us=st.integers(1, 10**7),
    commit=st.sampled_from(["reuse_last", "clean_pass"]),
)
def test_a_pass_within_what_first_frames_leave_is_in_time_and_one_microsecond_more_is_not(
    steps: int, text_us: int, decoder_us: int, first_us: int, commit: CommitPolicy
) -> None:
    pipeline = Pipeline(chunk_frames=12, steps=steps, text_ms=text_us / 1000, decoder_ms=decoder_us / 1000)
    asked = Budget.parse(f"first:{first_us}us")
    if first_us - pipeline.once_per_chunk_us < pipeline.forwards(commit):
        with pytest.raises(QuantityError, match="no time for the transformer"):
            pipeline.first_budget_us(asked.amount, commit)
        return
    left_us = pipeline.first_budget_us(asked.amount, commit)
    assert pipeline.first_frames_us(left_us, commit) <= first_us < pipeline.first_frames_us(left_us + 1, commit)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    first_ms=st.integers(170, 520),
    memory_mb=st.integers(260, 420),
    commit=st.sampled_from(["reuse_last", "clean_pass"]),
    further_ms=st.sampled_from([None, 2, 3, 4]),
)
def test_first_frames_are_kept_exactly_as_by_trying_every_layout(
    seed: int, first_ms: int, memory_mb: int, commit: CommitPolicy, further_ms: int | None
) -> None:
    budgets = [f"first:{first_ms}ms", f"{memory_mb}MB"]
    tables = [(PHONE, budgets)] if further_ms is None else [(PHONE, budgets), ("h100", f"{further_ms}ms")]
    asked = {"depth": DEPTH, "candidates": ",".join(LABELS), "video": "512x288", "commit": commit}
    fits: list[float] = []
    pipeline = PHONE.card.pipeline
    assert pipeline is not None
    whole = s2search.plan(tables[0][0] if further_ms is None else [t for t, _ in tables], score=scores(seed), **asked)
    request: Request = whole.__dict__["_question"][0]
    for layout in every_layout():
        price = request.problem.price(layout)
        kept = 4_000 + 80_000 + pipeline.forwards(commit) * price.latency_us <= 1000 * first_ms
        kept &= price.total_bytes <= memory_mb * 10**6
        if further_ms is not None:
            kept &= request.problem.on_device(request.problem.devices[0]).price(layout).latency_us <= 1000 * further_ms
        if kept:
            fits.append(price.score)
    if not fits:
        with pytest.raises(InfeasibleError):
            s2search.plan(tables, score=scores(seed), **asked)
        return
    plan = s2search.plan(tables, score=scores(seed), **asked)
    assert plan.score == max(fits)
    assert plan.optimal
    assert plan.first is not None
    assert plan.first.predicted <= first_ms


def test_the_arithmetic_of_first_frames_counts_the_clean_pass() -> None:
    reused, cleaned = (s2search.plan(budget="first:900ms", commit=c) for c in ("reuse_last", "clean_pass"))
    assert reused.first is not None
    assert cleaned.first is not None
    assert reused.first.arithmetic == "(900 ms - 4 ms - 80 ms) / 4 = 204 ms"
    assert cleaned.first.arithmetic == "(900 ms - 4 ms - 80 ms) / 5 = 163.2 ms"
    assert cleaned.first.predicted == pytest.approx(84 + 5 * cleaned.latency_ms.predicted)
    assert "first:900ms is (900 ms - 4 ms - 80 ms) / 4 = 204 ms per forward pass" in dict(facts(reused))["first"]
    assert s2search.plan().first is None


@pytest.mark.parametrize("asked", ["first:300ms", "first:80ms"])
def test_first_frames_too_soon_are_answered_by_the_soonest_that_there_are(asked: str) -> None:
    with pytest.raises(InfeasibleError) as caught:
        s2search.plan(budget=asked)
    answer = caught.value.fields["answer"]
    assert str(caught.value).endswith(f"ask for first:{answer.least_first_ms:g}ms")
    assert s2search.plan(budget=f"first:{answer.least_first_ms}ms").fits
    with pytest.raises(InfeasibleError):
        s2search.plan(budget=f"first:{1000 * answer.least_first_ms - 1}us")


def test_a_rate_and_first_frames_that_no_layout_keeps_are_both_answered() -> None:
    with pytest.raises(InfeasibleError) as caught:
        s2search.plan(budget=["30fps", "first:300ms"])
    assert "ask for 20.4fps and first:587.216ms" in str(caught.value)
    assert s2search.plan(budget=["20.4fps", "first:587.216ms"]).fits


def test_first_frames_need_a_pipeline_and_a_stream() -> None:
    with pytest.raises(TableError, match=r"no pipeline part .* so first:3s says nothing"):
        s2search.plan(CPU, video="512x288", budget="first:3s")
    with pytest.raises(InputError, match="first:3s is about streaming, and the scenario is 'clip'"):
        s2search.plan(scenario="clip", budget="first:3s")
    assert s2search.plan(CPU, video="512x288", budget="first:9s", steps=2, text_ms=4, decode_ms=80).fits
    with pytest.raises(InputError, match="2 first budgets: first:1s and first:2s"):
        s2search.plan(budget=["first:1s", "first:2s"])


def test_first_frames_go_with_confidence_explanation_and_a_further_table() -> None:
    sure = s2search.plan(CPU, video="512x288", budget="first:5800ms", steps=2, text_ms=4, decode_ms=80, confidence=0.9)
    assert sure.confidence is not None
    assert sure.latency_ms.budget == 2858
    assert sure.confidence.latency_ms <= 2858
    (checked,) = s2search.plan_check(sure).devices[0].budgets
    assert checked.then is None  # the plan tells its first frames by medians
    assert checked.now == pytest.approx(84 + 2 * sure.confidence.latency_ms, abs=0.002)
    assert s2search.plan(budget="first:800ms", explain=True).explanation is not None
    named = s2search.plan("iphone-16-pro-max:first:800ms,1.3GB", depth=28)
    assert named.layout == s2search.plan(budget=["first:800ms", "1.3GB"]).layout


def test_a_plan_of_first_frames_is_checked_and_compared_by_them(tmp_path: Path) -> None:
    plan = s2search.plan(budget="first:800ms")
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert loaded.digest == plan.digest
    check = s2search.plan_check(loaded)
    (budget,) = check.devices[0].budgets
    assert (budget.kind, budget.limit, budget.kept) == ("first", 800, True)
    assert budget.then == budget.now == plan.first.predicted  # type: ignore[union-attr]
    assert budget.slack == pytest.approx(800 - budget.now)
    slower = dataclasses.replace(PHONE.card.pipeline, decoder_ms=180.0)  # type: ignore[type-var]
    late = dataclasses.replace(PHONE, card=dataclasses.replace(PHONE.card, pipeline=slower))
    missed = s2search.plan_check(loaded, late)
    assert not missed.holds
    assert missed.devices[0].budgets[0].now == pytest.approx(budget.now + 100)
    assert missed.devices[0].budgets[0].slack == pytest.approx(budget.slack - 100)
    assert missed.replan is not None
    assert missed.replan.devices[0].latency_ms <= 154
    moved = {
        one.name: (one.before, one.after) for one in plan.diff(s2search.plan(budget="first:900ms")).devices[0].budgets
    }
    assert moved["first frames"] == (800, 900)


def test_plans_from_before_these_budgets_keep_their_digest(tmp_path: Path) -> None:
    plan = s2search.plan(["iphone-16-pro-max:10fps", "h100:16ms"], video="512x288")
    content = json.loads(plan.to_json())
    for answer in (content, *content["devices"]):
        del answer["first"]
    for device in content["devices"]:
        del device["table_picked"]
    del content["p95"], content["provenance"]["table_picked"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert Plan.load(tmp_path / "old.json").digest == plan.digest


# A 95th percentile


def percentile_request(seed: int, budget: list[str], depth: int = DEPTH) -> Plan:
    return s2search.plan(
        CPU, video="512x288", depth=depth, candidates=",".join(LABELS), score=scores(seed), budget=budget
    )


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), p95_ms=st.integers(320, 1000), rest=st.sampled_from([[], ["180MB"], ["600ms"]]))
def test_a_95th_percentile_is_kept_as_by_trying_every_layout(seed: int, p95_ms: int, rest: list[str]) -> None:
    budget = [f"p95:{p95_ms}ms", *rest]
    try:
        plan = percentile_request(seed, budget)
    except InfeasibleError as error:
        plan, answer = None, error.fields["answer"]
    if plan is None:
        if least := {one.name: one.would_do for one in answer.limits}["p95"]:
            assert least > 1000 * p95_ms
            assert percentile_request(seed, [f"p95:{least}us", *rest]).p95 is not None
        return
    request: Request = plan.__dict__["_question"][0]
    fits = [request.problem.price(layout).score for layout in every_layout() if by_hand(request, layout)]
    assert plan.score == max(fits)
    assert plan.optimal
    assert plan.p95 is not None
    assert plan.p95.predicted <= plan.p95.bound + 1e-9
    assert plan.p95.bound <= p95_ms


def by_hand(request: Request, layout: tuple[int, ...]) -> bool:
    """The definition: every call's mean and own variance summed, what is shared as if the pass took all the budget."""
    budget_us = int(request.targets[0].p95.amount)  # type: ignore[union-attr]
    times = pass_times(request.table, request.scope, within_ms=budget_us / 1000)
    streams = [request.space.candidates[c].stream.name.lower() for c in layout]
    ends = ["high", *streams, "high"]
    parts = ["stem", "head", *(LABELS[c] for c in layout)]
    parts += [{"highlow": "down", "lowhigh": "up"}[a + b] for a, b in itertools.pairwise(ends) if a != b]
    mean_us = sum(round(1000 * times.calls[part].mean_ms) for part in parts)
    own = sum((1000 * times.calls[part].own_std_ms) ** 2 for part in parts)
    bound = mean_us + NormalDist().inv_cdf(0.95) * math.sqrt(own + (times.common_relative * budget_us) ** 2)
    return request.problem.admits(layout) and bound <= budget_us


def test_a_95th_percentile_costs_score_and_says_how_much() -> None:
    plan = s2search.plan(CPU, video="512x288", budget="p95:2700ms")
    plain = s2search.plan(CPU, video="512x288")
    assert plan.p95 is not None
    assert plan.p95.price == pytest.approx(plain.score - plan.score)
    assert plan.p95.score_without == plain.score
    z = NormalDist().inv_cdf(0.95)
    assert plan.p95.predicted == pytest.approx(plan.p95.mean + z * math.hypot(plan.p95.own_std, plan.p95.common_std))
    assert plan.ties is None
    assert "--budget p95:2700000us" in plan_command(plan)


def test_a_95th_percentile_stays_beside_budgets_of_medians() -> None:
    both = s2search.plan(CPU, video="512x288", budget=["p95:2700ms", "2500ms"])
    alone = s2search.plan(CPU, video="512x288", budget="2500ms")
    assert both.latency_ms.predicted <= 2500
    assert both.score == alone.score
    check = s2search.plan_check(both)
    assert [budget.kind for budget in check.devices[0].budgets] == ["latency", "p95"]
    assert check.holds
    assert check.devices[0].budgets[1].then == check.devices[0].budgets[1].now
    assert check.devices[0].budgets[1].slack == pytest.approx(2700 - check.devices[0].budgets[1].now)


def test_what_a_95th_percentile_cannot_be_asked_with_is_refused() -> None:
    ask = {"video": "512x288", "budget": "p95:2700ms"}
    with pytest.raises(TableError, match="has no samples beside it"):
        s2search.plan(budget="p95:300ms")
    with pytest.raises(TableError, match="has no samples beside it"):  # made here: nobody timed it
        s2search.plan(dataclasses.replace(CPU, name="mine"), **ask)
    with pytest.raises(InputError, match="both say how sure"):
        s2search.plan(CPU, confidence=0.9, **ask)
    with pytest.raises(InputError, match="the latency model is 'interpolate'"):
        s2search.plan(CPU, latency_model="interpolate", **ask)
    with pytest.raises(InputError, match="cannot be explained"):
        s2search.plan(CPU, explain=True, **ask)
    with pytest.raises(InputError, match=r"near-ties within 0.1 cannot be counted with the budget p95:2700ms"):
        s2search.plan(CPU, near=0.1, **ask)
    with pytest.raises(InputError, match="only the first table keeps a 95th percentile"):
        s2search.plan(["iphone-16-pro-max:260ms", "h100:p95:16ms"], video="512x288")
    with pytest.raises(InputError, match="the front goes over all latencies, so p95:2700ms cannot limit it"):
        s2search.frontier(CPU, **ask)


def test_samples_that_are_not_the_tables_own_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / CPU.name
    shutil.copytree(CPU_FOLDER, folder)
    assert s2search.plan(folder, video="512x288", budget="p95:2700ms").p95 is not None
    for path in folder.glob("samples*.jsonl"):
        path.write_text(path.read_text().replace('"ms":1', '"ms":2'))
    with pytest.raises(TableError, match="samples beside it that are not its own"):
        s2search.plan(folder, video="512x288", budget="p95:2700ms")


def sampled(
    folder: Path,
    *,
    common: float,
    own: float,
    repetitions: int = 1,
    rounds: int,
    state_s: float = 20.0,
    precision: str = "float32",
    further: Sequence[object] = (),
) -> LatencyTable:
    """Write the CPU table with samples of a device whose calls vary as they are told to, and open it.

    What calls share changes every `state_s` seconds; a call takes its row's latency. `further` lines come last.
    """
    rng, scope = np.random.default_rng(5), CPU.scope("stream", video="512x288")
    rows = [row for row in CPU.in_scope(scope) if row.latency_ms > 0]
    facts = {"precision": precision, "compute_unit": scope.compute_unit}
    lines: list[dict[str, object]] = [{"kind": "campaign", "schema": "s2search.samples/1", "device": facts}]
    keys = {f"stream {row.part_label} {row.grid}": row.latency_ms for row in rows}
    lines += [{"kind": "ready", "item": key, "repetitions": repetitions} for key in keys]
    clock_s, shared = 0.0, {}
    for number in range(rounds):
        for key in rng.permutation(list(keys)):
            clock_s += keys[key] / 1000
            state = shared.setdefault(int(clock_s // state_s), common * rng.standard_normal())
            away = state + own * rng.standard_normal(repetitions).mean()
            ms = keys[key] * (1 + away)
            at = "2026-11-30T00:00:00+00:00"
            lines.append(
                {"kind": "sample", "round": number, "item": key, "sentinel": False, "ms": ms, "at": at}
                | {"clock_s": clock_s}
            )
    text = "".join(f"{json.dumps(line)}\n" for line in (*lines, *further))
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    card = dataclasses.replace(CPU.card, protocol={"samples_digest": digest})
    dataclasses.replace(CPU, card=card).save(folder)
    (folder / "samples.jsonl").write_text(text)
    return LatencyTable.load(folder)


@pytest.mark.parametrize(("common", "own"), [(0.0, 0.06), (0.05, 0.02), (0.05, 0.0)])
@pytest.mark.parametrize("repetitions", [1, 9])
def test_what_calls_share_and_what_each_has_of_its_own_are_told_apart(
    tmp_path: Path, common: float, own: float, repetitions: int
) -> None:
    table = sampled(tmp_path / "t", common=common, own=own, repetitions=repetitions, rounds=600, state_s=4.0)
    times = pass_times(table, table.scope("stream", video="512x288"), within_ms=400)
    assert times.common_relative == pytest.approx(common, abs=0.012)
    spread = [call.own_std_ms / call.mean_ms for call in times.calls.values()]
    assert np.sqrt(np.mean(np.square(spread))) == pytest.approx(own, abs=0.012 * repetitions**0.5)


def test_a_95th_percentile_is_that_of_passes_drawn_from_the_same_device(tmp_path: Path) -> None:
    table = sampled(tmp_path / "t", common=0.04, own=0.08, rounds=1500)
    plan = s2search.price("L4S8L4S8L4", table, video="512x288", budget="p95:3s")
    rng = np.random.default_rng(0)
    calls = [plan.blocks[label].latency_ms for label in plan.layout]
    calls += [plan.latency_ms.switches / 4] * 4 + [plan.latency_ms.fixed / 2] * 2
    passes = [
        sum(
            ms * (1 + 0.04 * shared + 0.08 * each)
            for ms, each in zip(calls, rng.standard_normal(len(calls)), strict=True)
        )
        for shared in rng.standard_normal(20_000)
    ]
    assert plan.p95 is not None
    assert plan.p95.predicted == pytest.approx(float(np.percentile(passes, 95)), rel=0.015)


def test_too_few_samples_of_a_row_are_refused(tmp_path: Path) -> None:
    table = sampled(tmp_path / "t", common=0.04, own=0.08, rounds=9)
    with pytest.raises(TableError, match=r"hold 9 of '\S+' .*; at least 10, for a 95th percentile"):
        s2search.plan(table, video="512x288", budget="p95:3s")


def test_samples_of_another_precision_are_not_those_of_a_row(tmp_path: Path) -> None:
    table = sampled(tmp_path / "t", common=0.04, own=0.08, rounds=20, precision="float16")
    with pytest.raises(TableError, match="hold 0 of "):
        s2search.plan(table, video="512x288", budget="p95:3s")


@pytest.mark.parametrize("kind", [kind for kind in get_args(Entry) if kind not in (Ready, Sample)])
def test_whatever_a_lab_writes_beside_samples_they_are_no_single_calls(tmp_path: Path, kind: Any) -> None:
    given = {field.name: "a" if field.type is str else 1 for field in msgspec.structs.fields(kind)}
    line = json.loads(msgspec.json.encode(kind(**given)))
    table = sampled(tmp_path / "t", common=0.04, own=0.08, rounds=10, further=[line])
    with pytest.raises(TableError, match=r"are jobs of a device lab, .* single calls; measure with .*ms$") as caught:
        s2search.plan(table, video="512x288", budget="p95:3s")
    assert "\n" not in str(caught.value)


def test_the_percentile_asks_for_samples_once() -> None:
    request: Request = s2search.plan(CPU, video="512x288", budget="p95:2700ms").__dict__["_question"][0]
    asked = request.percentile
    assert isinstance(asked, Percentile)
    assert asked.times() is asked.times()


# Under sustained load


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    """A phone's table, and beside it the one under sustained load, on which everything takes 1.3 times as long."""
    cold, hot = tmp_path / "phone", tmp_path / "phone.sustained"
    PHONE.save(cold)
    rows = [dataclasses.replace(row, latency_ms=1.3 * row.latency_ms, latency_std_ms=None) for row in PHONE.rows]
    card = dataclasses.replace(PHONE.card, protocol={"mode": "sustained for 300 s in every group"})
    LatencyTable(name="phone.sustained", card=card, rows=tuple(rows)).save(hot)  # type: ignore[arg-type]
    return cold


def test_a_rate_under_sustained_load_is_planned_on_the_hot_table_and_names_it(phone: Path) -> None:
    hot = s2search.plan(phone, budget=["10fps@sustained", "1.3GB"])
    assert hot.provenance.table == "phone.sustained"
    assert hot.provenance.table_picked == "10fps@sustained"
    assert "sustained: phone.sustained, picked by 10fps@sustained" in dict(facts(hot))["load"]
    assert hot.layout == s2search.plan(f"{phone}.sustained", budget=["10fps", "1.3GB"]).layout
    assert hot.counts["lcha"] < s2search.plan(phone, budget=["10fps", "1.3GB"]).counts["lcha"]
    named = s2search.plan(f"{phone}.sustained", budget="10fps@sustained")
    assert named.provenance.table == "phone.sustained"


def test_first_frames_cold_and_a_rate_hot_hold_each_on_its_own_table(phone: Path) -> None:
    plan = s2search.plan(phone, budget=["first:900ms", "10fps@sustained", "1.3GB"])
    assert [device.table for device in plan.devices] == ["phone", "phone.sustained"]
    cold, hot = plan.devices
    assert cold.first is not None
    assert hot.rate is not None
    assert cold.first.predicted <= 900
    assert hot.rate.frames_per_second["reuse_last"] >= 10
    assert (cold.table_picked, hot.table_picked) == ("", "10fps@sustained")
    assert cold.memory_bytes.budget == 1_300_000_000


def test_without_a_table_under_load_nothing_is_promised_under_it(phone: Path, tmp_path: Path) -> None:
    for table in ("iphone-16-pro-max", PHONE, "amd-epyc"):
        with pytest.raises(
            TableError, match=r"was not measured under sustained load, and beside it is no '\S+.sustained'"
        ):
            s2search.plan(table, video="512x288", budget="10fps@sustained", steps=4, text_ms=4, decode_ms=80)
    shutil.rmtree(f"{phone}.sustained")
    CPU.save(f"{phone}.sustained")
    with pytest.raises(TableError, match="none of its device under that load"):
        s2search.plan(phone, budget="10fps@sustained")


def test_a_plan_under_sustained_load_is_checked_against_hot_tables_only(phone: Path) -> None:
    plan = s2search.plan(phone, budget="10fps@sustained")
    check = s2search.plan_check(plan, phone)  # the hot one beside it
    assert check.devices[0].table == "phone.sustained"
    assert check.holds
    assert check.devices[0].budgets[0].kind == "rate"
    with pytest.raises(TableError, match="was not measured under sustained load"):
        s2search.plan_check(plan, PHONE)


def test_the_first_words_of_a_name_mean_the_cold_table(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {
        name: Path(name) for name in ("phone.coreml.w4", "phone.coreml.w4.sustained", "pad.coreml.w4.sustained")
    }
    monkeypatch.setattr("s2search.tables.table.installed_tables", lambda: installed)
    assert installed_folder("phone") == Path("phone.coreml.w4")
    assert installed_folder("phone.coreml.w4.sustained") == Path("phone.coreml.w4.sustained")
    assert installed_folder("pad") == Path("pad.coreml.w4.sustained")


@pytest.mark.parametrize("budget", ["first:3s", "p95:3s", "260ms@sustained"])
def test_a_point_of_a_front_is_asked_for_by_its_latency_alone(budget: str) -> None:
    front = s2search.frontier(depth=4)
    with pytest.raises(InputError, match="is no latency of this front"):
        front.at(budget)
