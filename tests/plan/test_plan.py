from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.cost import Budget
from s2search.errors import InfeasibleError, InputError, TableError
from s2search.latency.lookup import Lookup
from s2search.planner.find import find, front, price
from s2search.planner.plan import FewestSwitches, Plan
from s2search.planner.request import Request
from s2search.reporting.terminal import facts
from s2search.score.file import ScoreFile
from s2search.score.published import Published
from s2search.solver.allocation import Allocation
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.milp import Milp
from s2search.space import Space
from s2search.tables.table import LatencyTable, open_table

IPHONE = open_table("iphone-16-pro-max")
CPU = open_table("amd-epyc.torch-cpu.float32")
NEUTRAL = ScoreFile(
    schema="s2search.score/1", name="mine", statement="made up", scores={"lcha": 1.0, "ssa": 1.0, "kv_compressed": 1.0}
)


def ask(
    *budgets: str,
    table: LatencyTable = IPHONE,
    scenario: str = "stream",
    candidates: str = "lcha,ssa",
    depth: int = 28,
    **other: object,
) -> Request:
    settings = {"group_size": other.pop("group_size", 1)}
    return Request(
        table=table,
        scope=table.scope(scenario, video=(18, 32) if table is CPU else None),  # type: ignore[arg-type]
        space=Space.parse(candidates, depth=depth, **settings),  # type: ignore[arg-type]
        latency_model=Lookup(),
        budgets=tuple(Budget.parse(text) for text in budgets),
        **{"score": Published(), **other},  # type: ignore[arg-type]
    )


def with_switches(down_ms: float, up_ms: float) -> LatencyTable:
    costs = {"down": down_ms, "up": up_ms, "stem": 1.5, "head": 0.5}
    rows = tuple(dataclasses.replace(row, latency_ms=costs.get(row.part, row.latency_ms)) for row in IPHONE.rows)
    return dataclasses.replace(IPHONE, rows=rows)


@pytest.mark.parametrize(
    ("budget", "scenario", "commit", "high", "low"),
    [
        ("260ms", "stream", "reuse_last", 12, 16),
        ("535ms", "clip", "reuse_last", 12, 16),
        ("10fps", "stream", "reuse_last", 13, 15),
        ("10fps", "stream", "clean_pass", 8, 20),
    ],
)
def test_the_published_budgets_give_the_published_counts(
    budget: str, scenario: str, commit: str, high: int, low: int
) -> None:
    plan = find(ask(budget, scenario=scenario, commit=commit), Dynamic())
    assert plan.counts == {"lcha": high, "ssa": low}
    assert plan.optimal
    assert plan.fits


@pytest.mark.parametrize(("layers", "scenario", "total_ms"), [("L28", "clip", 900.0), ("S28", "clip", 258.0)])
def test_the_published_totals_come_back_to_a_tenth_of_a_millisecond(
    layers: str, scenario: str, total_ms: float
) -> None:
    """Source: S2DiT, table 3."""
    request = ask(scenario=scenario)
    plan = price(request, request.space.parse_layout(layers), Dynamic())
    assert plan.latency_ms.predicted == pytest.approx(total_ms, abs=0.05)


def test_the_published_sandwich_takes_260_ms_and_1124_ms_a_chunk() -> None:
    """Source: S2DiT, table A3."""
    request = ask("260ms")
    plan = price(request, request.space.parse_layout("L4S8L4S8L4"), Dynamic())
    assert plan.fits
    assert plan.latency_ms.predicted == pytest.approx(260.0, abs=0.05)
    assert plan.rate is not None
    assert plan.rate.chunk_ms["reuse_last"] == pytest.approx(1124, abs=0.1)
    assert plan.rate.frames_per_second["reuse_last"] == pytest.approx(10.7, abs=0.05)


@given(
    st.integers(1, 8),
    st.integers(20, 500),
    st.integers(50, 400),
    st.sampled_from([IPHONE, with_switches(3.0, 2.0), CPU]),
    st.sampled_from(["lcha,ssa", "ssa,kv_compressed,lcha"]),
)
def test_unseen_depths_and_budgets_equal_exhaustive(
    depth: int, milliseconds: int, megabytes: int, table: LatencyTable, candidates: str
) -> None:
    request = ask(f"{milliseconds}ms", f"{megabytes}MB", table=table, depth=depth, candidates=candidates)
    answers = []
    for solver in (Dynamic(), Exhaustive(), Milp()):
        try:
            answers.append(find(request, solver).score)
        except InfeasibleError:
            answers.append(None)
    assert answers[0] == answers[1] == answers[2]


def test_a_tie_is_broken_by_the_most_even_sandwich_with_high_ends_and_counted() -> None:
    plan = find(ask("260ms"), Dynamic())
    assert plan.written == "LSLSLS2LSLS2LSLS2LSLS2LSLS2L"
    assert plan.ties == 30_421_755  # 28 choose 12
    assert plan.fewest_switches == FewestSwitches(written="L6S16L6", switches=2, latency_ms=plan.latency_ms.predicted)


def test_the_fewest_switches_are_another_rule() -> None:
    plan = find(ask("260ms"), Dynamic(), tie="fewest-switches")
    assert (plan.written, plan.tie_break, plan.fewest_switches) == ("L6S16L6", "fewest switches", None)


def test_a_layout_without_any_switch_is_named_where_it_ties() -> None:
    plan = find(ask(depth=6, score=NEUTRAL, table=with_switches(0.5, 0.5)), Dynamic())
    assert (plan.written, plan.switches) == ("S6", 2)
    assert plan.fewest_switches is not None
    assert (plan.fewest_switches.written, plan.fewest_switches.switches) == ("L6", 0)


def test_where_switches_cost_time_the_plan_wastes_none_on_them() -> None:
    """Of those that tie the front's point is the fastest: no slack is spent on switches."""
    request = ask("263ms", table=with_switches(0.5, 0.5))
    plan = find(request, Dynamic())
    assert (plan.written, plan.switches, plan.fewest_switches) == ("L6S16L6", 2, None)
    assert plan.tie_break == "fastest"


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("260ms", "22 switches, which this table prices at 0; at 0.1 ms each this layout would be 2.19 ms over"),
        ("10fps", "24 switches, which this table prices at 0; at 0.5 ms each this layout would be 4.17 ms over"),
        (None, None),
    ],
)
def test_free_switches_are_owned_up_to(budget: str | None, said: str | None) -> None:
    plan = find(ask(*filter(None, [budget])), Dynamic())
    assert plan.latency_ms.free_switches == said
    assert (said or "") in " ".join(dict(facts(plan))["latency"].split())


def test_priced_switches_need_no_such_word() -> None:
    plan = find(ask("280ms", table=with_switches(0.5, 0.5)), Dynamic())
    assert plan.switches
    assert plan.latency_ms.free_switches is None


def test_the_first_few_layouts_that_tie_are_named_and_are_as_good() -> None:
    plan = find(ask("260ms"), Dynamic())
    assert plan.ties_exact
    assert plan.tie_break == "fastest"
    assert plan.tied_layouts == ("L12S16", "L11SLS15", "L11S2LS14")
    for written in plan.tied_layouts:
        request = ask("260ms")
        assert price(request, request.space.parse_layout(written), Dynamic()).optimal


@pytest.mark.parametrize(("budget", "down_ms"), [("260ms", 0.0), ("290ms", 0.5), ("275ms", 3.0)])
@pytest.mark.parametrize("names", [["lcha", "ssa"], ["ssa", "kv_compressed", "lcha"]])
def test_the_order_of_the_candidates_does_not_change_the_layout_that_is_shown(
    budget: str, down_ms: float, names: list[str]
) -> None:
    scores = {"lcha": 3.0, "kv_compressed": 2.0, "ssa": 1.0}
    score = ScoreFile(schema="s2search.score/1", name="mine", statement="made up", scores=dict(scores))
    plans = [
        find(ask(budget, table=with_switches(down_ms, 0.5), candidates=",".join(order), score=score), Dynamic())
        for order in itertools.permutations(names)
    ]
    assert len({plan.layout for plan in plans}) == 1
    assert len({plan.tied_layouts for plan in plans}) == 1


def test_where_no_even_sandwich_is_as_good_the_best_of_what_ties_is_shown() -> None:
    """Two of the last three layers score higher as lcha, and any two of them equally: between them nothing is even."""
    score = ScoreFile(
        schema="s2search.score/1",
        name="mine",
        statement="made up",
        scores={"lcha": [1.0, 1.0, 1.0, 9.0, 9.0, 9.0], "ssa": 0.0},
    )
    latency_ms = {row.label: row.latency_ms for row in IPHONE.rows if row.scenario == "stream"}
    budget_ms = 2 * latency_ms["lcha"] + 4 * latency_ms["ssa"] + 0.01
    plan = find(ask(f"{budget_ms}ms", depth=6, score=score), Dynamic())
    assert plan.written == "S3LSL"
    assert plan.tie_break == "fastest"
    assert (plan.ties, plan.tied_layouts) == (3, ("S3L2S", "S4L2"))


def test_near_ties_score_less_by_at_most_the_gap_and_are_counted_to_the_last() -> None:
    plan = find(ask("260ms"), Dynamic(), near=0.001)
    near = plan.near_ties
    assert near is not None
    assert near.exact
    assert near.count == math.comb(28, 11) + math.comb(28, 10)
    request = ask("260ms")
    for layout in near.layouts:
        priced = price(request, request.space.parse_layout(layout.written), Dynamic())
        assert priced.fits
        assert priced.score == layout.score
        assert plan.score - 0.001 <= layout.score < plan.score
    assert len(near.layouts) == 3


def test_where_ties_cannot_all_be_counted_the_plan_says_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2search.solver.questions.ties._MOST_ARCS", 28 * 3 * 4)
    plan = find(ask("260ms", candidates="lcha,ssa,kv_compressed", score=NEUTRAL), Dynamic(), near=1.0)
    assert plan.ties is not None
    assert plan.ties > 1
    assert not plan.ties_exact
    assert f"at least {plan.ties:,} layouts tie" in dict(facts(plan))["score"]


@pytest.mark.parametrize("near", [-0.001, float("nan"), float("inf")])
def test_a_score_gap_that_is_no_gap_is_refused(near: float) -> None:
    with pytest.raises(InputError, match="the score gap of near-ties is"):
        find(ask("260ms"), Dynamic(), near=near)


@pytest.mark.parametrize("ties", ["null", "7"])
def test_a_plan_file_from_before_ties_were_named_still_reads(tmp_path: Path, ties: str) -> None:
    content = json.loads(find(ask("260ms"), Dynamic()).to_json())
    for later in ("ties_exact", "tied_layouts", "tie_break", "fewest_switches", "near_ties"):
        del content[later]
    content["ties"] = json.loads(ties)
    (tmp_path / "plan.json").write_text(json.dumps(content))
    plan = Plan.load(tmp_path / "plan.json")
    assert (plan.ties, plan.ties_exact, plan.tied_layouts, plan.near_ties) == (json.loads(ties), True, (), None)


def test_the_slack_of_a_budget_is_not_spent_on_switches() -> None:
    plan = find(ask("290ms", table=with_switches(0.5, 0.5)), Dynamic())
    assert plan.fits
    assert plan.counts["lcha"] >= 12
    assert plan.latency_ms.predicted <= 290
    blocks = sum(plan.blocks[label].latency_ms for label in plan.layout)
    assert plan.latency_ms.predicted == pytest.approx(blocks + plan.latency_ms.switches + plan.latency_ms.fixed)
    assert plan.latency_ms.fixed == 2.0
    assert plan.written == "L7S14L7"


def test_groups_take_the_same_block() -> None:
    plan = find(ask("260ms", group_size=4), Dynamic())
    assert all(len(set(plan.layout[i : i + 4])) == 1 for i in range(0, 28, 4))
    assert plan.counts == {"lcha": 12, "ssa": 16}
    assert plan.ties == 35  # 7 choose 3


def test_memory_is_weights_and_state_and_fixed_parts_and_one_peak() -> None:
    request = ask()
    plan = price(request, request.space.parse_layout("L12S16"), Dynamic())
    rows = {row.label: row for row in IPHONE.rows if row.scenario == "stream"}
    resident = {name: row.weight_bytes + row.state_bytes for name, row in rows.items()}
    fixed = sum(resident[name] for name in ("stem", "head", "down", "up", "long_skip", "codec"))
    assert plan.memory_bytes.fixed == fixed
    assert plan.memory_bytes.predicted == fixed + 12 * resident["lcha"] + 16 * resident["ssa"] + rows["lcha"].peak_bytes


def test_a_memory_budget_binds_to_the_byte() -> None:
    request = ask()
    best = find(request, Dynamic())
    exact = find(ask(f"{best.memory_bytes.predicted}B"), Dynamic())
    assert exact.memory_bytes.slack == 0
    assert exact.score == best.score
    assert find(ask(f"{best.memory_bytes.predicted - 1}B"), Dynamic()).score < best.score


def test_the_tighter_of_a_rate_and_a_latency_budget_holds() -> None:
    assert find(ask("10fps", "260ms"), Dynamic()).latency_ms.budget == 260
    assert find(ask("10fps", "300ms"), Dynamic()).latency_ms.budget == 279


def test_the_interval_is_the_sum_of_the_rows_deviations() -> None:
    plan = find(ask("260ms"), Dynamic())
    spread = {row.part: row.latency_std_ms for row in IPHONE.rows if row.scenario == "stream" and not row.options}
    half = 1.96 * (12 * (spread["lcha"] or 0) + 16 * (spread["ssa"] or 0))
    assert plan.latency_ms.low == pytest.approx(plan.latency_ms.predicted - half, abs=1e-3)
    assert plan.latency_ms.high == pytest.approx(plan.latency_ms.predicted + half, abs=1e-3)


def test_the_interval_counts_switches_and_fixed_parts_too() -> None:
    request = ask(table=CPU)
    plan = price(request, request.space.parse_layout("L14S8L2S4"), Dynamic())
    std = {row.part: row.latency_std_ms or 0 for row in CPU.in_scope(request.scope)}
    total = 16 * std["lcha"] + 12 * std["ssa"] + 2 * std["down"] + 2 * std["up"] + std["stem"] + std["head"]
    assert plan.latency_ms.high == pytest.approx(plan.latency_ms.predicted + 1.96 * total, abs=2e-3)


def test_the_peak_is_at_least_that_of_the_fixed_parts_and_switches() -> None:
    h100 = open_table("h100")
    scope = h100.scope("stream", video=(18, 32))
    peaks = {row.part: row.peak_bytes for row in h100.in_scope(scope)}
    assert peaks["head"] > peaks["ssa"]
    request = dataclasses.replace(ask(table=IPHONE), table=h100, scope=scope)
    plan = price(request, request.space.parse_layout("S28"), Dynamic())
    assert plan.memory_bytes.peak == max(peaks[part] for part in ("ssa", "stem", "head", "down", "up"))


def test_a_plan_whose_counts_are_not_its_layouts_is_refused(tmp_path: Path) -> None:
    text = find(ask("260ms"), Dynamic()).to_json()
    (tmp_path / "plan.json").write_text(text.replace('"lcha": 12', '"lcha": 28', 1))
    with pytest.raises(InputError, match="are not those of its layout"):
        Plan.load(tmp_path / "plan.json")


def test_a_row_without_a_spread_gives_no_interval() -> None:
    rows = tuple(dataclasses.replace(row, latency_std_ms=None) if row.part == "ssa" else row for row in IPHONE.rows)
    plan = find(ask("260ms", table=dataclasses.replace(IPHONE, rows=rows)), Dynamic())
    assert plan.latency_ms.low is None
    assert plan.latency_ms.high is None


def test_a_score_that_depends_on_the_position_decides_the_layout() -> None:
    score = ScoreFile(
        schema="s2search.score/1", name="mine", statement="made up", scores={"lcha": [5.0, 1.0, 3.0, 0.5], "ssa": 0.0}
    )
    plan = find(ask("45ms", depth=4, score=score), Dynamic())
    assert plan.layout == ("lcha", "ssa", "lcha", "ssa")
    assert plan.ties == 1


def test_a_hand_written_layout_is_priced_even_over_budget() -> None:
    request = ask("260ms")
    plan = price(request, request.space.parse_layout("L28"), Dynamic())
    assert not plan.fits
    assert not plan.optimal
    assert plan.latency_ms.slack == pytest.approx(260 - 28 * 15.675)
    assert plan.upper_bound == find(request, Dynamic()).score


def test_allocation_claims_no_optimum_and_never_beats_it() -> None:
    for milliseconds in range(130, 440, 30):
        request = ask(f"{milliseconds}ms")
        assert find(request, Allocation()).score <= find(request, Dynamic()).score
    assert find(ask("535ms", scenario="clip"), Allocation()).counts == {"lcha": 12, "ssa": 16}


def test_a_plan_file_reads_back_and_keeps_its_digest(tmp_path: Path) -> None:
    plan = find(ask("10fps", "1.5GB"), Dynamic())
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert Plan.load(tmp_path / "plan.json").digest == plan.digest
    assert plan.provenance.table_digest == IPHONE.digest


@pytest.mark.parametrize("content", ["", "{}", '{"schema": "s2search.plan/9"}', "\x00"])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(InputError, match="is not a plan of schema"):
        Plan.load(tmp_path / "plan.json")


def test_a_rate_needs_a_pipeline_and_a_stream() -> None:
    card = dataclasses.replace(IPHONE.card, pipeline=None)
    with pytest.raises(TableError, match="has no pipeline part"):
        ask("10fps", table=dataclasses.replace(IPHONE, card=card))
    with pytest.raises(InputError, match="is a rate of streaming"):
        ask("10fps", scenario="clip")


def test_two_budgets_of_a_kind_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 latency budgets: 260ms and 0\.3s"):
        ask("260ms", "0.3s")


def test_a_table_without_a_stem_or_a_switch_is_refused() -> None:
    for part in ("stem", "head", "down", "up"):
        rows = tuple(row for row in IPHONE.rows if row.part != part)
        with pytest.raises(TableError, match=part):
            find(ask("260ms", table=dataclasses.replace(IPHONE, rows=rows)), Dynamic())


def best_score(budget: str, table: LatencyTable) -> float:
    return Dynamic().solve(ask(budget, "1.5GB", table=table).problem).score


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(IPHONE, id="free switches", marks=pytest.mark.slow),
        pytest.param(with_switches(3.0, 2.0), id="switches", marks=pytest.mark.slow),
        pytest.param(CPU, id="measured"),
    ],
)
def test_a_front_rises_and_each_of_its_plans_is_the_best_at_its_latency(tmp_path: Path, table: LatencyTable) -> None:
    plans = front(ask("1.5GB", table=table), Dynamic(), points=5)
    assert plans[0].counts["lcha"] == 0
    assert plans[-1].counts["lcha"] == 28
    for plan in plans:
        assert best_score(f"{plan.latency_ms.predicted}ms", table) == plan.score
        if plan is not plans[0]:
            assert best_score(f"{plan.latency_ms.predicted - 0.001:.3f}ms", table) < plan.score
    middle = plans[len(plans) // 2]
    assert find(ask(f"{middle.latency_ms.predicted}ms", "1.5GB", table=table), Dynamic()).layout == middle.layout
    plans.save(tmp_path / "front.csv")
    lines = (tmp_path / "front.csv").read_text().splitlines()
    assert lines[0].startswith("latency_ms,memory_bytes,score,lcha,ssa,layout,tables,table_digests,")
    assert len(lines) == len(plans) + 1
    with pytest.raises(InputError, match="cannot limit it"):
        front(ask("260ms"), Dynamic())
