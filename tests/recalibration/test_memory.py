"""A promise of memory, what packages take, and the correction: by laws, and with ONNX Runtime itself."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.cost import Budget
from s2search.exporters.resident import Resident
from s2search.latency.lookup import Lookup
from s2search.lint.linter import lint_table
from s2search.planner.find import price
from s2search.planner.request import Request
from s2search.preset import Preset
from s2search.recalibration.memory import MemoryCorrection, MemoryParts, attribute_memory, find_memory, fit_memory
from s2search.recalibration.recalibrate import Settings, bench_of, recalibrate
from s2search.reporting.recalibration import recalibration_text
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space, parse_blocks
from s2search.tables.table import LatencyTable
from tests.recalibration.fake_bench import ALONE_CALLS, PRESET, RUNTIME, FakeBench, fake_table, run, taken

HELD = 110  # of every row of the fake: 100 of weights, 10 of state
LONG_SKIP = 4 * PRESET.channels * PRESET.shape("64x32", "stream").tokens
ROLES = {"lcha": "block", "ssa": "block", "full": "block", "down": "switch", "stem": "fixed", "head": "fixed"}
PARTS = MemoryParts(
    role=ROLES,
    held_bytes=dict.fromkeys(ROLES, HELD),
    peak_bytes={"lcha": 300, "ssa": 100, "full": 200},
    calls_bytes={"lcha": 50, "ssa": 400, "full": 900, "down": 5, "stem": 7, "head": 6},
    runtime_bytes=5_000,
)
COUNTS = st.fixed_dictionaries({label: st.integers(0, 9) for label in ("lcha", "ssa", "full")})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return fake_table(tmp_path_factory.mktemp("tables") / "old")


def package(layout, *, held=2.0, calls=3.0, runtime=RUNTIME):
    """What a package of the fake takes: the runtime, all that is held so many times over, and the largest calls."""
    load = runtime + held * (HELD * (len(layout) + 4) + LONG_SKIP)
    return taken(round(load), round(calls * max(ALONE_CALLS[label] for label in layout)))


@given(COUNTS, st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_parts_of_a_miss_add_up_to_it(counts, load, more):
    miss = attribute_memory(counts, PARTS, Resident(counter="c", load_bytes=load, peak_bytes=load + more), load + more)
    assert miss.runtime_bytes + miss.loaded_bytes + miss.calls_bytes == load + more - PARTS.promised_bytes(counts)
    unknown = attribute_memory(counts, PARTS, Resident(counter="c", peak_bytes=load), load)
    assert unknown.runtime_bytes == unknown.loaded_bytes == 0


@given(st.lists(COUNTS.filter(lambda one: sum(one.values()) > 0), min_size=6, max_size=20), st.data())
def test_a_promise_of_the_form_of_plans_is_found_again(layouts, data):
    """Whatever the factors are: a planted correction foretells as the fitted one does, to a byte in a thousand."""
    truth = MemoryCorrection(
        kind=data.draw(st.sampled_from(["peaks", "measured"])),
        runtime_bytes=float(PARTS.runtime_bytes),
        held_factor=data.draw(st.floats(1, 4)),
        peak_factor=data.draw(st.floats(1, 9)),
    )
    truth = dataclasses.replace(truth, peaks="measured" if truth.kind == "measured" else "formulas")
    measured = [round(truth.predict_bytes(one, PARTS)) for one in layouts]
    found = fit_memory(layouts, PARTS, measured)
    assert min(found.error_of.values()) == pytest.approx(0, abs=2e-3) or found.error_of.keys() < {truth.kind}
    for one, bytes_ in zip(layouts, measured, strict=True):
        if min(found.error_of.values()) < 1e-3 and found.error_of.get(found.correction.kind, 1) < 1e-3:
            assert found.correction.predict_bytes(one, PARTS) == pytest.approx(bytes_, rel=5e-3)


def test_what_a_package_takes_is_foretold_after_the_correction_and_was_not_before(table, tmp_path):
    found = run(table, tmp_path / "new", bench=FakeBench(out=tmp_path / "new", memory_of=package))
    memory = found.memory
    assert memory.correction.kind == "measured"
    assert memory.correction.runtime_bytes == pytest.approx(RUNTIME, rel=0.01)
    assert (memory.correction.held_factor, memory.correction.peak_factor) == pytest.approx((2.0, 3.0), rel=0.01)
    assert memory.exceeded == 30
    assert memory.before_median > 0.5
    assert memory.after_worst < 0.01
    assert memory.counter == "fake"
    assert memory.misses()["runtime"] == RUNTIME


def test_memory_alone_is_reason_enough_for_a_new_table_and_latencies_stay(table, tmp_path):
    found = run(table, tmp_path / "new", noise=0.0, bench=FakeBench(out=tmp_path / "new", memory_of=package, noise=0.0))
    assert found.correction.kind == "none"
    assert found.refusal
    assert found.new_table == "new"
    new = LatencyTable.load(tmp_path / "new")
    assert [row.latency_ms for row in new.rows] == [row.latency_ms for row in table.rows]
    assert {finding.rule for finding in lint_table(new)} <= {finding.rule for finding in lint_table(table)}
    entry = new.card.protocol["recalibrated"][0]
    assert entry["correction"]["kind"] == "none"
    assert entry["memory"]["correction"]["kind"] == "measured"
    assert "latency as it was; memory: runtime" in new.card.provenance.statement


def test_a_plan_on_the_new_table_promises_what_was_foretold(table, tmp_path):
    found = run(table, tmp_path / "new", bench=FakeBench(out=tmp_path / "new", memory_of=package, per_layer_ms=0.3))
    new, space = LatencyTable.load(tmp_path / "new"), Space.parse("lcha,ssa,full", depth=6)
    request = Request(
        table=new,
        scope=new.scope("stream"),
        space=space,
        latency_model=Lookup(),
        budgets=(Budget.parse("1s"),),
        score=Published(),
    )
    for one in found.memory.layouts:
        promised = price(request, space.parse_layout(one.layout), Dynamic()).memory_bytes.predicted
        assert promised == pytest.approx(one.corrected_bytes, abs=10)  # every row is rounded
        assert promised == pytest.approx(one.measured_bytes, rel=0.01)
    assert {row.bytes_provenance for row in new.in_scope(new.scope("stream"))} == {"derived"}
    assert {row.resident_bytes for row in new.commits_in_scope(new.scope("stream"))} <= {None}
    assert {finding.rule for finding in lint_table(new)} <= {finding.rule for finding in lint_table(table)}


def test_a_second_recalibration_finds_nothing_left(table, tmp_path):
    run(table, tmp_path / "new", bench=FakeBench(out=tmp_path / "new", memory_of=package))
    again = run(
        LatencyTable.load(tmp_path / "new"),
        tmp_path / "again",
        bench=FakeBench(out=tmp_path / "again", memory_of=package),
    )
    assert again.memory.correction.kind == "none"
    assert again.memory.before_worst < 0.01


def test_a_promise_that_holds_is_left_as_it_is(table, tmp_path):
    def kept(layout):
        return taken(HELD * (len(layout) + 4) + LONG_SKIP, 1000)

    found = run(table, tmp_path / "new", bench=FakeBench(out=tmp_path / "new", memory_of=kept, per_layer_ms=0.3))
    assert found.memory.correction.kind == "none"
    assert found.memory.exceeded == 0
    assert {row.resident_bytes for row in LatencyTable.load(tmp_path / "new").rows} == {None}


def test_noise_that_no_correction_explains_is_not_written(table, tmp_path):
    def random(layout):
        import random as rng

        return taken(rng.Random("".join(layout)).randint(1_000, 40_000), 0)

    found = run(table, tmp_path / "new", bench=FakeBench(out=tmp_path / "new", memory_of=random))
    assert not found.memory.supported or found.memory.after_median < found.memory.before_median
    if not found.memory.supported:
        assert found.new_table is None


@pytest.mark.parametrize("nothing", [None, Resident(counter="fake")])
def test_where_one_package_was_not_measured_nothing_is_said_of_memory(table, tmp_path, nothing):
    def often(layout):
        return nothing if layout.count("ssa") > 2 else package(layout)

    found = run(table, tmp_path / "new", bench=FakeBench(out=tmp_path / "new", memory_of=often, per_layer_ms=0.3))
    assert found.memory is None
    assert found.new_table == "new"


def test_no_layout_gives_nothing():
    assert find_memory([], [], PARTS, [], []) is None


def test_the_report_says_what_was_promised_and_taken_in_80_columns(table, tmp_path):
    from rich.console import Console

    from s2search.recalibration.version import correction_text, memory_text

    found = run(table, tmp_path / "new", bench=FakeBench(out=tmp_path / "new", memory_of=package))
    console = Console(width=80, record=True)
    with console.capture() as said:
        console.print(
            recalibration_text(found, correction_text(found.correction), memory_text(found.memory.correction))
        )
    lines = said.get().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(said.get().split())
    assert "30 of 30 layouts take more than was promised, by fake" in text
    assert "calls of each row alone x3.00" in text
    assert "its latencies are those of" in text
    assert json.loads(found.to_json())["memory"]["exceeded"] == 30


@pytest.mark.slow
def test_after_correction_onnx_runtime_takes_what_is_promised_within_5_percent(tmp_path):
    """Real resident sizes of tiny packages: most of what they take is the runtime, which no table knows before."""
    pytest.importorskip("onnxscript")
    from s2search import registry
    from s2search.measurement.campaign import measure
    from s2search.measurement.items import FORWARD, campaign_items
    from s2search.measurement.samples import Protocol

    preset = dataclasses.replace(Preset.named("s2dit-tiny"), layout="", depth=4)
    profiler = registry.create("profilers", "onnxruntime")
    if profiler.why_not():
        pytest.skip(profiler.why_not())
    items = campaign_items(
        preset, "64x48", scenarios=("stream",), candidates=parse_blocks("lcha,ssa,full"), roles=FORWARD
    )
    table = measure(profiler, items, tmp_path / "old", preset=preset.name, protocol=Protocol(rounds=3))
    assert all(row.memory_peak_bytes for row in table.rows if row.part != "long_skip")
    settings = Settings(preset=preset, layouts=15, rounds=3)
    found = recalibrate(table, table.scope("stream"), settings, tmp_path / "new", bench_of(table))
    memory = found.memory
    assert memory.exceeded == 15
    assert memory.before_median > 0.3
    assert memory.supported
    assert memory.after_median < 0.05
    new = LatencyTable.load(tmp_path / "new")
    assert {row.memory_counter for row in new.in_scope(new.scope("stream")) if row.part != "long_skip"} == {
        "rss+vm_hwm"
    }
