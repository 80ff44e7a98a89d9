"""Rows of commits are a table's own matter: what is asked of forward passes gets the same answer with and without."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.block import Stream
from s2search.latency.base import LatencyModel
from s2search.latency.interpolate import Interpolate
from s2search.latency.linear import Linear
from s2search.latency.lookup import Lookup
from s2search.latency.roofline import Roofline
from s2search.latency.transfer import Transfer
from s2search.lint.linter import lint
from s2search.planner.evidence import Evidence
from s2search.planner.explain import explain
from s2search.planner.find import find, price
from s2search.planner.plan import Plan
from s2search.planner.request import Request
from s2search.reporting.terminal import facts
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space
from s2search.tables.compare import compare
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, open_table

SHIPPED = open_table("amd-epyc")
WITHOUT = dataclasses.replace(SHIPPED, rows=tuple(row for row in SHIPPED.rows if row.role != "commit"))
SPACE = Space.parse("lcha,ssa", depth=28)


def committing(row: Row, latency_ms: float) -> Row:
    return dataclasses.replace(
        row, role="commit", latency_ms=latency_ms, latency_p10_ms=None, latency_p90_ms=None, latency_mean_ms=None
    )


def with_commits(table: LatencyTable = WITHOUT, **latency_ms: float) -> LatencyTable:
    """The table with commits of some blocks, before all other rows, where they would be found first."""
    commits = (
        committing(row, latency_ms[row.part])
        for row in table.rows
        if row.role == "block" and row.scenario == "stream" and row.part in latency_ms
    )
    return dataclasses.replace(table, rows=(*commits, *table.rows))


BOTH = with_commits(lcha=7.25, ssa=1.125)


def ask(table: LatencyTable, *, model: LatencyModel | None = None, video: tuple[int, int] = (18, 32)) -> Request:
    return Request(
        table=table,
        scope=dataclasses.replace(
            scope := table.scope("stream", video=(18, 32)),
            shape=dataclasses.replace(scope.shape, height=video[0], width=video[1]),
        ),
        space=SPACE,
        latency_model=model or Lookup(),
        score=Published(),
    )


@given(choice_L=st.lists(st.sampled_from([0, 1]), min_size=28, max_size=28))
@settings(max_examples=30, deadline=None)
def test_the_commits_of_a_plan_are_the_sum_over_its_layers_and_nothing_else_moves(choice_L: list[int]) -> None:
    with_, without = (price(ask(table), choice_L, Dynamic()) for table in (BOTH, WITHOUT))
    lcha = choice_L.count(0)
    assert with_.latency_ms.commit == (7250 * lcha + 1125 * (28 - lcha)) / 1000
    assert without.latency_ms.commit is None
    assert dataclasses.replace(with_.latency_ms, commit=None) == without.latency_ms
    assert (with_.memory_bytes, with_.score, with_.blocks) == (without.memory_bytes, without.score, without.blocks)


def test_a_search_finds_the_same_layout_with_commits_and_without() -> None:
    with_, without = (find(ask(table), Dynamic()) for table in (BOTH, WITHOUT))
    assert (with_.layout, with_.ties, with_.upper_bound) == (without.layout, without.ties, without.upper_bound)
    assert explain(ask(BOTH), with_.layout, Dynamic()).rows == explain(ask(WITHOUT), without.layout, Dynamic()).rows


@pytest.mark.parametrize("table", [with_commits(lcha=7.0), with_commits(ssa=1.0), WITHOUT])
def test_where_one_layer_states_no_commit_the_sum_is_unknown_not_smaller(table: LatencyTable) -> None:
    assert price(ask(table), [0, 1] * 14, Dynamic()).latency_ms.commit is None


def test_the_sum_is_unknown_at_a_video_size_that_was_not_measured() -> None:
    assert price(ask(BOTH, model=Interpolate(), video=(13, 24)), [0] * 28, Dynamic()).latency_ms.commit is None


def test_what_is_said_of_a_plan_names_the_commits_only_where_they_are_known() -> None:
    told = [dict(facts(price(ask(table), [0] * 28, Dynamic())))["latency"] for table in (BOTH, WITHOUT)]
    assert [text.count("committing a chunk takes 203.0 ms more") for text in told] == [1, 0]


def test_a_plan_without_commits_keeps_the_digest_from_before_there_were_any(tmp_path: Path) -> None:
    plan = find(ask(WITHOUT), Dynamic())
    said = msgspec.json.decode(msgspec.json.encode(plan))
    for name in ("fewest_switches", "score_stability", "score_error", "tie_score", "first", "p95", "precisions"):
        del said[name]
    for name in ("commit", "free_switches", "provenance"):
        del said["latency_ms"][name]
    for name in ("latency_model_options", "score_options", "solver_options", "table_marks", "table_picked", "project"):
        del said["provenance"][name]
    before = msgspec.json.encode(said)
    digest = f"sha256:{hashlib.sha256(msgspec.json.encode(said, order='sorted')).hexdigest()}"
    assert plan.digest == digest
    (tmp_path / "old.json").write_bytes(before)
    assert Plan.load(tmp_path / "old.json").digest == digest
    plan.save(tmp_path / "new.json")
    assert Plan.load(tmp_path / "new.json").digest == digest
    committed = find(ask(BOTH), Dynamic())
    assert (
        committed.digest
        != dataclasses.replace(committed, latency_ms=dataclasses.replace(committed.latency_ms, commit=1.0)).digest
    )


@pytest.mark.parametrize(
    "model",
    [Lookup(), Interpolate(), Linear(), Roofline(tops=0.1, gbps=20), Transfer(known="amd-epyc")],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("video", [(18, 32), (13, 24)])
def test_no_latency_model_takes_a_commit_for_a_forward_pass(model: LatencyModel, video: tuple[int, int]) -> None:
    if video == (13, 24) and isinstance(model, Lookup | Transfer):
        pytest.skip("it answers for measured sizes alone")
    if isinstance(model, Transfer):
        lacking = [
            dataclasses.replace(table, rows=tuple(r for r in table.rows if (r.role, r.part) != ("block", "ssa")))
            for table in (with_commits(lcha=7.25, ssa=1.125, full=9.0), WITHOUT)
        ]
        found = [model.predict(table, ask(WITHOUT).scope, "ssa") for table in lacking]
        assert found[0] == found[1]
        return
    evidence = [
        Evidence.gather(table, ask(WITHOUT, video=video).scope, SPACE, model)
        for table in (with_commits(lcha=7.25, ssa=1.125, full=9.0, kv_compressed=3.0), WITHOUT)
    ]
    assert evidence[0] == evidence[1]
    assert {block.stream for block in SPACE.candidates} == {Stream.HIGH, Stream.LOW}


def test_a_comparison_sets_commits_against_commits() -> None:
    found = compare(BOTH, with_commits(lcha=14.5, ssa=1.125))
    ratios = {row.part: row.ratio for row in found.rows if "commit" in row.part}
    assert len(ratios) == 4
    assert sorted(ratios.values()) == [1.0, 1.0, 2.0, 2.0]  # type: ignore[type-var]
    assert all(row.ratio in (1.0, None) for row in found.rows if "commit" not in row.part)
    older = compare(WITHOUT, BOTH)
    assert len(older.only_after) == 4
    assert all("commit" in part for part in older.only_after)
    assert older.only_before == []


def test_commits_and_their_blocks_are_rows_of_their_own() -> None:
    keys = [row.key for row in BOTH.rows]
    assert len(set(keys)) == len(keys)
    assert {row.label for row in BOTH.rows if row.role == "commit"} == {"lcha commit", "ssa commit"}
    with pytest.raises(Exception, match=r"both give lcha commit \(stream, 3x18x32"):
        dataclasses.replace(BOTH, rows=(*BOTH.rows, BOTH.rows[0]))


def test_the_linter_asks_no_table_for_commits_and_finds_no_fault_with_good_ones(tmp_path: Path) -> None:
    for name, table in (("without", WITHOUT), ("some", with_commits(ssa=1.125)), ("both", BOTH)):
        table.save(tmp_path / name)
        assert lint(tmp_path / name) == []
        assert LatencyTable.load(tmp_path / name).digest == table.digest


def test_the_linter_finds_a_commit_of_what_is_no_block_and_one_without_state(tmp_path: Path) -> None:
    down = next(row for row in WITHOUT.rows if (row.scenario, row.part) == ("stream", "down"))
    stateless = dataclasses.replace(BOTH.rows[0], state_bytes=0)
    table = dataclasses.replace(WITHOUT, rows=(committing(down, 1.0), stateless, *WITHOUT.rows))
    table.save(tmp_path / "t")
    found = [(finding.rule, finding.row) for finding in lint(tmp_path / "t")]
    assert found == [("wrong_role", 2), ("mixed_scenarios", 3)]


def test_the_linter_reads_the_growth_of_commits_as_of_other_rows(tmp_path: Path) -> None:
    slow = (
        row if row.role != "commit" or row.height == 18 else dataclasses.replace(row, latency_ms=20.0)
        for row in BOTH.rows
    )
    dataclasses.replace(BOTH, rows=tuple(slow)).save(tmp_path / "t")
    found = lint(tmp_path / "t")
    assert {finding.rule for finding in found} == {"non_monotone"}
    assert all("commit" in finding.message for finding in found)


def test_every_pair_of_roles_gets_one_answer_in_any_order() -> None:
    scope = BOTH.scope("stream", video=(18, 32))
    for rows in itertools.islice(itertools.permutations(BOTH.rows[:4] + WITHOUT.rows[:2]), 50):
        table = dataclasses.replace(BOTH, rows=rows)
        assert Lookup().predict(table, scope, "lcha").cost.latency_us == 176251
        assert {row.latency_ms for row in table.commits_in_scope(scope)} == {7.25, 1.125}
