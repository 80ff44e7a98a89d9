from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search import registry
from s2search.cost import Budget
from s2search.errors import InputError, TableError
from s2search.latency.lookup import Lookup
from s2search.lint.linter import lint, lint_table
from s2search.measurement.retabulate import retabulate
from s2search.planner.find import price
from s2search.planner.request import Request
from s2search.recalibration.attribution import Parts
from s2search.recalibration.judgement import judge
from s2search.recalibration.packages import PackageBench
from s2search.recalibration.recalibrate import Settings, bench_of, draw_layouts, recalibrate
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space, parse_blocks
from s2search.tables.table import LatencyTable
from tests.recalibration.fake_bench import PRESET, TRUE_MS, FakeBench, fake_table, noon, run

BLOCKS = ("lcha", "ssa", "full")
MANY = [registry.create("blocks", f"lcha[linear_head_dim={size}]") for size in range(1, 21)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return fake_table(tmp_path_factory.mktemp("tables") / "old")


def rows_of(folder):
    return {row.label: row for row in LatencyTable.load(folder).rows}


def test_a_hand_over_at_every_layer_is_found_and_foretells_layouts_that_were_held_out(table, tmp_path):
    found = run(table, tmp_path / "new", per_layer_ms=0.3)
    assert found.correction.kind == "hand_over"
    assert set(found.correction.offset_ms) == set(BLOCKS)
    assert all(abs(ms - 0.3) < 0.02 for ms in found.correction.offset_ms.values())
    assert (found.held_out.layouts, found.fitted.layouts) == (20, 10)
    assert [one.held_out for one in found.layouts] == [False, True, True] * 10
    assert found.held_out.before_median > 0.1
    assert found.held_out.after_worst < 0.02 < found.held_out.before_worst
    rows = rows_of(tmp_path / "new")
    for label, ms in TRUE_MS.items():
        assert rows[label].latency_ms == pytest.approx(ms + 0.3 * (label in BLOCKS), abs=0.02)


def test_what_a_whole_graph_saves_makes_blocks_cheaper(table, tmp_path):
    found = run(table, tmp_path / "new", per_layer_ms=-0.2)
    assert all(abs(ms + 0.2) < 0.02 for ms in found.correction.offset_ms.values())
    assert found.held_out.after_worst < 0.02


@pytest.mark.parametrize(
    ("truth", "kind"),
    [
        ({"factor": 1.2}, "factor"),
        ({"per_layer_ms": 0.2, "per_switch_ms": 0.4}, "hand_over_switches"),
        ({"per_block_ms": {"lcha": 0.5, "ssa": -0.2}}, "blocks"),
    ],
)
def test_the_kind_of_the_miss_is_told(table, tmp_path, truth, kind):
    found = run(table, tmp_path / "new", **truth)
    assert found.correction.kind == kind
    assert found.held_out.after_worst < 0.03


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_a_table_without_a_systematic_miss_is_left_as_it_is(table, tmp_path, noise):
    found = run(table, tmp_path / "new", noise=noise)
    assert found.correction.kind == "none"
    assert (found.new_table, found.new_digest) == (None, None)
    assert not (tmp_path / "new" / "card.json").exists()
    assert found.held_out.after_median == found.held_out.before_median


def test_a_correction_that_held_out_layouts_refute_is_reported_and_not_written(table, tmp_path):
    found = run(table, tmp_path / "new", layouts=15, contaminated=(0, 3, 6, 9, 12))
    assert found.correction.kind != "none"
    assert found.held_out.after_median > 0.3 > found.held_out.before_median
    assert not found.judgement.supported
    assert "0 of 10 are foretold better, 9 are needed" in found.refusal
    assert (found.new_table, found.new_digest) == (None, None)
    assert not (tmp_path / "new" / "card.json").exists()


def test_a_correction_survives_a_few_contaminated_layouts(table, tmp_path):
    found = run(table, tmp_path / "new", per_layer_ms=0.3, contaminated=(3, 7, 11))
    assert found.new_table == "new"
    assert found.held_out.after_median < 0.05 < found.held_out.before_median


def test_a_machine_that_became_slower_during_the_run_is_no_miss_of_its_table(table, tmp_path):
    found = run(table, tmp_path / "new", layouts=15, drift=5e-4)
    assert found.drift_percent > 5
    assert found.correction.kind == "factor"
    assert found.held_out.after_median < 0.01 < found.held_out.before_median
    assert "beyond the" in found.refusal
    assert not (tmp_path / "new" / "card.json").exists()


def test_what_a_drift_cannot_explain_is_corrected(table, tmp_path):
    found = run(table, tmp_path / "new", layouts=15, drift=1e-4, per_block_ms={"lcha": 1.0, "ssa": -0.5})
    assert found.drift_percent > 1
    assert found.new_table == "new"


@given(st.integers(2, 8), st.integers(3, 8), st.integers(15, 33), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_every_block_is_seen_with_and_without_it_in_the_fit(blocks, depth, layouts, seed):
    space = Space(candidates=tuple(MANY[:blocks]), depth=depth)
    if space.layouts < layouts:
        return
    found = draw_layouts(space, layouts, seed)
    assert len(set(found)) == layouts
    for place in range(blocks):
        assert {place in choice_L for choice_L in found[::3]} == {True, False}


def test_too_few_layouts_to_show_every_block_are_refused():
    space = Space(candidates=tuple(MANY[:7]), depth=1)
    with pytest.raises(InputError, match="7 blocks at 1 layer can make 7"):
        draw_layouts(space, 15, seed=0)
    with pytest.raises(InputError, match="1 block at 6 layers can make 1; name more blocks"):
        draw_layouts(Space(candidates=tuple(MANY[:1]), depth=6), 4, seed=0)
    with pytest.raises(
        InputError, match="every third is for the fit, and 5 of 1 layer cannot show what 20 blocks take"
    ):
        draw_layouts(Space(candidates=tuple(MANY), depth=1), 15, seed=0)


def test_a_block_that_no_layout_had_leaves_the_table(table, tmp_path):
    settings = Settings(preset=PRESET, layouts=15, rounds=9, candidates=parse_blocks("lcha,ssa"))
    out = tmp_path / "new"
    bench = FakeBench(out=out, per_layer_ms=0.3)
    recalibrate(table, table.scope("stream"), settings, out, bench, clock=noon)
    new = LatencyTable.load(out)
    assert {row.part for row in table.rows} - {row.part for row in new.rows} == {"full"}


def test_rows_of_other_scopes_stay_measured_and_the_new_table_has_no_contradiction(tmp_path):
    both = fake_table(tmp_path / "old", scenarios=("stream", "clip"))
    run(both, tmp_path / "new", layouts=15, per_layer_ms=0.3)
    new = LatencyTable.load(tmp_path / "new")
    assert {(row.scenario, row.latency_provenance) for row in new.rows if row.role == "block"} == {
        ("stream", "derived"),
        ("clip", "measured"),
    }
    assert [one for one in lint(tmp_path / "new") if one.rule == "provenance_contradiction"] == []
    forged = [dataclasses.replace(row, latency_provenance="derived", samples=0, measured_at=None) for row in new.rows]
    forged[0] = new.rows[0] if new.rows[0].latency_provenance == "measured" else both.rows[0]
    found = {one.rule for one in lint_table(dataclasses.replace(new, rows=tuple(forged)))}
    assert ("provenance_contradiction" in found) == (forged[0].scenario == "stream")


def test_a_correction_that_would_contradict_the_tables_other_rows_is_not_written(table, tmp_path):
    larger = [
        dataclasses.replace(row, height=2 * row.height, latency_ms=1.01 * row.latency_ms, latency_p10_ms=None,
                            latency_p90_ms=None, latency_mean_ms=None, latency_std_ms=0.001)
        for row in table.rows
    ]  # fmt: skip
    two = dataclasses.replace(table, rows=(*table.rows, *larger))
    scope = table.scope("stream")
    out = tmp_path / "new"
    bench = FakeBench(out=out, factor=1.5)
    found = recalibrate(two, scope, Settings(preset=PRESET, layouts=15, rounds=9), out, bench, clock=noon)
    assert found.judgement.supported
    assert "corrected, it would contradict its other rows" in found.refusal
    assert not (out / "card.json").exists()


def test_interrupted_and_repeated_it_gives_the_same_table(table, tmp_path):
    whole, broken = tmp_path / "whole" / "new", tmp_path / "broken" / "new"
    run(table, whole, per_layer_ms=0.3, noise=0.03)

    def stops_at(stage, place):
        def progress(name):
            def report(done, total, label):
                if name == stage and done == place:
                    raise KeyboardInterrupt

            return nullcontext(report)

        return progress

    for stage, place in (("exporting", 3), ("timing", 0), ("timing", 17), ("timing", 111)):
        with pytest.raises(KeyboardInterrupt):
            run(table, broken, per_layer_ms=0.3, noise=0.03, progress=stops_at(stage, place))
        assert not (broken / "card.json").exists()
    journal = broken / "recalibration" / "samples.jsonl"
    assert journal.read_bytes().count(b'"kind":"sample"') == 111
    with journal.open("ab") as file:
        file.write(b'{"kind":"sam')  # a torn line
    run(table, broken, per_layer_ms=0.3, noise=0.03)
    for name in ("table.csv", "card.json", "recalibration/samples.jsonl"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert not (broken / "recalibration" / "packages").exists()


def test_digests_chain_from_version_to_version_and_the_old_table_stays(table, tmp_path):
    first = run(table, tmp_path / "first", per_layer_ms=0.3)
    once = LatencyTable.load(tmp_path / "first")
    second = run(once, tmp_path / "second", per_layer_ms=0.6)
    twice = LatencyTable.load(tmp_path / "second")
    assert (first.table_digest, first.new_digest) == (table.digest, once.digest)
    assert (second.table_digest, second.new_digest) == (once.digest, twice.digest)
    chain = twice.card.protocol["recalibrated"]
    assert [entry["digest"] for entry in chain] == [table.digest, once.digest]
    assert len({table.digest, once.digest, twice.digest}) == 3
    assert chain[1]["correction"]["offset_ms"]["ssa"] == pytest.approx(0.3, abs=0.03)
    assert twice.card.provenance.kind == "derived"
    assert once.digest in twice.card.provenance.source
    assert {one["layout"] for one in chain[0]["layouts"]} == {one.layout for one in first.layouts}


def test_a_new_table_has_no_contradictions_and_carries_the_marks_of_its_run(table, tmp_path):
    before = {finding.rule for finding in lint_table(table)}
    run(table, tmp_path / "new", per_layer_ms=0.3, noise=0.2)
    new = LatencyTable.load(tmp_path / "new")
    assert [mark for mark in new.card.protocol["marked"] if "spread" in mark and mark.startswith("recalibration: ")]
    found = {finding.rule for finding in lint_table(new)}
    assert found - before == {"marked_run"}


def test_what_was_not_measured_is_not_corrected(table, tmp_path):
    run(table, tmp_path / "new", factor=1.2)
    new = LatencyTable.load(tmp_path / "new")
    for old, row in zip(table.rows, new.rows, strict=True):
        if row.role == "commit" or row.part == "long_skip":
            assert row.latency_ms == old.latency_ms
        else:
            assert row.latency_ms > 1.1 * old.latency_ms
            assert row.latency_provenance == "derived"
        assert row.weight_bytes == old.weight_bytes


def test_a_plan_on_the_new_table_says_what_the_report_says(table, tmp_path):
    found = run(table, tmp_path / "new", per_layer_ms=0.3, layouts=15)
    new = LatencyTable.load(tmp_path / "new")
    space = Space.parse("lcha,ssa,full", depth=PRESET.depth)
    for version, field in ((table, "predicted_ms"), (new, "corrected_ms")):
        scope = version.scope("stream")
        request = Request(
            table=version,
            scope=scope,
            space=space,
            latency_model=Lookup(),
            budgets=(Budget.parse("1s"),),
            score=Published(),
        )
        parts = Parts.of(version, scope)
        for one in found.layouts:
            choice_L = space.parse_layout(one.layout)
            plan = price(request, choice_L, Dynamic())
            assert plan.latency_ms.predicted == pytest.approx(getattr(one, field), abs=1e-9)
            assert parts.sum_ms(parts.counts([space.candidates[c] for c in choice_L])) == getattr(one, field)


def test_blocks_that_became_slower_are_told_from_hand_over(table, tmp_path):
    found = run(table, tmp_path / "new", slower={"ssa": 1.5}, per_layer_ms=0.1, noise=0.0)
    for one in found.layouts:
        layers = [label for word in (one.layout,) for label in Space.parse("lcha,ssa,full", depth=6).parse_layout(word)]
        assert one.miss.blocks_ms == pytest.approx(0.5 * layers.count(1), abs=1e-6)
        assert one.miss.hand_over_ms == pytest.approx(0.6, abs=1e-6)
        assert one.miss.drift_ms == pytest.approx(0, abs=1e-6)
        assert one.miss.miss_ms == pytest.approx(one.measured_ms - one.predicted_ms, abs=1e-9)


def test_a_finished_table_is_never_overwritten(table, tmp_path):
    run(table, tmp_path / "new", factor=1.2)
    before = (tmp_path / "new" / "table.csv").read_bytes()
    with pytest.raises(TableError, match="already holds a table"):
        run(table, tmp_path / "new", factor=1.5)
    assert (tmp_path / "new" / "table.csv").read_bytes() == before


def test_a_recalibrated_table_is_not_retabulated_from_samples_of_something_else(table, tmp_path):
    run(table, tmp_path / "new", factor=1.2)
    with pytest.raises(InputError, match="cannot be read"):
        retabulate(tmp_path / "new")


def test_other_settings_do_not_go_on_with_samples_that_are_there(table, tmp_path):
    run(table, tmp_path / "new")  # gains nothing, so only samples are there
    with pytest.raises(InputError, match="belongs to another campaign"):
        run(table, tmp_path / "new", rounds=10)


def test_a_goal_is_met_only_on_enough_layouts_without_marks(table, tmp_path):
    few = run(table, tmp_path / "few", per_layer_ms=0.3, layouts=27)
    enough = run(table, tmp_path / "enough", per_layer_ms=0.3)
    assert not few.goal_met
    assert enough.goal_met
    assert not dataclasses.replace(enough, marked=("noisy",)).goal_met
    assert json.loads(enough.to_json())["goal_met"] is True


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"chip": "another"}, "chip 'another'"),
        ({"runtime": "another"}, "runtime 'another'"),
    ],
)
def test_a_table_of_another_device_is_refused(table, tmp_path, change, match):
    other = dataclasses.replace(table, card=dataclasses.replace(table.card, **change))
    with pytest.raises(InputError, match=match):
        run(other, tmp_path / "new")


def test_a_preset_of_other_sizes_is_refused(table, tmp_path):
    settings = Settings(preset=dataclasses.replace(PRESET, channels=32), layouts=15)
    with pytest.raises(InputError, match="channels of the preset 'fake-model' is 32"):
        recalibrate(table, table.scope("stream"), settings, tmp_path, FakeBench(out=tmp_path))


def test_a_table_of_a_runtime_that_packages_do_not_run_on_is_refused(table):
    phone = LatencyTable.load(Path(__file__).parents[2] / "latency_tables" / "iphone-16-pro-max.coreml.w4a8")
    with pytest.raises(InputError, match="was measured with a runtime that it does not state"):
        bench_of(phone)
    with pytest.raises(InputError, match="not with executorch"):
        bench_of(table, "executorch")


def test_the_runtime_gets_the_threads_of_the_card(table):
    protocol = {**table.card.protocol, "profiler": {"name": "onnxruntime", "threads": 2, "pin": False}}
    bench = bench_of(dataclasses.replace(table, card=dataclasses.replace(table.card, protocol=protocol)))
    assert isinstance(bench, PackageBench)
    assert (bench.exporter, bench.profiler.threads, bench.profiler.pin) == ("onnx", 2, False)


def test_drawn_layouts_differ_and_the_same_seed_draws_the_same():
    space = Space.parse("lcha,ssa", depth=4)
    layouts = draw_layouts(space, 16, seed=1)
    assert len(set(layouts)) == 16
    assert draw_layouts(space, 16, seed=1) == layouts != draw_layouts(space, 16, seed=2)
    with pytest.raises(InputError, match="can make 16"):
        draw_layouts(space, 17, seed=1)


def test_too_few_layouts_are_refused():
    with pytest.raises(InputError, match="14 layouts are too few"):
        Settings(preset=PRESET, layouts=14)


def test_many_small_gains_support_nothing_where_the_median_error_rises():
    before, after = [0.01] * 5 + [0.02] * 5, [0.0099] * 4 + [0.5] + [0.0199] * 5
    found = judge(before, after)
    assert found.better >= found.needed
    assert not found.supported
